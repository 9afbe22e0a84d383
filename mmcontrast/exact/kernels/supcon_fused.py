"""SupCon by kernels: one product for the sums and two for the gradient of a batch with itself."""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from mmcontrast.eager import apply
from mmcontrast.exact.classes import Classes, by_class
from mmcontrast.exact.kernels import launch
from mmcontrast.exact.kernels.blocks import Blocks
from mmcontrast.exact.kernels.infonce_fused import by_temperature, number_for, zeros
from mmcontrast.exact.kernels.launch import Logits, Share
from mmcontrast.exact.supcon_tiles import plain
from mmcontrast.exact.tiles import LOG2_E, differentiate, slices
from mmcontrast.rows import RowMap, map_rows

LOG2 = 1 / LOG2_E
CHUNK = 4096  # rows that are in float64 together


def sup_con(
    anchors: Tensor,
    labels: Tensor,
    *,
    temperature: float | Tensor,
    normalize: RowMap | None,
    side: int | None = None,
    precision: str = "ieee",
    blocks: Blocks | None = None,
) -> tuple[Tensor, Tensor]:
    """Losses and who is counted, as of :func:`mmcontrast.exact.supcon_tiles.tiled_sup_con`.

    3 products: one for the sums, two for the gradient, whose rows are its columns. The labels'
    classes are read on the host; the sums of the classes stay out of the products. ``side`` is not
    used.
    """
    classes = by_class(labels)
    rows = map_rows(anchors.index_select(0, classes.order), normalize).float()
    losses = apply(_SupCon, rows, number_for(temperature, rows), classes, precision, blocks)
    every = losses.new_zeros(len(anchors))
    counted = torch.zeros(len(anchors), dtype=torch.bool, device=every.device)
    several = classes.counts[classes.ids] > 1
    return every.index_copy(0, classes.order, losses), counted.index_copy(0, classes.order, several)


class _SupCon(torch.autograd.Function):
    """(n,) losses of rows sorted by class."""

    @staticmethod
    def forward(
        ctx: Any,
        rows: Tensor,
        temperature: Tensor,
        classes: Classes,
        precision: str,
        blocks: Blocks | None,
    ) -> Tensor:
        ctx.classes, ctx.precision, ctx.blocks = classes, precision, blocks
        if len(rows) == 0:
            ctx.save_for_backward(rows, temperature)
            return rows.new_zeros(0)
        logits = _batch(rows, temperature, classes, precision, blocks)
        base = logits.base()
        sums = launch.sums(logits, base, both=False)
        sizes = classes.counts[classes.ids]
        totals = _class_sums(logits.x, classes)
        near = torch.cat(
            [
                (logits.x[i] * (totals[classes.ids[i]] - logits.x[i])).sum(1)
                for i in slices(len(rows), CHUNK)
            ]
        )
        near *= LOG2_E / temperature.double() / (sizes - 1).clamp_min(1)
        gap = LOG2 * (sums.rows.double().log2() + sums.row_shift - near)
        gap = torch.where(sizes > 1, gap, -math.inf)
        ctx.save_for_backward(rows, temperature, base, sums.rows, sums.row_shift, gap)
        return torch.where(sizes > 2, gap, F.softplus(gap, threshold=50)).float()

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> Any:
        rows, temperature, *rest = ctx.saved_tensors
        classes, needed = ctx.classes, ctx.needs_input_grad[:2]
        if torch.is_grad_enabled():
            losses = plain(rows, LOG2_E / temperature, classes)
            return *differentiate(losses, (rows, temperature), needed, upstream), None, None, None
        if not rest:
            return *zeros(needed, rows, temperature), None, None, None
        base, sums, shift, gap = rest
        logits = _batch(rows, temperature, classes, ctx.precision, ctx.blocks)
        sizes = classes.counts[classes.ids]
        # By the log of the sum: 1 where the loss is that log, less where it is the softplus.
        slope = upstream / temperature * torch.where(sizes > 2, 1, gap.sigmoid())
        share = Share(slope.float(), sums, shift)
        found, _ = launch.gradient(logits, base, share, share)
        totals = _class_sums(logits.x, classes)
        slopes = _class_sums(logits.x, classes, slope)
        for i in slices(len(rows), CHUNK):
            own, ids, weight = logits.x[i].double(), classes.ids[i], slope[i, None]
            pull = weight * (totals[ids] - own) + (slopes[ids] - weight * own)
            found[i] -= (pull / (sizes[i, None] - 1).clamp_min(1)).float()
        # Both rows of a product are of the same batch, so half of it is the temperature's.
        gt = by_temperature(logits.x, found, temperature) / 2
        return found, gt, None, None, None


def _batch(
    rows: Tensor, temperature: Tensor, classes: Classes, precision: str, blocks: Blocks | None
) -> Logits:
    """The logits of a batch with itself, without oneself and without an only positive."""
    x = launch.rounded(rows, precision)
    first = classes.counts.cumsum(0) - classes.counts
    place = torch.arange(len(x), device=x.device)
    other = 2 * first[classes.ids] + 1 - place  # of a class of two, which are neighbours
    partner = torch.where(classes.counts[classes.ids] == 2, other, -1)
    return Logits(
        x, x, temperature.detach(), precision, diagonal=True, partner=partner, blocks=blocks
    )


def _class_sums(rows: Tensor, classes: Classes, weight: Tensor | None = None) -> Tensor:
    """(classes, D) float64; index_put_ adds up in one order, where index_add_ has none on a GPU."""
    sums = rows.new_zeros(len(classes.counts), rows.shape[1], dtype=torch.float64)
    for i in slices(len(rows), CHUNK):
        part = rows[i].double()
        part = part if weight is None else part * weight[i, None]
        sums.index_put_((classes.ids[i],), part, accumulate=True)
    return sums
