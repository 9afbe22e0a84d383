"""Which way the sigmoid loss is evaluated, also as an operator."""

from torch import Tensor

from mmcontrast.collectives import named
from mmcontrast.distributed import joined
from mmcontrast.eager import takes_ways
from mmcontrast.exact import kernels, sizes
from mmcontrast.exact.choose import kernels_suit, mapped, weighted
from mmcontrast.exact.operators import as_operator
from mmcontrast.exact.plain import plain_sigmoid
from mmcontrast.exact.sigmoid_tiles import sigmoid_at_once, sigmoid_in_tiles
from mmcontrast.exact.tiles import scalar
from mmcontrast.presence import zero_outside
from mmcontrast.reductions import Reduction
from mmcontrast.rows import RowMap, map_rows


def sigmoid_of_pairs(
    x: Tensor,
    y: Tensor,
    positives: Tensor | None,
    keep: Tensor | None,
    start: int,
    group: str,
    *,
    temperature: float | Tensor,
    bias: float | Tensor,
    normalize: RowMap | None,
    reduction: Reduction,
    chunk_size: int | None,
) -> Tensor:
    """:func:`sigmoid_contrast` of checked arguments.

    Args:
        x: (B, D) anchors.
        y: (C, D) candidates.
        positives, keep: (B, C) masks or None.
        start: which row of y belongs to the first anchor, where there are no positives.
        group: name of the process group whose candidates are still to be gathered.
        temperature, bias, normalize, chunk_size: as in :func:`sigmoid_contrast`.
        reduction: of the (B,) losses.
    """
    counted = None
    if keep is not None:
        # Rows that take part in no pair may hold anything, even NaN: they become 0.
        counted = keep.any(1)
        x, y = zero_outside(x, counted), zero_outside(y, keep.any(0))
    if not takes_ways():
        rows, columns = map_rows(x, normalize), map_rows(y, normalize)
        losses = plain_sigmoid(rows, columns, temperature, bias, positives, keep, start)
        return reduction.reduce(losses, counted)
    rows, columns = mapped(x, y, normalize, chunk_size)
    shares = reduction.shares(counted, rows)
    inputs = rows, columns, scalar(temperature, rows), scalar(bias, rows), shares
    rounded = kernels.rounded_to(x, y)
    value = weighted_sigmoid(*inputs, positives, keep, start, chunk_size, rounded, group)
    return reduction.finish(value, counted)


@as_operator
def weighted_sigmoid(
    x: Tensor,
    y: Tensor,
    temperature: Tensor,
    bias: Tensor,
    weight: Tensor | None,
    positives: Tensor | None,
    keep: Tensor | None,
    start: int,
    chunk_size: int | None,
    rounded: str,
    group: str,
) -> Tensor:
    """The sigmoid loss of (B, D) rows with all (C, D) columns, in one dtype.

    Args:
        weight, rounded: as in :func:`weighted_one_way`.
        positives, keep, start, chunk_size, group: as in :func:`sigmoid_of_pairs`.
    """
    ranks = named(group)
    if ranks is not None:
        y, own = joined(y, ranks)
        start = own.start
    size = (len(x), len(y))
    inputs = x, y, temperature, bias
    if 0 in size:
        return weighted(plain_sigmoid(*inputs, positives, keep, start), weight)
    alone = ranks is None and start == 0
    if positives is None and keep is None and alone and kernels_suit(x, y):
        each = None if weight is None else weight.expand(size[0])
        return kernels.sigmoid_fused(*inputs, each, precision=kernels.precision(rounded))
    if chunk_size is None:
        at_once = size[0] * size[1] < sizes.SIGMOID_TILES
    else:
        at_once = chunk_size >= max(size)
    if at_once:
        return sigmoid_at_once(*inputs, weight, positives, keep, start)
    sides = sizes.WIDE if chunk_size is None else (chunk_size, chunk_size)
    return sigmoid_in_tiles(*inputs, weight, positives, keep, start, sides)
