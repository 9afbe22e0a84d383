"""Which way InfoNCE without masks is evaluated, one way and both, also as operators."""

import torch
from torch import Tensor

from mmcontrast.collectives import named
from mmcontrast.distributed import active, joined, name_of, rank_sizes
from mmcontrast.eager import is_eager
from mmcontrast.exact import kernels, sizes
from mmcontrast.exact.beside import OneWay, plus
from mmcontrast.exact.beside_both import BothWays
from mmcontrast.exact.choose import (
    fits_at_once,
    kernels_suit,
    mapped,
    ring_suits,
    rows_at_a_time,
    weighted,
)
from mmcontrast.exact.infonce_blocks import one_way_in_blocks
from mmcontrast.exact.infonce_tiles import symmetric_in_tiles
from mmcontrast.exact.infonce_whole import (
    one_way_at_once,
    symmetric_at_once,
    symmetric_in_one_matrix,
)
from mmcontrast.exact.operators import as_operator
from mmcontrast.exact.plain import plain_one_way
from mmcontrast.exact.ring import info_nce_on_ring
from mmcontrast.exact.tiles import scalar
from mmcontrast.gaps import USUAL, Variant
from mmcontrast.masks import IGNORE, checked_partners
from mmcontrast.reductions import Reduction
from mmcontrast.rows import RowMap, map_rows


def one_way_info_nce(
    anchors: Tensor,
    candidates: Tensor,
    targets: Tensor | None,
    *,
    temperature: float | Tensor,
    normalize: RowMap | None,
    reduction: Reduction,
    chunk_size: int | None,
    beside: OneWay | None = None,
) -> Tensor:
    """:func:`info_nce` without masks, in no functional transform, with checked arguments."""
    group = reduction.group
    counted = None if targets is None else targets != IGNORE
    alone = is_eager() and active(group) is None and beside is None
    if alone and fits_at_once(anchors, candidates, chunk_size):
        rows, columns = map_rows(anchors, normalize), map_rows(candidates, normalize)
        losses = one_way_at_once(rows, columns, targets, temperature)
        return reduction.reduce(losses, counted)
    rows, columns = mapped(anchors, candidates, normalize, chunk_size)
    shares = reduction.shares(counted, rows)
    variant, term = USUAL, None
    if beside is not None:
        variant, term = beside.made(rows, columns)
    inputs = rows, columns, scalar(temperature, rows), variant.extra, shares
    partners = checked_partners(anchors, targets)
    rounded = kernels.rounded_to(anchors, candidates)
    where = chunk_size, rounded, name_of(group)
    value = weighted_one_way(*inputs, partners, *where, *variant[:3])
    return plus(reduction.finish(value, counted), term, reduction, counted)


@as_operator
def weighted_one_way(
    rows: Tensor,
    columns: Tensor,
    temperature: Tensor,
    extra: Tensor | None,
    weight: Tensor | None,
    targets: Tensor,
    chunk_size: int | None,
    rounded: str,
    group: str,
    decoupled: bool,
    prior: Tensor | None,
    number: Tensor | None,
) -> Tensor:
    """InfoNCE of this rank's (B, D) rows among all ranks' (C, D) columns, in one dtype.

    Args:
        extra, decoupled, prior, number: the fields of :class:`mmcontrast.gaps.Variant`.
        weight: (B,) or 0-d factors of the losses, which are added up; None for the (B,) losses.
        targets: (B,) int64, which of this rank's columns are the rows' own.
        chunk_size: as in :func:`info_nce`.
        rounded: what :func:`kernels.rounded_to` says of the inputs before they were mapped.
        group: name of the process group; empty without one.
    """
    ranks = named(group)
    variant = Variant(decoupled, prior, number, extra)
    if ranks is None and variant.usual and fits_at_once(rows, columns, chunk_size):
        return weighted(one_way_at_once(rows, columns, targets, temperature), weight)
    counts = rank_sizes(columns, ranks)
    if ring_suits(columns, counts):
        inputs = rows, columns, targets, temperature
        settings = False, chunk_size, counts, ranks
        return weighted(info_nce_on_ring(*inputs, *settings, variant), weight)

    columns, own = joined(columns, ranks, counts)
    # Partners count this rank's columns; from here on those of all ranks.
    targets = torch.where(targets == IGNORE, IGNORE, targets + own.start)
    step = rows_at_a_time(len(rows), len(columns), chunk_size) or len(rows)
    if not step or not len(columns):
        return weighted(plain_one_way(rows, columns, targets, temperature, variant=variant), weight)
    # Blocks and kernels make gradients in the same pass as the losses, so they need each loss's
    # share of the result beforehand.
    inputs = rows, columns, targets, temperature
    if kernels_suit(rows, columns):
        precision = kernels.precision(rounded)
        return kernels.one_way_fused(*inputs, weight, precision=precision, variant=variant)
    return one_way_in_blocks(*inputs, weight, step, variant=variant)


