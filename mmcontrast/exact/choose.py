"""Which way a loss is evaluated: what decides is here, and the sizes by which it does in ``sizes``.

Every way gives the same numbers. A loss asks, in this order:

======================  ===========================================================================
InfoNCE, one way        plain under a tracer; at once; ring of ranks; kernels; blocks
InfoNCE, both ways      plain under a tracer; at once; ring; kernels, on one rank; one matrix; tiles
...  with ``keep``      plain under a tracer; blocks one way, tiles both ways
...  ``positives``      plain under a tracer; blocks, for each way
SupCon                  plain under a tracer; kernels; at once; tiles
sigmoid                 plain under a tracer; kernels, without masks on one rank; at once; tiles
Rank-N-Contrast         in one pass, blocks where they are many; at once; checkpointed blocks
mining                  at once under a tracer or for few similarities; blocks
HyCon                   class moments; similarities, in blocks where they are many
======================  ===========================================================================

"Under a tracer" is whatever transforms or forward-differentiates the code, and for some losses what
compiles it (:func:`mmcontrast.eager.is_eager`, :func:`mmcontrast.eager.takes_ways`). InfoNCE's
callers ask for it, for the other losses it is asked here. Inside a way, ``topk`` still picks its
selection by the width of a row, and tiles try one shift for all before many.
"""

import functools
import importlib.util
import os
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from mmcontrast import arguments
from mmcontrast.distances import WITHOUT_PARAMETERS, Distance
from mmcontrast.distributed import (
    Group,
    active,
    joined,
    name_of,
    named,
    own_rows,
    rank_sizes,
    total,
)
from mmcontrast.eager import calls_operators, is_eager, takes_ways
from mmcontrast.exact import kernels, sizes
from mmcontrast.exact.classes import by_class, numbered
from mmcontrast.exact.infonce_blocks import one_way_in_blocks
from mmcontrast.exact.infonce_tiles import symmetric_in_tiles
from mmcontrast.exact.infonce_whole import (
    one_way_at_once,
    symmetric_at_once,
    symmetric_in_one_matrix,
)
from mmcontrast.exact.kernels.blocks import generation
from mmcontrast.exact.masked_blocks import Partners, masked_in_blocks
from mmcontrast.exact.operators import as_operator, as_operator_without_gradients
from mmcontrast.exact.plain import plain_contrast, plain_one_way, plain_sigmoid
from mmcontrast.exact.ranked_blocks import (
    Scores,
    ranked_at_once,
    ranked_checkpointed,
    ranked_in_one_pass,
)
from mmcontrast.exact.ring import info_nce_on_ring
from mmcontrast.exact.sigmoid_tiles import sigmoid_at_once, sigmoid_in_tiles
from mmcontrast.exact.supcon_tiles import sup_con_in_tiles
from mmcontrast.exact.supcon_whole import sup_con_at_once
from mmcontrast.exact.tiles import as_bytes, map_in_pieces, rows_in_cache, scalar
from mmcontrast.masks import IGNORE, checked_partners, labelled
from mmcontrast.presence import zero_outside
from mmcontrast.reductions import Reduction
from mmcontrast.rows import RowMap, map_rows
from mmcontrast.softmax import contrast
from mmcontrast.wide import widen_products

INTERPRETED = False
"""Whether kernels suit the CPU: for tests in Triton's interpreter (TRITON_INTERPRET=1)."""

KERNEL_DTYPES = (torch.float32, torch.bfloat16, torch.float16)


# --- InfoNCE -------------------------------------------------------------------------------------


def one_way_info_nce(
    anchors: Tensor,
    candidates: Tensor,
    targets: Tensor | None,
    *,
    temperature: float | Tensor,
    normalize: RowMap | None,
    reduction: Reduction,
    chunk_size: int | None,
) -> Tensor:
    """:func:`info_nce` without masks, in no functional transform, with checked arguments."""
    group = reduction.group
    counted = None if targets is None else targets != IGNORE
    if is_eager() and active(group) is None and fits_at_once(anchors, candidates, chunk_size):
        rows, columns = map_rows(anchors, normalize), map_rows(candidates, normalize)
        losses = one_way_at_once(rows, columns, targets, temperature)
        return reduction.reduce(losses, counted)
    rows, columns = mapped(anchors, candidates, normalize, chunk_size)
    shares = reduction.shares(counted, rows)
    inputs = rows, columns, scalar(temperature, rows), shares, checked_partners(anchors, targets)
    rounded = kernels.rounded_to(anchors, candidates)
    value = weighted_one_way(*inputs, chunk_size, rounded, name_of(group))
    return reduction.finish(value, counted)


