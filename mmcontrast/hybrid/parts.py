"""A batch sorted by class and cut into parts that a processor's cache holds."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from mmcontrast.eager import apply_to_several
from mmcontrast.exact.classes import by_class
from mmcontrast.rows import RowMap, map_rows, upcast


class Samples(NamedTuple):
    """Who is in a large class and who is in a small one, class by class."""

    large: Tensor
    """(l,) this rank's samples of large classes, counted through this rank's."""
    large_counts: list[int]
    """How many of them each large class has."""
    small: Tensor
    """(s,) all ranks' samples of small classes, counted through all ranks'."""
    small_counts: list[int]
    """How many of them each small class has."""
    ids: Tensor
    """(s,) their classes."""
    own: Tensor
    """(s,) bool: which of them are this rank's."""


def by_size(labels: Tensor, own: slice, least: int) -> Samples:
    """Sort all ranks' samples by class; a class of ``least`` samples or more is large."""
    order, ids, counts = by_class(labels)
    small = counts < least
    few, here = small[ids], (order >= own.start) & (order < own.stop)
    many = ~few & here
    numbers = ids[many].bincount(minlength=len(counts))[~small]
    return Samples(
        order[many] - own.start,
        numbers.tolist(),
        order[few],
        counts[small].tolist(),
        ids[few],
        here[few],
    )


class Cuts(NamedTuple):
    """Where a batch that is sorted by class is cut."""

    sizes: list[int]
    """Samples of each part."""
    shares: list[int]
    """How many parts, one after the other, belong together: those of a class."""


def cut_large(counts: list[int], part: int) -> Cuts:
    """Each class into parts of equal size; one at least, which is empty where the class is."""
    shares = [max(-(-count // part), 1) for count in counts]
    sizes = [
        count // number + (k < count % number)
        for count, number in zip(counts, shares, strict=True)
        for k in range(number)
    ]
    return Cuts(sizes, shares)


def cut_small(counts: list[int], large: int) -> list[int]:
    """Sizes of parts of whole classes, several of them together."""
    sizes: list[int] = []
    for count in counts:
        if sizes and sizes[-1] + count <= large:
            sizes[-1] += count
        else:
            sizes.append(count)
    return sizes


def mapped(
    features: Mapping[str, Tensor],
    order: Tensor,
    here: Tensor,
    sizes: list[int],
    normalize: RowMap | None,
) -> list[Tensor]:
    """Parts of the batch in the order given, (k, M, D) each, zero where absent."""
    pieces = apply_to_several(_Picked, order, sizes, *features.values())
    whole = bool(here.all())
    found = []
    for x, there in zip(pieces, torch.split(here[..., None], sizes), strict=True):
        shape = x.shape
        if not whole:
            x = x.masked_fill(~there, 0)  # whatever stands there
        rows = map_rows(x.flatten(0, 1), normalize)
        rows = rows.view(*shape[:2], rows.shape[-1])
        # A map may fill them again.
        found.append(rows if whole else rows.masked_fill(~there, 0))
    return found


class _Picked(torch.autograd.Function):
    """Rows of all modalities in the order given, part by part, (B, D) each -> (k, M, D) each.

    The gradient of a part is put where it belongs; a gather of each part would make one of the
    whole batch for each.
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
