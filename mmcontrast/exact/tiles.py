"""Tiles of a matrix of logits: made, used, and overwritten by the next one.

A matrix of B x C logits that is too large for the cache costs more time to store than to make
again. So losses go over it tile by tile, keep sums of B + C numbers, and make the tiles once more
for the gradient: memory is O((B + C) D) and not O(B C). Logits are kept in octaves, s / log 2,
because ``exp2`` takes a quarter of the time of ``exp``.

References: tiles, Inf-CL, arXiv:2410.17243; gradients in the forward pass, Cut Your Losses,
arXiv:2411.09009.
"""

import math
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from mmcontrast.eager import is_eager
from mmcontrast.exact import sizes
from mmcontrast.rows import RowMap, map_rows

LOG2_E = 1 / math.log(2)  # octaves of a logit of 1

Sides = tuple[int, int]
"""Rows and columns of a tile."""


class NegativeSums(NamedTuple):
    """For each row and each column, the sum over its negatives of 2^(s - shift), s in octaves."""

    rows: Tensor  # (B,)
    columns: Tensor  # (C,)
    row_shift: Tensor  # (B,), or 0-d: one shift that all rows and columns share
    column_shift: Tensor  # (C,), or 0-d


def tiles(
    x: Tensor,
    y: Tensor,
    sides: Sides,
    *,
    scale: Tensor | None = None,
    add: Tensor | None = None,
    alpha: float = 1.0,
    upper: bool = False,
) -> Iterator[tuple[slice, slice, Tensor]]:
    """Go over the products of rows, tile by tile; each tile overwrites the last.

    Args:
        x: (B, D) rows.
        y: (C, D) columns.
        sides: rows and columns of a tile.
        scale: 0-d, multiplied into the rows of x beforehand.
        add: 0-d or (1,), added to each product.
        alpha: multiplied into the products instead, which rounds no entry of x.
        upper: only the tiles on and above the diagonal, of a matrix with square tiles.

    Yields:
        The rows, the columns, and the tile of their products.
    """
    room = memory(x, y, sides)
    # mm has no alpha, and addmm has one but wants a summand: a zero, which beta = 0 ignores.
    zero = x.new_zeros(1) if add is None and alpha != 1 else add
    for i in slices(len(x), sides[0]):
        left = x[i] if scale is None else x[i] * scale  # (R, D), scaled once per row of tiles
        # With `upper`, tiles are square, so the one on the diagonal starts at column i.start.
        for j in slices(len(y), sides[1], start=i.start if upper else 0):
            tile = tile_of(room, len(left), j.stop - j.start)
            if zero is None:
                torch.mm(left, y[j].T, out=tile)
            else:
                torch.addmm(zero, left, y[j].T, beta=int(add is not None), alpha=alpha, out=tile)
            yield i, j, tile


def slices(size: int, step: int, *, start: int = 0) -> Iterator[slice]:
    """Cut an axis into pieces."""
    return (slice(i, min(i + step, size)) for i in range(start, size, step))


def piece(x: Tensor, i: slice) -> Tensor:
    """x[i], without an operation where that is all of x."""
    return x if i.stop - i.start == x.shape[0] else x[i]


def memory(x: Tensor, y: Tensor, sides: Sides) -> Tensor:
    """Memory for one tile of the products of x and y, reused because allocating takes time."""
    return x.new_empty(min(sides[0], len(x)) * min(sides[1], len(y)))


def tile_of(room: Tensor, rows: int, columns: int) -> Tensor:
    """The first numbers of some memory as a (rows, columns) tile."""
    return room[: rows * columns].view(rows, columns)


def as_bytes(mask: Tensor) -> Tensor:
    """A bool tensor's bytes, 0 and 1: they become floats ten times as fast. Other dtypes stay."""
    return mask.view(torch.uint8) if mask.dtype == torch.bool else mask


def any_of(mask: Tensor, axis: int) -> Tensor:
    """``mask.any(axis)`` of a (B, C) mask; by its bytes, which takes a tenth of the time."""
    if not is_eager() or 0 in mask.shape:
        return mask.any(axis)
    return as_bytes(mask).amax(axis) > 0


def excluded(dtype: torch.dtype) -> float:
    """Added to a logit in octaves, this makes its exponential 0.

    Unlike minus infinity it is no NaN times 0, so that a mask of numbers can select it, which is
    many times as fast as :func:`torch.where`.
    """
    return torch.finfo(dtype).min / 8


def exclude(octaves: Tensor, keep: Tensor) -> None:
    """Make the logits outside a mask so low that their exponentials are 0, in place."""
    # Some rows at a time, because the mask is made numbers of the logits' size.
    size, low = rows_in_cache(octaves.shape[1], sizes.MASK_PIECE), excluded(octaves.dtype)
    pieces = (torch.split(x, size) for x in (octaves, keep.expand_as(octaves)))
    for rows, kept in zip(*pieces, strict=True):
        rows.add_(as_bytes(kept.logical_not()), alpha=low)


def rows_in_cache(columns: int, size: int | None = None) -> int:
    """Rows of a matrix that fit the cache as a block, or of a block of another size."""
    return max((size or sizes.BLOCK) // max(columns, 1), 32)


def map_in_pieces(x: Tensor, normalize: RowMap | None, size: int) -> Tensor:
    """:func:`map_rows` of ``size`` rows at a time, which bounds the memory of what it saves."""
    if normalize is None or len(x) <= size:
        return map_rows(x, normalize)
    return torch.cat([map_rows(rows, normalize) for rows in torch.split(x, size)])


def scalar(value: float | Tensor, like: Tensor) -> Tensor:
    """A 0-d tensor of the dtype of ``like``; a tensor keeps its graph and device."""
    if isinstance(value, Tensor):
        return value.to(like.dtype)
    if torch.compiler.is_compiling():
        # A compiler takes a number that changes as an input only where it is a factor.
        return value * torch.ones((), dtype=like.dtype, device=like.device)
    return torch.full((), value, dtype=like.dtype, device=like.device)


def largest_octave(x: Tensor, y: Tensor, scale: float | Tensor) -> Tensor:
    """0-d: no |x| |y| times the scale is above this, and so no logit either."""
    # Cauchy-Schwarz: |x y| <= |x| |y|, here with the longest row of each.
    longest: list[Tensor] = [torch.linalg.vector_norm(z, dim=1).amax() for z in (x, y)]
    return scale * longest[0] * longest[1]


def temperature_gradient(
    x: Tensor, gx: Tensor, temperature: Tensor, step: int | None = None
) -> Tensor:
    """The temperature's gradient from the rows' own.

    Logits are x y / t, so scaling x up or t down is the same: t dL/dt = -sum(x dL/dx).
    """
    # With s_ij = x_i y_j / t and G = dL/ds: dx_i = sum_j G_ij y_j / t, so that sum_i x_i dx_i is
    # the sum of G_ij s_ij. And ds_ij/dt = -s_ij / t, so dL/dt is that sum over -t. This costs
    # O(B D), where a sum over the logits would need all of them again. In pieces, the product takes
    # little memory.
    pieces = slices(len(x), step or sizes.TILE)
    parts = [x.new_zeros(()), *((x[i] * gx[i]).sum() for i in pieces)]
    return (torch.stack(parts).sum() / -temperature).to(temperature.device)
