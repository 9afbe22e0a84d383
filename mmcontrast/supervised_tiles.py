r"""Exact supervised contrast of a large batch: tiles of the similarities, never all of them.

The similarities of a batch with itself are symmetric, so the tiles on and above the diagonal say
everything: one tile serves its rows as anchors and its columns as anchors. A pass costs half a
matrix product, and the gradient, in a second pass that makes the tiles again, one and a half.
"""

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmcontrast import _checks
from mmcontrast.masks import labelled, off_diagonal, same_label
from mmcontrast.rows import RowMap, map_rows
from mmcontrast.softmax import log_share
from mmcontrast.streaming import full_precision, possible

LEAST = 256  # samples from which tiles are faster than the whole matrix
LOG2 = math.log(2)


def numbers(*tensors: Tensor) -> bool:
    """Whether these are plain tensors with values that may be read: not fake, not traced."""
    kinds = (Tensor, nn.Parameter)
    return possible() and all(type(x) in kinds and x.device.type != "meta" for x in tensors)


class Classes(NamedTuple):
    """The labelled samples of a batch, class by class, and by index within a class."""

    order: Tensor
    """(n,) who they are."""
    ids: Tensor
    """(n,) their classes, 0, 1, 2, ..., ascending."""
    counts: Tensor
    """(classes,) how many samples each class has."""


def by_class(labels: Tensor) -> Classes:
    """Sort a batch by its (B,) or (B, L) labels; -100 and NaN are left out. Reads values."""
    known = labelled(labels).nonzero()[:, 0]
    values = (labels[:, None] if labels.ndim == 1 else labels)[known]
    order = torch.arange(len(known), device=labels.device)
    for column in reversed(values.unbind(1)):
        order = order[column[order].argsort(stable=True)]
    values = values[order]
    another = (values[1:] != values[:-1]).any(1)
    ids = F.pad(another.long(), (1, 0)).cumsum(0)[: len(known)]
    return Classes(known[order], ids, ids.bincount())


def tile_side(anchors: Tensor, labels: Tensor, chunk_size: int | None) -> int | None:
    """The side of a tile, or None for the plain path: few samples, a compiler or a transform."""
    if chunk_size is not None:
        _checks.whole("chunk_size", chunk_size)
    if not numbers(anchors, labels) or (chunk_size is None and len(anchors) < LEAST):
        return None
    return chunk_size or (384 if anchors.device.type == "cpu" else 4096)


def tiled_sup_con(
    anchors: Tensor,
    labels: Tensor,
    *,
    temperature: float | Tensor,
    normalize: RowMap | None,
    side: int,
) -> tuple[Tensor, Tensor] | None:
    r"""The "out" form of :func:`sup_con` among the anchors themselves, in tiles.

    With P the positives, A all others, and s in units of log 2,

    .. math:: \ell_i = \log \sum_{a \in A} 2^{s_{ia}} - \frac{\log 2}{|P|} \sum_{p \in P} s_{ip}

    The second sum is linear in s, so it comes from the sums of the classes, and no mask is needed.
    Where there is one positive, it stays out of the first sum and the loss is the softplus of the
    gap, which keeps its digits however small it is; with more, the loss is log |P| at least.

    Args:
        anchors: (B, D).
        labels: (B,) or (B, L).
        temperature: a float, or a 0-d tensor.
        normalize: row map before the dot product.
        side: of a tile, in samples.

    Returns:
        (B,) losses and (B,) bool, who has a positive; or None where the sum of some anchor lies
        outside the range of its dtype, which takes far-off similarities over a low temperature.
    """
    classes = by_class(labels)
    scale = 1 / (LOG2 * temperature)
    rows = map_rows(anchors.index_select(0, classes.order), normalize)
    rows = rows * (scale.sqrt() if isinstance(scale, Tensor) else math.sqrt(scale))
    side = max(1, min(side, len(rows)))
    with torch.no_grad(), full_precision(rows):
        shift = _shift(rows)
        sums = _sums(rows, classes, shift, side)
        if not bool(_in_range(sums).all()):
            return None
    losses = _TiledSupCon.apply(rows, sums, classes, shift, side)  # type: ignore[no-untyped-call]
    every = losses.new_zeros(len(anchors))
    counted = torch.zeros(len(anchors), dtype=torch.bool, device=every.device)
    several = classes.counts[classes.ids] > 1
    return every.index_copy(0, classes.order, losses), counted.index_copy(0, classes.order, several)


class _TiledSupCon(torch.autograd.Function):
    """(n,) losses of rows sorted by class, whose dot products are logits in units of log 2."""

    @staticmethod
    def forward(
        ctx: Any, rows: Tensor, sums: Tensor, classes: Classes, shift: float, side: int
    ) -> Tensor:
        sizes = classes.counts[classes.ids]
        totals = _class_sums(rows, classes, side)
        near = totals.new_empty(len(rows))
        for i in _chunks(len(rows), side):
            near[i] = (rows[i] * (totals[classes.ids[i]] - rows[i].double())).sum(1)
        gap = sums.double().log2() + shift - near / (sizes - 1).clamp_min(1)
        gap = torch.where(sizes > 1, LOG2 * gap, -math.inf)
        ctx.save_for_backward(rows, sums, gap)
        ctx.classes, ctx.shift, ctx.side = classes, shift, side
        return torch.where(sizes > 2, gap, F.softplus(gap, threshold=50)).to(rows.dtype)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None, None]:
        rows, sums, gap = ctx.saved_tensors
        if torch.is_grad_enabled():  # somebody asks for the derivative of this derivative
            losses = _plain(rows, ctx.classes)
            (found,) = torch.autograd.grad(losses, rows, grad, create_graph=True)
            return found, None, None, None, None
        sizes = ctx.classes.counts[ctx.classes.ids]
        # d(loss) / d(log of the sum): 1 where the loss is that log, less where it is the softplus.
        slope = LOG2 * grad.double() * torch.where(sizes > 2, 1, gap.sigmoid())
        with full_precision(rows):
            found = _push(rows, sums, slope, ctx.classes, ctx.shift, ctx.side)
            _pull(found, rows, slope, ctx.classes, ctx.side)
        return found, None, None, None, None


