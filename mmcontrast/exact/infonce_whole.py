"""InfoNCE with whole matrices of logits in memory, for batches where time is what calls cost.

Up to some 2^16 logits, a matrix for each direction is kept for the backward pass, in as few
operations as can be (``..._at_once``). Above, two directions can share one matrix of the negatives'
exponentials, at the price of one shift for all of them (``symmetric_in_one_matrix``): 3 matrix
products where tiles take 4.

A loss is softplus(gap) here as in :mod:`mmcontrast.exact.infonce_tiles`: its gap is made of the
negatives' sum alone, so that no digit of a small loss is lost.
"""

import math
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from mmcontrast.exact.evaluation import Gradients, Kept, Needed, evaluate
from mmcontrast.exact.infonce_tiles import certain
from mmcontrast.exact.plain import plain_one_way, plain_symmetric
from mmcontrast.exact.tiles import (
    LOG2_E,
    piece,
    rows_in_cache,
    slices,
    temperature_gradient,
    tile_of,
)
from mmcontrast.gaps import USUAL, Variant, losses_and_slopes


def one_way_at_once(
    anchors: Tensor, candidates: Tensor, targets: Tensor | None, temperature: float | Tensor
) -> Tensor:
    """(B,) losses of (B, D) anchors among (C, D) candidates.

    Without ``targets``, row ``i`` belongs to anchor ``i``. The loss of an anchor with a negative
    target is a finite placeholder, masked by the caller.
    """
    targets = None if targets is None else targets.clamp_min(0).long()
    x, y, temperature = _alike(anchors, candidates, temperature)
    return evaluate(_AtOnce(both=False), x, y, targets, temperature)


def symmetric_at_once(x: Tensor, y: Tensor, temperature: float | Tensor) -> Tensor:
    """(B,) losses of two (B, D) views, averaged over both directions."""
    x, y, temperature = _alike(x, y, temperature)
    return evaluate(_AtOnce(both=True), x, y, None, temperature)


def symmetric_in_one_matrix(
    x: Tensor, y: Tensor, temperature: float | Tensor, variant: Variant = USUAL
) -> Tensor:
    """(B,) losses of two (B, D) views, averaged over both directions.

    The backward pass finds the negatives' exponentials where the forward pass has left them. The
    variant is that of both directions, (2, B): see :mod:`mmcontrast.gaps`.
    """
    way = _OneMatrix(variant._replace(extra=None))
    return evaluate(way, *_alike(x, y, temperature), variant.extra)


def _alike(
    x: Tensor, y: Tensor, temperature: float | Tensor
) -> tuple[Tensor, Tensor, float | Tensor]:
    """Two views and the temperature in one dtype."""
    if x.dtype != y.dtype:  # float32 and float64: rows are never lower
        x, y = x.double(), y.double()
    return x, y, temperature.to(x.dtype) if isinstance(temperature, Tensor) else temperature


class _AtOnce(NamedTuple):
    both: bool

    def forward(self, needed: Needed, *inputs: Any) -> tuple[Tensor, Kept]:
        x, y, targets, temperature = inputs
        logits = torch.mm(x, y.T).div_(temperature)  # (B, C)
        losses, there = _along(logits, 1, targets)
        if not self.both:
            return losses, (there, None)
        others, back = _along(logits, 0, None)
        return losses.add_(others).mul_(0.5), (there, back)

    def backward(self, needed: Needed, kept: Any, upstream: Tensor, *inputs: Any) -> Gradients:
        x, y, _, temperature = inputs
        there, back = kept
        each = upstream / (temperature * 2 if self.both else temperature)
        # `there` and `back` hold d(loss)/d(logit) of each direction. Losses of rows have their
        # upstream along the rows, those of columns along the columns.
        slope = there * each[:, None]  # (B, C)
        if back is not None:
            slope.addcmul_(back, each)  # (B, C) * (C,): B is C where there are two directions
        gx = gy = gt = None
        if needed[0] or needed[3]:
            gx = torch.mm(slope, y)
        if needed[1]:
            gy = torch.mm(slope.T, x)
        if gx is not None and needed[3] and isinstance(temperature, Tensor):
            gt = temperature_gradient(x, gx, temperature)
        return gx, gy, None, gt

    def plain(self, *inputs: Any) -> Tensor:
        x, y, targets, temperature = inputs
        if self.both:
            return plain_symmetric(x, y, temperature, slice(0, len(x)), None)
        return plain_one_way(x, y, targets, temperature)


def _along(logits: Tensor, axis: int, targets: Tensor | None) -> tuple[Tensor, Tensor]:
    """The (B,) losses along an axis, and their gradients by the logits.

    The gradient by a positive is minus the sum of its negatives' shares in the softmax. That sum
    has all its digits, and so has the loss that is made of it, where one minus the positive's own
    share has none.
    """
    # With log q the log-softmax, the loss is -log q_p. As a gap it is
    # softplus(log(1 - q_p) - log q_p), where 1 - q_p is not a difference but the sum of the
    # negatives' q. The gradient by the logits is q, and q_p - 1 for the positive, which is minus
    # the same sum.
    slope = logits.log_softmax(axis)
    if targets is None:
        positives = slope.diagonal()
        own = positives.clone()  # a copy, for this diagonal is about to be overwritten
        slope.mul_(LOG2_E).exp2_()  # faster than exp
        positives.zero_()
        share = slope.sum(axis)
        positives.sub_(share)  # 0 - share
    else:
        column = targets[:, None]
        own = slope.gather(1, column)[:, 0]  # (B,)
        slope.mul_(LOG2_E).exp2_().scatter_(1, column, 0)
        share = slope.sum(axis)
        slope.scatter_(1, column, -share[:, None])
    return F.softplus(share.log().sub_(own), threshold=50), slope


