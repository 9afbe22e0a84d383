"""InfoNCE by kernels: 5 matrix products, one for the sums and two for each gradient."""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from mmcontrast.exact.evaluation import (
    Gradients,
    Kept,
    Losses,
    Needed,
    evaluate,
    evaluate_in_one_pass,
)
from mmcontrast.exact.kernels import launch
from mmcontrast.exact.kernels.blocks import Blocks
from mmcontrast.exact.kernels.launch import Logits, Share, scalar_for
from mmcontrast.exact.plain import plain_one_way, plain_symmetric
from mmcontrast.exact.tiles import LOG2_E
from mmcontrast.gaps import USUAL, Variant, losses_and_slopes


def symmetric_fused(
    x: Tensor,
    y: Tensor,
    temperature: float | Tensor,
    *,
    precision: str = "ieee",
    blocks: Blocks | None = None,
    variant: Variant = USUAL,
) -> Tensor:
    """(B,) losses of two (B, D) views, averaged over both directions.

    One pass for the sums of the rows and of the columns, and two passes of two products for the
    gradients. See the package for ``precision``; ``blocks`` stand in for those of the table;
    ``variant`` is of both directions, (2, B): see :mod:`mmcontrast.gaps`.
    """
    way = _SymmetricFused(precision, blocks, variant._replace(extra=None))
    return evaluate(way, x, y, scalar_for(temperature, x), variant.extra)


class _SymmetricFused(NamedTuple):
    precision: str
    blocks: Blocks | None
    variant: Variant

    def forward(self, needed: Needed, *inputs: Tensor) -> tuple[Tensor, Kept]:
        x, y, temperature, extra = inputs
        if len(x) == 0:
            return x.new_zeros(0, dtype=torch.float32), ()
        logits = self.logits(x, y, temperature)
        base = logits.base()
        sums = launch.sums(logits, base, both=True)
        own = launch.pairs(logits.x, logits.y) * (LOG2_E / temperature)
        # gap = log of the negatives' sum - positive logit, as in infonce_tiles: kernels give the
        # sums, and these are (B,) operations.
        there = sums.rows.log() + (sums.row_shift - own) / LOG2_E
        back = sums.columns.log() + (sums.column_shift - own) / LOG2_E
        gap, variant = torch.stack([there, back]), self.variant._replace(extra=extra)
        losses, slopes = losses_and_slopes(gap, own / LOG2_E, temperature, variant)
        return losses.mean(0), (base, *slopes, *sums)

    def backward(self, needed: Needed, kept: Any, upstream: Tensor, *inputs: Tensor) -> Gradients:
        x, y, temperature, extra = inputs
        if not kept:
            return launch.zeros(needed, x, y, temperature, extra)
        base, push, pull, by_extra, by_inverse, *sums = kept
        row_sums, column_sums, row_shift, column_shift = sums
        logits = self.logits(x, y, temperature)
        half = upstream / 2
        each = half / temperature
        # The kernel adds up what the negatives give each row. The pair (i, i) is pulled in both
        # directions: that part, -pull_i y_i, is added here in float32.
        pull = (pull * each).sum(0)[:, None]
        rows = Share(each * push[0], row_sums, row_shift)
        columns = Share(each * push[1], column_sums, column_shift)
        gx = gy = gt = None
        if needed[0] or needed[2]:
            gx, _ = launch.gradient(logits, base, rows, columns)
            gx.addcmul_(logits.y, pull, value=-1)
            if needed[2]:
                gt = launch.temperature_gradient_of(logits.x, gx, temperature)
                if by_inverse is not None:
                    gt = gt - (by_inverse * half).sum() / temperature.square()
            gx = launch.without_padding(gx, x).to(x.dtype)
        if needed[1]:
            # The same kernel on the transpose, in which rows and columns change places.
            gy, _ = launch.gradient(logits.mT, base, columns, rows)
            gy.addcmul_(logits.x, pull, value=-1)
            gy = launch.without_padding(gy, y)
        return gx, gy, gt, None if by_extra is None else by_extra * half

    def plain(self, *inputs: Tensor) -> Tensor:
        x, y, temperature, extra = inputs
        variant = self.variant._replace(extra=extra)
        own = slice(0, len(x))
        return plain_symmetric(x.float(), y.float(), temperature, own, None, variant=variant)

    def logits(self, x: Tensor, y: Tensor, temperature: Tensor) -> Logits:
        """Those of the two views, without the pairs (i, i)."""
        rows = launch.rounded(x, self.precision), launch.rounded(y, self.precision)
        settings = temperature.detach(), self.precision
        return Logits(*rows, *settings, diagonal=True, blocks=self.blocks)


