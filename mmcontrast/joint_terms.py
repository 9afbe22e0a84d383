"""One anchor modality's term of the joint contrast, with missing modalities and over ranks.

Samples that have the same modalities are compared on the same ones: a pattern, one softmax for all
of them. Every pattern goes over the whole batch, in which other samples' losses count for nothing;
one that no sample has is skipped, where that can be read.
"""

import functools
import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from mmcontrast.collectives import first_ranks_orders, orders_by_name
from mmcontrast.distributed import Group, active, joined, name_of, part, rows_of_ranks
from mmcontrast.eager import calls_operators, is_eager
from mmcontrast.exact.joint_choice import all_products, contrast_of_volumes, shuffled_products
from mmcontrast.exact.joint_products import Shuffled
from mmcontrast.exact.simplices import parallelotopes, simplices
from mmcontrast.reductions import Reduction
from mmcontrast.wide import retry_in_float64


class Samples(NamedTuple):
    """Mapped rows by modality and who has them, on this rank and on all."""

    rows: Mapping[str, Tensor]  # (B, D) each, of one dtype
    every: Mapping[str, Tensor]  # (C, D), of all ranks; volumes gather their own
    present: Mapping[str, Tensor] | None  # (B,) bool; None where all have all
    everywhere: Mapping[str, Tensor]  # (C,) bool, of all ranks
    own: slice  # this rank's among all


def gathered(
    rows: Mapping[str, Tensor],
    present: Mapping[str, Tensor] | None,
    group: Group | None,
    *,
    products: bool,
) -> Samples:
    """Samples of one dtype, with all ranks' rows where products need them."""
    dtype = functools.reduce(torch.promote_types, [x.dtype for x in rows.values()])
    rows = {name: x.to(dtype) for name, x in rows.items()}
    first = next(iter(rows.values()))
    number, own, counts = rows_of_ranks(first, group)
    if present is None and active(group) is not None:
        # Another rank may lack a modality, and all must reach the same collectives.
        present = {name: torch.ones_like(x[:, 0], dtype=torch.bool) for name, x in rows.items()}
    every, everywhere = (
        {name: joined(x, group, counts, size=number)[0] for name, x in given.items()}
        for given in (rows if products else {}, present or {})
    )
    return Samples(rows, every, present, everywhere, own)


def shuffled_orders(
    names: Sequence[str], size: int, like: Tensor, group: Group | None, generator: Any
) -> dict[str, Tensor]:
    """By modality, (size,) an order of all ranks' samples; every rank has the first one's."""
    ranks, number = active(group), len(names)
    if ranks is not None and generator is None and calls_operators():
        orders = orders_by_name(number, size, like.device, name_of(group))
    else:
        orders = first_ranks_orders(number, size, ranks, like.device, generator)
    return dict(zip(names, orders.unbind(), strict=True))


@retry_in_float64
def joint_term(
    samples: Samples,
    anchor: str,
    orders: Mapping[str, Tensor],
    *,
    kind: str,
    temperature: float | Tensor,
    reduction: Reduction,
    chunk_size: int | None,
    group: Group | None,
) -> Tensor:
    """The loss of the samples that have the anchor and at least one other modality.

    Args:
        samples: whose.
        anchor: the modality that is compared with tuples of the others.
        orders: see :func:`shuffled_orders`, for a kind of ``"shuffled"``.
        kind: ``"shuffled"`` or ``"all"`` products, ``"volume"`` or ``"area"``.
        temperature, chunk_size, group: as in :func:`joint_contrast`.
        reduction: of the losses.
    """
    rows, counted = samples.rows[anchor], None
    if samples.present is not None:
        others = [here for name, here in samples.present.items() if name != anchor]
        counted = samples.present[anchor] & functools.reduce(torch.logical_or, others)
    shares = reduction.shares(counted, rows)
    settings: dict[str, Any] = {"temperature": temperature, "chunk_size": chunk_size}
    if kind in ("volume", "area"):
        settings |= {"kind": kind, "group": group}
    parts = []
    for names, here in _patterns(samples, anchor, group):
        weight = shares
        if shares is not None and here is not None:
            weight = torch.where(here, shares, 0)
        if kind in ("volume", "area"):
            part = _volumes(samples, anchor, names, weight, **settings)
        elif kind == "all" and len(names) > 1:
            part = _all_tuples(samples, anchor, names, weight, **settings)
        else:
            part = _tuples(samples, anchor, names, orders, weight, **settings)
        parts.append(part if shares is not None or here is None else torch.where(here, part, 0))
    return reduction.finish(functools.reduce(torch.add, parts), counted)