class _OneMatrix(NamedTuple):
    variant: Variant

    def forward(self, needed: Needed, *inputs: Any) -> tuple[Tensor, Kept]:
        x, y, temperature, extra = inputs
        scale = LOG2_E / temperature
        own = (x * y).sum(1).mul_(scale)  # (B,) positive logits, in octaves
        sums, shift, there, back = _exponentials(x, y, scale)
        # gap = log of the negatives' sum - positive logit; see infonce_tiles for this and for u.
        gap = sums.log().add_((shift - own).div_(LOG2_E))  # (2, B)
        variant = self.variant._replace(extra=extra)
        losses, slopes = losses_and_slopes(gap, own / LOG2_E, temperature, variant)
        return losses.mean(0), (sums, *slopes, there, back)

    def backward(self, needed: Needed, kept: Any, upstream: Tensor, *inputs: Any) -> Gradients:
        x, y, temperature, _ = inputs
        sums, push, pull, by_extra, by_inverse, there, back = kept
        half = upstream / 2
        each = half / temperature
        u, pair = push * each, (pull * each).sum(0)  # (2, B), (B,)
        # Without negatives the sum and u are both 0: the clamp makes it 0 / tiny instead of 0 / 0.
        rows, columns = (u / sums.clamp_min(torch.finfo(x.dtype).tiny)).unbind(0)
        wanted = needed[0] or needed[2], needed[1]
        gx, gy = _products(wanted, x, y, pair, rows, columns, there, back)
        gt = None
        if gx is not None and needed[2] and isinstance(temperature, Tensor):
            gt = temperature_gradient(x, gx, temperature)
            if by_inverse is not None:
                gt = gt - (by_inverse * half).sum() / temperature.square()
        return gx, gy, gt, None if by_extra is None else by_extra * half

    def plain(self, *inputs: Any) -> Tensor:
        x, y, temperature, extra = inputs
        variant = self.variant._replace(extra=extra)
        return plain_symmetric(x, y, temperature, slice(0, len(x)), None, variant=variant)


def _exponentials(
    x: Tensor, y: Tensor, scale: float | Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
    """The negatives' 2^(s - shift), s in octaves, and their (2, B) sums over rows and columns.

    One shift, the largest of all, serves both directions, unless some sum underflows: then rows
    and columns have shifts and terms of their own.
    """
    lowest = torch.finfo(x.dtype).min
    odds = torch.mm(x * scale, y.T)
    odds.diagonal().fill_(-math.inf)
    # One sample has no negatives: the largest of all would be minus infinity, and the difference
    # NaN.
    if len(x) > 1:
        shift = odds.amax()
        # In blocks, so that the second operation finds the block in the cache.
        for i in slices(len(x), rows_in_cache(len(y))):
            piece(odds, i).sub_(shift).exp2_()
        sums = torch.stack([odds.sum(1), odds.sum(0)])
        if certain(sums, len(x)):
            return sums, shift, odds, None
        # Some sum is too small under the common shift. The logits were overwritten: make them
        # again.
        torch.mm(x * scale, y.T, out=odds)
        odds.diagonal().fill_(-math.inf)
    # The clamp replaces minus infinity, of a batch of one, by a finite shift.
    rows, columns = odds.amax(1).clamp_min_(lowest), odds.amax(0).clamp_min_(lowest)
    there, back = (odds - rows[:, None]).exp2_(), (odds - columns).exp2_()
    return torch.stack([there.sum(1), back.sum(0)]), torch.stack([rows, columns]), there, back


def _products(
    wanted: tuple[bool, bool],
    x: Tensor,
    y: Tensor,
    pair: Tensor,
    rows: Tensor,
    columns: Tensor,
    there: Tensor,
    back: Tensor | None,
) -> tuple[Tensor | None, Tensor | None]:
    """The logits' gradient, some rows at a time, times the rows of the views.

    Its entries are each term's share in its row's sum and in its column's, and minus ``pair``.
    """
    step = rows_in_cache(len(y))
    room = x.new_empty(step * len(y)) if len(x) > step else None
    parts, gy = [], None
    for i in slices(len(x), step):
        row, part, others = piece(rows, i)[:, None], piece(there, i), piece(x, i)
        odds = None if room is None else tile_of(room, len(part), len(y))
        # A negative's gradient is e_ij (u_i / sum_i + v_j / sum_j), where one matrix e serves both
        # directions; with shifts of their own, e_ij u_i / sum_i + e'_ij v_j / sum_j.
        if back is None:
            odds = torch.add(row, columns, out=odds).mul_(part)
        else:
            odds = torch.mul(part, row, out=odds).addcmul_(piece(back, i), columns)
        # The diagonal is 2^-inf = 0 so far, and its gradient is -u - v, which is -pair.
        odds.diagonal(i.start).sub_(piece(pair, i))
        if wanted[0]:
            parts.append(odds @ y)
        if wanted[1]:
            gy = odds.T @ others if gy is None else gy.addmm_(odds.T, others)
    gx = None if not parts else parts[0] if len(parts) == 1 else torch.cat(parts)
    return gx, gy
