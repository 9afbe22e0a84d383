"""Which way a softmax loss under masks is evaluated, also as operators."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from mmcontrast.collectives import named
from mmcontrast.distributed import Group, Places, joined, name_of, part, rows_of_ranks, total
from mmcontrast.eager import calls_operators, is_eager, takes_ways
from mmcontrast.exact import sizes
from mmcontrast.exact.beside import OneWay, plus
from mmcontrast.exact.beside_both import BothWays
from mmcontrast.exact.choose import mapped, rows_at_a_time, weighted
from mmcontrast.exact.classes import numbered
from mmcontrast.exact.infonce_blocks import one_way_in_blocks
from mmcontrast.exact.infonce_tiles import symmetric_in_tiles
from mmcontrast.exact.masked_blocks import Partners, masked_in_blocks
from mmcontrast.exact.operators import as_operator
from mmcontrast.exact.pair_rules import PairRules, as_tensors, of_partners, told
from mmcontrast.exact.plain import plain_contrast, plain_one_way
from mmcontrast.exact.tiles import as_bytes, rows_in_cache, scalar
from mmcontrast.gaps import USUAL, Variant
from mmcontrast.masks import IGNORE
from mmcontrast.presence import zero_outside
from mmcontrast.reductions import Reduction
from mmcontrast.rows import RowMap, map_rows
from mmcontrast.softmax import contrast
from mmcontrast.wide import widen_products


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
    inputs = rows, columns, scalar(temperature, rows), bias, variant.extra, shares, partners
    if rules.has_functions():
        value = _one_way_of_rows(*inputs, rules, chunk_size, variant)
    else:
        value = weighted_one_way_masked(*inputs, rules.keep, chunk_size, *variant[:3])
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
    inputs = rows, columns, temperature, bias, extra, weight, targets
    variant = Variant(decoupled, prior, number)
    return _one_way_of_rows(*inputs, PairRules(keep), chunk_size, variant)


def _one_way_of_rows(
    rows: Tensor,
    columns: Tensor,
    temperature: Tensor,
    bias: Tensor | None,
    extra: Tensor | None,
    weight: Tensor | None,
    targets: Tensor,
    rules: PairRules,
    chunk_size: int | None,
    variant: Variant,
) -> Tensor:
    variant = variant._replace(extra=extra)
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
    inputs = rows, every, scalar(temperature, rows), bias, variant.extra, shares
    others = own.start, chunk_size, name_of(group)
    if rules.has_functions():
        value = _both_ways_of_rows(*inputs, rules, *others, variant)
    else:
        value = weighted_both_ways_masked(*inputs, rules.keep, *others, *variant[:3])
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
    inputs = x, y, temperature, bias, extra, weight, PairRules(keep), start, chunk_size, group
    return _both_ways_of_rows(*inputs, Variant(decoupled, prior, number))


def _both_ways_of_rows(
    x: Tensor,
    y: Tensor,
    temperature: Tensor,
    bias: Tensor | None,
    extra: Tensor | None,
    weight: Tensor | None,
    rules: PairRules,
    start: int,
    chunk_size: int | None,
    group: str,
    variant: Variant,
) -> Tensor:
    step = rows_at_a_time(len(x), len(y), chunk_size, side=sizes.TILE)
    sides = sizes.WIDE if chunk_size is None or step is None else (step, step)
    settings: Any = {"start": start, "group": named(group), "rules": rules, "bias": bias}
    settings["variant"] = variant._replace(extra=extra)
    return weighted(symmetric_in_tiles(x, y, temperature, sides, **settings), weight)


def numbers_of(rows: Tensor, group: Group | None) -> tuple[int, int]:
    """The first of this rank's rows among those of all ranks, and how many there are."""
    number, own, _ = rows_of_ranks(rows, group)
    return own.start, number


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


def for_operators(
    rules: PairRules, bias: Tensor | None, rows: Tensor, columns: Tensor
) -> tuple[PairRules, Tensor | None]:
    """Rules without functions under a compiler: what they say of all pairs at once."""
    if is_eager():
        return rules, bias
    keep, bias = as_tensors(rules, bias, rows, columns)
    return PairRules(keep), bias


