"""Rank-N-Contrast (arXiv:2210.01189, eq. 1 and 2) as it can be written: ours, and a loop.

Inputs are (N, D) rows and their (N,) scores.
"""

import torch
from torch import Tensor

import mmcontrast

TEMPERATURE = 2.0
COLUMN_LOOP = "loop over columns"


def ours(inputs) -> Tensor:
    (x,), scores = inputs
    return mmcontrast.rank_n_contrast(x, scores, temperature=TEMPERATURE)


def column_loop(inputs) -> Tensor:
    """One positive of all anchors after another, as published code has it."""
    (x,), scores = inputs
    others = ~torch.eye(len(x), dtype=torch.bool)
    logits = (-torch.cdist(x, x) / TEMPERATURE)[others].view(len(x), -1)  # (N, N - 1)
    away = (scores[:, None] - scores).abs()[others].view(len(x), -1)
    weights = logits.exp()
    total = torch.zeros(())
    for k in range(len(x) - 1):
        as_far = (away >= away[:, k : k + 1]).float()
        total = total + ((as_far * weights).sum(1).log() - logits[:, k]).sum()
    return total / (len(x) * (len(x) - 1))
