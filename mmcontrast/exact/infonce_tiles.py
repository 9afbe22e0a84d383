"""InfoNCE of both directions in tiles: 4 matrix products, and no digit of a small loss is lost.

One product makes the logits and sums up every row's and every column's negatives. The backward pass
makes the logits again, and with two more products the gradients. Only the sums are kept in between.

The loss of a pair is softplus(gap), its gap being the log of the negatives' sum minus the positive
logit. Log-sum-exp over all candidates minus the positive would be the same number, and would lose
every digit in float32 once the positive leads by 17, as it does at a temperature of 0.01.
"""

import math
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor

from mmcontrast.distributed import Group, active, joined
from mmcontrast.eager import known
from mmcontrast.exact.evaluation import Gradients, Kept, Needed, evaluate
from mmcontrast.exact.pair_rules import EVERY_PAIR, PairRules, as_tensors
from mmcontrast.exact.plain import plain_symmetric
from mmcontrast.exact.tiles import (
    LOG2_E,
    NegativeSums,
    Sides,
    as_bytes,
    largest_octave,
    memory,
    scalar,
    slices,
    temperature_gradient,
    tile_of,
    tiles,
)
from mmcontrast.gaps import USUAL, Variant, losses_and_slopes
from mmcontrast.rows import in_wider_dtype


def symmetric_in_tiles(
    x: Tensor,
    y: Tensor,
    temperature: float | Tensor,
    sides: Sides,
    *,
    start: int = 0,
    group: Group | None = None,
    rules: PairRules = EVERY_PAIR,
    bias: Tensor | None = None,
    variant: Variant = USUAL,
) -> Tensor:
    """(B,) losses of the pairs x[i], y[start + i], averaged over both directions.

    Args:
        x: (B, D) one view.
        y: (C, D) the other one; in a group that of all ranks, each of which has its own x.
        temperature: a float, or a 0-d tensor.
        sides: rows and columns of a tile.
        start: which row of y belongs to the first row of x.
        group: the ranks over which the columns are summed.
        rules: which pairs take part. The loss of a pair that does not is a finite placeholder,
            masked by the caller.
        bias: (B, C), added to the logits.
        variant: of both directions, (2, B): see :mod:`mmcontrast.gaps`.
    """
    x, y = in_wider_dtype(x, y)
    way = _SymmetricTiles(sides, start, active(group), rules, variant._replace(extra=None))
    bias = None if bias is None else bias.to(x.dtype)
    return evaluate(way, x, y, scalar(temperature, x), bias, variant.extra)


