"""Rank-N-Contrast (arXiv:2210.01189, eq. 1 and 2) as it can be written: ours, and a loop.

Inputs are (N, D) rows and their (N,) scores. Published code stacks two views of a batch, so that
2048 rows are a batch of 1024.
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
    """One positive of all anchors after another, as published code has it.

    Its graph would hold matrices for each column, 100 GB at 2048 rows. So each column adds its
    gradient by the logits and their exponentials at once: the same arithmetic.
    """
    (x,), scores = inputs
    others = ~torch.eye(len(x), dtype=torch.bool)
    logits = (-torch.cdist(x, x) / TEMPERATURE)[others].view(len(x), -1)  # (N, N - 1)
    away = (scores[:, None] - scores).abs()[others].view(len(x), -1)
    weights = logits.exp()
    by_weights = weights.detach().requires_grad_()
    total = torch.zeros(())
    for k in range(len(x) - 1):
        as_far = (away >= away[:, k : k + 1]).float()
        term = (as_far * by_weights).sum(1).log().sum()
        term.backward()
        total = total + term.detach()
    # Its value is the total, and its gradient by the weights what the columns have added up.
    sums = (weights * by_weights.grad).sum()
    sums = sums - sums.detach() + total
    return (sums - logits.sum()) / (len(x) * (len(x) - 1))
