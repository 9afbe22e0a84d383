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
from mmcontrast.gaps import USUAL, Variant, losses_and_slopes
from mmcontrast.rows import in_wider_dtype

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
    variant: Variant = USUAL,
) -> Tensor:
    """InfoNCE of (B, D) anchors among (C, D) candidates, ``step`` anchors at a time.

    ``rules`` say which candidates take part, and with ``bias``, (B, C), what is added to the
    logits. The loss of an anchor with a negative target, or with one that takes no part, is a
    finite placeholder, masked by the caller. See :func:`evaluate_in_one_pass` for ``weight``, and
    :mod:`mmcontrast.gaps` for ``variant``.
    """
    anchors, candidates = in_wider_dtype(anchors, candidates)
    if isinstance(temperature, Tensor):
        temperature = temperature.to(anchors.dtype)
    weight = None if weight is None else weight.to(anchors.dtype)
    bias = None if bias is None else bias.to(anchors.dtype)
    way = _RowBlocks(step, rules, variant._replace(extra=None))
    inputs = anchors, candidates, targets, temperature, bias, variant.extra
    return evaluate_in_one_pass(way, weight, *inputs)


class _RowBlocks(NamedTuple):
    step: int
    rules: PairRules
    variant: Variant

    def losses(self, needed: Needed, weight: Tensor | None, *inputs: Any) -> Losses:
        """The shift of each row is its largest negative, or 0 where no logit can be large."""
        a, c, targets, temperature, bias, extra = inputs
        step, rules, every = self.step, self.rules, slice(0, len(c))
        variant = self.variant._replace(extra=extra)
        added = rules.partners_bias(bias, targets)  # (B,)
        targets = targets.clamp_min(0)
        scale, limits = LOG2_E / temperature, torch.finfo(a.dtype)
        low = excluded(a.dtype) / 2 if rules.leave_out() else limits.min
        each, room = [], a.new_empty(min(step, len(a)) * len(c))
        ga = torch.empty_like(a) if needed[0] or needed[3] else None
        gc = torch.zeros_like(c) if needed[1] else None
        gb = None if bias is None or not needed[4] else torch.empty_like(bias)
        ge = None if extra is None or not needed[5] else torch.empty_like(extra)
        by_inverse = a.new_zeros(())
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
            if variant.usual:
                each.append(gap)
            else:
                of_rows = variant.at((i, None))  # (R, 1)
                losses, slopes = losses_and_slopes(gap, own / LOG2_E, temperature, of_rows)
                each.append(losses)
            if weight is None or not any(needed):
                continue
            factor = piece(weight, i)[:, None] if weight.ndim else weight
            sums.clamp_min_(limits.tiny)
            if variant.one_slope:
                # d(gap)/d(logit) is odds / sum for a negative and -1 for the positive; times share,
                # weight and 1 / t it is a gradient by the dot products. All but the odds is one
                # number for each row, w, so the matrix is left as it is, with -sum at the positive,
                # and w multiplies the (R, D) rows instead: the product's for the anchors, the
                # factor's for the candidates.
                w = (gap.sigmoid() if variant.usual else slopes.pull).mul_(factor)
                w.div_(temperature).div_(sums)
                odds.scatter_(1, partner, -sums)
            else:  # the negatives and the positive have slopes of their own
                w = factor / temperature
                odds.mul_(slopes.push / sums).scatter_(1, partner, -slopes.pull)
                if ge is not None and slopes.extra is not None:
                    ge[i] = (slopes.extra * factor)[:, 0]
                if slopes.inverse is not None:
                    by_inverse += (slopes.inverse * factor).sum()
            if ga is not None:
                torch.mm(odds, c, out=piece(ga, i)).mul_(w)  # (R, D)
            if gc is not None:
                gc.addmm_(odds.T, rows * w)  # (C, D)
            if gb is not None:
                torch.mul(odds, w * temperature, out=piece(gb, i))
        gt = None
        if isinstance(temperature, Tensor) and ga is not None and needed[3]:
            gt = temperature_gradient(a, ga, temperature)
            if variant.prior is not None:
                gt = gt - by_inverse / temperature.square()
        found = torch.cat(each)[:, 0]
        losses = F.softplus(found, threshold=50) if variant.usual else found
        return losses, (ga, gc, None, gt, gb, ge)

    def plain(self, *inputs: Any) -> Tensor:
        anchors, candidates, targets, temperature, bias, extra = inputs
        masks = as_tensors(self.rules, bias, anchors, candidates)
        variant = self.variant._replace(extra=extra)
        return plain_one_way(anchors, candidates, targets, temperature, *masks, variant)
