"""InfoNCE of one direction in blocks of whole rows: 3 products, the gradients in the same pass."""

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from mmcontrast.eager import known
from mmcontrast.exact.tiles import (
    LOG2_E,
    by_temperature,
    lengths,
    one_pass,
    piece,
    slices,
    tile,
)
from mmcontrast.rows import dot
from mmcontrast.softmax import log_share


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
    learned = [temperature.to(dtype)] if isinstance(temperature, Tensor) else []

    def evaluate(a: Tensor, c: Tensor, *others: Any) -> tuple[Tensor, list[Tensor | None]]:
        *given, weight, needed = others
        t = given[0] if given else temperature
        return _one_way(a, c, targets.clamp_min(0), t, weight, needed, step)

    def plain(a: Tensor, c: Tensor, *given: Tensor) -> Tensor:
        return plain_one_way(a, c, targets, given[0] if given else temperature)

    weight = None if weight is None else weight.to(dtype)
    return one_pass(evaluate, plain, weight, anchors, candidates, *learned)


def plain_one_way(
    anchors: Tensor, candidates: Tensor, targets: Tensor, temperature: float | Tensor
) -> Tensor:
    """The same losses by operations that autograd knows."""
    columns = torch.arange(len(candidates), device=candidates.device)
    partners = columns == targets[:, None]
    return log_share(dot(anchors, candidates) / temperature, partners, None)[0]


def _one_way(
    a: Tensor,
    c: Tensor,
    targets: Tensor,
    temperature: float | Tensor,
    weight: Tensor | None,
    needed: Sequence[bool],
    step: int,
) -> tuple[Tensor, list[Tensor | None]]:
    """The shift of each row is its largest negative, or 0 where no logit can be large."""
    scale, limits = LOG2_E / temperature, torch.finfo(a.dtype)
    gaps, room = [], a.new_empty(min(step, len(a)) * len(c))
    ga = torch.empty_like(a) if needed[0] or any(needed[2:]) else None
    gc = torch.zeros_like(c) if needed[1] else None
    # 2^60 and its inverse, and the sums of those, are floats; finding that out pays for many rows.
    small = len(a) > step and known(scale * lengths(a).amax() * lengths(c).amax() <= 60)
    for i in slices(len(a), step):
        rows, columns = piece(a, i), piece(targets, i)
        scaled, partner = rows * scale, columns[:, None]
        own = (scaled * c.index_select(0, columns)).sum(1, keepdim=True)  # in pairs, unlike mm
        odds = torch.mm(scaled, c.T, out=tile(room, len(scaled), len(c)))
        odds.scatter_(1, partner, -math.inf)
        if small:
            shift = scaled.new_zeros(())
        else:
            shift = odds.amax(1, keepdim=True).clamp_min_(limits.min)
            odds.sub_(shift)
        sums = odds.exp2_().sum(1, keepdim=True)
        gap = sums.log().add_((shift - own).div_(LOG2_E))
        gaps.append(gap)
        if weight is None or (ga is None and gc is None):
            continue
        # By the logits: w in all for the negatives, each as large as its odds, -w for the partner.
        w = gap.sigmoid().mul_(piece(weight, i)[:, None] if weight.ndim else weight)
        w.div_(temperature).div_(sums.clamp_min(limits.tiny))
        odds.scatter_(1, partner, -sums)
        if ga is not None:
            torch.mm(odds, c, out=piece(ga, i)).mul_(w)
        if gc is not None:
            gc.addmm_(odds.T, rows * w)
    found = [ga, gc]
    if isinstance(temperature, Tensor):
        found.append(by_temperature(a, ga, temperature) if ga is not None and needed[2] else None)
    return F.softplus(torch.cat(gaps)[:, 0], threshold=50), found
