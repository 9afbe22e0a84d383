r"""SupCon of a large batch among itself: tiles of the similarities, never all of them.

The similarities of a batch with itself are symmetric, so the tiles on and above the diagonal hold
everything: one tile serves its rows as anchors and its columns as anchors. A pass costs half a
matrix product, and the gradient, in a second pass that makes the tiles again, one and a half.
Where one shift for all logits would leave some sum without digits, two more passes find each row's
largest logit and sum up again.

With P the positives, A all others, and s in units of log 2,

.. math:: \ell_i = \log \sum_{a \in A} 2^{s_{ia}} - \frac{\log 2}{|P|} \sum_{p \in P} s_{ip}

The second sum is linear in s, so it comes from the sums of the classes' rows, and no mask is
needed. Where there is one positive, it stays out of the first sum and the loss is the softplus of
the gap, which keeps its digits however small it is; with more, the loss is log |P| at least.
"""

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from mmcontrast.eager import full_precision
from mmcontrast.exact.classes import Classes, by_class, windows
from mmcontrast.exact.evaluation import Gradients, Kept, Needed, evaluate
from mmcontrast.exact.plain import plain_sup_con
from mmcontrast.exact.tiles import scalar, slices, tiles
from mmcontrast.masks import off_diagonal, same_label
from mmcontrast.rows import RowMap, map_rows

LOG2 = math.log(2)


def sup_con_in_tiles(
    anchors: Tensor,
    labels: Tensor,
    *,
    temperature: float | Tensor,
    normalize: RowMap | None,
    side: int,
) -> tuple[Tensor, Tensor] | None:
    """The "out" form of :func:`sup_con` among the anchors themselves.

    Args:
        anchors: (B, D).
        labels: (B,) or (B, L).
        temperature: a float, or a 0-d tensor.
        normalize: row map before the dot product.
        side: of a tile, in samples.

    Returns:
        (B,) losses and (B,) bool, which anchors have a positive; or None where some logit is not
        finite.
    """
    classes = by_class(labels)
    rows = map_rows(anchors.index_select(0, classes.order), normalize)
    scale = 1 / (LOG2 * scalar(temperature, rows.new_empty(0, dtype=torch.float64)))
    per_unit = float(scale.detach())  # octaves of a dot product of 1
    side = max(1, min(side, len(rows)))
    # Without a graph: shift and sums are intermediate results of what _ClassTiles differentiates.
    with torch.no_grad(), full_precision(rows):
        shift: float | Tensor = _shift(rows, per_unit)
        sums = _sums_over_tiles(rows, per_unit, classes, shift, side)
        if not _in_range(sums):  # similarities far from the bound, at a low temperature
            shift = _largest(rows, per_unit, classes, side)
            sums = _sums_over_tiles(rows, per_unit, classes, shift, side)
            if not _in_range(sums):
                return None
    losses = evaluate(_ClassTiles(classes, shift, side), rows, scale, sums)
    return scattered(losses, classes, len(anchors))


def scattered(losses: Tensor, classes: Classes, size: int) -> tuple[Tensor, Tensor]:
    """(n,) losses in the order of the classes, put back into a batch, and the mask of positives."""
    every = losses.new_zeros(size)
    counted = torch.zeros(size, dtype=torch.bool, device=every.device)
    several = classes.sizes > 1
    return every.index_copy(0, classes.order, losses), counted.index_copy(0, classes.order, several)


