"""The closest of many candidates to a few anchors, as it can be written: ours, and topk in blocks.

Inputs are (N, D) rows: all of them are the corpus, an array, and the first 256 the anchors.
"""

import torch
from torch import Tensor

import mmcontrast

K = 10
ANCHORS = 256
BLOCK = 16384
TOPK = "topk in blocks"


def ours(inputs) -> Tensor:
    (rows,) = (x.detach() for x in inputs.rows)
    found = mmcontrast.hard_negatives(
        rows[:ANCHORS], rows.numpy(), K, distance=mmcontrast.euclidean
    )
    return found.scores.mean()


@torch.no_grad()
def topk_in_blocks(inputs) -> Tensor:
    """Squares by a matrix product, and the best so far of every block."""
    (rows,) = inputs.rows
    x = rows[:ANCHORS]
    best = torch.full((len(x), K), torch.inf)
    for start in range(0, len(rows), BLOCK):
        y = rows[start : start + BLOCK]
        squares = x.square().sum(1, keepdim=True) + y.square().sum(1) - 2 * x @ y.T
        if start == 0:
            squares.fill_diagonal_(torch.inf)
        found = squares.topk(min(K, len(y)), largest=False).values
        best = torch.cat([best, found], 1).topk(K, largest=False).values
    return best.clamp_min(0).sqrt().mean()