class _SymmetricTiles(NamedTuple):
    sides: Sides
    start: int
    group: Any
    rules: PairRules
    variant: Variant

    def forward(self, needed: Needed, *inputs: Any) -> tuple[Tensor, Kept]:
        x, y, temperature, bias, extra = inputs
        sides, start, group, rules, _ = self
        own = slice(start, start + len(x))
        scale = LOG2_E / temperature
        # One shift for all where that is accurate: it saves an exponential per logit, here and in
        # the backward pass. Otherwise a running maximum for each row and column.
        added = rules.partners_bias(bias, torch.arange(own.start, own.stop, device=x.device))
        bounded = len(x) > 0 and added is None  # no bound on the logits is known with a bias
        sums = _bounded_sums(x, y, scale, sides, start, rules) if bounded else None
        sums = sums or _shifted_sums(x, y, scale, sides, start, rules, bias)
        # A rank sees the logits of its own rows only, so its rows' sums are complete and its
        # columns' sums are one rank's part. The losses take the total over ranks in units of the
        # ranks' common shift; the backward pass keeps it in units of this rank's own shift, which
        # its tiles are shifted by.
        columns, shift = sums.columns, sums.column_shift
        if group is not None:
            columns, shift = sums_over_ranks(columns, shift, group)
            sums = sums._replace(columns=columns * (shift - sums.column_shift).exp2())
        # The positives, elementwise and not from a tile: the digits of a small loss depend on them.
        parts = [(x[i] * y[own][i]).sum(1) for i in slices(len(x), sides[0])]
        positive = torch.cat([x.new_empty(0), *parts]) * scale  # (B,)
        if added is not None:
            positive.add_(added, alpha=LOG2_E)
        if shift.ndim:
            shift = torch.stack([sums.row_shift.expand(len(x)), shift[own]])  # (2, B)
        # With N the sum of a row's negatives e^s and p its positive logit, the loss is
        # log(e^p + N) - p = log(1 + N e^-p) = softplus(gap), gap = log N - p. Here
        # N = sum * 2^shift, and shift and positive are in octaves, so
        # gap = ln(sum) + (shift - positive) / log2(e). Without a negative, sum is 0, gap minus
        # infinity and the loss 0. The same holds for columns.
        both = torch.stack([sums.rows, columns[own]])  # (2, B)
        gap, variant = both.log() + (shift - positive) / LOG2_E, self.variant._replace(extra=extra)
        losses, slopes = losses_and_slopes(gap, positive / LOG2_E, temperature, variant)
        return losses.mean(0), (*slopes, *sums)

    def backward(self, needed: Needed, kept: Any, upstream: Tensor, *inputs: Any) -> Gradients:
        x, y, temperature, bias, _ = inputs
        push, pull, by_extra, by_inverse, *rest = kept
        # d(loss)/d(gap) = sigmoid(gap) = N / (N + e^p), the share that is pushed and pulled. Half
        # of it belongs to each direction, and 1 / t makes it a gradient by the dot product x y
        # instead of the logit. Ranks exchange what belongs to their own columns, so that v covers
        # all columns.
        half = upstream / 2
        each = half / temperature
        u, own = push * each
        v = own if self.group is None else joined(own, self.group)[0]  # (C,)
        pair = -(pull * each).sum(0)
        scale, sums = LOG2_E / temperature, NegativeSums(*rest)
        gx, gy, gb = self.gradients(needed, x, y, bias, scale, sums, u, v, pair)
        gt = temperature_gradient(x, gx, temperature) if gx is not None and needed[2] else None
        if gt is not None and by_inverse is not None:
            gt = gt - (by_inverse * half).sum() / temperature.square()
        # By a logit, the gradient is that by the product times t.
        gb = None if gb is None else gb.mul_(temperature)
        return gx, gy, gt, gb, None if by_extra is None else by_extra * half

    def plain(self, *inputs: Any) -> Tensor:
        x, y, temperature, bias, extra = inputs
        own, variant = slice(self.start, self.start + len(x)), self.variant._replace(extra=extra)
        masks = as_tensors(self.rules, bias, x, y)
        return plain_symmetric(x, y, temperature, own, self.group, *masks, variant)

    def gradients(
        self,
        needed: Needed,
        x: Tensor,
        y: Tensor,
        bias: Tensor | None,
        scale: Tensor,
        sums: NegativeSums,
        u: Tensor,
        v: Tensor,
        pair: Tensor,
    ) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        """Each tile of the logits' gradient times the columns and, transposed, times the rows.

        The gradients by a row's negatives sum to u, by a column's to v, and that by their pair is
        given; of InfoNCE it is minus both. The last of the three is that by the products.
        """
        sides, start, _, rules, _ = self
        # Of d(gap_i)/d(s_ij), the negatives have their parts e^s_ij / N_i of the sum, which add up
        # to 1, and the positive has -1. So row i gives u_i 2^(s_ij - shift) / sum_i to a negative
        # and -u_i to its pair; column j gives v_j 2^(s_ij - shift) / sum_j and -v_j. A pair is in
        # one row and one column: -u - v, unless a variant pulls by another number than it pushes.
        gx = torch.zeros_like(x) if needed[0] or needed[2] else None
        gy = torch.zeros_like(y) if needed[1] else None
        gb = torch.empty_like(bias) if bias is not None and needed[3] else None
        tiny = torch.finfo(x.dtype).tiny  # one sample has no negatives: sum, u and v are all 0
        u, v = u / sums.rows.clamp_min(tiny), v / sums.columns.clamp_min(tiny)
        room = memory(x, y, sides)
        bounded = sums.row_shift.ndim == 0
        add = -sums.row_shift if bounded else None
        for i, j, tile in tiles(x, y, sides, scale=scale, add=add):
            kept, more = rules.of_octaves(i, j, tile, scale, add, bias)
            # One shift for both directions: one exponential, times the sum of both factors.
            if bounded:
                other = tile_of(room, *tile.shape)
                tile.exp2_().mul_(torch.add(u[i, None], v[j], out=other))
                if kept is not None:
                    tile.mul_(as_bytes(kept))
            else:
                if more is not None:
                    tile.add_(more, alpha=LOG2_E)
                if kept is not None:
                    tile.masked_fill_(~kept, -math.inf)
                negatives_gradient(tile, i, j, sums, u, v, room)
            # Row i.start + r has its pair in column start + i.start + r, which is column r + offset
            # of the tile. Where offset is negative, the tile's diagonal begins at row -offset; a
            # tile that holds no pair has an empty diagonal.
            offset = i.start + start - j.start
            there = tile.diagonal(offset)
            there.copy_(pair[i][max(-offset, 0) :][: len(there)])
            if gx is not None:
                gx[i].addmm_(tile, y[j])
            if gy is not None:
                gy[j].addmm_(tile.T, x[i])
            if gb is not None:
                gb[i, j] = tile
        return gx, gy, gb


def certain(sums: Tensor, terms: int) -> bool:
    """Whether one shift for all lost nothing: what underflowed is below each sum's rounding."""
    # A term below the smallest normal number, tiny, may be flushed to 0. So a sum of `terms` terms
    # is off by at most terms * tiny, and if that is below eps * sum, rounding the sum costs as
    # much. Off the CPU this is always False, because reading the sums would wait for the device.
    limits = torch.finfo(sums.dtype)
    return known(sums.min() >= terms * limits.tiny / limits.eps)


