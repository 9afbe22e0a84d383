r"""Softmax losses under masks, in blocks of whole rows: 3 products, the gradients in the same pass.

With P the positives of an anchor, w their weights, and Q the other candidates that it keeps, the
loss is the two gaps of :func:`mmcontrast.softmax.log_share`, and its gradient by the logits theirs:

.. math:: (\mathrm{softmax}_P - w) + \sigma(\mathrm{gap}) (\mathrm{softmax}_Q - \mathrm{softmax}_P)

A block holds all candidates of its anchors, so both softmaxes are complete at once. Nothing but the
masks has B x C entries.
"""

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from mmcontrast.exact.evaluation import Losses, Needed, evaluate_in_one_pass
from mmcontrast.exact.partners import Partners
from mmcontrast.exact.plain import plain_contrast
from mmcontrast.exact.tiles import (
    LOG2_E,
    as_bytes,
    excluded,
    piece,
    slices,
    temperature_gradient,
)
from mmcontrast.gaps import USUAL, Variant, losses_and_slopes
from mmcontrast.rows import ordinary_scale


def masked_in_blocks(
    anchors: Tensor,
    candidates: Tensor,
    temperature: Tensor,
    weight: Tensor | None,
    partners: Partners,
    step: int,
    form: str,
    bias: Tensor | None = None,
    variant: Variant = USUAL,
) -> Tensor:
    """Sum of the (B,) losses times ``weight``, see :func:`evaluate_in_one_pass`.

    The loss of an anchor without a positive is a finite placeholder, masked by the caller.

    Args:
        anchors: (B, D).
        candidates: (C, D) of the same dtype, C at least 1.
        temperature: 0-d of that dtype.
        weight: (B,) or 0-d, or None for the losses themselves.
        partners: who is whose positive, and takes part; classes as numbers of that dtype.
        step: anchors at a time.
        form: ``"out"`` or ``"in"``, as in :func:`log_share`.
        bias: (B, C), added to the logits.
        variant: of the losses, see :mod:`mmcontrast.gaps`.
    """
    way = _MaskedBlocks(partners, step, form, variant._replace(extra=None))
    bias = None if bias is None else bias.to(anchors.dtype)
    inputs = anchors, candidates, temperature, partners.positives, bias, variant.extra
    return evaluate_in_one_pass(way, weight, *inputs)


