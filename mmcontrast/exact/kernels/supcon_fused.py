"""SupCon by kernels: one product for the sums and two for the gradient of a batch with itself."""

import math
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from mmcontrast.exact.classes import Classes, by_class
from mmcontrast.exact.evaluation import Gradients, Kept, Needed, evaluate
from mmcontrast.exact.kernels import launch
from mmcontrast.exact.kernels.blocks import Blocks
from mmcontrast.exact.kernels.launch import Logits, Share, scalar_for
from mmcontrast.exact.plain import plain_sup_con
from mmcontrast.exact.supcon_tiles import LOG2, scattered
from mmcontrast.exact.tiles import LOG2_E, slices
from mmcontrast.masks import off_diagonal, same_label
from mmcontrast.rows import RowMap, map_rows

CHUNK = 4096  # rows that are in float64 together


def sup_con_fused(
    anchors: Tensor,
    labels: Tensor,
    *,
    temperature: float | Tensor,
    normalize: RowMap | None,
    precision: str = "ieee",
    blocks: Blocks | None = None,
) -> tuple[Tensor, Tensor]:
    """Losses and the mask of positives, as of :func:`sup_con_in_tiles`.

    The labels' classes are read on the host; the sums of the classes stay out of the products.
    """
    classes = by_class(labels)
    rows = map_rows(anchors.index_select(0, classes.order), normalize).float()
    way = _SupConFused(classes, precision, blocks)
    return scattered(evaluate(way, rows, scalar_for(temperature, rows)), classes, len(anchors))


class _SupConFused(NamedTuple):
    """(n,) losses of rows sorted by class."""

    classes: Classes
    precision: str
    blocks: Blocks | None

    def forward(self, needed: Needed, *inputs: Tensor) -> tuple[Tensor, Kept]:
        rows, temperature = inputs
        if len(rows) == 0:
            return rows.new_zeros(0), ()
        logits, ids, number = self.logits(rows, temperature), self.classes.ids, self.classes.sizes
        base = logits.base()
        sums = launch.sums(logits, base, both=False)
        # Mean logit of the positives, gap and losses as in supcon_tiles, where they are explained.
        totals = self.class_sums(logits.x)
        near = torch.cat(
            [
                (logits.x[i] * (totals[ids[i]] - logits.x[i])).sum(1)
                for i in slices(len(rows), CHUNK)
            ]
        )
        near *= LOG2_E / temperature.double() / (number - 1).clamp_min(1)
        gap = LOG2 * (sums.rows.double().log2() + sums.row_shift - near)
        gap = torch.where(number > 1, gap, -math.inf)
        losses = torch.where(number > 2, gap, F.softplus(gap, threshold=50)).float()
        return losses, (base, sums.rows, sums.row_shift, gap)

    def backward(self, needed: Needed, kept: Any, upstream: Tensor, *inputs: Tensor) -> Gradients:
        rows, temperature = inputs
        if not kept:
            return launch.zeros(needed, rows, temperature)
        base, sums, shift, gap = kept
        logits, number = self.logits(rows, temperature), self.classes.sizes
        # By the log of the sum: 1 where the loss is that log, less where it is the softplus.
        slope = upstream / temperature * torch.where(number > 2, 1, gap.sigmoid())
        # A logit s_ij belongs to anchors i and j: the gradient by x_i takes both, and since the
        # logits are symmetric the same shares serve rows and columns.
        share = Share(slope.float(), sums, shift)
        found, _ = launch.gradient(logits, base, share, share)
        totals, slopes = self.class_sums(logits.x), self.class_sums(logits.x, slope)
        # A pair of positives has -(slope_i + slope_j) / |P|, times x_j for x_i. Over all j of the
        # class but i that is slope_i (sum x_j - x_i) + (sum slope_j x_j - slope_i x_i), over |P|:
        # two sums for each class instead of a mask.
        for i in slices(len(rows), CHUNK):
            own, ids, weight = logits.x[i].double(), self.classes.ids[i], slope[i, None]
            pull = weight * (totals[ids] - own) + (slopes[ids] - weight * own)
            found[i] -= (pull / (number[i, None] - 1).clamp_min(1)).float()
        gt = None
        if needed[1]:
            # Both rows of a product are of the same batch, so half of it is the temperature's.
            gt = launch.temperature_gradient_of(logits.x, found, temperature) / 2
        return launch.without_padding(found, rows), gt

    def plain(self, *inputs: Tensor) -> Tensor:
        rows, temperature = inputs
        ids = self.classes.ids
        return plain_sup_con(rows, temperature, same_label(ids), off_diagonal(len(ids), ids.device))

    def logits(self, rows: Tensor, temperature: Tensor) -> Logits:
        """Those of the batch with itself, without the diagonal and without an only positive."""
        classes, x = self.classes, launch.rounded(rows, self.precision)
        # A class of two has the places first and first + 1, so each one's partner is
        # 2 first + 1 - place.
        first = classes.counts.cumsum(0) - classes.counts
        place = torch.arange(len(x), device=x.device)
        other = 2 * first[classes.ids] + 1 - place
        partner = torch.where(classes.sizes == 2, other, -1)
        settings = temperature.detach(), self.precision
        return Logits(x, x, *settings, diagonal=True, partner=partner, blocks=self.blocks)

    def class_sums(self, rows: Tensor, weight: Tensor | None = None) -> Tensor:
        """(classes, D) float64 sums of the rows, or of the rows times (n,) weights.

        index_put_ adds up in one order, where index_add_ has none on a GPU.
        """
        counts, ids = self.classes.counts, self.classes.ids
        sums = rows.new_zeros(len(counts), rows.shape[1], dtype=torch.float64)
        for i in slices(len(rows), CHUNK):
            part = rows[i].double()
            part = part if weight is None else part * weight[i, None]
            sums.index_put_((ids[i],), part, accumulate=True)
        return sums