def add_to_sums(sums: Tensor, shift: Tensor, octaves: Tensor) -> None:
    """Add each row's 2^octaves to its sum, in place, in units of 2^(the largest so far)."""
    # Log-sum-exp in one pass: when a larger logit appears, the sum so far is converted to its unit.
    # The first shift is the lowest float: minus infinity minus itself would be NaN.
    highest = torch.maximum(shift, octaves.amax(1))
    sums.mul_((shift - highest).exp2_()).add_((octaves - highest[:, None]).exp2_().sum(1))
    shift.copy_(highest)


def negatives_gradient(
    octaves: Tensor, i: slice, j: slice, sums: NegativeSums, u: Tensor, v: Tensor, room: Tensor
) -> None:
    """Turn a tile of logits into the loss's gradient by them, but for the pairs', in place.

    Args:
        octaves: (rows, columns) the tile.
        i, j: its rows and columns.
        sums: the negatives' sums, with a shift for each row and column.
        u, v: what each row's and column's gradients sum to, divided by those sums.
        room: memory for another tile.
    """
    by_column = torch.sub(octaves, sums.column_shift[j], out=tile_of(room, *octaves.shape))
    by_column.exp2_().mul_(v[j])
    octaves.sub_(sums.row_shift[i, None]).exp2_().mul_(u[i, None]).add_(by_column)


def _bounded_sums(
    x: Tensor, y: Tensor, scale: Tensor, sides: Sides, start: int, rules: PairRules
) -> NegativeSums | None:
    """One shift, and so one exponential, for all rows and columns: no logit is above |x| |y|.

    None where a row or column lies so far below it that its sum underflows, which the first rows of
    tiles mostly tell.
    """
    shift = largest_octave(x, y, scale)
    # Shifted by the bound, no exponential is above 1, so none overflows. The danger is underflow:
    # where the bound is far above a row's logits, `certain` finds its sum too small.
    rows, columns = x.new_zeros(len(x)), x.new_zeros(len(y))
    # 1 for a row or column that keeps no negative: its sum, which is 0, is certain.
    bare_rows, bare_columns = (torch.full_like(z, rules.leave_out()) for z in (rows, columns))
    add = -shift
    for i, j, tile in tiles(x, y, sides, scale=scale, add=add):
        kept, _ = rules.of_octaves(i, j, tile, scale, add, None)
        tile.exp2_().diagonal(i.start + start - j.start).zero_()  # no pair is a negative
        if kept is not None:
            negatives = kept_negatives(kept, i.start + start - j.start)
            bare_rows[i].mul_(1 - negatives.amax(1))
            bare_columns[j].mul_(1 - negatives.amax(0))
            tile.mul_(negatives)
        elif rules.leave_out():
            # Nothing is left out, so each row has a negative in this tile. (Unless the tile's only
            # column is the row's partner: such a row counts as uncertain, which is safe.)
            bare_rows[i].zero_()
            bare_columns[j].zero_()
        rows[i] += tile.sum(1)
        columns[j] += tile.sum(0)
        # A row of tiles is complete: if its sums are too small, the other tiles need not be made.
        if j.stop == len(y) and not certain(rows[i] + bare_rows[i], len(y)):
            return None
    found = NegativeSums(rows, columns, shift, shift)
    return found if certain(columns + bare_columns, len(x)) else None


def kept_negatives(kept: Tensor, offset: int) -> Tensor:
    """(R, K) bytes of a tile, 1 where a kept pair is a negative; its diagonal has the positives."""
    if -kept.shape[0] < offset < kept.shape[1]:
        kept = kept.clone(memory_format=torch.contiguous_format)
        kept.diagonal(offset).fill_(False)
    return as_bytes(kept)


def _shifted_sums(
    x: Tensor,
    y: Tensor,
    scale: Tensor,
    sides: Sides,
    start: int,
    rules: PairRules,
    bias: Tensor | None,
) -> NegativeSums:
    """The largest negative of each row and column as its shift, updated as the tiles come."""
    lowest = torch.finfo(x.dtype).min
    rows, columns = x.new_zeros(len(x)), x.new_zeros(len(y))
    sums = NegativeSums(
        rows, columns, torch.full_like(rows, lowest), torch.full_like(columns, lowest)
    )
    for i, j, tile in tiles(x, y, sides, scale=scale):
        kept, more = rules.of_octaves(i, j, tile, scale, None, bias)
        if more is not None:
            tile.add_(more, alpha=LOG2_E)
        tile.diagonal(i.start + start - j.start).fill_(-math.inf)  # 2^-inf = 0
        if kept is not None:
            tile.masked_fill_(~kept, -math.inf)
        add_to_sums(sums.rows[i], sums.row_shift[i], tile)
        add_to_sums(sums.columns[j], sums.column_shift[j], tile.T)
    return sums


def sums_over_ranks(columns: Tensor, shift: Tensor, group: Any) -> tuple[Tensor, Tensor]:
    """The columns' sums over the rows of all ranks, and their shift: the highest of the ranks'."""
    # As in `add_to_sums`, over ranks: agree on the largest shift, convert to its unit, add up.
    highest = shift.expand(len(columns)).clone()
    dist.all_reduce(highest, op=dist.ReduceOp.MAX, group=group)
    columns = columns * (shift - highest).exp2()
    dist.all_reduce(columns, group=group)
    return columns, highest