def _push(
    rows: Tensor, sums: Tensor, slope: Tensor, classes: Classes, shift: float, side: int
) -> Tensor:
    """The gradient through the sums: each pair's share in its row's sum and in its column's."""
    share = torch.where(slope == 0, 0, slope / sums).to(rows.dtype)
    found = torch.zeros_like(rows)
    room = rows.new_empty(side * side)
    for i, j, tile in _tiles(rows, classes, shift, side):
        both = room[: tile.numel()].view_as(tile)
        torch.add(share[i, None], share[j], out=both)
        tile.mul_(both)
        found[i].addmm_(tile, rows[j])
        if i != j:
            found[j].addmm_(tile.mT, rows[i])
    return found


def _pull(found: Tensor, rows: Tensor, slope: Tensor, classes: Classes, side: int) -> None:
    """Take away the gradient through the positives' mean, from sums over each class."""
    totals = _class_sums(rows, classes, side)
    slopes = _class_sums(rows, classes, side, slope)
    others = (classes.counts[classes.ids] - 1).clamp_min(1)
    for i in _chunks(len(rows), side):
        own, weight, ids = rows[i].double(), slope[i, None], classes.ids[i]
        pull = weight * (totals[ids] - own) + (slopes[ids] - weight * own)
        found[i] -= (pull / others[i, None]).to(found.dtype)


def _class_sums(rows: Tensor, classes: Classes, side: int, weight: Tensor | None = None) -> Tensor:
    """(classes, D) float64: taking one row out of a sum again shall not cost the others' digits."""
    sums = rows.new_zeros(len(classes.counts), rows.shape[1], dtype=torch.float64)
    for i in _chunks(len(rows), side):
        part = rows[i].double()
        sums.index_add_(0, classes.ids[i], part if weight is None else part * weight[i, None])
    return sums


def _sums(rows: Tensor, classes: Classes, shift: float, side: int) -> Tensor:
    """(n,) sums of 2^(s - shift) over all others, but for a positive that is the only one."""
    sums = rows.new_zeros(len(rows))
    for i, j, tile in _tiles(rows, classes, shift, side):
        sums[i] += tile.sum(1)
        if i != j:
            sums[j] += tile.sum(0)
    return sums


def _tiles(
    rows: Tensor, classes: Classes, shift: float, side: int
) -> Iterator[tuple[slice, slice, Tensor]]:
    """2^(s - shift) on and above the diagonal; zero for oneself and for an only positive.

    All tiles live in one piece of memory: the next one overwrites the last.
    """
    room = rows.new_empty(side * side)
    away = rows.new_full((1,), -shift)
    ids, couples = classes.ids, classes.counts[classes.ids] == 2
    linked = couples[1:] & (ids[1:] == ids[:-1])  # the two of a class of two are neighbours
    chunks = _chunks(len(rows), side)
    for place, i in enumerate(chunks):
        left = rows[i]
        for j in chunks[place:]:
            right = rows[j]
            tile = room[: len(left) * len(right)].view(len(left), len(right))
            if shift:
                torch.addmm(away, left, right.mT, out=tile)
            else:
                torch.mm(left, right.mT, out=tile)
            tile.exp2_()
            if i == j:
                tile.diagonal().zero_()
                for side_diagonal in (tile.diagonal(1), tile.diagonal(-1)):
                    side_diagonal.masked_fill_(linked[i.start : i.stop - 1], 0)
            elif i.stop == j.start:
                tile[-1, :1].masked_fill_(linked[i.stop - 1 : i.stop], 0)
            yield i, j, tile


def _shift(rows: Tensor) -> float:
    """What to take off every logit: 0 where none can reach a quarter of the exponent's range.

    No logit exceeds the largest squared length. Shifting to below it, not to it, leaves the more
    room for anchors whose similarities are all far from the bound.
    """
    if not len(rows):
        return 0.0
    bound = float(torch.linalg.vector_norm(rows, dim=1).max()) ** 2
    return max(0.0, bound - math.log2(torch.finfo(rows.dtype).max) / 2)


def _in_range(sums: Tensor) -> Tensor:
    """(n,) bool, the certificate: a sum that kept its digits, or had nothing to sum."""
    least = torch.finfo(sums.dtype).tiny ** 0.75
    kept: Tensor = (sums >= least) & sums.isfinite() | (len(sums) <= 2)
    return kept


def _plain(rows: Tensor, classes: Classes) -> Tensor:
    """The same (n,) losses of the same rows by operations that autograd knows."""
    ids = classes.ids
    logits = (rows @ rows.mT) * LOG2
    losses, counted = log_share(logits, same_label(ids), off_diagonal(len(ids), ids.device))
    return torch.where(counted, losses, 0)


def _chunks(size: int, side: int) -> list[slice]:
    return [slice(start, min(start + side, size)) for start in range(0, size, side)]