def masked_contrast(
    anchors: Tensor,
    candidates: Tensor,
    partners: Partners,
    bias: Tensor | None = None,
    *,
    form: str = "out",
    temperature: float | Tensor,
    normalize: RowMap | None,
    reduction: Reduction,
    chunk_size: int | None,
    variant: Variant = USUAL,
    beside: OneWay | None = None,
) -> Tensor:
    """The softmax loss of anchors among the candidates of all ranks, with any positives.

    Args:
        anchors: (B, D).
        candidates: (C, D).
        partners: the masks; classes are labels, (B,) or (B, L).
        bias: (B, C), added to the logits.
        form: as in :func:`sup_con`.
        temperature, normalize, chunk_size: as in :func:`info_nce`.
        reduction: of this rank's losses.
        variant: of the losses, see :mod:`mmcontrast.gaps`.
        beside: what makes the variant of the mapped rows, in place of one.
    """
    positives, classes, keep, columns, _, rules = partners
    if keep is not None:
        candidates = zero_outside(candidates, any_of(keep, 0))
    if columns is not None:
        candidates = zero_outside(candidates, columns)
    if rules.has_functions():
        numbers = numbers_of(anchors, reduction.group)
        partners = partners._replace(rules=told(rules, anchors, candidates, None, *numbers))
        if not is_eager(positives):
            mapped_rows = [map_rows(x.detach(), normalize) for x in (anchors, candidates)]
            partners, bias = partners.resolved(mapped_rows[0], mapped_rows[1], bias)
            keep = partners.keep
    # To an operator, masks have no gradient.
    learned = calls_operators() and positives.requires_grad and torch.is_grad_enabled()
    if not takes_ways() or learned:
        anchors, term = anchors if keep is None else zero_outside(anchors, keep.any(1)), None
        if beside is not None:
            anchors, candidates = map_rows(anchors, normalize), map_rows(candidates, normalize)
            normalize, found = None, partners.counted(anchors.dtype, candidates.shape[0], None)
            variant, term = beside.among(anchors, candidates, found, partners, bias)
        losses, found = contrast(
            anchors,
            candidates,
            partners.masks,
            form=form,
            temperature=temperature,
            normalize=normalize,
            chunk_size=rows_at_a_time(anchors.shape[0], candidates.shape[0], chunk_size),
            bias=bias,
            variant=variant,
        )
        return plus(reduction.reduce(losses, found), term, reduction, found)

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
    counted = counted & partners.still_counted(x, y, bias, step)
    shares = reduction.shares(counted, x)
    if beside is not None:
        variant, _ = beside.among(x, y, counted, partners, bias)
    inputs = x, y, scalar(temperature, x), bias, variant.extra, shares
    if partners.rules.has_functions():
        value = _masked_of_rows(*inputs, partners, chunk_size, form, variant)
    else:
        value = weighted_masked(*inputs, *partners[:5], chunk_size, form, *variant[:3])
    return narrow(reduction.finish(value, counted))


@as_operator
def weighted_masked(
    rows: Tensor,
    columns: Tensor,
    temperature: Tensor,
    bias: Tensor | None,
    extra: Tensor | None,
    weight: Tensor | None,
    positives: Tensor,
    classes: Tensor | None,
    keep: Tensor | None,
    used: Tensor | None,
    own: int | None,
    chunk_size: int | None,
    form: str,
    decoupled: bool,
    prior: Tensor | None,
    number: Tensor | None,
) -> Tensor:
    """The losses of (B, D) rows among (C, D) columns under the masks of :class:`Partners`.

    Args:
        bias: (B, C), added to the logits.
        extra, weight, decoupled, prior, number: as in :func:`weighted_one_way`.
        positives, classes, keep, used, own: the fields of :class:`Partners`; classes may be labels.
        chunk_size, form: as in :func:`sup_con`.
    """
    partners = Partners(positives, classes, keep, used, own)
    inputs = rows, columns, temperature, bias, extra, weight, partners, chunk_size, form
    return _masked_of_rows(*inputs, Variant(decoupled, prior, number))


def _masked_of_rows(
    rows: Tensor,
    columns: Tensor,
    temperature: Tensor,
    bias: Tensor | None,
    extra: Tensor | None,
    weight: Tensor | None,
    partners: Partners,
    chunk_size: int | None,
    form: str,
    variant: Variant,
) -> Tensor:
    positives, classes = partners[:2]
    inputs, variant = (rows, columns, temperature), variant._replace(extra=extra)
    readable = is_eager(positives)
    if classes is not None and (classes.ndim == 2 or classes.dtype != rows.dtype) and readable:
        given = numbered(positives, classes, rows.dtype)
        partners = partners._replace(positives=given[0], classes=given[1])
    if 0 in (len(rows), len(columns)) or not readable:
        partners, bias = partners.resolved(rows, columns, bias)
        masks = partners.masks(slice(0, len(rows)))
        return weighted(plain_contrast(*inputs, *masks, form, bias, variant), weight)
    step = masked_rows_at_a_time(len(rows), len(columns), chunk_size)
    return masked_in_blocks(*inputs, weight, partners, step, form, bias, variant)


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
