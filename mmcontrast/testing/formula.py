"""The softmax losses written out anchor by anchor in float64: the reference for a declared form."""

import math
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from mmcontrast.testing.batch import Batch
from mmcontrast.testing.traits import Traits


class _Anchor(NamedTuple):
    """One anchor: its similarities to its candidates, and which of them are positives."""

    similarities: Tensor
    positives: list[int]

    def loss(self, temperature: float) -> float:
        """The logsumexp of the logits, minus the mean logit of the positives."""
        logits = self.similarities / temperature
        return float(logits.logsumexp(0) - logits[self.positives].mean())

    def lead(self) -> float:
        """The limit of temperature times loss as the temperature goes to 0."""
        best = self.similarities.max() - self.similarities[self.positives].mean()
        return float(best)


def anchors(traits: Traits, batch: Batch) -> Iterator[_Anchor]:
    """The anchors in the mean, in order; those of both directions or views where there are two."""
    matrices = [x.detach().double() for x in batch.rows.values()]
    if traits.normalized:
        matrices = [x / x.norm(dim=1, keepdim=True) for x in matrices]
    if traits.form == "info_nce":
        a, b = matrices
        table = a @ b.T
        for i in range(len(a)):
            yield _Anchor(table[i], [i])
        if traits.symmetric:
            for i in range(len(b)):
                yield _Anchor(table[:, i], [i])
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
            yield _Anchor(views[i] @ views[others].T, positives)


def _ignored(traits: Traits, label: Tensor) -> bool:
    return traits.ignore_index is not None and int(label) == traits.ignore_index


def mean_loss(traits: Traits, batch: Batch, temperature: float) -> float:
    """The loss of the batch."""
    return _mean_or_zero(anchor.loss(temperature) for anchor in anchors(traits, batch))


def mean_lead(traits: Traits, batch: Batch) -> float:
    """The mean lead of the anchors: the limit of temperature times loss."""
    return _mean_or_zero(anchor.lead() for anchor in anchors(traits, batch))


def mean_log_candidates(traits: Traits, batch: Batch) -> float:
    """The mean over the anchors of the logarithm of their number of candidates."""
    return _mean_or_zero(math.log(len(anchor.similarities)) for anchor in anchors(traits, batch))


def _mean_or_zero(values: Iterable[float]) -> float:
    """The mean, or 0 without values."""
    found = list(values)
    return math.fsum(found) / len(found) if found else 0.0
