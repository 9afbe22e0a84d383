"""Which way a softmax loss under masks is evaluated, also as operators."""

from collections.abc import Callable

import torch
from torch import Tensor

from mmcontrast import arguments
from mmcontrast.distributed import Group, joined, name_of, named, own_rows, rank_sizes, total
from mmcontrast.eager import calls_operators, is_eager, takes_ways
from mmcontrast.exact import sizes
from mmcontrast.exact.choose import mapped, rows_at_a_time, weighted
from mmcontrast.exact.classes import numbered
from mmcontrast.exact.infonce_blocks import one_way_in_blocks
from mmcontrast.exact.infonce_tiles import symmetric_in_tiles
from mmcontrast.exact.masked_blocks import Partners, masked_in_blocks
from mmcontrast.exact.operators import as_operator
from mmcontrast.exact.plain import plain_contrast, plain_one_way
from mmcontrast.exact.tiles import as_bytes, rows_in_cache, scalar
from mmcontrast.masks import IGNORE
from mmcontrast.presence import zero_outside
from mmcontrast.reductions import Reduction
from mmcontrast.rows import RowMap
from mmcontrast.softmax import contrast
from mmcontrast.wide import widen_products


def one_way_under_a_mask(
    anchors: Tensor,
    candidates: Tensor,
    partners: Tensor,
    keep: Tensor,
    *,
    temperature: float | Tensor,
    normalize: RowMap | None,
    reduction: Reduction,
    chunk_size: int | None,
) -> Tensor:
    """:func:`one_way_info_nce` with ``keep``, among the candidates of all ranks."""
    anchors, candidates, narrow = products_in_range(anchors, candidates, normalize, reduction.group)
    counted = kept_partners(partners, keep)
    # Unused rows become zero before any arithmetic: masked later, a NaN in them would still reach
    # the gradient, as 0 * NaN.
    anchors = zero_outside(anchors, counted)
    candidates = zero_outside(candidates, any_of(keep, 0))
    rows, columns = mapped(anchors, candidates, normalize, chunk_size)
    shares = reduction.shares(counted, rows)
    inputs = rows, columns, scalar(temperature, rows), shares
    value = weighted_one_way_masked(*inputs, partners, keep, chunk_size)
    return narrow(reduction.finish(value, counted))


@as_operator
def weighted_one_way_masked(
    rows: Tensor,
    columns: Tensor,
    temperature: Tensor,
    weight: Tensor | None,
    targets: Tensor,
    keep: Tensor,
    chunk_size: int | None,
) -> Tensor:
    """:func:`weighted_one_way` of this rank's (B, D) rows among all ranks' (C, D) columns.

    Targets are indices of these columns; ``keep`` is (B, C) bool.
    """
    step = rows_at_a_time(len(rows), len(columns), chunk_size) or len(rows)
    if not step or not len(columns):
        return weighted(plain_one_way(rows, columns, targets, temperature, keep), weight)
    return one_way_in_blocks(rows, columns, targets, temperature, weight, step, keep)


def both_ways_under_a_mask(
    x: Tensor,
    y: Tensor,
    keep: Tensor,
    *,
    temperature: float | Tensor,
    normalize: RowMap | None,
    reduction: Reduction,
    chunk_size: int | None,
) -> Tensor:
    """:func:`both_ways_info_nce` with ``keep``, which is checked here."""
    group = reduction.group
    counts = rank_sizes(y, group)
    own = own_rows(group, counts)
    arguments.mask("keep", keep, (x.shape[0], sum(counts)))
    x, y, narrow = products_in_range(x, y, normalize, group)
    counted = keep.diagonal(own.start)
    # A row of y takes part where some rank keeps it.
    used = total(any_of(keep, 0).float(), group)[own] > 0
    x, y = zero_outside(x, any_of(keep, 1)), zero_outside(y, used)
    rows, columns = mapped(x, y, normalize, chunk_size)
    shares = reduction.shares(counted, rows)
    inputs = rows, columns, scalar(temperature, rows), shares
    value = weighted_both_ways_masked(*inputs, keep, chunk_size, name_of(group))
    return narrow(reduction.finish(value, counted))


@as_operator
def weighted_both_ways_masked(
    x: Tensor,
    y: Tensor,
    temperature: Tensor,
    weight: Tensor | None,
    keep: Tensor,
    chunk_size: int | None,
    group: str,
) -> Tensor:
    """:func:`weighted_both_ways` of the pairs in a (B, C) bool mask, C of all ranks."""
    ranks = named(group)
    y, here = joined(y, ranks)
    step = rows_at_a_time(len(x), len(y), chunk_size, side=sizes.TILE)
    sides = sizes.WIDE if chunk_size is None or step is None else (step, step)
    losses = symmetric_in_tiles(x, y, temperature, sides, start=here.start, group=ranks, keep=keep)
    return weighted(losses, weight)


