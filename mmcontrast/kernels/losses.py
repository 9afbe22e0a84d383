"""The losses of large batches by kernels: the same entries as the tiles on the CPU have."""

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from mmcontrast.infonce_tiles import _plain_symmetric, negative_share
from mmcontrast.kernels import launch
from mmcontrast.kernels.launch import Blocks, Logits, Share
from mmcontrast.rows import RowMap, dot, map_rows
from mmcontrast.softmax import log_share
from mmcontrast.streaming import LOG2_E, differentiate, number, one_pass, slices
from mmcontrast.supervised_tiles import Classes, _plain, by_class

LOG2 = 1 / LOG2_E
Gradients = list[Tensor | None]


def _number(value: float | Tensor, rows: Tensor) -> Tensor:
    """A 0-d float32 tensor on the device of the rows, where the kernels can read it."""
    return number(value, rows.new_empty(0, dtype=torch.float32)).to(rows.device)


def _by_temperature(x: Tensor, gx: Tensor, temperature: Tensor) -> Tensor:
    """As streaming.by_temperature: logits are x y / t, so it scales as x does, the other way."""
    return launch.pairs(x, gx).sum() / -temperature


def _zeros(needed: Sequence[bool], *inputs: Tensor) -> Gradients:
    return [
        torch.zeros_like(x) if wanted else None for x, wanted in zip(inputs, needed, strict=True)
    ]


# --- symmetric InfoNCE ---------------------------------------------------------------------------


def symmetric(
    x: Tensor,
    y: Tensor,
    temperature: float | Tensor,
    tile: int | None = None,
    *,
    precision: str = "ieee",
    blocks: Blocks | None = None,
) -> Tensor:
    """(B,) losses as of :func:`mmcontrast.infonce_tiles.symmetric`: 5 products.

    One pass for the sums of the rows and of the columns, and two passes of two products for the
    gradients. ``tile`` is the CPU's and not used; see the package for ``precision``.
    """
    losses: Tensor = _Symmetric.apply(  # type: ignore[no-untyped-call]
        x.float(), y.float(), _number(temperature, x), precision, blocks
    )
    return losses


class _Symmetric(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, y: Tensor, temperature: Tensor, precision: str, blocks: Blocks | None
    ) -> Tensor:
        ctx.precision, ctx.blocks = precision, blocks
        if len(x) == 0:
            ctx.save_for_backward(x, y, temperature)
            return x.new_zeros(0)
        logits = _matrix(x, y, temperature, precision, blocks)
        base = logits.base()
        sums = launch.sums(logits, base, both=True)
        own = launch.pairs(logits.x, logits.y) * (LOG2_E / temperature)
        there, row_share = negative_share(sums.rows.log() + (sums.row_shift - own) / LOG2_E)
        back, column_share = negative_share(sums.columns.log() + (sums.column_shift - own) / LOG2_E)
        ctx.save_for_backward(x, y, temperature, base, row_share, column_share, *sums)
        return (there + back) / 2

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> Any:
        x, y, temperature, *rest = ctx.saved_tensors
        needed = ctx.needs_input_grad[:3]
        if torch.is_grad_enabled():
            plain = _plain_symmetric(x, y, temperature)
            return *differentiate(plain, (x, y, temperature), needed, upstream), None, None
        if not rest:
            return *_zeros(needed, x, y, temperature), None, None
        base, row_share, column_share, *sums = rest
        logits = _matrix(x, y, temperature, ctx.precision, ctx.blocks)
        upstream = upstream / 2 / temperature
        pull = (upstream * (row_share + column_share))[:, None]
        rows = Share(upstream * row_share, sums[0], sums[1])
        columns = Share(upstream * column_share, sums[2], sums[3])
        gx = gy = gt = None
        if needed[0] or needed[2]:
            gx, _ = launch.gradient(logits, base, rows, columns)
            gx.addcmul_(logits.y, pull, value=-1)
            gt = _by_temperature(logits.x, gx, temperature)
        if needed[1]:
            gy, _ = launch.gradient(logits.mT, base, columns, rows)
            gy.addcmul_(logits.x, pull, value=-1)
        return gx, gy, gt, None, None


def _matrix(
    x: Tensor, y: Tensor, temperature: Tensor, precision: str, blocks: Blocks | None
) -> Logits:
    """The logits of two views, without the pairs."""
    rows = launch.rounded(x, precision), launch.rounded(y, precision)
    return Logits(*rows, temperature.detach(), precision, diagonal=True, blocks=blocks)


# --- one direction -------------------------------------------------------------------------------


def one_way(
    anchors: Tensor,
    candidates: Tensor,
    targets: Tensor,
    temperature: float | Tensor,
    weight: Tensor | None,
    step: int | None = None,
    *,
    precision: str = "ieee",
    blocks: Blocks | None = None,
) -> Tensor:
    """Losses as of :func:`mmcontrast.infonce_tiles.one_way`: 5 products. ``step`` is not used."""
    targets = targets.clamp_min(0)

    def evaluate(
        a: Tensor, c: Tensor, temperature: Tensor, weight: Tensor | None, needed: Sequence[bool]
    ) -> tuple[Tensor, Gradients]:
        if len(a) == 0 or len(c) == 0:
            return a.new_zeros(len(a)), _zeros(needed, a, c, temperature)
        rows = launch.rounded(a, precision), launch.rounded(c, precision)
        logits = Logits(*rows, temperature, precision, partner=targets, blocks=blocks)
        return _one_way(logits, weight, needed)

    def plain(a: Tensor, c: Tensor, temperature: Tensor) -> Tensor:
        columns = torch.arange(len(c), device=c.device)
        return log_share(dot(a, c) / temperature, columns == targets[:, None], None)[0]

    weight = None if weight is None else weight.float()
    rows = anchors.float(), candidates.float()
    return one_pass(evaluate, plain, weight, *rows, _number(temperature, anchors))


