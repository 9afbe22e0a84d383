"""Which way SupCon by class is evaluated, also as an operator."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from mmcontrast import arguments
from mmcontrast.collectives import named
from mmcontrast.distributed import joined, name_of
from mmcontrast.eager import is_eager
from mmcontrast.exact import kernels, sizes
from mmcontrast.exact.choose import kernels_suit
from mmcontrast.exact.classes import by_class
from mmcontrast.exact.masked_choice import masked_contrast
from mmcontrast.exact.operators import as_operator, as_operator_without_gradients
from mmcontrast.exact.partners import Partners
from mmcontrast.exact.supcon_tiles import sup_con_in_tiles
from mmcontrast.exact.supcon_whole import sup_con_at_once
from mmcontrast.exact.tiles import scalar
from mmcontrast.masks import labelled
from mmcontrast.presence import zero_outside
from mmcontrast.reductions import Reduction
from mmcontrast.rows import RowMap, map_rows


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
    # Rows without a label become zero before they are mapped, so that not even NaN propagates. The
    # operator leaves them out itself: where no map comes first, no copy is made.
    rows = map_rows(x if normalize is None else zero_outside(x, labelled(labels)), normalize)
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