def _patterns(
    samples: Samples, anchor: str, group: Group | None
) -> Iterator[tuple[list[str], Tensor | None]]:
    """Modalities beside the anchor, and (B,) bool: the samples that have these and no others."""
    others = [name for name in samples.rows if name != anchor]
    if samples.present is None:
        yield others, None
        return
    for number in range(len(others), 0, -1):
        for names in itertools.combinations(others, number):
            here, everywhere = (
                functools.reduce(
                    torch.logical_and,
                    [has if name in (anchor, *names) else ~has for name, has in masks.items()],
                )
                for masks in (samples.present, samples.everywhere)
            )
            if number == len(others) or not _known_empty(everywhere, group):
                yield list(names), here


def _known_empty(mask: Tensor, group: Group | None) -> bool:
    """Whether a mask is known to be all False, the same on every rank.

    Ranks wait for their devices anyway, to exchange sizes; elsewhere this only reads the CPU.
    """
    if not is_eager(mask) or not (mask.is_cpu or active(group) is not None):
        return False
    return not bool(mask.any())


def _tuples(
    samples: Samples,
    anchor: str,
    names: list[str],
    orders: Mapping[str, Tensor],
    weight: Tensor | None,
    **settings: Any,
) -> Tensor:
    """Products with as many tuples as there are samples: shuffled, if there are several names."""
    rows, has = samples.rows[anchor], samples.everywhere
    again = None
    if len(names) > 1:
        columns = [samples.every[name][orders[name]] for name in names]
        taken = [has[name][orders[name]] for name in names if has]
        again = part(_own_tuples([orders[name] for name in names]), samples.own)
    else:
        columns, taken = [samples.every[names[0]]], [has[names[0]]] if has else []
    return shuffled_products(
        rows,
        functools.reduce(torch.mul, columns),
        _positive(samples, anchor, names),
        Shuffled(
            samples.own.start, again, functools.reduce(torch.logical_and, taken) if taken else None
        ),
        weight=weight,
        **settings,
    )


def _own_tuples(orders: Sequence[Tensor]) -> Tensor:
    """(C,) for each sample the place of a tuple with all its rows; its own place if there is none.

    That tuple is no negative. What stands in a sample's own place is none in any case.
    """
    places = torch.empty_like(orders[0])
    own = torch.arange(places.shape[0], device=places.device)
    places = places.scatter(0, orders[0], own)
    together = [order[places] == own for order in orders[1:]]
    return torch.where(functools.reduce(torch.logical_and, together), places, own)


def _all_tuples(
    samples: Samples, anchor: str, names: list[str], weight: Tensor | None, **settings: Any
) -> Tensor:
    """Products with all tuples of any samples' rows."""
    others = torch.stack([samples.every[name] for name in names], 1)  # (C, K, D)
    has = samples.everywhere
    return all_products(
        samples.rows[anchor],
        others,
        _positive(samples, anchor, names),
        torch.stack([has[name] for name in names], 1) if has else None,
        samples.own.start,
        weight=weight,
        **settings,
    )


def _positive(samples: Samples, anchor: str, names: list[str]) -> Tensor:
    """(B,) products of the samples' own rows."""
    return functools.reduce(torch.mul, [samples.rows[name] for name in (anchor, *names)]).sum(1)


def _volumes(
    samples: Samples,
    anchor: str,
    names: list[str],
    weight: Tensor | None,
    *,
    kind: str,
    **settings: Any,
) -> Tensor:
    """Volumes or areas, in both directions."""
    rows, has = samples.rows[anchor], samples.present
    span = parallelotopes if kind == "volume" else simplices
    bases, positive = span(rows, [samples.rows[name] for name in names])
    return contrast_of_volumes(
        rows,
        bases,
        positive,
        None if has is None else has[anchor],
        None if has is None else functools.reduce(torch.logical_and, [has[k] for k in names]),
        weight=weight,
        **settings,
    )