class _ClassTiles(NamedTuple):
    """Rows are sorted by class, and their dot products times a scale are the logits in octaves.

    The scale stays out of the rows, where it would round every entry once more.
    """

    classes: Classes
    shift: float | Tensor
    side: int

    def forward(self, needed: Needed, *inputs: Tensor) -> tuple[Tensor, Kept]:
        rows, scale, sums = inputs
        classes, shift, side = self
        # The sum over a class of x_i x_p is x_i times the sum of the class's rows. x_i itself is
        # taken out again, a difference that in float32 would leave rounding errors of the size of
        # small gaps: hence float64.
        number = classes.sizes
        totals = _sums_of_classes(rows, classes, side)  # (classes, D)
        near = totals.new_empty(len(rows))  # (n,) float64
        for i in slices(len(rows), side):
            near[i] = (rows[i] * (totals[classes.ids[i]] - rows[i].double())).sum(1)
        # In octaves: log2 of the sum of 2^s, minus the mean logit of the positives. The loss is the
        # gap for two positives or more; softplus(gap) for one, which `_octaves` keeps out of the
        # sum; and softplus(-inf) = 0 for a sample alone in its class.
        gap = sums.double().log2() + shift - scale * (near / (number - 1).clamp_min(1))
        gap = torch.where(number > 1, LOG2 * gap, -math.inf)
        losses = torch.where(number > 2, gap, F.softplus(gap, threshold=50)).to(rows.dtype)
        return losses, (gap,)

    def backward(self, needed: Needed, kept: Any, upstream: Tensor, *inputs: Tensor) -> Gradients:
        rows, scale, sums = inputs
        classes, shift, side = self
        # d(loss) / d(log of the sum): 1 where the loss is that log, less where it is the softplus.
        share = torch.where(classes.sizes > 2, 1, kept[0].sigmoid())
        slope = LOG2 * upstream.double() * share
        found = _gradient(rows, float(scale), sums, slope, classes, shift, side)
        # x_i found_i adds up the gradients by all logits of row i, as anchor and as candidate; over
        # all rows each logit is counted twice, hence the half.
        by_scale: Tensor | None = None
        if needed[1]:  # in pieces, because float64 copies of all rows are large
            by_scale = torch.zeros_like(scale)
            for i in slices(len(rows), side):
                by_scale += (rows[i].double() * found[i]).sum() / 2
        return found.mul_(scale), by_scale, None

    def plain(self, *inputs: Tensor) -> Tensor:
        rows, scale, _ = inputs
        ids = self.classes.ids
        temperature = (1 / (LOG2 * scale)).to(rows.dtype)
        return plain_sup_con(rows, temperature, same_label(ids), off_diagonal(len(ids), ids.device))


def _gradient(
    rows: Tensor,
    per_unit: float,
    sums: Tensor,
    slope: Tensor,
    classes: Classes,
    shift: float | Tensor,
    side: int,
) -> Tensor:
    """The gradient by the rows: pairs push by their shares of the sums, positives pull as well.

    The pull is subtracted pair by pair. In a collapsed class the two are nearly the same, and as
    separate sums they would lose the digits that make the difference.
    """
    # Anchor i gives each of its logits s_ij the gradient slope_i 2^(s_ij - shift_i) / sum_i, its
    # push, and those of its positives -slope_i / |P_i|, its pull, as well. s_ij is a logit of
    # anchor i and of anchor j, so its whole gradient is push_i e_ij + push_j e'_ij, less pull_i +
    # pull_j within a class.
    push = torch.where(slope == 0, 0, slope / sums).to(rows.dtype)
    others = classes.sizes - 1
    pull = torch.where(others == 0, 0, slope / others.clamp_min(1)).to(rows.dtype)
    near = windows(classes.ids, classes.ids, side)
    found = torch.zeros_like(rows)
    room = rows.new_empty(min(side, len(rows)) ** 2)
    for i, j, to_rows, to_columns in _exponentials_of(rows, per_unit, classes, shift, side):
        pairs = room[: to_rows.numel()].view_as(to_rows)
        if to_rows is to_columns:
            torch.add(push[i, None], push[j], out=pairs).mul_(to_rows)
        else:
            torch.mul(to_rows, push[i, None], out=pairs).add_(to_columns.mul_(push[j]))
        # The columns of these rows' classes, cut to this tile. Those left of the diagonal belong to
        # a tile that is not made; its transpose serves them.
        for part, columns, one in near[i.start]:
            within = slice(max(columns.start, j.start), min(columns.stop, j.stop))
            if within.start >= within.stop:
                continue
            pulled = pull[part, None] + pull[within]  # (rows of the window, columns of it)
            if not one:
                pulled.masked_fill_(classes.ids[part, None] != classes.ids[within], 0)
            pairs[
                part.start - i.start : part.stop - i.start,
                within.start - j.start : within.stop - j.start,
            ] -= pulled
        # A tile beyond the diagonal stands for its transpose too, in which its columns are the
        # rows.
        if i == j:
            pairs.diagonal().zero_()
        found[i].addmm_(pairs, rows[j])
        if i != j:
            found[j].addmm_(pairs.mT, rows[i])
    return found


def _sums_of_classes(rows: Tensor, classes: Classes, side: int) -> Tensor:
    """(classes, D) float64: so that taking one row out again costs no digits."""
    sums = rows.new_zeros(len(classes.counts), rows.shape[1], dtype=torch.float64)
    for i in slices(len(rows), side):
        sums.index_add_(0, classes.ids[i], rows[i].double())
    return sums