@as_operator
def weighted_one_way(
    rows: Tensor,
    columns: Tensor,
    temperature: Tensor,
    weight: Tensor | None,
    targets: Tensor,
    chunk_size: int | None,
    rounded: str,
    group: str,
) -> Tensor:
    """InfoNCE of this rank's (B, D) rows among all ranks' (C, D) columns, in one dtype.

    Args:
        weight: (B,) or 0-d factors of the losses, which are added up; None for the (B,) losses.
        targets: (B,) int64, which of this rank's columns are the rows' own.
        chunk_size: as in :func:`info_nce`.
        rounded: what :func:`kernels.rounded_to` says of the inputs before they were mapped.
        group: name of the process group; empty without one.
    """
    ranks = named(group)
    if ranks is None and fits_at_once(rows, columns, chunk_size):
        return weighted(one_way_at_once(rows, columns, targets, temperature), weight)
    counts = rank_sizes(columns, ranks)
    if ring_suits(columns, counts):
        inputs = rows, columns, targets, temperature
        return weighted(info_nce_on_ring(*inputs, False, chunk_size, counts, ranks), weight)

    columns, own = joined(columns, ranks, counts)
    # Partners count this rank's columns; from here on those of all ranks.
    targets = torch.where(targets == IGNORE, IGNORE, targets + own.start)
    step = rows_at_a_time(len(rows), len(columns), chunk_size) or len(rows)
    if not step or not len(columns):
        return weighted(plain_one_way(rows, columns, targets, temperature), weight)
    # Blocks and kernels make gradients in the same pass as the losses, so they need each loss's
    # share of the result beforehand.
    inputs = rows, columns, targets, temperature
    if kernels_suit(rows, columns):
        precision = kernels.precision(rounded)
        return kernels.one_way_fused(*inputs, weight, precision=precision)
    return one_way_in_blocks(*inputs, weight, step)


def both_ways_info_nce(
    x: Tensor,
    y: Tensor,
    *,
    temperature: float | Tensor,
    normalize: RowMap | None,
    reduction: Reduction,
    chunk_size: int | None,
) -> Tensor:
    """:func:`symmetric_info_nce` without masks, in no transform, with checked arguments."""
    group = reduction.group
    if is_eager() and active(group) is None and fits_at_once(x, y, chunk_size):
        rows, columns = map_rows(x, normalize), map_rows(y, normalize)
        return reduction.reduce(symmetric_at_once(rows, columns, temperature), None)
    rows, columns = mapped(x, y, normalize, chunk_size)
    shares = reduction.shares(None, rows)
    inputs = rows, columns, scalar(temperature, rows), shares, chunk_size
    value = weighted_both_ways(*inputs, kernels.rounded_to(x, y), name_of(group))
    return reduction.finish(value, None)


@as_operator
def weighted_both_ways(
    x: Tensor,
    y: Tensor,
    temperature: Tensor,
    weight: Tensor | None,
    chunk_size: int | None,
    rounded: str,
    group: str,
) -> Tensor:
    """:func:`weighted_one_way`, averaged over both directions, of this rank's pairs (B, D)."""
    ranks = named(group)
    if ranks is None and fits_at_once(x, y, chunk_size):
        return weighted(symmetric_at_once(x, y, temperature), weight)
    counts = rank_sizes(y, ranks)
    if ring_suits(y, counts):
        own = torch.arange(len(x), device=x.device)
        inputs = x, y, own, temperature
        return weighted(info_nce_on_ring(*inputs, True, chunk_size, counts, ranks), weight)

    y, here = joined(y, ranks, counts)
    step = rows_at_a_time(len(x), len(y), chunk_size, side=sizes.TILE)
    sides = sizes.WIDE if chunk_size is None or step is None else (step, step)
    if ranks is None and kernels_suit(x, y):
        precision = kernels.precision(rounded)
        losses = kernels.symmetric_fused(x, y, temperature, precision=precision)
    elif ranks is None and 0 < len(x) <= (step or len(x)):
        losses = symmetric_in_one_matrix(x, y, temperature)
    else:  # in a group always: the columns' sums are taken over ranks of any size
        losses = symmetric_in_tiles(x, y, temperature, sides, start=here.start, group=ranks)
    return weighted(losses, weight)


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


