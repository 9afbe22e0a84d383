"""InfoNCE of both directions at once, in the memory of one matrix of logits and 3 products."""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from mmcontrast.eager import apply, full_precision
from mmcontrast.exact.infonce_tiles import certain, plain_symmetric
from mmcontrast.exact.tiles import (
    LOG2_E,
    block,
    by_temperature,
    differentiate,
    piece,
    slices,
    tile,
)


def symmetric(
    x: Tensor, y: Tensor, temperature: float | Tensor, weight: Tensor | None = None
) -> Tensor:
    """Both directions' losses of the rows of two (B, D) views, averaged.

    The backward pass finds the negatives' terms where the forward pass has left them. With
    ``weight``, (B,) or 0-d, the sum of the losses times that.
    """
    dtype = torch.promote_types(x.dtype, y.dtype)
    weight = None if weight is None else weight.to(dtype)
    if isinstance(temperature, Tensor):
        temperature = temperature.to(dtype)
    return apply(_Whole, x.to(dtype), y.to(dtype), temperature, weight)


class _Whole(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, y: Tensor, temperature: float | Tensor, weight: Tensor | None
    ) -> Tensor:
        with full_precision(x):
            scale = LOG2_E / temperature
            own = (x * y).sum(1).mul_(scale)
            sums, shift, there, back = _terms(x, y, scale)
        # The gap to the positive, never the log of a sum that it is part of: see negative_share.
        gap = sums.log().add_((shift - own).div_(LOG2_E))
        losses = F.softplus(gap, threshold=50).mean(0)
        learned = isinstance(temperature, Tensor)
        ctx.temperature = None if learned else temperature
        kept = losses if ctx.needs_input_grad[3] else None
        given = temperature if learned else None
        ctx.save_for_backward(x, y, given, weight, kept, sums, gap.sigmoid_(), there, back)
        return losses if weight is None else (losses * weight).sum()

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> Any:
        x, y, learned, weight, losses, sums, share, there, back = ctx.saved_tensors
        needed = ctx.needs_input_grad
        temperature = ctx.temperature if learned is None else learned
        if torch.is_grad_enabled():
            value = plain_symmetric(x, y, temperature, slice(0, len(x)), None)
            value = value if weight is None else (value * weight).sum()
            return tuple(differentiate(value, (x, y, temperature, weight), needed, upstream))
        with full_precision(x):
            each = upstream if weight is None else upstream * weight
            u = share * (each / (2 * temperature))
            rows, columns = (u / sums.clamp_min(torch.finfo(x.dtype).tiny)).unbind(0)
            wanted = (needed[0] or needed[2], needed[1])
            gx, gy = _gradients(x, y, u.sum(0), rows, columns, there, back, wanted)
        gt = by_temperature(x, gx, learned) if gx is not None and needed[2] else None
        return gx, gy, gt, losses * upstream if needed[3] else None


def _terms(
    x: Tensor, y: Tensor, scale: float | Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
    """The negatives' 2^(s - shift), s in octaves, and their (2, B) sums over rows and columns.

    One shift, the largest of all, serves both directions, unless some sum underflows: then rows
    and columns have shifts and terms of their own.
    """
    lowest = torch.finfo(x.dtype).min
    odds = torch.mm(x * scale, y.T)
    odds.diagonal().fill_(-math.inf)
    if len(x) > 1:
        shift = odds.amax()
        for i in slices(len(x), block(len(y))):
            piece(odds, i).sub_(shift).exp2_()
        sums = torch.stack([odds.sum(1), odds.sum(0)])
        if certain(sums, len(x)):
            return sums, shift, odds, None
        torch.mm(x * scale, y.T, out=odds)
        odds.diagonal().fill_(-math.inf)
    rows, columns = odds.amax(1).clamp_min_(lowest), odds.amax(0).clamp_min_(lowest)
    there, back = (odds - rows[:, None]).exp2_(), (odds - columns).exp2_()
    return torch.stack([there.sum(1), back.sum(0)]), torch.stack([rows, columns]), there, back


def _gradients(
    x: Tensor,
    y: Tensor,
    pair: Tensor,
    rows: Tensor,
    columns: Tensor,
    there: Tensor,
    back: Tensor | None,
    needed: tuple[bool, bool],
) -> tuple[Tensor | None, Tensor | None]:
    """The logits' gradient, some rows at a time, times the rows of the views.

    Its entries are each term's share in its row's sum and in its column's, and minus ``pair``.
    """
    step = block(len(y))
    room = x.new_empty(step * len(y)) if len(x) > step else None  # not to allocate it each time
    parts, gy = [], None
    for i in slices(len(x), step):
        row, part, others = piece(rows, i)[:, None], piece(there, i), piece(x, i)
        odds = None if room is None else tile(room, len(part), len(y))
        if back is None:
            odds = torch.add(row, columns, out=odds).mul_(part)
        else:
            odds = torch.mul(part, row, out=odds).addcmul_(piece(back, i), columns)
        odds.diagonal(i.start).sub_(piece(pair, i))
        if needed[0]:
            parts.append(odds @ y)
        if needed[1]:
            gy = odds.T @ others if gy is None else gy.addmm_(odds.T, others)
    gx = None if not parts else parts[0] if len(parts) == 1 else torch.cat(parts)
    return gx, gy
