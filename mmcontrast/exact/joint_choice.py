"""Which way a joint contrast is evaluated, also as operators."""

import torch.nn.functional as F
from torch import Tensor

from mmcontrast.collectives import named
from mmcontrast.distributed import Group, joined, name_of, rows_of_ranks
from mmcontrast.eager import takes_ways
from mmcontrast.exact import sizes
from mmcontrast.exact.choose import weighted
from mmcontrast.exact.joint_products import (
    Shuffled,
    negatives_of_all_tuples,
    plain_negatives_of_all_tuples,
    plain_shuffled,
    shuffled_in_blocks,
)
from mmcontrast.exact.joint_tiles import (
    TakingPart,
    negatives_of_volumes,
    plain_negatives_of_volumes,
)
from mmcontrast.exact.operators import as_operator
from mmcontrast.exact.simplices import Bases
from mmcontrast.exact.tiles import rows_in_cache, scalar


def shuffled_products(
    anchors: Tensor,
    candidates: Tensor,
    positive: Tensor,
    among: Shuffled,
    *,
    temperature: float | Tensor,
    weight: Tensor | None,
    chunk_size: int | None,
) -> Tensor:
    """Losses of this rank's (B, D) anchors with (B,) positives among all ranks' candidates.

    ``weight``: (B,) or 0-d factors of the losses, which are added up; None for the (B,) losses.
    """
    if not takes_ways():
        return weighted(plain_shuffled(anchors, candidates, positive, temperature, among), weight)
    t = scalar(temperature, anchors)
    return weighted_shuffled_products(
        anchors,
        candidates,
        positive,
        t,
        weight,
        among.start,
        among.again,
        among.columns,
        chunk_size,
    )


@as_operator
def weighted_shuffled_products(
    rows: Tensor,
    columns: Tensor,
    positive: Tensor,
    temperature: Tensor,
    weight: Tensor | None,
    start: int,
    again: Tensor | None,
    present: Tensor | None,
    chunk_size: int | None,
) -> Tensor:
    """:func:`shuffled_products`; ``start``, ``again``, ``present`` are the fields of its mask."""
    step = chunk_size or rows_in_cache(len(columns))
    among = Shuffled(start, again, present)
    return shuffled_in_blocks(rows, columns, positive, temperature, weight, among, step)


def all_products(
    anchors: Tensor,
    others: Tensor,
    positive: Tensor,
    present: Tensor | None,
    start: int,
    *,
    temperature: float | Tensor,
    weight: Tensor | None,
    chunk_size: int | None,
) -> Tensor:
    """The same among all tuples of the (C, K, D) rows of K other modalities, of all ranks.

    ``present`` is (C, K) bool or None, ``start`` this rank's first row of the others.
    """
    if takes_ways():
        t = scalar(temperature, anchors)
        inputs = anchors, others, positive, t, weight
        return weighted_all_products(*inputs, present, start, chunk_size)
    rest = plain_negatives_of_all_tuples(anchors, others, temperature, present, start)
    return weighted(_loss(rest, positive, temperature), weight)


@as_operator
def weighted_all_products(
    rows: Tensor,
    others: Tensor,
    positive: Tensor,
    temperature: Tensor,
    weight: Tensor | None,
    present: Tensor | None,
    start: int,
    chunk_size: int | None,
) -> Tensor:
    """:func:`all_products`."""
    step = chunk_size or rows_in_cache(len(rows))
    rest = negatives_of_all_tuples(rows, others, temperature, present, start, step)
    return weighted(_loss(rest, positive, temperature), weight)


def contrast_of_volumes(
    anchors: Tensor,
    bases: Bases,
    positive: Tensor,
    rows: Tensor | None,
    columns: Tensor | None,
    *,
    temperature: float | Tensor,
    weight: Tensor | None,
    chunk_size: int | None,
    group: Group | None,
) -> Tensor:
    """Losses of this rank's (B,) anchors and tuples, averaged over both directions.

    Args:
        anchors: (B, D).
        bases: of the (B,) tuples.
        positive: (B,) volumes of the anchors with their own tuples.
        rows: (B,) bool, anchors that take part; None for all.
        columns: (B,) bool, tuples that take part; None for all.
        temperature, chunk_size, group: as in :func:`joint_contrast`.
        weight: as in :func:`shuffled_products`.
    """
    if takes_ways():
        t = scalar(temperature, anchors)
        inputs = anchors, bases.rows, bases.size, bases.offset, positive, t, weight
        return weighted_volumes(*inputs, rows, columns, chunk_size, name_of(group))
    every, among = _over_all_ranks(bases, rows, columns, group)
    rest = plain_negatives_of_volumes(anchors, every, temperature, among)
    return weighted(_loss(rest, -positive, temperature).mean(0), weight)


@as_operator
def weighted_volumes(
    anchors: Tensor,
    bases: Tensor,
    size: Tensor,
    offset: Tensor | None,
    positive: Tensor,
    temperature: Tensor,
    weight: Tensor | None,
    rows: Tensor | None,
    columns: Tensor | None,
    chunk_size: int | None,
    group: str,
) -> Tensor:
    """:func:`contrast_of_volumes`."""
    every, among = _over_all_ranks(Bases(bases, size, offset), rows, columns, named(group))
    side = chunk_size or sizes.TILE
    rest = negatives_of_volumes(anchors, every, temperature, among, (side, side))
    return weighted(_loss(rest, -positive, temperature).mean(0), weight)


def _over_all_ranks(
    bases: Bases, rows: Tensor | None, columns: Tensor | None, group: Group | None
) -> tuple[Bases, TakingPart]:
    """All ranks' tuples, and who takes part."""
    number, own, counts = rows_of_ranks(bases.rows, group)

    def every(x: Tensor) -> Tensor:
        return joined(x, group, counts, size=number)[0]

    offset, columns = (None if x is None else every(x) for x in (bases.offset, columns))
    tuples = Bases(every(bases.rows), every(bases.size), offset)
    return tuples, TakingPart(rows, columns, own.start, group)


def _loss(rest: Tensor, positive: Tensor, temperature: float | Tensor) -> Tensor:
    """Minus the log of the positive's share, beside the log of the negatives' sum."""
    return F.softplus(rest - positive / temperature, threshold=50)
