"""InfoNCE of small batches, where calls take longer than work: in few operations.

Every direction has a matrix of its own, which is kept for the backward pass.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from mmcontrast.eager import apply, full_precision
from mmcontrast.exact.infonce_blocks import plain_one_way
from mmcontrast.exact.infonce_tiles import plain_symmetric
from mmcontrast.exact.tiles import LOG2_E, by_temperature, differentiate


def one_way(
    anchors: Tensor,
    candidates: Tensor,
    targets: Tensor | None,
    temperature: float | Tensor,
) -> Tensor:
    """(B,) losses of (B, D) anchors against (C, D) candidates.

    Without ``targets``, row ``i`` belongs to anchor ``i``; below zero they stand for none, and the
    loss of such an anchor is finite but void.
    """
    targets = None if targets is None else targets.clamp_min(0).long()
    return _losses(anchors, candidates, targets, temperature, both=False)


def symmetric(x: Tensor, y: Tensor, temperature: float | Tensor) -> Tensor:
    """(B,) losses of two (B, D) views, averaged over both directions."""
    return _losses(x, y, None, temperature, both=True)


def _losses(
    x: Tensor, y: Tensor, targets: Tensor | None, temperature: float | Tensor, *, both: bool
) -> Tensor:
    if x.dtype != y.dtype:
        x, y = x.double(), y.double()
    if isinstance(temperature, Tensor):
        temperature = temperature.to(x.dtype)
    return apply(_Small, x, y, targets, temperature, both)


class _Small(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        y: Tensor,
        targets: Tensor | None,
        temperature: float | Tensor,
        both: bool,
    ) -> Tensor:
        with full_precision(x):
            logits = torch.mm(x, y.T).div_(temperature)
        losses, there = _ways(logits, 1, targets)
        back = None
        if both:
            others, back = _ways(logits, 0, None)
            losses = losses.add_(others).mul_(0.5)
        learned = isinstance(temperature, Tensor)
        ctx.temperature, ctx.both = None if learned else temperature, both
        ctx.save_for_backward(x, y, targets, temperature if learned else None, there, back)
        return losses

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> Any:
        x, y, targets, learned, there, back = ctx.saved_tensors
        needed = ctx.needs_input_grad
        temperature = ctx.temperature if learned is None else learned
        if torch.is_grad_enabled():
            value = _plain(x, y, targets, temperature, ctx.both)
            inputs = (x, y, targets, temperature)
            return *differentiate(value, inputs, needed, upstream), None
        each = upstream / (temperature * 2 if ctx.both else temperature)
        slope = there * each[:, None]
        if back is not None:
            slope.addcmul_(back, each)
        gx = gy = gt = None
        with full_precision(x):
            if needed[0] or needed[3]:
                gx = torch.mm(slope, y)
            if needed[1]:
                gy = torch.mm(slope.T, x)
        if gx is not None and needed[3]:
            gt = by_temperature(x, gx, learned)
        return gx, gy, None, gt, None


def _plain(
    x: Tensor, y: Tensor, targets: Tensor | None, temperature: float | Tensor, both: bool
) -> Tensor:
    """The same losses by operations that autograd knows."""
    if both:
        return plain_symmetric(x, y, temperature, slice(0, len(x)), None)
    targets = torch.arange(len(x), device=x.device) if targets is None else targets
    return plain_one_way(x, y, targets, temperature)


def _ways(logits: Tensor, axis: int, targets: Tensor | None) -> tuple[Tensor, Tensor]:
    """The (B,) losses along an axis, and their gradients by the logits.

    That of a partner is minus its negatives' shares in the softmax. Their sum has all its digits,
    and so has the loss that is made of it, where one minus the partner's own share has none.
    """
    slope = logits.log_softmax(axis)
    if targets is None:
        partners = slope.diagonal()
        own = partners.clone()
        slope.mul_(LOG2_E).exp2_()  # faster than exp
        partners.zero_()
        share = slope.sum(axis)
        partners.sub_(share)
    else:
        column = targets[:, None]
        own = slope.gather(1, column)[:, 0]
        slope.mul_(LOG2_E).exp2_().scatter_(1, column, 0)
        share = slope.sum(axis)
        slope.scatter_(1, column, -share[:, None])
    # The gap to the partner, as a number of its own: see infonce_tiles.negative_share.
    return F.softplus(share.log().sub_(own), threshold=50), slope