def _sums_over_tiles(
    rows: Tensor, per_unit: float, classes: Classes, shift: float | Tensor, side: int
) -> Tensor:
    """(n,) sums of 2^(s - shift) over all other samples, except an only positive."""
    sums = rows.new_zeros(len(rows))
    for i, j, to_rows, to_columns in _exponentials_of(rows, per_unit, classes, shift, side):
        sums[i] += to_rows.sum(1)
        if i != j:
            sums[j] += to_columns.sum(0)
    return sums


def _exponentials_of(
    rows: Tensor, per_unit: float, classes: Classes, shift: float | Tensor, side: int
) -> Iterator[tuple[slice, slice, Tensor, Tensor]]:
    """2^(s - shift) on and above the diagonal, for the rows' sums and for the columns' sums.

    With one shift for all the two are one tensor.
    """
    if isinstance(shift, Tensor):
        for i, j, tile in _octaves(rows, per_unit, classes, side):
            # s_ij counts in row i's sum in units of row i's shift, and in row j's in units of row
            # j's.
            to_rows = (tile - shift[i, None]).exp2_()
            yield i, j, to_rows, tile.sub_(shift[j]).exp2_()
    else:
        for i, j, tile in _octaves(rows, per_unit, classes, side, shift):
            yield i, j, tile.exp2_(), tile


def _octaves(
    rows: Tensor, per_unit: float, classes: Classes, side: int, shift: float = 0.0
) -> Iterator[tuple[slice, slice, Tensor]]:
    """s - shift above the diagonal; minus infinity on it and for an only positive."""
    # A class of two, a couple, has one positive for each of its samples: (k, k + 1) and (k + 1, k).
    # linked[k] tells whether sorted samples k and k + 1 are a couple. In a tile on the diagonal
    # these pairs are next to the diagonal. A couple that two blocks of rows share is in the corner
    # of the tile to the right: the last row of one and the first of the next.
    ids, couples = classes.ids, classes.sizes == 2
    linked = couples[1:] & (ids[1:] == ids[:-1])  # (n - 1,)
    add = rows.new_full((1,), -shift) if shift else None
    for i, j, tile in tiles(rows, rows, (side, side), add=add, alpha=per_unit, upper=True):
        if i == j:
            tile.diagonal().fill_(-math.inf)
            for beside in (tile.diagonal(1), tile.diagonal(-1)):
                beside.masked_fill_(linked[i.start : i.stop - 1], -math.inf)
        elif i.stop == j.start:
            tile[-1, :1].masked_fill_(linked[i.stop - 1 : i.stop], -math.inf)
        yield i, j, tile


def _shift(rows: Tensor, per_unit: float) -> float:
    """The shift of every logit: 0 where none can reach a quarter of the exponent's range.

    No logit exceeds the largest squared length. Shifting to below it, not to it, leaves more room
    for anchors with similarities that are all far from the bound.
    """
    if not len(rows):
        return 0.0
    bound = per_unit * float(torch.linalg.vector_norm(rows, dim=1).max()) ** 2
    # Half the largest exponent: 2^64 in float32, of which sums over any batch are still finite.
    away = max(0.0, bound - math.log2(torch.finfo(rows.dtype).max) / 2)
    # A whole number takes no digits off a logit.
    return math.floor(away) if math.isfinite(away) else away


def _largest(rows: Tensor, per_unit: float, classes: Classes, side: int) -> Tensor:
    """(n,) the largest logit of each row, which takes another pass over the tiles."""
    most = rows.new_full((len(rows),), -math.inf)
    for i, j, tile in _octaves(rows, per_unit, classes, side):
        most[i] = torch.maximum(most[i], tile.amax(1))
        if i != j:
            most[j] = torch.maximum(most[j], tile.amax(0))
    return most.masked_fill_(most == -math.inf, 0)


def _in_range(sums: Tensor) -> bool:
    """Whether every sum kept its digits, or had nothing to sum."""
    # Two samples of one class have nothing but each other, and their sums are 0 rightly. In a
    # larger batch every sample has a term in its sum.
    if len(sums) <= 2:
        return bool(sums.isfinite().all())
    # tiny^0.75 is 2^-94 in float32: terms that underflow, below 2^-126, are 2^-32 of the sum each.
    least, most = sums.aminmax()
    return bool(least >= torch.finfo(sums.dtype).tiny ** 0.75) and bool(most < math.inf)
