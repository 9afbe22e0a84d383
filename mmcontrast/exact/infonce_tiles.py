"""InfoNCE of both directions in tiles: 4 products, the gap from the negatives' sums alone."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor

from mmcontrast.distributed import Group, active, joined
from mmcontrast.eager import apply, full_precision, known
from mmcontrast.exact.tiles import (
    LOG2_E,
    by_temperature,
    differentiate,
    lengths,
    memory,
    number,
    slices,
    tile,
)
from mmcontrast.rows import dot
from mmcontrast.softmax import log_share


def negative_share(gap: Tensor) -> tuple[Tensor, Tensor]:
    """The loss softplus(gap), and its slope: the share of the softmax that the negatives have.

    The gap is the log of the negatives' sum minus the positive's logit. Log-sum-exp over all minus
    the positive would be the same, and lose every digit where the positive leads by 17.
    """
    return F.softplus(gap, threshold=50), gap.sigmoid()


def certain(sums: Tensor, terms: int) -> bool:
    """Whether one shift for all lost nothing: what underflowed is below each sum's rounding."""
    limits = torch.finfo(sums.dtype)
    return known(sums.min() >= terms * limits.tiny / limits.eps)


class Sums(NamedTuple):
    """For each row and column, the sum over its negatives of 2^(s - shift), s in octaves."""

    rows: Tensor
    columns: Tensor
    row_shift: Tensor  # (B,), or the one shift that rows and columns share, 0-d
    column_shift: Tensor


def symmetric(
    x: Tensor,
    y: Tensor,
    temperature: float | Tensor,
    sides: tuple[int, int],
    *,
    weight: Tensor | None = None,
    start: int = 0,
    group: Group | None = None,
) -> Tensor:
    """Both directions' losses of the pairs x[i], y[start + i], averaged: 4 products.

    One to sum up the negatives, and in the backward pass one to make the logits again and two for
    the gradients. Nothing but sums is kept in between.

    Args:
        x: (B, D) one view.
        y: (C, D) the other one: of all ranks in a group, each of which has its own rows of x.
        temperature: a float, or a 0-d tensor.
        sides: rows and columns of a tile.
        weight: (B,) or 0-d, what each loss counts for in the sum; None for the (B,) losses.
        start: the first row's partner.
        group: the ranks over which the columns are summed.
    """
    dtype = torch.promote_types(x.dtype, y.dtype)
    x, y, temperature = x.to(dtype), y.to(dtype), number(temperature, x)
    weight = None if weight is None else weight.to(dtype)
    settings = sides, start, active(group)
    return apply(_Symmetric, x, y, temperature, weight, *settings)


class _Symmetric(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        y: Tensor,
        temperature: Tensor,
        weight: Tensor | None,
        sides: tuple[int, int],
        start: int,
        group: Any,
    ) -> Tensor:
        ctx.sides, ctx.start, ctx.group = sides, start, group
        own = slice(start, start + len(x))
        with full_precision(x):
            scale = LOG2_E / temperature
            sums = _sums(x, y, scale, sides, start)
            columns, shift = sums.columns, sums.column_shift
            if group is not None:
                columns, shift = _over_ranks(columns, shift, group)
                sums = sums._replace(columns=columns * (shift - sums.column_shift).exp2())
            parts = [(x[i] * y[own][i]).sum(1) for i in slices(len(x), sides[0])]
            logits = torch.cat([x.new_empty(0), *parts]) * scale
        if shift.ndim:
            shift = torch.stack([sums.row_shift.expand(len(x)), shift[own]])
        both = torch.stack([sums.rows, columns[own]])
        losses, share = negative_share(both.log() + (shift - logits) / LOG2_E)
        losses = losses.mean(0)
        weighing = ctx.needs_input_grad[3]
        ctx.save_for_backward(x, y, temperature, weight, losses if weighing else None, share, *sums)
        return losses if weight is None else (losses * weight).sum()

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> Any:
        x, y, temperature, weight, losses, share, *rest = ctx.saved_tensors
        needed, rows = ctx.needs_input_grad, slice(ctx.start, ctx.start + len(x))
        nothing = (None,) * 3
        if torch.is_grad_enabled():
            value = plain_symmetric(x, y, temperature, rows, ctx.group)
            value = value if weight is None else (value * weight).sum()
            inputs = (x, y, temperature, weight)
            return *differentiate(value, inputs, needed[:4], upstream), *nothing
        each = upstream if weight is None else upstream * weight
        u, own = share * (each / (2 * temperature))
        v = own if ctx.group is None else joined(own, ctx.group)[0]
        with full_precision(x):
            scale = LOG2_E / temperature
            gx, gy = _gradients(x, y, scale, Sums(*rest), u, v, ctx.sides, ctx.start, needed)
        gt = None
        if gx is not None and needed[2]:
            gt = by_temperature(x, gx, temperature)
        gw = losses * upstream if needed[3] else None
        return gx, gy, gt, gw, *nothing


def plain_symmetric(
    x: Tensor, y: Tensor, temperature: float | Tensor, own: slice, group: Any
) -> Tensor:
    """The same losses by operations that autograd knows."""
    every = x if group is None else joined(x, group)[0]
    columns = torch.arange(len(y), device=x.device)
    pairs = columns == columns[own, None]
    there = log_share(dot(x, y) / temperature, pairs, None)[0]
    return (there + log_share(dot(y[own], every) / temperature, pairs, None)[0]) / 2


