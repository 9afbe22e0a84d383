"""InfoNCE of one direction in blocks of whole rows: 3 products, the gradients in the same pass.

A block holds all candidates of its anchors, so the softmax of each is complete at once. As each
loss's weight in the result is known beforehand, its gradient is made before the block is dropped.
"""

import math
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from mmcontrast.eager import known
from mmcontrast.exact.evaluation import Losses, Needed, evaluate_in_one_pass
from mmcontrast.exact.pair_rules import EVERY_PAIR, PairRules, as_tensors
from mmcontrast.exact.plain import plain_one_way
from mmcontrast.exact.tiles import (
    LOG2_E,
    exclude,
    excluded,
    largest_octave,
    piece,
    slices,
    temperature_gradient,
    tile_of,
)

UNSHIFTED = 60
"""Octaves, of either sign, that need no shift: 2^60, its inverse and sums of those are floats."""


def one_way_in_blocks(
    anchors: Tensor,
    candidates: Tensor,
    targets: Tensor,
    temperature: float | Tensor,
    weight: Tensor | None,
    step: int,
    rules: PairRules = EVERY_PAIR,
    bias: Tensor | None = None,
) -> Tensor:
    """InfoNCE of (B, D) anchors among (C, D) candidates, ``step`` anchors at a time.

    ``rules`` say which candidates take part, and with ``bias``, (B, C), what is added to the
    logits. The loss of an anchor with a negative target, or with one that takes no part, is a
    finite placeholder, masked by the caller. See :func:`evaluate_in_one_pass` for ``weight``.
    """
    dtype = torch.promote_types(anchors.dtype, candidates.dtype)
    anchors, candidates = anchors.to(dtype), candidates.to(dtype)
    if isinstance(temperature, Tensor):
        temperature = temperature.to(dtype)
    weight = None if weight is None else weight.to(dtype)
    bias = None if bias is None else bias.to(dtype)
    inputs = anchors, candidates, targets, temperature, bias
    return evaluate_in_one_pass(_RowBlocks(step, rules), weight, *inputs)


class _RowBlocks(NamedTuple):
    step: int
    rules: PairRules

    def losses(self, needed: Needed, weight: Tensor | None, *inputs: Any) -> Losses:
        """The shift of each row is its largest negative, or 0 where no logit can be large."""
        a, c, targets, temperature, bias = inputs
        step, rules, every = self.step, self.rules, slice(0, len(c))
        added = rules.partners_bias(bias, targets)  # (B,)
        targets = targets.clamp_min(0)
        scale, limits = LOG2_E / temperature, torch.finfo(a.dtype)
        low = excluded(a.dtype) / 2 if rules.leave_out() else limits.min
        gaps, room = [], a.new_empty(min(step, len(a)) * len(c))
        ga = torch.empty_like(a) if needed[0] or needed[3] else None
        gc = torch.zeros_like(c) if needed[1] else None
        gb = None if bias is None or not needed[4] else torch.empty_like(bias)
        # Reading the bound on the host pays for many rows only.
        small = len(a) > step and added is None and known(largest_octave(a, c, scale) <= UNSHIFTED)
        for i in slices(len(a), step):
            rows, columns = piece(a, i), piece(targets, i)
            scaled, partner = rows * scale, columns[:, None]  # (R, D), (R, 1)
            # Elementwise, unlike mm: the digits of a small gap depend on it.
            own = (scaled * c.index_select(0, columns)).sum(1, keepdim=True)  # (R, 1)
            odds = torch.mm(scaled, c.T, out=tile_of(room, len(scaled), len(c)))  # (R, C)
            kept, more = rules.of_octaves(i, every, odds, scale, None, bias)
            if more is not None and added is not None:
                odds.add_(more, alpha=LOG2_E)
                own.add_(piece(added, i)[:, None], alpha=LOG2_E)
            if kept is not None:
                exclude(odds, kept)
            # The sum is over the negatives only; the partner's place gets its gradient below.
            odds.scatter_(1, partner, -math.inf)
            if small:
                shift = scaled.new_zeros(())
            else:
                # The clamp is for a row without negatives: minus infinity minus itself would be
                # NaN.
                shift = odds.amax(1, keepdim=True).clamp_min_(low)
                odds.sub_(shift)
            sums = odds.exp2_().sum(1, keepdim=True)
            gap = sums.log().add_((shift - own).div_(LOG2_E))  # see infonce_tiles
            gaps.append(gap)
            if weight is None or not any(needed):
                continue
            # d(gap)/d(logit) is odds / sum for a negative and -1 for the positive; times share,
            # weight and 1 / t it is a gradient by the dot products. All but the odds is one number
            # for each row, w, so the matrix is left as it is, with -sum at the positive, and w
            # multiplies the (R, D) rows instead: the product's for the anchors, the factor's for
            # the candidates.
            w = gap.sigmoid().mul_(piece(weight, i)[:, None] if weight.ndim else weight)
            w.div_(temperature).div_(sums.clamp_min(limits.tiny))
            odds.scatter_(1, partner, -sums)
            if ga is not None:
                torch.mm(odds, c, out=piece(ga, i)).mul_(w)  # (R, D)
            if gc is not None:
                gc.addmm_(odds.T, rows * w)  # (C, D)
            if gb is not None:
                torch.mul(odds, w * temperature, out=piece(gb, i))
        gt = None
        if isinstance(temperature, Tensor) and ga is not None and needed[3]:
            gt = temperature_gradient(a, ga, temperature)
        return F.softplus(torch.cat(gaps)[:, 0], threshold=50), (ga, gc, None, gt, gb)

    def plain(self, *inputs: Any) -> Tensor:
        anchors, candidates, targets, temperature, bias = inputs
        masks = as_tensors(self.rules, bias, anchors, candidates)
        return plain_one_way(anchors, candidates, targets, temperature, *masks)
