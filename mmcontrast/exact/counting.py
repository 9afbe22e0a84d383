"""Ranks by counting: how many scores of a row are above one of them, without sorting the row."""

import math

import numpy as np
import torch
from torch import Tensor

from mmcontrast.eager import full_precision, is_eager
from mmcontrast.exact.tiles import Sides, memory, slices, tile_of, tiles
from mmcontrast.rows import dot, in_wider_dtype

LEVELS = 256
"""Rows of which the partners' scores are made at a time."""


def counts(scores: Tensor, level: Tensor) -> tuple[Tensor, Tensor]:
    """How many of each row's (R, C) scores are above its (R,) level, and how many at it."""
    if scores.is_cpu and is_eager(scores, level):
        # Row by row in NumPy: a row is in the cache for both, and bits are counted eight at a time.
        rows, levels = scores.numpy(), level.numpy()
        pairs = [
            (np.count_nonzero(row > one), np.count_nonzero(row >= one))
            for row, one in zip(rows, levels, strict=True)
        ]
        above, least = torch.tensor(pairs, dtype=torch.int64).reshape(-1, 2).unbind(1)
        return above, least - above
    # Not a comparison with >, so that what is no number is above all, and found last.
    return (~(scores <= level[:, None])).sum(1), (scores == level[:, None]).sum(1)


def partner_ranks(scores: Tensor, columns: Tensor) -> Tensor:
    """(R,) rank of one column in each row of (R, C) scores, from 1; the mean over ties."""
    if scores.shape[1] == 0:
        return scores.new_ones(scores.shape[0])
    above, equal = counts(scores, scores.gather(1, columns[:, None])[:, 0])
    return 1 + above + (equal - 1).clamp_min(0).to(scores.dtype) / 2


def partner_ranks_in_tiles(x: Tensor, y: Tensor, columns: Tensor, sides: Sides) -> Tensor:
    """:func:`partner_ranks` of (B, D) rows with one of the (C, D) columns each, all different.

    A tile stays in the cache while it is made and counted, where whole rows do not. Columns that
    are equal may differ in rounding by their places in tiles, so they have to have one tile.
    """
    x, y = in_wider_dtype(x, y)
    # Made by products as well, so that what ties in exact numbers ties here. A diagonal is copied,
    # or it would hold its whole product.
    parts = [dot(x[i], y[columns[i]]).diagonal().clone() for i in slices(len(x), LEVELS)]
    level = torch.cat([x.new_empty(0), *parts])[:, None]  # (B, 1)
    above, least = torch.zeros_like(level), torch.zeros_like(level)
    room = memory(x, y, sides)
    with full_precision(x):
        for i, j, tile in tiles(x, y, sides):
            rows = ((columns[i] >= j.start) & (columns[i] < j.stop)).nonzero()[:, 0]
            tile[rows, columns[i][rows] - j.start] = level[i][rows, 0]
            flags = tile_of(room, *tile.shape)  # as numbers they are written and summed the fastest
            above[i] += torch.gt(tile, level[i], out=flags).sum(1, keepdim=True)
            least[i] += torch.ge(tile, level[i], out=flags).sum(1, keepdim=True)
    return (1 + above + (least - above - 1) / 2)[:, 0]


def positive_ranks(scores: Tensor, positives: Tensor) -> tuple[Tensor, Tensor]:
    """Of rows with several positives, (R, C) bool: the first one's rank, and average precision.

    (R,) each; 0 for a row without positives. Ties count by expected ranks: of n negatives that tie
    with p positives, n / (p + 1) come before the first of these, and half of them before any one.
    """
    if scores.shape[1] == 0:
        return scores.new_zeros(scores.shape[0]), scores.new_zeros(scores.shape[0])
    number = positives.sum(1)  # (R,)
    if is_eager(scores, positives):
        most = max([1, *number.tolist()])
    else:
        # No value can be read: there is room for as many positives as there are candidates, and
        # what is no number, which eager callers refuse, is found last.
        most = scores.shape[1]
        last = torch.where(positives, -math.inf, math.inf).to(scores.dtype)
        scores = torch.where(scores.isnan(), last, scores)
    # The positives' own scores, ascending, behind places for those that a row has fewer of.
    own = torch.where(positives, scores, -math.inf).topk(most).values.flip(1)  # (R, P)
    taken = torch.arange(most, device=scores.device) >= most - number[:, None]
    above, equal = _counts_at(own, scores)
    above_own, equal_own = _counts_at(own, own)
    rank = 1 + above + (equal - 1).to(scores.dtype) / 2
    among_own = 1 + above_own + (equal_own - 1).to(scores.dtype) / 2
    precision = torch.where(taken, among_own / rank, 0).sum(1) / number.clamp_min(1)
    tied = equal_own[:, -1]  # with the best positive, that one included
    first = 1 + above[:, -1] + (equal[:, -1] - tied) / (tied + 1)
    return torch.where(number > 0, first, 0).to(scores.dtype), precision


def _counts_at(levels: Tensor, scores: Tensor) -> tuple[Tensor, Tensor]:
    """How many of each row's (R, C) scores are above, and at, each of its ascending (R, P) levels.

    A score is above as many levels as its place among them says, so that a histogram of the places,
    summed from its far end, is the number of scores above each level: O(C log P).
    """

    def from_the_end(right: bool) -> Tensor:
        places = torch.searchsorted(levels, scores.contiguous(), right=right)  # (R, C)
        histogram = places.new_zeros(len(levels), levels.shape[1] + 1)
        histogram.scatter_add_(1, places, torch.ones_like(places))
        return histogram[:, 1:].flip(1).cumsum(1).flip(1)

    above = from_the_end(False)
    return above, from_the_end(True) - above