def _one_way(
    logits: Logits, weight: Tensor | None, needed: Sequence[bool]
) -> tuple[Tensor, Gradients]:
    a, c, temperature, _, _, targets, *_ = logits
    assert targets is not None
    base = logits.base()
    sums = launch.sums(logits, base, both=False)
    own = launch.pairs(a, c, targets) * (LOG2_E / temperature)
    losses, share = negative_share(sums.rows.log() + (sums.row_shift - own) / LOG2_E)
    ga = gc = gt = None
    if weight is None:
        return losses, [None, None, None]
    w = weight * share / temperature
    rows = Share(w, sums.rows, sums.row_shift)
    if needed[0] or needed[2]:
        ga, _ = launch.gradient(logits, base, rows, None)
        ga.addcmul_(c[targets], w[:, None], value=-1)
        gt = _by_temperature(a, ga, temperature)
    if needed[1]:
        gc, _ = launch.gradient(logits.mT, base, None, rows)
        # index_put_ sorts, so that its sums have one order; index_add_ has none on a GPU.
        gc.index_put_((targets,), a.float() * -w[:, None], accumulate=True)
    return losses, [ga, gc, gt]


# --- sigmoid -------------------------------------------------------------------------------------


def sigmoid(
    x: Tensor,
    y: Tensor,
    temperature: float | Tensor,
    bias: float | Tensor,
    weight: Tensor | None,
    *,
    precision: str = "ieee",
    blocks: Blocks | None = None,
) -> Tensor:
    """Losses as of :func:`mmcontrast.sigmoid_contrast`, row i with row i: 5 products.

    Args:
        x: (B, D) anchors, mapped.
        y: (C, D) candidates, mapped.
        temperature: a number or a 0-d tensor.
        bias: the same.
        weight: (B,) what each loss counts for; None for the losses themselves.
        precision: of the products.
        blocks: instead of those of the table.
    """

    def evaluate(
        x: Tensor,
        y: Tensor,
        temperature: Tensor,
        bias: Tensor,
        weight: Tensor | None,
        needed: Sequence[bool],
    ) -> tuple[Tensor, Gradients]:
        if len(x) == 0 or len(y) == 0:
            return x.new_zeros(len(x)), _zeros(needed, x, y, temperature, bias)
        rows = launch.rounded(x, precision), launch.rounded(y, precision)
        logits = Logits(
            *rows, temperature, precision, diagonal=True, bias=bias.detach(), blocks=blocks
        )
        return _sigmoid(logits, bias, weight, needed)

    inputs = x.float(), y.float(), _number(temperature, x), _number(bias, x)
    weight = None if weight is None else weight.float()
    return one_pass(evaluate, _plain_sigmoid, weight, *inputs)


def _plain_sigmoid(x: Tensor, y: Tensor, temperature: Tensor, bias: Tensor) -> Tensor:
    logits = dot(x, y) / temperature + bias
    pairs = torch.eye(*logits.shape, dtype=torch.bool, device=x.device)
    return F.softplus(torch.where(pairs, -logits, logits), threshold=50).sum(1)


def _sigmoid(
    logits: Logits, bias: Tensor, weight: Tensor | None, needed: Sequence[bool]
) -> tuple[Tensor, Gradients]:
    x, y, temperature, *_ = logits
    own = -(launch.pairs(x, y[: len(x)]) / temperature + bias)
    base = logits.base()
    losses = launch.sums(logits, base, both=False).rows + F.softplus(own, threshold=50)
    gx = gy = gt = gb = None
    if weight is None:
        return losses, [None] * 4
    pull = weight * own.sigmoid()
    rows, over = Share(weight / temperature), (pull / temperature)[:, None]
    if needed[0] or needed[2] or needed[3]:
        gx, slopes = launch.gradient(logits, base, rows, None, slopes=needed[3])
        gx.addcmul_(y[: len(x)], over, value=-1)
        gt = _by_temperature(x, gx, temperature)
        gb = slopes.sum() * temperature - pull.sum() if needed[3] else None
    if needed[1]:
        gy, _ = launch.gradient(logits.mT, base, None, rows)
        gy[: len(x)].addcmul_(x, over, value=-1)
    return losses, [gx, gy, gt, gb]


# --- supervised ----------------------------------------------------------------------------------


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
    """Losses and who is counted, as of :func:`mmcontrast.supervised_tiles.tiled_sup_con`.

    3 products: one for the sums, two for the gradient, whose rows are its columns. The labels'
    classes are read on the host; the sums of the classes stay out of the products. ``side`` is not
    used.
    """
    classes = by_class(labels)
    rows = map_rows(anchors.index_select(0, classes.order), normalize).float()
    losses = _SupCon.apply(  # type: ignore[no-untyped-call]
        rows, _number(temperature, rows), classes, precision, blocks
    )
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
            losses = _plain(rows * (LOG2_E / temperature).sqrt(), classes)
            return *differentiate(losses, (rows, temperature), needed, upstream), None, None, None
        if not rest:
            return *_zeros(needed, rows, temperature), None, None, None
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
        gt = _by_temperature(logits.x, found, temperature) / 2
        return found, gt, None, None, None


CHUNK = 4096  # rows that are in float64 together


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
    """(classes, D) float64, in one order: see index_put_ above."""
    sums = rows.new_zeros(len(classes.counts), rows.shape[1], dtype=torch.float64)
    for i in slices(len(rows), CHUNK):
        part = rows[i].double()
        part = part if weight is None else part * weight[i, None]
        sums.index_put_((classes.ids[i],), part, accumulate=True)
    return sums
