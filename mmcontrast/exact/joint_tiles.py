"""Contrast of volumes, both directions, in tiles: no volume is kept, only sums of B + C numbers.

A volume of an anchor with a tuple needs one dot product for each other modality; see
:class:`mmcontrast.exact.simplices.Bases`. As in :mod:`mmcontrast.exact.infonce_tiles`, one pass
sums up every row's and every column's negatives, and the backward pass makes the tiles again: 4
matrix products for each other modality. Pairs are left out of the sums: their volumes are made by
themselves, because in training they are the ones that become small.
"""

import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from mmcontrast.distributed import active, joined
from mmcontrast.exact.evaluation import Gradients, Kept, Needed, evaluate
from mmcontrast.exact.infonce_tiles import add_to_sums, negatives_gradient, sums_over_ranks
from mmcontrast.exact.simplices import Bases, least_square, volumes
from mmcontrast.exact.tiles import (
    LOG2_E,
    NegativeSums,
    Sides,
    as_bytes,
    excluded,
    memory,
    slices,
    tile_of,
)
from mmcontrast.softmax import masked_logsumexp


class TakingPart(NamedTuple):
    """Who takes part, and where a rank's own samples are."""

    rows: Tensor | None  # (B,) bool, this rank's anchors; None for all
    columns: Tensor | None  # (C,) bool, all ranks' tuples
    start: int  # the tuple of the first anchor
    group: Any = None  # the ranks over which columns are summed


def negatives_of_volumes(
    anchors: Tensor, bases: Bases, temperature: Tensor, among: TakingPart, sides: Sides
) -> Tensor:
    """(2, B) logs of the negatives' sums of e^(-volume / temperature), of anchors and of tuples.

    Without a negative they are so low that no exponential of theirs is above 0.

    Args:
        anchors: (B, D) of this rank.
        bases: (C,) tuples of all ranks.
        temperature: 0-d.
        among: who takes part.
        sides: rows and columns of a tile.
    """
    way = _VolumeTiles(sides, among._replace(group=active(among.group)))
    return evaluate(way, anchors, *bases, temperature)


def plain_negatives_of_volumes(
    anchors: Tensor, bases: Bases, temperature: float | Tensor, among: TakingPart
) -> Tensor:
    """The same in operations that autograd knows, with all volumes in memory."""
    own = slice(among.start, among.start + anchors.shape[0])
    every = joined(anchors, among.group)[0]  # (C, D)
    columns = torch.arange(bases.size.shape[0], device=anchors.device)
    others = columns != columns[own, None]  # (B, C)
    rows, size, offset = bases
    mine = Bases(rows[own], size[own], None if offset is None else offset[own])
    there = -volumes(anchors, bases) / temperature
    back = -volumes(every, mine).mT / temperature
    anchors_there = None if among.rows is None else joined(among.rows, among.group)[0]
    low = excluded(anchors.dtype)
    return torch.stack(
        [
            masked_logsumexp(s, others if keep is None else others & keep, empty=low)
            for s, keep in ((there, among.columns), (back, anchors_there))
        ]
    )


class _Tile(NamedTuple):
    """Memory for a tile, overwritten by the next one."""

    octaves: Tensor  # (R, K) logits, -w root / t
    root: Tensor  # (R, K) distances of the anchors from the tuples' spans
    inverse: Tensor  # (R, K) one over that
    dots: Sequence[Tensor]  # (R, K) each, products with the bases


