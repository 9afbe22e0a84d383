"""Which way the sigmoid loss is evaluated, also as an operator."""

import functools

import torch
from torch import Tensor

from mmcontrast.collectives import named
from mmcontrast.distributed import joined, numbers_of
from mmcontrast.eager import takes_ways
from mmcontrast.exact import kernels, sizes
from mmcontrast.exact.choose import kernels_suit, mapped, weighted
from mmcontrast.exact.operators import as_operator
from mmcontrast.exact.pair_partners import of_partners, told
from mmcontrast.exact.pair_rules import PairRules, as_function, as_tensors, for_operators
from mmcontrast.exact.plain import plain_sigmoid
from mmcontrast.exact.sigmoid_tiles import sigmoid_at_once, sigmoid_in_tiles
from mmcontrast.exact.tiles import any_of, rows_in_cache, scalar, slices
from mmcontrast.presence import zero_outside
from mmcontrast.reductions import Reduction
from mmcontrast.rows import RowMap, dot, map_rows
from mmcontrast.softmax import with_finite_bias

Given = tuple[Tensor, Tensor, Tensor, Tensor, Tensor | None, Tensor | None, Tensor | None]
"""The first arguments of :func:`weighted_sigmoid`, up to ``positives``."""


def sigmoid_of_pairs(
    x: Tensor,
    y: Tensor,
    positives: Tensor | None,
    rules: PairRules,
    pair_bias: Tensor | None,
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
        positives: (B, C) mask or None.
        rules: which pairs take part.
        pair_bias: (B, C), added to the bias; None for 0.
        start: which row of y belongs to the first anchor, where there are no positives.
        group: name of the process group over which y is gathered here; empty where y has all
            candidates already.
        temperature, bias, normalize, chunk_size: as in :func:`sigmoid_contrast`.
        reduction: of the (B,) losses.
    """
    counted, keep = None, rules.keep
    if keep is not None:
        # Rows that take part in no pair may hold anything, even NaN: they become 0.
        counted = any_of(keep, 1)
        x, y = zero_outside(x, counted), zero_outside(y, any_of(keep, 0))
    by_ways = takes_ways()
    if by_ways:
        rows, columns = mapped(x, y, normalize, chunk_size)
    else:
        rows, columns = map_rows(x, normalize), map_rows(y, normalize)
    own = None
    if keep is not None or pair_bias is not None or rules.has_functions():
        partners = None
        if positives is None:
            partners = torch.arange(start, start + x.shape[0], device=x.device)
        if rules.has_functions():
            numbers = numbers_of(x, reduction.group)
            begin = None if partners is None else start
            rules = told(rules, rows, columns, partners, *numbers, start=begin)
            given = as_function(positives)
            rules, pair_bias = for_operators(rules, pair_bias, rows, columns, given)
        if partners is not None:
            rules, own = of_partners(rules, pair_bias, rows, columns, partners)
        counted = _with_a_pair(rules, pair_bias, rows, columns, positives)
    if not by_ways:
        losses = plain_sigmoid(
            rows, columns, temperature, bias, positives, rules.keep, start, pair_bias
        )
        return reduction.reduce(losses, counted)
    shares = reduction.shares(counted, rows)
    learned = scalar(temperature, rows), scalar(bias, rows)
    inputs = rows, columns, *learned, pair_bias, shares, positives
    rest = start, chunk_size, kernels.rounded_to(x, y), group
    if rules.has_functions():
        value = _sigmoid_of_rows(inputs, rules, own, *rest)
    else:
        value = weighted_sigmoid(*inputs, rules.keep, own, *rest)
    return reduction.finish(value, counted)


def _with_a_pair(
    rules: PairRules,
    pair_bias: Tensor | None,
    rows: Tensor,
    columns: Tensor,
    positives: Tensor | None,
) -> Tensor:
    """(B,) bool: anchors with a pair that takes part; by functions, a block of rows at a time."""
    if not rules.has_functions() or 0 in (rows.shape[0], columns.shape[0]):
        keep = with_finite_bias(rules.keep, pair_bias)
        return columns.new_ones(rows.shape[0]) > 0 if keep is None else any_of(keep, 1)
    found, every = [], slice(0, columns.shape[0])
    for i in slices(rows.shape[0], rows_in_cache(columns.shape[0])):
        products = functools.partial(dot, rows[i].detach(), columns.detach())
        part = None if positives is None else positives[i]
        tile = rules.tile(i, every, products, as_function(part))
        added = rules.bias(pair_bias, i, every, tile, None)
        kept = with_finite_bias(rules.kept(i, every, tile), added)
        found.append(rows.new_ones(rows[i].shape[0]) > 0 if kept is None else any_of(kept, 1))
    return torch.cat(found)


@as_operator
def weighted_sigmoid(
    x: Tensor,
    y: Tensor,
    temperature: Tensor,
    bias: Tensor,
    pair_bias: Tensor | None,
    weight: Tensor | None,
    positives: Tensor | None,
    keep: Tensor | None,
    own: Tensor | None,
    start: int,
    chunk_size: int | None,
    rounded: str,
    group: str,
) -> Tensor:
    """The sigmoid loss of (B, D) rows with all (C, D) columns, in one dtype.

    Args:
        weight, rounded: as in :func:`weighted_one_way`.
        positives, pair_bias, start, chunk_size, group: as in :func:`sigmoid_of_pairs`.
        keep: (B, C) bool.
        own: (B,) bool, which of the pairs (i, start + i) are kept; None for all.
    """
    rest = start, chunk_size, rounded, group
    inputs = x, y, temperature, bias, pair_bias, weight, positives
    return _sigmoid_of_rows(inputs, PairRules(keep), own, *rest)


def _sigmoid_of_rows(
    given: Given,
    rules: PairRules,
    own: Tensor | None,
    start: int,
    chunk_size: int | None,
    rounded: str,
    group: str,
) -> Tensor:
    x, y, temperature, bias, pair_bias, weight, positives = given
    pair_bias = None if pair_bias is None else pair_bias.to(x.dtype)
    ranks = named(group)
    if ranks is not None:
        y, here = joined(y, ranks)
        start = here.start
    size = (len(x), len(y))
    inputs = x, y, temperature, bias
    if 0 in size:
        keep, pair_bias = as_tensors(rules, pair_bias, x, y, as_function(positives))
        return weighted(plain_sigmoid(*inputs, positives, keep, start, pair_bias), weight)
    alone = ranks is None and start == 0
    every_pair = positives is None and pair_bias is None and rules.is_empty()
    if every_pair and alone and kernels_suit(x, y):
        each = None if weight is None else weight.expand(size[0])
        return kernels.sigmoid_fused(*inputs, each, precision=kernels.precision(rounded))
    if chunk_size is None:
        at_once = size[0] * size[1] < sizes.SIGMOID_TILES
    else:
        at_once = chunk_size >= max(size)
    if at_once:
        keep, pair_bias = as_tensors(rules, pair_bias, x, y, as_function(positives))
        return sigmoid_at_once(*inputs, weight, positives, keep, start, pair_bias)
    sides = sizes.WIDE if chunk_size is None else (chunk_size, chunk_size)
    if positives is not None and rules.has_functions():  # a tile has all of a row's partners
        sides = min(sides[0], rows_in_cache(size[1])), size[1]
    return sigmoid_in_tiles(*inputs, weight, positives, rules, own, start, sides, pair_bias)