def _over_ranks(columns: Tensor, shift: Tensor, group: Any) -> tuple[Tensor, Tensor]:
    """The columns' sums over the rows of all ranks, and their shift: the highest of the ranks'."""
    highest = shift.expand(len(columns)).clone()
    dist.all_reduce(highest, op=dist.ReduceOp.MAX, group=group)
    columns = columns * (shift - highest).exp2()
    dist.all_reduce(columns, group=group)
    return columns, highest


def _sums(x: Tensor, y: Tensor, scale: Tensor, sides: tuple[int, int], start: int) -> Sums:
    found = _bounded_sums(x, y, scale, sides, start) if len(x) > 0 else None
    return found or _shifted_sums(x, y, scale, sides, start)


def _bounded_sums(
    x: Tensor, y: Tensor, scale: Tensor, sides: tuple[int, int], start: int
) -> Sums | None:
    """One shift, and so one exponential, for all rows and columns: no logit is above |x| |y|.

    None where a row or column lies so far below it that its sum underflows: the first rows of
    tiles mostly tell.
    """
    shift = scale * lengths(x).amax() * lengths(y).amax()
    rows, columns, room = x.new_zeros(len(x)), x.new_zeros(len(y)), memory(x, y, sides)
    for i in slices(len(x), sides[0]):
        scaled = x[i] * scale
        for j in slices(len(y), sides[1]):
            odds = tile(room, len(scaled), j.stop - j.start)
            torch.addmm(-shift, scaled, y[j].T, out=odds).exp2_()
            odds.diagonal(i.start + start - j.start).zero_()
            rows[i] += odds.sum(1)
            columns[j] += odds.sum(0)
        if not certain(rows[i], len(y)):
            return None
    return Sums(rows, columns, shift, shift) if certain(columns, len(x)) else None


def _shifted_sums(x: Tensor, y: Tensor, scale: Tensor, sides: tuple[int, int], start: int) -> Sums:
    """The largest negative of each row and column as its shift, kept up as the tiles come."""
    lowest = torch.finfo(x.dtype).min
    rows, columns, room = x.new_zeros(len(x)), x.new_zeros(len(y)), memory(x, y, sides)
    sums = Sums(rows, columns, torch.full_like(rows, lowest), torch.full_like(columns, lowest))
    for i in slices(len(x), sides[0]):
        scaled = x[i] * scale
        for j in slices(len(y), sides[1]):
            logits = torch.mm(scaled, y[j].T, out=tile(room, len(scaled), j.stop - j.start))
            logits.diagonal(i.start + start - j.start).fill_(-math.inf)
            add(sums.rows[i], sums.row_shift[i], logits)
            add(sums.columns[j], sums.column_shift[j], logits.T)
    return sums


def add(sums: Tensor, shift: Tensor, logits: Tensor) -> None:
    """Add the rows' 2^logits to their sums, in units of the new shift, in place."""
    highest = torch.maximum(shift, logits.amax(1))
    sums.mul_((shift - highest).exp2_()).add_((logits - highest[:, None]).exp2_().sum(1))
    shift.copy_(highest)


def _gradients(
    x: Tensor,
    y: Tensor,
    scale: Tensor,
    sums: Sums,
    u: Tensor,
    v: Tensor,
    sides: tuple[int, int],
    start: int,
    needed: Sequence[bool],
) -> tuple[Tensor | None, Tensor | None]:
    """Each tile of the logits' gradient times the rows and the columns.

    A row's negatives share u among them, a column's v, and its pair has minus the two.
    """
    gx = torch.zeros_like(x) if needed[0] or needed[2] else None
    gy = torch.zeros_like(y) if needed[1] else None
    pair = -u - v[start : start + len(x)]
    tiny = torch.finfo(x.dtype).tiny  # one sample alone has no negatives: its sum is 0, u and v too
    u, v = u / sums.rows.clamp_min(tiny), v / sums.columns.clamp_min(tiny)
    rooms = memory(x, y, sides), memory(x, y, sides)
    for i in slices(len(x), sides[0]):
        scaled = x[i] * scale
        for j in slices(len(y), sides[1]):
            odds, share = (tile(room, len(scaled), j.stop - j.start) for room in rooms)
            if sums.row_shift.ndim == 0:
                torch.addmm(-sums.row_shift, scaled, y[j].T, out=odds).exp2_()
                odds.mul_(torch.add(u[i, None], v[j], out=share))
            else:
                torch.mm(scaled, y[j].T, out=odds)
                torch.sub(odds, sums.column_shift[j], out=share).exp2_().mul_(v[j])
                odds.sub_(sums.row_shift[i, None]).exp2_().mul_(u[i, None]).add_(share)
            offset = i.start + start - j.start
            there = odds.diagonal(offset)
            there.copy_(pair[i][max(-offset, 0) :][: len(there)])
            if gx is not None:
                gx[i].addmm_(odds, y[j])
            if gy is not None:
                gy[j].addmm_(odds.T, x[i])
    return gx, gy