class _MaskedBlocks(NamedTuple):
    partners: Partners
    step: int
    form: str
    variant: Variant

    def losses(self, needed: Needed, weight: Tensor | None, *inputs: Any) -> Losses:
        a, c, temperature, positives, bias, extra = inputs
        every = self.variant._replace(extra=extra)
        scale, limits = LOG2_E / temperature, torch.finfo(a.dtype)
        low = excluded(a.dtype)
        rooms = [self.partners.room(a.dtype, len(c), self.step) for _ in range(4)]
        ga = torch.empty_like(a) if needed[0] or needed[2] else None
        gc = torch.zeros_like(c) if needed[1] else None
        gp = torch.zeros_like(positives) if needed[3] else None
        gb = torch.empty_like(bias) if bias is not None and needed[4] else None
        ge = torch.zeros_like(extra) if extra is not None and needed[5] else None
        by_inverse = a.new_zeros(())
        losses = a.new_empty(len(a))
        for i in slices(len(a), self.step):
            rows = piece(a, i)
            p, q, spare = (room[: len(rows)] for room in rooms[1:])
            torch.mm(rows, c.T, out=q)
            out, added = self.partners.left_out(i, len(c), q.clone, bias)
            shares, outside = self.partners.weights(i, rooms[0], out)  # (R, C)
            q.mul_(scale)
            if added is not None:  # what is left out may have any bias
                q.add_(added if outside is None else added.masked_fill(outside, 0), alpha=LOG2_E)
            torch.add(q, torch.le(shares, 0, out=spare), alpha=low, out=p)
            q.add_(torch.gt(shares, 0, out=spare), alpha=low)
            if outside is not None:
                q.add_(as_bytes(outside), alpha=low)
            # The clamps are for rows without an entry: all of them are to be far below the shift.
            p_shift, q_shift = (x.amax(1, keepdim=True).clamp_min_(low / 2) for x in (p, q))
            p.sub_(p_shift)
            first: Tensor | float = 0.0
            if self.form == "out":
                total, size = self.scaled(shares)  # (R, 1) each
                behind = None if gp is None else p / -LOG2_E  # (R, C)
                first = torch.mul(shares, p, out=spare).sum(1, keepdim=True).div_(-total)
            p_sum = p.exp2_().sum(1, keepdim=True).clamp_min_(limits.tiny)
            q_sum = q.sub_(q_shift).exp2_().sum(1, keepdim=True)
            if self.form == "out":  # shifted by their largest, a single positive has log(1) - 0
                first = first / LOG2_E + p_sum.log()
            gap = (q_sum.log() - p_sum.log()).add_((q_shift - p_shift) / LOG2_E)
            each = None
            if weight is not None and any(needed):
                each = piece(weight, i)[:, None] if weight.ndim else weight
            if every.usual:
                losses[i] = (F.softplus(gap, threshold=50) + first)[:, 0]
                push = pull = gap.sigmoid_()
            else:
                variant, several = every.at((i, None)), (shares > 0).sum(1, keepdim=True)
                best = p_sum.log() + p_shift / LOG2_E
                found, slopes = losses_and_slopes(gap, best, temperature, variant, several)
                if every.decoupled:  # without a negative there is no loss at all
                    none = variant.without_negatives(gap)
                    first = torch.where(none, 0, first)
                    each = None if each is None else torch.where(none, 0, each)
                losses[i] = (found + first)[:, 0]
                push, pull = slopes.push, slopes.pull
                if each is not None and ge is not None and slopes.extra is not None:
                    ge[i] = (slopes.extra * each)[:, 0]
                if each is not None and slopes.inverse is not None:
                    by_inverse += (slopes.inverse * each).sum()
            if each is None:
                continue
            by_rest = push / q_sum.clamp_min_(limits.tiny)
            if self.form == "out":
                if gp is not None and behind is not None:
                    # By a share, minus the log of its softmax_P; the shares are quotients by their
                    # sum, so less the mean of these, which is the first gap. 0 outside the mask.
                    behind.add_(p_sum.log()).masked_fill_(shares <= 0, 0).sub_(first)
                    # One factor after the other, for together they may be infinite, and 0 stays 0.
                    behind.mul_(each).mul_(size).div_(total)
                    gp[i] = behind if outside is None else behind.masked_fill_(outside, 0)
                # softmax_P - w on its own: it is 0 for a single positive, and what is added to it
                # may be so small that a number of order 1 would round it away.
                shares.div_(-total).addcdiv_(p, p_sum).addcmul_(p, pull / -p_sum)
            else:
                torch.mul(p, pull / -p_sum, out=shares)
            logits = shares.addcmul_(q, by_rest)  # (R, C): the gradient by them
            factor = each / temperature
            if ga is not None:
                torch.mm(logits, c, out=piece(ga, i)).mul_(factor)
            if gc is not None:
                gc.addmm_(logits.T, rows * factor)
            if gb is not None:
                torch.mul(logits, each, out=piece(gb, i))
        gt = temperature_gradient(a, ga, temperature) if ga is not None and needed[2] else None
        if gt is not None and every.prior is not None:
            gt = gt - by_inverse / temperature.square()
        return losses, (ga, gc, gt, gp, gb, ge)

    def scaled(self, shares: Tensor) -> tuple[Tensor, Tensor | int]:
        """(R, 1) sums of the weights, which are multiplied, in place, by the (R, 1) behind them."""
        given = self.partners.positives
        size: Tensor | int = 1
        if self.partners.classes is None and given.is_floating_point():
            size = ordinary_scale(shares.amax(1, keepdim=True))
            shares.mul_(size)
        total = shares.sum(1, keepdim=True)
        return total.masked_fill_(total == 0, 1), size

    def plain(self, *inputs: Any) -> Tensor:
        a, c, temperature, positives, bias, extra = inputs
        partners = self.partners._replace(positives=positives)
        partners, bias = partners.resolved(a, c, bias)
        masks = partners.masks(slice(0, len(a)))
        variant = self.variant._replace(extra=extra)
        return plain_contrast(a, c, temperature, *masks, self.form, bias, variant)
