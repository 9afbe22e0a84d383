"""Negatives that each anchor has for itself: their logits, and InfoNCE among them alone.

Beside the batch's they reach the ways of evaluation as one more log-sum for each anchor.
"""

from typing import Any, NamedTuple, cast

import torch
from torch import Tensor

from mmcontrast import arguments
from mmcontrast.eager import is_eager
from mmcontrast.exact import sizes
from mmcontrast.exact.evaluation import Gradients, Kept, Needed, evaluate
from mmcontrast.exact.tiles import scalar, slices
from mmcontrast.gaps import Variant, losses_of_gaps
from mmcontrast.masks import IGNORE, checked_partners
from mmcontrast.presence import zero_outside
from mmcontrast.reductions import Reduction
from mmcontrast.rows import ROW_MAPS, RowMap, dot, map_rows
from mmcontrast.softmax import masked_logsumexp
from mmcontrast.wide import narrow, out_of_range, widen, widen_products


class OwnNegatives(NamedTuple):
    """Negatives that each anchor has for itself."""

    rows: Tensor  # (B, K, D)
    keep: Tensor | None  # (B, K) bool, which of them there are; None for all
    temperature: float | Tensor
    normalize: RowMap | None

    def of(self, counted: Tensor | None) -> "OwnNegatives":
        """Those of the anchors in a (B,) mask, None for all: the others affect nothing."""
        if counted is None:
            return self
        there = counted[:, None].expand(self.rows.shape[:2])
        return self._replace(keep=there if self.keep is None else self.keep & there)

    def number(self) -> Tensor:
        """(B,) how many there are."""
        size = self.rows.shape[:2]
        if self.keep is not None:
            return self.keep.sum(1)
        return torch.full(size[:1], size[1], device=self.rows.device)

    def logits(self, anchors: Tensor) -> Tensor:
        """(B, K) of mapped (B, D) anchors."""
        step = max(sizes.OWN // max(self.rows[:1].numel(), 1), 1)
        built_in = self.normalize is None or self.normalize in ROW_MAPS
        if not (is_eager() and built_in) or step >= anchors.shape[0]:
            return _logits(anchors, self.rows, self.temperature, self.keep, self.normalize)
        way = _InPieces(self.keep, self.normalize, step)
        return evaluate(way, anchors, self.rows, self.temperature)

    def sums(self, logits: Tensor) -> Tensor:
        """(B,) sum of the logits of those that there are."""
        return (logits if self.keep is None else torch.where(self.keep, logits, 0)).sum(1)

    def log_sums(self, logits: Tensor) -> Tensor:
        """(B,) log of the sum of e^s; minus infinity where an anchor has none."""
        if self.keep is not None:
            return masked_logsumexp(logits, self.keep)
        return logits.logsumexp(1)


def _logits(
    anchors: Tensor,
    rows: Tensor,
    temperature: float | Tensor,
    keep: Tensor | None,
    normalize: RowMap | None,
) -> Tensor:
    """(B, K) of mapped (B, D) anchors and (B, K, D) rows that are not; 0 outside the mask."""
    if keep is not None:
        rows = torch.where(keep[:, :, None], rows, 0)  # not even NaN propagates
    b, k = rows.shape[:2]
    if normalize is None:  # as they are given, so that gradients are capped in their own dtype
        anchors, rows = widen_products(anchors, rows)
    others = map_rows(rows.flatten(0, 1), normalize)  # (B K, D)
    return dot(anchors[:, None], others.view(b, k, others.shape[1]))[:, 0] / temperature


class _InPieces(NamedTuple):
    """The logits of some anchors at a time, and once more in the backward pass.

    So nothing of the size of the negatives is held but their gradient. Only for row maps without
    parameters, which would need gradients, too.
    """

    keep: Tensor | None
    normalize: RowMap | None
    step: int

    def forward(self, needed: Needed, *inputs: Any) -> tuple[Tensor, Kept]:
        return torch.cat([self.of(i, *inputs) for i in slices(len(inputs[0]), self.step)]), ()

    def backward(self, needed: Needed, kept: Any, upstream: Tensor, *inputs: Any) -> Gradients:
        anchors, rows, temperature = inputs
        wanted = [k for k, wants in enumerate(needed) if wants]
        made = {k: torch.zeros_like(inputs[k]) for k in wanted}
        for i in slices(len(anchors), self.step):
            given = [anchors[i], rows[i], temperature]
            for k in wanted:
                given[k] = given[k].detach().requires_grad_()
            keep = None if self.keep is None else self.keep[i]
            with torch.enable_grad():
                a, r, t = given
                found = _logits(a, r, t, keep, self.normalize)
            each = torch.autograd.grad(found, [given[k] for k in wanted], upstream[i])
            for k, gradient in zip(wanted, each, strict=True):
                (made[k][i] if k < 2 else made[k]).add_(gradient)  # the temperature's adds up
        return [made.get(k) for k in range(len(inputs))]

    def of(self, i: slice, anchors: Tensor, rows: Tensor, temperature: float | Tensor) -> Tensor:
        """Those of some anchors."""
        keep = None if self.keep is None else self.keep[i]
        return _logits(anchors[i], rows[i], temperature, keep, self.normalize)

    def plain(self, *inputs: Any) -> Tensor:
        anchors, rows, temperature = inputs
        return _logits(anchors, rows, temperature, self.keep, self.normalize)


def checked_own_negatives(
    rows: Tensor | None,
    keep: Tensor | None,
    anchors: Tensor,
    temperature: float | Tensor,
    normalize: RowMap | None,
) -> OwnNegatives | None:
    """The callers' ``own_negatives`` and ``own_keep``, if there are any."""
    if rows is None:
        if keep is not None:
            arguments.fail("own_keep", "None without own_negatives", arguments.shown(keep))
        return None
    b, d = anchors.shape
    arguments.tensor("own_negatives", rows)
    if rows.ndim != 3 or rows.shape[0] != b or rows.shape[2] != d:
        arguments.fail("own_negatives", f"shape ({b}, K, {d})", arguments.shape(rows))
    if not rows.is_floating_point():
        arguments.fail("own_negatives", "a floating dtype", rows.dtype)
    if keep is not None:
        arguments.mask("own_keep", keep, (b, rows.shape[1]))
    return OwnNegatives(rows, keep, temperature, normalize)


def partners_rows(candidates: Tensor, partners: Tensor) -> Tensor:
    """(B, D) rows of the partners; any where there is none."""
    if candidates.shape[0] == 0:  # zeros, with the candidates' graph
        return candidates.sum(0).expand(partners.shape[0], -1)
    return candidates.index_select(0, partners.clamp_min(0))


def among_own_negatives(
    anchors: Tensor,
    candidates: Tensor,
    targets: Tensor | None,
    own: OwnNegatives,
    variant: Variant,
    smoothing: float,
    reduction: Reduction,
) -> Tensor:
    """InfoNCE of each anchor's partner among its own negatives alone."""
    counted = None if targets is None else targets != IGNORE
    partners = partners_rows(candidates, checked_partners(anchors, targets))
    if counted is not None:
        partners = zero_outside(partners, counted)
    rows, given = anchors, {"anchors": anchors, "partners": partners, "own_negatives": own.rows}
    wide = own.normalize is None and out_of_range(given, None)
    if wide:
        rows, partners, own = widen((rows, partners, own))
    rows, partners = (map_rows(x, own.normalize) for x in (rows, partners))
    positive = (rows * partners).sum(1) / own.temperature  # (B,)
    logits, variant = own.logits(rows), variant.among(own.number()).like(rows)
    gap = own.log_sums(logits) - positive
    losses = losses_of_gaps(gap, positive, scalar(own.temperature, rows), variant)
    if smoothing > 0:
        mean = (positive + own.sums(logits)) / (1 + own.number())
        losses = losses + smoothing * (positive - mean)
    found = reduction.reduce(losses, counted)
    return cast(Tensor, narrow(found)) if wide else found