def mapped(
    x: Tensor, y: Tensor, normalize: RowMap | None, chunk_size: int | None
) -> tuple[Tensor, Tensor]:
    """Rows and columns in one dtype; in eager mode in pieces, as a compiler's loops are anyway."""
    size = chunk_size or sizes.WIDE[0]
    both = (
        map_in_pieces(z, normalize, size) if is_eager() else map_rows(z, normalize) for z in (x, y)
    )
    rows, columns = both
    dtype = torch.promote_types(rows.dtype, columns.dtype)
    return rows.to(dtype), columns.to(dtype)


def weighted(losses: Tensor, weight: Tensor | None) -> Tensor:
    """The sum of (B,) losses times the weight, (B,) or 0-d; the losses themselves without one."""
    return losses if weight is None else (losses * weight).sum()


def rows_at_a_time(
    rows: int, columns: int, chunk_size: int | None, *, side: int | None = None
) -> int | None:
    """How many rows of a matrix of logits are made at a time; None for all at once.

    A ``chunk_size`` below the number of rows is taken as it is. Without one, small matrices are
    evaluated at once, and large ones in tiles of ``side`` or in blocks that fit the cache. Under
    functional transforms and forward mode all is made at once; a compiler splits only by
    ``chunk_size``.
    """
    if chunk_size is not None:
        arguments.whole("chunk_size", chunk_size)
        split = is_eager() or torch.compiler.is_compiling()
        return chunk_size if split and chunk_size < rows and columns > 0 else None
    if not is_eager() or rows * columns < sizes.SPLIT:
        return None
    return side if side is not None else min(rows_in_cache(columns), sizes.TILE)


def fits_at_once(x: Tensor, y: Tensor, chunk_size: int | None) -> bool:
    """Whether the matrix of these rows and columns may be made at once, and some copies of it."""
    rows, columns = x.shape[0], y.shape[0]
    step = rows_at_a_time(rows, columns, chunk_size)
    return (step is None or step >= rows) and 0 < rows * columns <= sizes.AT_ONCE


def ring_suits(candidates: Tensor, counts: list[int]) -> bool:
    """Whether to pass candidates around a ring of ranks with so many rows each."""
    size = sum(counts) * candidates.shape[1]
    return len(counts) > 1 and size >= sizes.RING and is_eager()


# --- kernels -------------------------------------------------------------------------------------


def kernels_suit(*tensors: Tensor) -> bool:
    """Whether the GPU kernels are taken for these, rows and columns of the logits.

    They are taken for many logits of CUDA tensors that have values and are not in float64, where
    Triton is installed, on a GPU that the blocks are made for, in eager mode; and not where
    MMCONTRAST_KERNELS=0 is set in the environment.
    """
    return (
        len(tensors[0]) * len(tensors[-1]) >= sizes.KERNELS
        and all(type(x) in (Tensor, nn.Parameter) and x.dtype in KERNEL_DTYPES for x in tensors)
        and len({x.device for x in tensors}) == 1
        and _device_suits(tensors[0].device)
        and is_eager()
    )


@functools.lru_cache
def _has_triton() -> bool:
    return importlib.util.find_spec("triton") is not None


def _device_suits(device: torch.device) -> bool:
    if os.environ.get("MMCONTRAST_KERNELS") == "0":
        return False
    if device.type != "cuda":
        return INTERPRETED and device.type == "cpu" and _has_triton()
    if torch.version.hip is not None:
        return False
    return generation(torch.cuda.get_device_capability(device)) is not None and _has_triton()


# --- SupCon --------------------------------------------------------------------------------------


