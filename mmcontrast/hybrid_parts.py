"""A batch sorted by class and cut into parts, which a processor's cache holds."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from mmcontrast.rows import RowMap, map_rows, upcast


class Cuts(NamedTuple):
    """How the sorted batch is cut."""

    sizes: list[int]
    """Samples of each part."""
    owners: list[int]
    """Whose they are: a class's, or a negative number where several's."""


def cut(counts: list[int], *, large: int, part: int) -> Cuts:
    """Parts of one class where it has ``large`` samples or more, else of a few classes together."""
    sizes: list[int] = []
    owners: list[int] = []
    for owner, count in enumerate(counts):
        if count >= large:
            number = -(-count // part)
            sizes += [count // number + (k < count % number) for k in range(number)]
            owners += [owner] * number
        elif owners and owners[-1] < 0 and sizes[-1] + count <= large:
            sizes[-1] += count
        else:
            sizes.append(count)
            owners.append(-1 - owner)
    return Cuts(sizes, owners) if sizes else Cuts([0], [-1])


def mapped(
    features: Mapping[str, Tensor],
    order: Tensor,
    here: Tensor,
    sizes: list[int],
    normalize: RowMap | None,
) -> list[Tensor]:
    """Parts of the batch in the order given, (k, M, D) each, zero where absent."""
    pieces: tuple[Tensor, ...] = _Picked.apply(order, sizes, *features.values())  # type: ignore[no-untyped-call]
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