def masked_contrast(
    anchors: Tensor,
    candidates: Tensor,
    partners: Partners,
    *,
    form: str = "out",
    temperature: float | Tensor,
    normalize: RowMap | None,
    reduction: Reduction,
    chunk_size: int | None,
) -> Tensor:
    """The softmax loss of anchors among the candidates of all ranks, with any positives.

    Args:
        anchors: (B, D).
        candidates: (C, D).
        partners: the masks; classes are labels, (B,) or (B, L).
        form: as in :func:`sup_con`.
        temperature, normalize, chunk_size: as in :func:`info_nce`.
        reduction: of this rank's losses.
    """
    positives, classes, keep, columns, _ = partners
    if keep is not None:
        candidates = zero_outside(candidates, any_of(keep, 0))
    if columns is not None:
        candidates = zero_outside(candidates, columns)
    # To an operator, masks have no gradient.
    learned = calls_operators() and positives.requires_grad and torch.is_grad_enabled()
    if not takes_ways() or learned:
        losses, found = contrast(
            anchors if keep is None else zero_outside(anchors, keep.any(1)),
            candidates,
            partners.masks,
            form=form,
            temperature=temperature,
            normalize=normalize,
            chunk_size=rows_at_a_time(anchors.shape[0], candidates.shape[0], chunk_size),
        )
        return reduction.reduce(losses, found)

    x, y, narrow = products_in_range(anchors, candidates, normalize, reduction.group)
    dtype = torch.promote_types(torch.promote_types(x.dtype, y.dtype), torch.float32)
    step = None
    if is_eager(positives):
        step = masked_rows_at_a_time(len(x), len(y), chunk_size)
        if classes is not None:
            positives, classes = numbered(positives, classes, dtype)
            partners = partners._replace(positives=positives, classes=classes)
    counted = partners.counted(dtype, y.shape[0], step)
    x, y = mapped(zero_outside(x, counted), y, normalize, chunk_size)
    shares = reduction.shares(counted, x)
    value = weighted_masked(x, y, scalar(temperature, x), shares, *partners, chunk_size, form)
    return narrow(reduction.finish(value, counted))


@as_operator
def weighted_masked(
    rows: Tensor,
    columns: Tensor,
    temperature: Tensor,
    weight: Tensor | None,
    positives: Tensor,
    classes: Tensor | None,
    keep: Tensor | None,
    used: Tensor | None,
    own: int | None,
    chunk_size: int | None,
    form: str,
) -> Tensor:
    """The losses of (B, D) rows among (C, D) columns under the masks of :class:`Partners`.

    Args:
        weight: as in :func:`weighted_one_way`.
        positives, classes, keep, used, own: the fields of :class:`Partners`; classes may be labels.
        chunk_size, form: as in :func:`sup_con`.
    """
    partners = Partners(positives, classes, keep, used, own)
    inputs = rows, columns, temperature
    readable = is_eager(positives)
    if classes is not None and (classes.ndim == 2 or classes.dtype != rows.dtype) and readable:
        given = numbered(positives, classes, rows.dtype)
        partners = partners._replace(positives=given[0], classes=given[1])
    if 0 in (len(rows), len(columns)) or not readable:
        return weighted(plain_contrast(*inputs, *partners.masks(slice(0, len(rows))), form), weight)
    step = masked_rows_at_a_time(len(rows), len(columns), chunk_size)
    return masked_in_blocks(*inputs, weight, partners, step, form)


def masked_rows_at_a_time(rows: int, columns: int, chunk_size: int | None) -> int:
    """How many rows of a masked matrix of logits are made at a time."""
    step = rows_at_a_time(rows, columns, chunk_size)
    if chunk_size is None or step is None:
        return min(rows_in_cache(columns, sizes.MASKED), rows)
    return step


def kept_partners(partners: Tensor, keep: Tensor) -> Tensor:
    """(B,) bool: anchors that have a partner, and keep it."""
    counted = partners != IGNORE
    if keep.shape[1] == 0:
        return counted
    return counted & keep.gather(1, partners.clamp_min(0)[:, None])[:, 0]


def products_in_range(
    x: Tensor, y: Tensor, normalize: RowMap | None, group: Group | None
) -> tuple[Tensor, Tensor, Callable[[Tensor], Tensor]]:
    """Rows, and what makes their loss float32 again where raw products had to be float64."""
    # A product beyond float32 would give the gradient 0 * inf.
    a, b = widen_products(x, y, group=group) if normalize is None else (x, y)
    # Infinite where too large: the caller tries again.
    return a, b, unchanged if a is x else Tensor.float


def unchanged(x: Tensor) -> Tensor:
    """x."""
    return x


def any_of(mask: Tensor, axis: int) -> Tensor:
    """``mask.any(axis)`` of a (B, C) mask; by its bytes, which takes a tenth of the time."""
    if not is_eager() or 0 in mask.shape:
        return mask.any(axis)
    return as_bytes(mask).amax(axis) > 0
