"""Which way InfoNCE with ``keep`` or ``bias`` is evaluated, one way and both, also as operators."""

from typing import Any

import torch
from torch import Tensor

from mmcontrast.collectives import named
from mmcontrast.distributed import (
    Group,
    Places,
    joined,
    name_of,
    numbers_of,
    part,
    total,
)
from mmcontrast.exact import sizes
from mmcontrast.exact.beside import OneWay, plus
from mmcontrast.exact.beside_both import BothWays
from mmcontrast.exact.choose import mapped, products_in_range, rows_at_a_time, weighted
from mmcontrast.exact.infonce_blocks import one_way_in_blocks
from mmcontrast.exact.infonce_tiles import symmetric_in_tiles
from mmcontrast.exact.operators import as_operator
from mmcontrast.exact.pair_partners import kept_partners, of_partners, told
from mmcontrast.exact.pair_rules import PairRules, as_tensors, for_operators
from mmcontrast.exact.plain import plain_one_way
from mmcontrast.exact.tiles import any_of, scalar
from mmcontrast.gaps import USUAL, Variant
from mmcontrast.presence import zero_outside
from mmcontrast.reductions import Reduction
from mmcontrast.rows import RowMap


def one_way_by_rules(
    anchors: Tensor,
    candidates: Tensor,
    partners: Tensor,
    rules: PairRules,
    bias: Tensor | None,
    *,
    temperature: float | Tensor,
    normalize: RowMap | None,
    reduction: Reduction,
    chunk_size: int | None,
    beside: OneWay | None = None,
) -> Tensor:
    """:func:`one_way_info_nce` with ``keep`` or ``bias``, among the candidates of all ranks."""
    anchors, candidates, narrow = products_in_range(anchors, candidates, normalize, reduction.group)
    if rules.keep is not None:
        # Unused rows become zero before any arithmetic: masked later, a NaN in them would still
        # reach the gradient, as 0 * NaN.
        anchors = zero_outside(anchors, kept_partners(partners, rules.keep))
        candidates = zero_outside(candidates, any_of(rules.keep, 0))
    rows, columns = mapped(anchors, candidates, normalize, chunk_size)
    if rules.has_functions():
        rules = told(rules, rows, columns, partners, *numbers_of(anchors, reduction.group))
        rules, bias = for_operators(rules, bias, rows, columns)
    rules, counted = of_partners(rules, bias, rows, columns, partners)
    shares = reduction.shares(counted, rows)
    variant, term = USUAL, None
    if beside is not None:
        variant, term = beside.made(rows, columns, counted, rules, bias)
    inputs = rows, columns, scalar(temperature, rows), bias
    if rules.has_functions():
        value = _one_way_of_rows(*inputs, shares, partners, rules, chunk_size, variant)
    else:
        given = variant.extra, shares, partners, rules.keep, chunk_size
        value = weighted_one_way_masked(*inputs, *given, *variant[:3])
    return narrow(plus(reduction.finish(value, counted), term, reduction, counted))


@as_operator
def weighted_one_way_masked(
    rows: Tensor,
    columns: Tensor,
    temperature: Tensor,
    bias: Tensor | None,
    extra: Tensor | None,
    weight: Tensor | None,
    targets: Tensor,
    keep: Tensor | None,
    chunk_size: int | None,
    decoupled: bool,
    prior: Tensor | None,
    number: Tensor | None,
) -> Tensor:
    """:func:`weighted_one_way` of this rank's (B, D) rows among all ranks' (C, D) columns.

    Targets are indices of these columns; ``keep`` is (B, C) bool, ``bias`` (B, C).
    """
    inputs = rows, columns, temperature, bias, weight, targets, PairRules(keep), chunk_size
    return _one_way_of_rows(*inputs, Variant(decoupled, prior, number, extra))


def _one_way_of_rows(
    rows: Tensor,
    columns: Tensor,
    temperature: Tensor,
    bias: Tensor | None,
    weight: Tensor | None,
    targets: Tensor,
    rules: PairRules,
    chunk_size: int | None,
    variant: Variant,
) -> Tensor:
    step = rows_at_a_time(len(rows), len(columns), chunk_size) or len(rows)
    if not step or not len(columns):
        masks = as_tensors(rules, bias, rows, columns)
        losses = plain_one_way(rows, columns, targets, temperature, *masks, variant)
        return weighted(losses, weight)
    inputs = rows, columns, targets, temperature, weight
    return one_way_in_blocks(*inputs, step, rules, bias, variant)


