"""The softmax losses written out row by row, in float64: what a declared form must equal."""

import math
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from mmcontrast.testing.batch import Batch
from mmcontrast.testing.traits import Traits


class Row(NamedTuple):
    """One anchor: its similarities to its candidates, and which of them are positives."""

    similarities: Tensor
    positives: list[int]

    def loss(self, temperature: float) -> float:
        """Log of the sum of exponentials, minus the positives' mean."""
        logits = self.similarities / temperature
        return float(logits.logsumexp(0) - logits[self.positives].mean())

    def lead(self) -> float:
        """What the temperature times the loss comes to as the temperature vanishes."""
        best = self.similarities.max() - self.similarities[self.positives].mean()
        return float(best)


def anchors(traits: Traits, batch: Batch) -> list[Row]:
    """The anchors that count, in order: of both directions or views where there are two."""
    return list(_anchors(traits, batch))


def _anchors(traits: Traits, batch: Batch) -> Iterator[Row]:
    matrices = [x.detach().double() for x in batch.rows.values()]
    if traits.normalized:
        matrices = [x / x.norm(dim=1, keepdim=True) for x in matrices]
    if traits.form == "info_nce":
        a, b = matrices
        table = a @ b.T
        for i in range(len(a)):
            yield Row(table[i], [i])
        if traits.symmetric:
            for i in range(len(b)):
                yield Row(table[:, i], [i])
        return
    if traits.form == "nt_xent":
        n = len(batch)
        ids = torch.arange(n).repeat(2)
    else:
        assert batch.labels is not None
        ids = batch.labels
    views = torch.cat(matrices)
    for i in range(len(views)):
        others = [j for j in range(len(views)) if j != i and not _ignored(traits, ids[j])]
        positives = [k for k, j in enumerate(others) if ids[j] == ids[i]]
        if positives and not _ignored(traits, ids[i]):
            yield Row(views[i] @ views[others].T, positives)


def _ignored(traits: Traits, label: Tensor) -> bool:
    return traits.ignore_index is not None and int(label) == traits.ignore_index


def mean_loss(traits: Traits, batch: Batch, temperature: float) -> float:
    """The whole batch's value; 0 without an anchor."""
    found = [row.loss(temperature) for row in anchors(traits, batch)]
    return math.fsum(found) / len(found) if found else 0.0


def mean_lead(traits: Traits, batch: Batch) -> float:
    """The mean of the leads; 0 without an anchor."""
    found = [row.lead() for row in anchors(traits, batch)]
    return math.fsum(found) / len(found) if found else 0.0


def mean_log_candidates(traits: Traits, batch: Batch) -> float:
    """The mean over the anchors of the logarithm of how many candidates they have."""
    found = [math.log(len(row.similarities)) for row in anchors(traits, batch)]
    return math.fsum(found) / len(found) if found else 0.0
