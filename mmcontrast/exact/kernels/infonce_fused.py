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
from mmcontrast.exact.infonce_tiles import negative_share
from mmcontrast.exact.kernels import launch
from mmcontrast.exact.kernels.blocks import Blocks
from mmcontrast.exact.kernels.launch import Logits, Share, scalar_for
from mmcontrast.exact.plain import plain_one_way, plain_symmetric
from mmcontrast.exact.tiles import LOG2_E


def symmetric_fused(
    x: Tensor,
    y: Tensor,
    temperature: float | Tensor,
    *,
    precision: str = "ieee",
    blocks: Blocks | None = None,
) -> Tensor:
    """(B,) losses of two (B, D) views, averaged over both directions.

    One pass for the sums of the rows and of the columns, and two passes of two products for the
    gradients. See the package for ``precision``; ``blocks`` stand in for those of the table.
    """
    return evaluate(_SymmetricFused(precision, blocks), x, y, scalar_for(temperature, x))


class _SymmetricFused(NamedTuple):
    precision: str
    blocks: Blocks | None

    def forward(self, needed: Needed, *inputs: Tensor) -> tuple[Tensor, Kept]:
        x, y, temperature = inputs
        if len(x) == 0:
            return x.new_zeros(0, dtype=torch.float32), ()
        logits = self.logits(x, y, temperature)
        base = logits.base()
        sums = launch.sums(logits, base, both=True)
        own = launch.pairs(logits.x, logits.y) * (LOG2_E / temperature)
        # gap = log of the negatives' sum - positive logit, as in infonce_tiles: kernels give the
        # sums, and these are (B,) operations.
        there, row_share = negative_share(sums.rows.log() + (sums.row_shift - own) / LOG2_E)
        back, column_share = negative_share(sums.columns.log() + (sums.column_shift - own) / LOG2_E)
        return (there + back) / 2, (base, row_share, column_share, *sums)

    def backward(self, needed: Needed, kept: Any, upstream: Tensor, *inputs: Tensor) -> Gradients:
        x, y, temperature = inputs
        if not kept:
            return launch.zeros(needed, x, y, temperature)
        base, row_share, column_share, row_sums, column_sums, row_shift, column_shift = kept
        logits = self.logits(x, y, temperature)
        upstream = upstream / 2 / temperature
        # The kernel adds up what the negatives give each row. The pair (i, i) has minus both
        # shares: that part, -pull_i y_i, is added here in float32.
        pull = (upstream * (row_share + column_share))[:, None]
        rows = Share(upstream * row_share, row_sums, row_shift)
        columns = Share(upstream * column_share, column_sums, column_shift)
        gx = gy = gt = None
        if needed[0] or needed[2]:
            gx, _ = launch.gradient(logits, base, rows, columns)
            gx.addcmul_(logits.y, pull, value=-1)
            if needed[2]:
                gt = launch.temperature_gradient_of(logits.x, gx, temperature)
            gx = launch.without_padding(gx, x).to(x.dtype)
        if needed[1]:
            # The same kernel on the transpose, in which rows and columns change places.
            gy, _ = launch.gradient(logits.mT, base, columns, rows)
            gy.addcmul_(logits.x, pull, value=-1)
            gy = launch.without_padding(gy, y)
        return gx, gy, gt

    def plain(self, *inputs: Tensor) -> Tensor:
        x, y, temperature = inputs
        return plain_symmetric(x.float(), y.float(), temperature, slice(0, len(x)), None)

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
) -> Tensor:
    """InfoNCE of (B, D) anchors among (C, D) candidates.

    See :func:`evaluate_in_one_pass` for ``weight``, and :func:`one_way_in_blocks` for ``targets``.
    """
    weight = None if weight is None else weight.float()
    inputs = anchors, candidates, targets.clamp_min(0), scalar_for(temperature, anchors)
    return evaluate_in_one_pass(_OneWayFused(precision, blocks), weight, *inputs)


class _OneWayFused(NamedTuple):
    precision: str
    blocks: Blocks | None

    def losses(self, needed: Needed, weight: Tensor | None, *inputs: Tensor) -> Losses:
        anchors, candidates, targets, temperature = inputs
        if len(anchors) == 0 or len(candidates) == 0:
            zeros = launch.zeros(needed, anchors, candidates, targets, temperature)
            return anchors.new_zeros(len(anchors), dtype=torch.float32), zeros
        a, c = (launch.rounded(x, self.precision) for x in (anchors, candidates))
        logits = Logits(a, c, temperature, self.precision, partner=targets, blocks=self.blocks)
        base = logits.base()
        sums = launch.sums(logits, base, both=False)
        own = launch.pairs(a, c, targets) * (LOG2_E / temperature)
        losses, share = negative_share(sums.rows.log() + (sums.row_shift - own) / LOG2_E)
        ga = gc = gt = None
        # Only the losses were asked for; a second call brings the upstream gradient as the weight.
        if weight is None:
            return losses, (None,) * 4
        w = weight * share / temperature
        rows = Share(w, sums.rows, sums.row_shift)
        if needed[0] or needed[3]:
            ga, _ = launch.gradient(logits, base, rows, None)
            ga.addcmul_(c[targets], w[:, None], value=-1)
            if needed[3]:
                gt = launch.temperature_gradient_of(a, ga, temperature)
            ga = launch.without_padding(ga, anchors)
        if needed[1]:
            # In the transpose, candidates are the rows and anchors the columns, and only columns
            # have sums.
            gc, _ = launch.gradient(logits.mT, base, None, rows)
            # index_put_ sorts, so that its sums have one order; index_add_ has none on a GPU.
            gc.index_put_((targets,), a.float() * -w[:, None], accumulate=True)
            gc = launch.without_padding(gc, candidates)
        return losses, (ga, gc, None, gt)

    def plain(self, *inputs: Tensor) -> Tensor:
        anchors, candidates, targets, temperature = inputs
        return plain_one_way(anchors.float(), candidates.float(), targets, temperature)
