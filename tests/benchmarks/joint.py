"""Joint contrast of three modalities: ours, and as the papers have it.

Inputs are three times (N, d) rows. Symile, arXiv:2411.01053, draws at random: so that all cases
compute one number, each takes the draws of the same seed.
"""

import functools
import itertools

import torch
import torch.nn.functional as F
from torch import Tensor

import mmcontrast

TEMPERATURE = 0.07
NAMES = ("text", "audio", "vision")
DETERMINANTS = "determinants"


def features(inputs) -> dict[str, Tensor]:
    return dict(zip(NAMES, inputs.rows, strict=True))


@functools.cache
def seed(n: int) -> int:
    """The first one whose draws put no sample's rows together, which Symile keeps and ours not."""
    for number in itertools.count():
        generator = torch.Generator().manual_seed(number)
        orders = (torch.randperm(n, generator=generator) for _ in range(6))
        if all((next(orders) != next(orders)).all() for _ in NAMES):
            return number
    raise AssertionError


def shuffled(inputs) -> Tensor:
    generator = torch.Generator().manual_seed(seed(len(inputs.rows[0])))
    options = {"temperature": TEMPERATURE, "normalize": None, "generator": generator}
    return mmcontrast.joint_contrast(features(inputs), **options).total


def torch_shuffled(inputs) -> Tensor:
    """As the paper has it: own shuffles for each matrix, and the positives on its diagonal."""
    rows, n = inputs.rows, len(inputs.rows[0])
    generator = torch.Generator().manual_seed(seed(n))
    losses = []
    for k, anchor in enumerate(rows):
        x, y = rows[:k] + rows[k + 1 :]
        tuples = x[torch.randperm(n, generator=generator)]
        tuples = tuples * y[torch.randperm(n, generator=generator)]
        logits = torch.where(torch.eye(n) > 0, (anchor * x * y).sum(1), anchor @ tuples.T)
        losses.append(F.cross_entropy(logits / TEMPERATURE, torch.arange(n)))
    return torch.stack(losses).mean()


def volumes(inputs) -> Tensor:
    options = {"score": "volume", "anchor": NAMES[0], "normalize": None}
    return mmcontrast.joint_contrast(features(inputs), temperature=TEMPERATURE, **options).total


def determinants(inputs) -> Tensor:
    """GRAM's volumes, arXiv:2412.11959, as published: a determinant for each pair of samples."""
    (anchor, *others), n = inputs.rows, len(inputs.rows[0])
    own = (anchor * anchor).sum(1)[:, None].expand(n, n)
    dots = [anchor @ x.T for x in others]
    between = [[(x * y).sum(1).expand(n, n) for y in others] for x in others]
    gram = [[own, *dots], *([dot, *row] for dot, row in zip(dots, between, strict=True))]
    matrices = torch.stack([torch.stack(row, -1) for row in gram], -2)  # (N, N, 3, 3)
    logits = -torch.det(matrices).abs().sqrt() / TEMPERATURE
    pairs = torch.arange(n)
    return (F.cross_entropy(logits, pairs) + F.cross_entropy(logits.T, pairs)) / 2
