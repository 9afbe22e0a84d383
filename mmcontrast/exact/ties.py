"""Equal rows have equal scores, whatever the block in which these are computed.

A matrix product rounds an entry by its place: at the edge of a block, or in a product with a single
row, otherwise than elsewhere. So equal candidates would differ in the last bit, and ties would go
to any of them. Here all candidates that are equal take the score of the first of them.
"""

import functools

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from mmcontrast.eager import is_eager
from mmcontrast.exact import sizes
from mmcontrast.rows import ROW_MAPS, RowMap, dot, map_rows


@torch.no_grad()
def first_equal(x: Tensor) -> Tensor | None:
    """For each row the index of the first row that is equal to it, (C,); None if all differ.

    O(C D) time and O(C) memory. On devices other than the CPU, and under a compiler or transform,
    the answer is a tensor always. Rows with NaN are equal to none.
    """
    eager, (size, width) = is_eager(x), x.shape
    wide = torch.float32 if x.device.type == "mps" else torch.float64  # which MPS has not
    factors = (_spread if eager else _spread.__wrapped__)(width, wide, x.device)
    # A sum over a row is rounded alike for equal rows: sorted by it, they are neighbours.
    # In pieces of half a megabyte, which are in float64 twice; a compiler makes its own.
    x = x.contiguous() if eager else x
    step = max(sizes.BLOCK // 16 // max(width, 1), 1)
    pieces = torch.split(x, step) if eager and size > step else (x,)
    sums = [(rows.to(wide) * factors).sum(1) for rows in pieces]
    key = sums[0] if len(sums) == 1 else torch.cat(sums)
    if eager and x.is_cpu:  # usually all differ, and sorting without indices tells
        ordered = np.sort(key.numpy())
        if (ordered[1:] != ordered[:-1]).all():
            return None
    key, order = key.sort(stable=True)
    differs = key[1:] != key[:-1]
    places = torch.arange(size, device=x.device)
    start = torch.where(F.pad(differs, (1, 0), value=True)[:size], places, 0).cummax(0).values
    first = torch.zeros_like(places).scatter(0, order, order[start])
    return torch.where((x == x[first]).all(1), first, places)  # another row may have the same sum


@functools.lru_cache
def _spread(width: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """(D,) numbers between 1 and 2, all different: parts behind the point of k times an irrational.

    Kept, because for few rows making them takes as long as the rest.
    """
    steps = torch.arange(width, dtype=dtype, device=device)
    return 1 + (0.6180339887498949 * steps).frac()


def share_scores(scores: Tensor, first: Tensor | None) -> Tensor:
    """(R, C) scores with that of the :func:`first_equal` candidate for all that equal it."""
    return scores if first is None else scores[:, first]


@torch.no_grad()
def tied_dot(x: Tensor, y: Tensor) -> Tensor:
    """(B, D), (C, D) -> (B, C) dot products, the same for equal rows of y; without gradient."""
    return share_scores(dot(x, y), first_equal(y))


def map_equal_rows(x: Tensor, normalize: RowMap | None) -> Tensor:
    """:func:`map_rows` in which equal rows stay equal, also where the map has matrix products."""
    mapped = map_rows(x, normalize)
    if normalize is None or normalize in ROW_MAPS:
        return mapped
    first = first_equal(x)
    return mapped if first is None else mapped[first]
