"""HyCon's loss (IEEE TAFFC 14(3), eq. 16) as it can be written: ours, with masks, and in loops.

Inputs are three modalities' rows and (K,) classes.
"""

from itertools import permutations

import torch
from torch import Tensor

import mmcontrast

MARGIN = 0.8
MASKS = "masks of K x K"
ANCHOR_LOOP = "loop over anchors"
PAIR_LOOP = "loop over pairs"


def ours(inputs) -> Tensor:
    return mmcontrast.hybrid_contrast(_named(inputs), inputs.labels, margin=MARGIN).total


def by_pairs(inputs) -> Tensor:
    """Our own path of small batches, and of pairs that no labels name."""
    same = mmcontrast.same_label(inputs.labels)
    return mmcontrast.hybrid_contrast(
        _named(inputs), None, margin=MARGIN, positives=same, negatives=~same
    ).total


def _named(inputs) -> dict[str, Tensor]:
    return dict(zip(("text", "audio", "vision"), inputs.rows, strict=True))


def masks(inputs) -> Tensor:
    """All similarities of two modalities at a time."""
    rows, labels = _mapped(inputs)
    same = labels == labels[:, None]
    positive = same & ~torch.eye(len(labels), dtype=torch.bool)
    similarity = {(m, n): x @ y.T for m, x in enumerate(rows) for n, y in enumerate(rows)}
    total = _semi(rows)
    for m in range(3):
        for others, target in ((m,), 1.0), (tuple({0, 1, 2} - {m}), MARGIN):
            found = [similarity[m, n] for n in others]
            total = total + _contrast(
                sum((s * positive).sum(1) for s in found),
                sum((s * ~same).sum(1) for s in found),
                sum(((s - target).square() * positive).sum(1) for s in found),
                positive.sum(1) * len(others),
            )
    return total


def anchor_loop(inputs) -> Tensor:
    """One anchor after another, as published code has it."""
    rows, labels = _mapped(inputs)
    total = _semi(rows)
    for m in range(3):
        for others, target in ((m,), 1.0), (tuple({0, 1, 2} - {m}), MARGIN):
            losses = []
            for i in range(len(labels)):
                same = labels == labels[i]
                positive = same & (torch.arange(len(labels)) != i)
                s = torch.stack([rows[n] @ rows[m][i] for n in others])
                pulled, pushed = s[:, positive], s[:, ~same]
                share = pulled.sum() / (pulled.sum() + pushed.sum())
                losses.append((pulled - target).square().mean() - share)
            total = total + torch.stack(losses).mean() / 3
    return total


def pair_loop(inputs) -> Tensor:
    """One pair after another."""
    rows, labels = _mapped(inputs)
    ids = labels.tolist()
    total = _semi(rows)
    for m in range(3):
        for others, target in ((m,), 1.0), (tuple({0, 1, 2} - {m}), MARGIN):
            sums = [[torch.zeros(()) for _ in ids] for _ in range(3)]
            number = torch.zeros(len(ids))
            for i, own in enumerate(ids):
                for j, other in enumerate(ids):
                    for n in others if i != j else ():
                        s = rows[m][i] @ rows[n][j]
                        if own == other:
                            sums[0][i] = sums[0][i] + s
                            sums[2][i] = sums[2][i] + (s - target) ** 2
                            number[i] += 1
                        else:
                            sums[1][i] = sums[1][i] + s
            total = total + _contrast(*(torch.stack(x) for x in sums), number)
    return total


def _mapped(inputs) -> tuple[list[Tensor], Tensor]:
    return [mmcontrast.softmax_normalize(x) for x in inputs.rows], inputs.labels


def _contrast(positives: Tensor, negatives: Tensor, errors: Tensor, number: Tensor) -> Tensor:
    return (errors / number - positives / (positives + negatives)).mean() / 3


def _semi(rows: list[Tensor]) -> Tensor:
    errors = [((x * y).sum(1) - MARGIN).square().mean() for x, y in permutations(rows, 2)]
    return torch.stack(errors).sum() / 6