def both_ways_info_nce(
    x: Tensor,
    y: Tensor,
    *,
    temperature: float | Tensor,
    normalize: RowMap | None,
    reduction: Reduction,
    chunk_size: int | None,
    beside: BothWays | None = None,
) -> Tensor:
    """:func:`symmetric_info_nce` without masks, in no transform, with checked arguments."""
    group = reduction.group
    alone = is_eager() and active(group) is None and beside is None
    if alone and fits_at_once(x, y, chunk_size):
        rows, columns = map_rows(x, normalize), map_rows(y, normalize)
        return reduction.reduce(symmetric_at_once(rows, columns, temperature), None)
    rows, columns = mapped(x, y, normalize, chunk_size)
    shares = reduction.shares(None, rows)
    variant, term = USUAL, None
    if beside is not None:
        variant, term = beside.made(rows, columns)
    inputs = rows, columns, scalar(temperature, rows), variant.extra, shares
    where = chunk_size, kernels.rounded_to(x, y), name_of(group)
    value = weighted_both_ways(*inputs, *where, *variant[:3])
    return plus(reduction.finish(value, None), term, reduction, None)


@as_operator
def weighted_both_ways(
    x: Tensor,
    y: Tensor,
    temperature: Tensor,
    extra: Tensor | None,
    weight: Tensor | None,
    chunk_size: int | None,
    rounded: str,
    group: str,
    decoupled: bool,
    prior: Tensor | None,
    number: Tensor | None,
) -> Tensor:
    """:func:`weighted_one_way`, averaged over both directions, of this rank's pairs (B, D).

    What is (B,) of a variant there is (2, B) here.
    """
    ranks, variant = named(group), Variant(decoupled, prior, number, extra)
    if ranks is None and variant.usual and fits_at_once(x, y, chunk_size):
        return weighted(symmetric_at_once(x, y, temperature), weight)
    counts = rank_sizes(y, ranks)
    if ring_suits(y, counts):
        own = torch.arange(len(x), device=x.device)
        inputs = x, y, own, temperature
        settings = True, chunk_size, counts, ranks
        return weighted(info_nce_on_ring(*inputs, *settings, variant), weight)

    y, here = joined(y, ranks, counts)
    step = rows_at_a_time(len(x), len(y), chunk_size)
    sides = sizes.WIDE if chunk_size is None or step is None else (step, step)
    if ranks is None and kernels_suit(x, y):
        precision = kernels.precision(rounded)
        losses = kernels.symmetric_fused(x, y, temperature, precision=precision, variant=variant)
    elif ranks is None and 0 < len(x) <= (step or len(x)):
        losses = symmetric_in_one_matrix(x, y, temperature, variant)
    else:  # in a group always: the columns' sums are taken over ranks of any size
        losses = symmetric_in_tiles(
            x, y, temperature, sides, start=here.start, group=ranks, variant=variant
        )
    return weighted(losses, weight)
