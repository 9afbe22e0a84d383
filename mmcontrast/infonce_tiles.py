"""InfoNCE in tiles: the gap to the positive from the negatives' sums alone, in 4 or 3 products."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from mmcontrast.rows import dot
from mmcontrast.softmax import log_share
from mmcontrast.streaming import (
    LOG2_E,
    by_temperature,
    differentiate,
    full_precision,
    known,
    lengths,
    number,
    one_pass,
    slices,
)


def negative_share(gap: Tensor) -> tuple[Tensor, Tensor]:
    """The loss softplus(gap), and its slope: the share of the softmax that the negatives have.

    The gap is the log of the negatives' sum minus the positive's logit. Log-sum-exp over all minus
    the positive would be the same, and lose every digit where the positive leads by 17.
    """
    return F.softplus(gap, threshold=50), gap.sigmoid()


def certain(sums: Tensor, terms: int) -> bool:
    """Whether a bound as shift lost nothing: what underflowed is below the rounding of each sum."""
    limits = torch.finfo(sums.dtype)
    return known(sums.min() >= terms * limits.tiny / limits.eps)


# --- both directions -----------------------------------------------------------------------------


class Sums(NamedTuple):
    """For each row and column, the sum over its negatives of 2^(s - shift), s in octaves."""

    rows: Tensor
    columns: Tensor
    row_shift: Tensor  # (B,), or the one shift that rows and columns share, 0-d
    column_shift: Tensor
    odds: Tensor | None = None  # the terms, where all of them are one tile


def symmetric(x: Tensor, y: Tensor, temperature: float | Tensor, tile: int) -> Tensor:
    """(B,) losses of the rows of two (B, D) views in both directions, averaged: 4 products.

    One to sum up the negatives, and in the backward pass, which knows what each loss counts for,
    one to make the logits again and two for the gradients. Nothing but sums is kept in between,
    unless one tile is all there is.
    """
    dtype = torch.promote_types(x.dtype, y.dtype)
    x, y = x.to(dtype), y.to(dtype)
    losses: Tensor = _Symmetric.apply(x, y, number(temperature, x), tile)  # type: ignore[no-untyped-call]
    return losses


class _Symmetric(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, y: Tensor, temperature: Tensor, tile: int) -> Tensor:
        with full_precision(x):
            scale = LOG2_E / temperature
            sums = _bounded_sums(x, y, scale, tile) or _sums(x, y, scale, tile)
            own = torch.cat([(x[i] * y[i]).sum(1) for i in slices(len(x), tile)]) * scale
        there, row_share = negative_share(sums.rows.log() + (sums.row_shift - own) / LOG2_E)
        back, column_share = negative_share(sums.columns.log() + (sums.column_shift - own) / LOG2_E)
        ctx.tile = tile
        ctx.save_for_backward(x, y, temperature, row_share, column_share, *sums)
        return (there + back) / 2

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> Any:
        x, y, temperature, row_share, column_share, *sums = ctx.saved_tensors
        needed = ctx.needs_input_grad
        if torch.is_grad_enabled():
            plain = _plain_symmetric(x, y, temperature)
            return *differentiate(plain, (x, y, temperature), needed, upstream), None
        with full_precision(x):
            upstream = upstream / 2 / temperature
            u, v = upstream * row_share, upstream * column_share
            gx, gy = _gradients(x, y, LOG2_E / temperature, Sums(*sums), u, v, ctx.tile, needed[:3])
        gt = None if gx is None else by_temperature(x, gx, temperature, ctx.tile)
        return gx, gy, gt, None


def _plain_symmetric(x: Tensor, y: Tensor, temperature: Tensor) -> Tensor:
    logits = dot(x, y) / temperature
    pairs = torch.eye(len(x), dtype=torch.bool, device=x.device)
    return (log_share(logits, pairs, None)[0] + log_share(logits.mT, pairs, None)[0]) / 2


def _bounded_sums(x: Tensor, y: Tensor, scale: Tensor, tile: int) -> Sums | None:
    """One shift, and so one exponential, for all rows and columns: no logit is above |x| |y|.

    None where a row or column lies so far below it that its sum underflows: the first rows of
    tiles mostly tell.
    """
    shift = scale * lengths(x).amax() * lengths(y).amax()
    rows, columns = x.new_zeros(len(x)), x.new_zeros(len(y))
    for i in slices(len(x), tile):
        scaled = x[i] * scale
        for j in slices(len(y), tile):
            odds = torch.addmm(-shift, scaled, y[j].T).exp2_()
            if i == j:
                odds.fill_diagonal_(0)
            rows[i] += odds.sum(1)
            columns[j] += odds.sum(0)
        if not certain(rows[i], len(y)):
            return None
    if not certain(columns, len(x)):
        return None
    return Sums(rows, columns, shift, shift, odds if len(x) <= tile else None)


def _sums(x: Tensor, y: Tensor, scale: Tensor, tile: int) -> Sums:
    """The largest negative of each row and column as its shift, kept up as the tiles come."""
    n, lowest = len(x), torch.finfo(x.dtype).min
    sums = Sums(x.new_zeros(n), x.new_zeros(n), x.new_full((n,), lowest), x.new_full((n,), lowest))
    for i in slices(n, tile):
        scaled = x[i] * scale
        for j in slices(n, tile):
            logits = scaled @ y[j].T
            if i == j:
                logits.fill_diagonal_(-math.inf)
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
    tile: int,
    needed: Sequence[bool],
) -> tuple[Tensor | None, Tensor | None]:
    """Each tile of the logits' gradient times the rows and the columns; the pairs apart.

    A row's negatives share u among them, a column's v, and its pair has minus the two.
    """
    gx = y * -(u + v)[:, None] if needed[0] or needed[2] else None
    gy = x * -(u + v)[:, None] if needed[1] else None
    tiny = torch.finfo(x.dtype).tiny  # one sample alone has no negatives: its sum is 0, u and v too
    u, v = u / sums.rows.clamp_min(tiny), v / sums.columns.clamp_min(tiny)
    for i in slices(len(x), tile):
        scaled = x[i] * scale
        for j in slices(len(y), tile):
            if sums.odds is not None:
                odds = sums.odds * (u[:, None] + v)
            elif sums.row_shift.ndim == 0:
                odds = torch.addmm(-sums.row_shift, scaled, y[j].T).exp2_()
                odds *= u[i, None] + v[j]
            else:
                logits = scaled @ y[j].T
                odds = (logits - sums.row_shift[i, None]).exp2_().mul_(u[i, None])
                odds += logits.sub_(sums.column_shift[j]).exp2_().mul_(v[j])
            if i == j:
                odds.fill_diagonal_(0)
            if gx is not None:
                gx[i].addmm_(odds, y[j])
            if gy is not None:
                gy[j].addmm_(odds.T, x[i])
    return gx, gy


# --- one direction -------------------------------------------------------------------------------


def one_way(
    anchors: Tensor,
    candidates: Tensor,
    targets: Tensor,
    temperature: float | Tensor,
    weight: Tensor | None,
    step: int,
) -> Tensor:
    """InfoNCE of (B, D) anchors against (C, D) candidates, in blocks of whole rows: 3 products.

    ``targets`` below zero stand for none: the loss of such an anchor is finite but void. See
    :func:`one_pass` for ``weight``.
    """
    dtype = torch.promote_types(anchors.dtype, candidates.dtype)
    anchors, candidates = anchors.to(dtype), candidates.to(dtype)

    def evaluate(
        a: Tensor, c: Tensor, temperature: Tensor, weight: Tensor | None, needed: Sequence[bool]
    ) -> tuple[Tensor, list[Tensor | None]]:
        return _one_way(a, c, targets.clamp_min(0), temperature, weight, needed, step)

    def plain(a: Tensor, c: Tensor, temperature: Tensor) -> Tensor:
        columns = torch.arange(len(c), device=c.device)
        return log_share(dot(a, c) / temperature, columns == targets[:, None], None)[0]

    weight = None if weight is None else weight.to(dtype)
    return one_pass(evaluate, plain, weight, anchors, candidates, number(temperature, anchors))


def _one_way(
    a: Tensor,
    c: Tensor,
    targets: Tensor,
    temperature: Tensor,
    weight: Tensor | None,
    needed: Sequence[bool],
    step: int,
) -> tuple[Tensor, list[Tensor | None]]:
    scale = LOG2_E / temperature
    longest = lengths(c).amax()
    bounded = True
    losses = []
    ga = torch.empty_like(a) if needed[0] or needed[2] else None
    gc = torch.zeros_like(c) if needed[1] else None
    for i in slices(len(a), step):
        scaled, partner = a[i] * scale, c[targets[i]]
        found = _bounded_odds(scaled, c, targets[i], longest) if bounded else None
        bounded = found is not None
        odds, sums, shift = found or _odds(scaled, c, targets[i])
        own = (scaled * partner).sum(1)
        loss, share = negative_share(sums.log() + (shift - own) / LOG2_E)
        losses.append(loss)
        if weight is None or (ga is None and gc is None):
            continue
        # By the logits: w in all for the negatives, each as large as its odds, -w for the partner.
        w = (weight[i] * share / temperature)[:, None]
        each = w / sums.clamp_min(torch.finfo(sums.dtype).tiny)[:, None]
        if ga is not None:
            ga[i] = each * (odds @ c) - w * partner
        if gc is not None:
            gc.addmm_(odds.T, each * a[i]).index_add_(0, targets[i], -w * a[i])
    gt = None if ga is None or not needed[2] else by_temperature(a, ga, temperature, step)
    return torch.cat(losses), [ga, gc, gt]


Odds = tuple[Tensor, Tensor, Tensor]


def _bounded_odds(scaled: Tensor, c: Tensor, targets: Tensor, longest: Tensor) -> Odds | None:
    """2^(s - shift) for the negatives of some rows, its sums, and a shift: |a| max |c|, or 0."""
    shift = lengths(scaled) * longest
    if known(shift.amax() <= 60):  # a float32 holds sums from 2^-60 to 2^60, and their inverses
        shift = torch.zeros_like(shift)
        odds = (scaled @ c.T).exp2_()
    else:
        odds = torch.addmm(-shift[:, None], scaled, c.T).exp2_()
    sums = odds.scatter_(1, targets[:, None], 0).sum(1)
    return (odds, sums, shift) if certain(sums, len(c)) else None


def _odds(scaled: Tensor, c: Tensor, targets: Tensor) -> Odds:
    """The same, the shift being each row's largest negative."""
    logits = (scaled @ c.T).scatter_(1, targets[:, None], -math.inf)
    shift = logits.amax(1).clamp_min(torch.finfo(logits.dtype).min)
    odds = logits.sub_(shift[:, None]).exp2_()
    return odds, odds.sum(1), shift