def one_way_fused(
    anchors: Tensor,
    candidates: Tensor,
    targets: Tensor,
    temperature: float | Tensor,
    weight: Tensor | None,
    *,
    precision: str = "ieee",
    blocks: Blocks | None = None,
    variant: Variant = USUAL,
) -> Tensor:
    """InfoNCE of (B, D) anchors among (C, D) candidates.

    See :func:`evaluate_in_one_pass` for ``weight``, and :func:`one_way_in_blocks` for ``targets``
    and ``variant``.
    """
    weight = None if weight is None else weight.float()
    inputs = anchors, candidates, targets.clamp_min(0), scalar_for(temperature, anchors)
    way = _OneWayFused(precision, blocks, variant._replace(extra=None))
    return evaluate_in_one_pass(way, weight, *inputs, variant.extra)


class _OneWayFused(NamedTuple):
    precision: str
    blocks: Blocks | None
    variant: Variant

    def losses(self, needed: Needed, weight: Tensor | None, *inputs: Tensor) -> Losses:
        anchors, candidates, targets, temperature, extra = inputs
        if len(anchors) == 0 or len(candidates) == 0:
            zeros = launch.zeros(needed, anchors, candidates, targets, temperature, extra)
            return anchors.new_zeros(len(anchors), dtype=torch.float32), zeros
        a, c = (launch.rounded(x, self.precision) for x in (anchors, candidates))
        logits = Logits(a, c, temperature, self.precision, partner=targets, blocks=self.blocks)
        base = logits.base()
        sums = launch.sums(logits, base, both=False)
        own = launch.pairs(a, c, targets) * (LOG2_E / temperature)
        gap, variant = (
            sums.rows.log() + (sums.row_shift - own) / LOG2_E,
            self.variant._replace(extra=extra),
        )
        losses, slopes = losses_and_slopes(gap, own / LOG2_E, temperature, variant)
        ga = gc = gt = None
        # Only the losses were asked for; a second call brings the upstream gradient as the weight.
        if weight is None:
            return losses, (None,) * 5
        w = weight * slopes.pull / temperature
        rows = Share(weight * slopes.push / temperature, sums.rows, sums.row_shift)
        if needed[0] or needed[3]:
            ga, _ = launch.gradient(logits, base, rows, None)
            ga.addcmul_(c[targets], w[:, None], value=-1)
            if needed[3]:
                gt = launch.temperature_gradient_of(a, ga, temperature)
                if slopes.inverse is not None:
                    gt = gt - (slopes.inverse * weight).sum() / temperature.square()
            ga = launch.without_padding(ga, anchors)
        if needed[1]:
            # In the transpose, candidates are the rows and anchors the columns, and only columns
            # have sums.
            gc, _ = launch.gradient(logits.mT, base, None, rows)
            # index_put_ sorts, so that its sums have one order; index_add_ has none on a GPU.
            gc.index_put_((targets,), a.float() * -w[:, None], accumulate=True)
            gc = launch.without_padding(gc, candidates)
        ge = None if slopes.extra is None else slopes.extra * weight
        return losses, (ga, gc, None, gt, ge)

    def plain(self, *inputs: Tensor) -> Tensor:
        anchors, candidates, targets, temperature, extra = inputs
        variant = self.variant._replace(extra=extra)
        rows = anchors.float(), candidates.float()
        return plain_one_way(*rows, targets, temperature, variant=variant)