def both_ways_by_rules(
    x: Tensor,
    y: Tensor,
    where: Places,
    rules: PairRules,
    bias: Tensor | None,
    *,
    temperature: float | Tensor,
    normalize: RowMap | None,
    reduction: Reduction,
    chunk_size: int | None,
    beside: BothWays | None = None,
) -> Tensor:
    """:func:`both_ways_info_nce` with ``keep`` or ``bias``; ``where``: of :func:`rows_of_ranks`."""
    group = reduction.group
    everyone, own, counts = where
    x, y, narrow = products_in_range(x, y, normalize, group)
    if rules.keep is not None:
        # A row of y takes part where some rank keeps it.
        used = any_of(rules.keep, 1), part(total(any_of(rules.keep, 0).float(), group), own) > 0
        if beside is not None and beside.within:  # each row is a candidate of its own side, too
            used = (used[0] | used[1],) * 2
        x, y = zero_outside(x, used[0]), zero_outside(y, used[1])
    rows, columns = mapped(x, y, normalize, chunk_size)
    every, _ = joined(columns, group, counts, size=everyone)  # (C of all ranks, D)
    rules, bias = rules_of_pairs(rules, bias, rows, every, own, group)
    partners = torch.arange(own.start, own.stop, device=rows.device)
    rules, counted = of_partners(rules, bias, rows, every, partners)
    shares = reduction.shares(counted, rows)
    variant, term = USUAL, None
    if beside is not None:
        variant, term = beside.made(rows, columns, own, rules, bias)
    inputs = rows, every, scalar(temperature, rows), bias
    others = own.start, chunk_size, name_of(group)
    if rules.has_functions():
        value = _both_ways_of_rows(*inputs, shares, rules, *others, variant)
    else:
        given = variant.extra, shares, rules.keep, *others
        value = weighted_both_ways_masked(*inputs, *given, *variant[:3])
    return narrow(plus(reduction.finish(value, counted), term, reduction, counted))


@as_operator
def weighted_both_ways_masked(
    x: Tensor,
    y: Tensor,
    temperature: Tensor,
    bias: Tensor | None,
    extra: Tensor | None,
    weight: Tensor | None,
    keep: Tensor | None,
    start: int,
    chunk_size: int | None,
    group: str,
    decoupled: bool,
    prior: Tensor | None,
    number: Tensor | None,
) -> Tensor:
    """:func:`weighted_both_ways` with a (B, C) bool mask and a (B, C) bias.

    Args:
        x: (B, D) of this rank.
        y: (C, D) of all ranks.
        start: which row of y belongs to the first row of x.
    """
    inputs = x, y, temperature, bias, weight, PairRules(keep), start, chunk_size, group
    return _both_ways_of_rows(*inputs, Variant(decoupled, prior, number, extra))


def _both_ways_of_rows(
    x: Tensor,
    y: Tensor,
    temperature: Tensor,
    bias: Tensor | None,
    weight: Tensor | None,
    rules: PairRules,
    start: int,
    chunk_size: int | None,
    group: str,
    variant: Variant,
) -> Tensor:
    step = rows_at_a_time(len(x), len(y), chunk_size)
    sides = sizes.WIDE if chunk_size is None or step is None else (step, step)
    settings: Any = {"start": start, "group": named(group), "rules": rules, "bias": bias}
    losses = symmetric_in_tiles(x, y, temperature, sides, **settings, variant=variant)
    return weighted(losses, weight)


def rules_of_pairs(
    rules: PairRules,
    bias: Tensor | None,
    rows: Tensor,
    every: Tensor,
    own: slice,
    group: Group | None,
) -> tuple[PairRules, Tensor | None]:
    """Rules of both directions told of the pairs.

    Args:
        rules, bias: of this rank's pairs.
        rows: (B, D) of this rank, mapped.
        every: (C, D) of the other side and of all ranks, mapped.
        own: which of these belong to the rows.
        group: the ranks.
    """
    if not rules.has_functions():
        return rules, bias
    partners = torch.arange(own.start, own.stop, device=rows.device)
    rules = told(
        rules,
        rows,
        every,
        partners,
        own.start,
        every.shape[0],
        start=own.start,
        column_partner=lambda found: joined(found, group, size=every.shape[0])[0],
    )
    return for_operators(rules, bias, rows, every)