def supcon_side(anchors: Tensor, labels: Tensor, chunk_size: int | None) -> int | None:
    """The side of a tile, or None for the plain path: under a compiler or a transform."""
    if chunk_size is not None:
        arguments.whole("chunk_size", chunk_size)
    if not is_eager(anchors, labels):
        return None
    return chunk_size or _by_device(sizes.SUPCON_SIDE, anchors)


def sup_con_among_themselves(
    rows: Tensor,
    labels: Tensor,
    own: slice,
    side: int,
    *,
    temperature: float | Tensor,
    normalize: RowMap | None,
    reduction: Reduction,
    rounded: str | None = None,
) -> Tensor | None:
    """The "out" form of :func:`sup_con`; None where it has to be made in blocks of anchors instead.

    That is where this rank has few of all ranks' rows, or where some logit is not finite.

    Args:
        rows: (N, D) those of all ranks.
        labels: (N,) or (N, L).
        own: which of them are this rank's.
        side: of a tile, see :func:`supcon_side`.
        temperature, normalize: as in :func:`sup_con`.
        reduction: of this rank's losses.
        rounded: what :func:`kernels.rounded_to` says of the inputs; None: of ``rows``.
    """
    if len(rows) > (own.stop - own.start) * _by_device(sizes.SUPCON_RANKS, rows):
        return None
    every: tuple[Tensor, Tensor] | None
    if kernels_suit(rows):
        precision = kernels.precision(kernels.rounded_to(rows) if rounded is None else rounded)
        every = kernels.sup_con_fused(
            rows, labels, temperature=temperature, normalize=normalize, precision=precision
        )
    elif 0 < len(rows) <= side:
        return sup_con_at_once(
            rows, labels, own, temperature=temperature, normalize=normalize, reduction=reduction
        )
    else:
        every = sup_con_in_tiles(
            rows, labels, temperature=temperature, normalize=normalize, side=side
        )
    if every is None:
        return None
    losses, counted = (x[own] for x in every)
    return reduction.reduce(losses, counted)


def sup_con_by_class(
    x: Tensor,
    labels: Tensor,
    *,
    temperature: float | Tensor,
    normalize: RowMap | None,
    reduction: Reduction,
    chunk_size: int | None,
) -> Tensor:
    """:func:`sup_con_among_themselves` as an operator, of this rank's rows: for compilers."""
    group = name_of(reduction.group)
    counted = have_positives(labels, group)
    # Rows without a label become zero before any arithmetic, so that not even NaN propagates.
    rows = map_rows(zero_outside(x, labelled(labels)), normalize)
    inputs = rows, scalar(temperature, rows), reduction.shares(counted, rows), labels
    value = weighted_sup_con(*inputs, chunk_size, kernels.rounded_to(x), group)
    return reduction.finish(value, counted)


@as_operator
def weighted_sup_con(
    x: Tensor,
    temperature: Tensor,
    weight: Tensor | None,
    labels: Tensor,
    chunk_size: int | None,
    rounded: str,
    group: str,
) -> Tensor:
    """The "out" form of SupCon of this rank's (B, D) rows among those of all ranks.

    Args:
        weight, rounded, group: as in :func:`weighted_one_way`.
        labels, chunk_size: as in :func:`sup_con`.
    """
    ranks = named(group)
    rows, own = joined(x, ranks)
    labels, _ = joined(labels, ranks)
    side = chunk_size or _by_device(sizes.SUPCON_SIDE, rows)
    each = None if weight is None else weight.expand(len(x))
    reduction = Reduction("none" if each is None else "sum", each)
    settings: Any = {"temperature": temperature, "normalize": None, "reduction": reduction}
    value = sup_con_among_themselves(rows, labels, own, side, **settings, rounded=rounded)
    if value is not None:
        return value
    partners = Partners(labels[own], labels, columns=labelled(labels), own=own.start)
    return masked_contrast(x, rows, partners, **settings, chunk_size=chunk_size)


