"""A batch sorted by class and cut into parts that fit a processor's cache.

A class of many samples is large and has parts of its own, one or more. The other classes are small,
and one part holds several of them.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from einops import rearrange
from torch import Tensor

from mmcontrast.eager import apply_to_several
from mmcontrast.exact.classes import by_class
from mmcontrast.rows import RowMap, map_rows, upcast


class SortedSamples(NamedTuple):
    """The labelled samples of large and of small classes, class by class."""

    large: Tensor
    """(l,) this rank's samples of large classes, by index into this rank's batch."""
    large_counts: list[int]
    """Number of this rank's samples in each large class."""
    small: Tensor
    """(s,) all ranks' samples of small classes, by index into the batch of all ranks."""
    small_counts: list[int]
    """Number of samples in each small class, on all ranks."""
    ids: Tensor
    """(s,) classes of the samples in ``small``."""
    own: Tensor
    """(s,) bool: which of the samples in ``small`` are this rank's."""


def sort_by_size(labels: Tensor, own: slice, least: int) -> SortedSamples:
    """Sort all ranks' samples by class; a class of ``least`` samples or more is large."""
    order, ids, counts = by_class(labels)
    is_small = counts < least  # by class
    in_small, mine = is_small[ids], (order >= own.start) & (order < own.stop)  # by sample
    in_large = ~in_small & mine
    large_counts = ids[in_large].bincount(minlength=len(counts))[~is_small]
    return SortedSamples(
        order[in_large] - own.start,
        large_counts.tolist(),
        order[in_small],
        counts[is_small].tolist(),
        ids[in_small],
        mine[in_small],
    )


class Cuts(NamedTuple):
    """The parts of the large classes."""

    sizes: list[int]
    """Number of samples in each part."""
    shares: list[int]
    """Number of parts, one after the other, of each class."""


def cut_large(counts: list[int], part: int) -> Cuts:
    """Cut classes into equal parts of up to ``part`` samples; an empty class is one empty part."""
    shares = [max(-(-count // part), 1) for count in counts]
    sizes = [
        count // number + (k < count % number)
        for count, number in zip(counts, shares, strict=True)
        for k in range(number)
    ]
    return Cuts(sizes, shares)


def cut_small(counts: list[int], large: int) -> list[int]:
    """Sizes of parts that hold whole classes, ``large`` samples at most."""
    sizes: list[int] = []
    for count in counts:
        if sizes and sizes[-1] + count <= large:
            sizes[-1] += count
        else:
            sizes.append(count)
    return sizes


def mapped_parts(
    features: Mapping[str, Tensor],
    order: Tensor,
    present: Tensor,
    sizes: list[int],
    normalize: RowMap | None,
) -> list[Tensor]:
    """The batch in the given order, cut and row-mapped; rows of absent modalities are zero.

    Args:
        features: (B, D) by modality.
        order: (k,) samples, part by part.
        present: (k, M) bool: the modalities that each of these samples has.
        sizes: number of samples in each part.
        normalize: row map before the dot product.

    Returns:
        (size, M, D) for each part.
    """
    pieces = apply_to_several(_PickedRows, order, sizes, *features.values())
    complete = bool(present.all())
    found = []
    for x, there in zip(pieces, torch.split(present[..., None], sizes), strict=True):
        size = len(x)
        if not complete:
            x = x.masked_fill(~there, 0)  # absent rows may hold NaN
        rows = map_rows(rearrange(x, "k m d -> (k m) d"), normalize)
        rows = rearrange(rows, "(k m) d -> k m d", k=size, m=len(features))
        # Zero again, because a map need not keep zero rows: the softmax does not.
        found.append(rows if complete else rows.masked_fill(~there, 0))
    return found


class _PickedRows(torch.autograd.Function):
    """Rows of all modalities in the order given, part by part, (B, D) each -> (k, M, D) each.

    The backward pass writes the gradients of all parts into one tensor. Autograd's gradient of an
    ``index_select`` for each part would be a tensor of the whole batch for each.
    """

    @staticmethod
    def forward(ctx: Any, order: Tensor, sizes: list[int], *features: Tensor) -> tuple[Tensor, ...]:
        ctx.save_for_backward(order)
        ctx.sizes = sizes
        ctx.features = [(len(x), x.dtype) for x in features]
        return tuple(
            torch.stack([upcast(x.index_select(0, places)) for x in features], dim=1)
            for places in torch.split(order, sizes)
        )

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (order,) = ctx.saved_tensors
        found: list[Tensor | None] = []
        for m, (size, dtype) in enumerate(ctx.features):
            if not ctx.needs_input_grad[2 + m]:
                found.append(None)
                continue
            whole = gradients[0].new_zeros(size, gradients[0].shape[2], dtype=dtype)
            for places, part in zip(torch.split(order, ctx.sizes), gradients, strict=True):
                whole.index_copy_(0, places, part[:, m].to(dtype))
            found.append(whole)
        return None, None, *found