class _VolumeTiles(NamedTuple):
    sides: Sides
    among: TakingPart

    def forward(self, needed: Needed, *inputs: Any) -> tuple[Tensor, Kept]:
        x, rows, size, offset, temperature = inputs
        lowest = torch.finfo(x.dtype).min
        zero_rows, zero_columns = x.new_zeros(len(x)), torch.zeros_like(size)
        shifts = torch.full_like(zero_rows, lowest), torch.full_like(size, lowest)
        sums = NegativeSums(zero_rows, zero_columns, *shifts)
        for i, j, tile in self.tiles(x, Bases(rows, size, offset), temperature):
            add_to_sums(sums.rows[i], sums.row_shift[i], tile.octaves)
            add_to_sums(sums.columns[j], sums.column_shift[j], tile.octaves.T)
        columns, shift = sums.columns, sums.column_shift
        if self.among.group is not None:  # as in infonce_tiles
            columns, shift = sums_over_ranks(columns, shift, self.among.group)
            sums = sums._replace(columns=columns * (shift - sums.column_shift).exp2())
        own = slice(self.among.start, self.among.start + len(x))
        logs = torch.stack([sums.rows, columns[own]]).log()  # (2, B)
        logs += torch.stack([sums.row_shift, shift[own]]) / LOG2_E
        return logs.clamp_min_(excluded(x.dtype)), sums

    def backward(self, needed: Needed, kept: Any, upstream: Tensor, *inputs: Any) -> Gradients:
        x, rows, size, offset, temperature = inputs
        sums, tiny = NegativeSums(*kept), torch.finfo(x.dtype).tiny
        own, v = upstream / -temperature  # a logit is -1 / t times a volume
        if self.among.group is not None:
            v = joined(v, self.among.group)[0]  # (C,)
        u, v = own / sums.rows.clamp_min(tiny), v / sums.columns.clamp_min(tiny)
        gx, g_rows, g_size = (torch.zeros_like(z) for z in (x, rows, size))
        g_offset = None if offset is None else torch.zeros_like(offset)
        room = memory(x, size, self.sides)
        for i, j, (slope, root, inverse, dots) in self.tiles(
            x, Bases(rows, size, offset), temperature
        ):
            negatives_gradient(slope, i, j, sums, u, v, room)  # by the volumes, w root
            g_size[j] += root.mul_(slope).sum(0)
            # d(root)/d(square) = 1 / (2 root), and all terms of the square but the first two come
            # with -1 or -2: so this is -2 times the gradient by the square.
            slope.mul_(inverse).mul_(-size[j])
            gx[i].addcmul_(x[i], slope.sum(1, keepdim=True), value=-1)
            if g_offset is not None:
                g_offset[j] -= slope.sum(0) / 2
            for k, dot in enumerate(dots):
                linear = offset is not None and k == 0
                by_dot = slope if linear else dot.mul_(slope)
                if needed[0]:
                    gx[i].addmm_(by_dot, rows[j, k])
                if needed[1]:
                    g_rows[j, k].addmm_(by_dot.T, x[i])
        # Logits are proportional to the sizes and to one over the temperature.
        gt = (size * g_size).sum() / -temperature
        return gx, g_rows, g_size, g_offset, gt

    def plain(self, *inputs: Any) -> Tensor:
        x, rows, size, offset, temperature = inputs
        return plain_negatives_of_volumes(x, Bases(rows, size, offset), temperature, self.among)

    def tiles(
        self, x: Tensor, bases: Bases, temperature: Tensor
    ) -> Iterator[tuple[slice, slice, _Tile]]:
        """Rows, columns and their tile, without the pairs and who takes no part."""
        rows, size, offset = bases
        squares, scale = x.square().sum(1), -LOG2_E / temperature
        rooms = [memory(x, size, self.sides) for _ in range(3 + rows.shape[1])]
        out = [None if keep is None else as_bytes(~keep) for keep in self.among[:2]]
        low = excluded(x.dtype)
        for i in slices(len(x), self.sides[0]):
            for j in slices(len(size), self.sides[1]):
                shape = i.stop - i.start, j.stop - j.start
                octaves, root, inverse, *dots = (tile_of(room, *shape) for room in rooms)
                root.copy_(squares[i, None])
                if offset is not None:
                    root.add_(offset[j])
                inverse.copy_(least_square(root))
                for k, dot in enumerate(dots):
                    torch.mm(x[i], rows[j, k].T, out=dot)
                    if offset is not None and k == 0:
                        root.sub_(dot, alpha=2)
                    else:
                        root.addcmul_(dot, dot, value=-1)
                torch.maximum(inverse, root, out=inverse).rsqrt_()
                root.clamp_min_(0).mul_(inverse)
                torch.mul(root, scale * size[j], out=octaves)
                if out[0] is not None:
                    octaves.add_(out[0][i, None], alpha=low)
                if out[1] is not None:
                    octaves.add_(out[1][j], alpha=low)
                octaves.diagonal(i.start + self.among.start - j.start).fill_(-math.inf)
                yield i, j, _Tile(octaves, root, inverse, dots)