@as_operator_without_gradients(
    lambda labels, group: labels.new_empty(labels.shape[0], dtype=torch.bool)
)
def have_positives(labels: Tensor, group: str) -> Tensor:
    """(B,) bool: which of this rank's samples have another one of their class on some rank."""
    every, own = joined(labels, named(group))
    classes = by_class(every)
    counted = torch.zeros(len(every), dtype=torch.bool, device=labels.device)
    return counted.index_copy(0, classes.order, classes.sizes > 1)[own]


def _by_device(by_device: Mapping[str, int], x: Tensor) -> int:
    return by_device.get(x.device.type, by_device["other"])


# --- the sigmoid loss ----------------------------------------------------------------------------


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


# --- Rank-N-Contrast -----------------------------------------------------------------------------


def ranked_losses(
    scores: Scores,
    distance: Distance,
    x: Tensor,
    candidates: Tensor,
    temperature: float | Tensor,
    *,
    chunk_size: int | None,
    reduction: Reduction,
) -> Tensor:
    """:func:`rank_n_contrast` with checked arguments."""
    counted = scores.counted()
    # The gradient of a caller's distance may go to more than its arguments.
    if takes_ways() and distance in WITHOUT_PARAMETERS:
        inputs = x, candidates, scalar(temperature, x), reduction.shares(counted, x)
        name = WITHOUT_PARAMETERS.index(distance)
        return reduction.finish(weighted_ranks(*inputs, *scores, name, chunk_size), counted)
    step = _ranked_rows_at_a_time(x, candidates, chunk_size)
    given = scores, distance, x, candidates, temperature
    losses = ranked_at_once(*given) if step is None else ranked_checkpointed(*given, step)
    return reduction.reduce(losses, counted)


@as_operator
def weighted_ranks(
    x: Tensor,
    candidates: Tensor,
    temperature: Tensor,
    weight: Tensor | None,
    scores: Tensor,
    candidate_scores: Tensor,
    rated: Tensor,
    candidates_rated: Tensor,
    own: Tensor | None,
    rounding: float,
    distance: int,
    chunk_size: int | None,
) -> Tensor:
    """Rank-N-Contrast of (B, D) rows with (C, D) candidates.

    Args:
        weight: as in :func:`weighted_one_way`.
        scores, candidate_scores, rated, candidates_rated, own, rounding: of a :class:`Scores`.
        distance: which of ``WITHOUT_PARAMETERS``.
        chunk_size: as in :func:`rank_n_contrast`.
    """
    among = Scores(scores, candidate_scores, rated, candidates_rated, own, rounding)
    step = _ranked_rows_at_a_time(x, candidates, chunk_size) or max(len(x), 1)
    inputs = among, WITHOUT_PARAMETERS[distance], x, candidates, temperature
    return ranked_in_one_pass(*inputs, step, weight)


def _ranked_rows_at_a_time(x: Tensor, candidates: Tensor, chunk_size: int | None) -> int | None:
    rows, columns = x.shape[0], candidates.shape[0]
    step = rows_at_a_time(rows, columns, chunk_size)
    return step if step is None or chunk_size is not None else max(sizes.ORDERED // columns, 8)


# --- HyCon ---------------------------------------------------------------------------------------


def moments_suit(features: Mapping[str, Tensor], labels: Tensor) -> bool:
    """Whether class moments are taken: for large batches with labels that may be read."""
    if len(labels) < sizes.MOMENTS or labels.numel() == 0:
        return False
    tensors = [labels, *features.values()]
    # MPS has no float64, so the sums would lose their precision.
    return is_eager(*tensors) and all(x.device.type != "mps" for x in tensors)


def anchors_of_a_block(width: int) -> int:
    """How many anchors that need so many similarities each are evaluated at a time."""
    return max(sizes.SIMILARITIES // max(width, 1), 1)


# --- mining --------------------------------------------------------------------------------------


def ranked_at_a_time(rows: Tensor, columns: Tensor, chunk_size: int | None) -> int | None:
    """How many rows are ranked at a time; None for all at once, so that a compiler can trace it."""
    if not is_eager(rows, columns):
        return None
    if chunk_size is not None:
        return chunk_size
    if len(rows) * len(columns) < sizes.RANKED:
        return None
    block = sizes.RANKED_BLOCK * (1 if rows.device.type == "cpu" else 64)
    return max(64, block // len(columns))
