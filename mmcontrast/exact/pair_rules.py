"""What ``keep`` and ``bias`` say of pairs, as tensors and as functions, one tile at a time.

A function gets a :class:`Tile` and returns its (R, C) mask or bias, so nothing of the size of all
pairs exists. It is called for every tile that a loss makes, so again in the backward pass; and
beforehand for the partners alone, see :mod:`mmcontrast.exact.pair_partners`.
"""

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from mmcontrast import arguments
from mmcontrast.eager import is_eager
from mmcontrast.exact.pair_tile import PairTerm, Tile, TileFunction, called_for
from mmcontrast.rows import dot

BOOL = "(B, C) bool, a function of a Tile that returns (R, C) bool, or a list of these"
FLOATING = "(B, C) floating, a function of a Tile that returns (R, C) floating, or a list of these"


class Known(NamedTuple):
    """What functions are told of the pairs, beside the tile itself."""

    rows: Tensor  # (B,) their indices among the rows of all ranks
    columns: Tensor  # (C,)
    size: tuple[int, int]  # rows and columns of all ranks
    partners: Tensor | None = None  # (B,) the column of each row's partner, or -100
    start: int | None = None  # the first of them, where they follow each other
    partner: Tensor | None = None  # (B,) similarities
    column_partner: Tensor | None = None  # (C,)
    bias: Tensor | None = None  # (B,) what the functions add to the partners' own logits


class PairRules(NamedTuple):
    """Masks and biases of pairs; of the biases only functions, for a tensor has a gradient."""

    keep: Tensor | None = None  # (B, C) bool
    keep_functions: tuple[TileFunction, ...] = ()
    bias_functions: tuple[TileFunction, ...] = ()
    known: Known | None = None  # None without functions

    def has_functions(self) -> bool:
        """Whether there is anything that an operator cannot take."""
        return bool(self.keep_functions or self.bias_functions)

    def is_empty(self) -> bool:
        """Whether there is neither a mask nor a function."""
        return self.keep is None and not self.has_functions()

    def leave_out(self) -> bool:
        """Whether some pairs may take no part."""
        return self.keep is not None or bool(self.keep_functions)

    def tile(
        self,
        i: slice,
        j: slice,
        similarity: Callable[[], Tensor],
        positives: Callable[[], Tensor] | None = None,
    ) -> Tile | None:
        """The tile of some rows and columns; None without functions.

        Args:
            i, j: which ones.
            similarity: makes (R, C) products in new memory.
            positives: makes (R, C) bool, where a row may have several partners.
        """
        known = self.known
        if known is None:
            return None
        own = None if known.partner is None else known.partner[i]
        offset = None if known.start is None else i.start + known.start - j.start
        apart = offset is not None and not i.start - i.stop < offset < j.stop - j.start

        # The tile is an argument of these functions: if they held it, it would outlive its turn, in
        # a cycle. Nor do they hold i or j: a compiler would take the ends of a slice for constants.
        keep = None if self.keep is None else self.keep[i, j]

        def positive(tile: Tile) -> Tensor:
            if tile.partners is None:
                found = tile.columns[:0] if positives is None else positives()
                return found if keep is None else found & keep
            if offset is None:
                return tile.partners[:, None] == tile.columns
            found = torch.zeros(tile.shape, dtype=torch.bool, device=tile.rows.device)
            found.diagonal(offset).fill_(True)
            return found

        def similarities(tile: Tile) -> Tensor:
            found = similarity()
            if own is None or apart:
                return found
            return with_partners(found, tile.positive, own)

        return Tile(
            known.rows[i],
            known.columns[j],
            similarities,
            _best if own is None else own,
            positive=positive,
            column_partner=None if known.column_partner is None else known.column_partner[j],
            partners=None if known.partners is None else known.partners[i],
            size=known.size,
            apart=apart,
        )

    def kept(self, i: slice, j: slice, tile: Tile | None) -> Tensor | None:
        """(R, C) bool of those rows and columns; None where nothing is left out."""
        found = [None if self.keep is None else self.keep[i, j]]
        if tile is not None:
            found += [called_for("keep", function, tile) for function in self.keep_functions]
        masks = [mask for mask in found if mask is not None]
        return functools.reduce(torch.logical_and, masks) if masks else None

    def bias(
        self, given: Tensor | None, i: slice, j: slice, tile: Tile | None, kept: Tensor | None
    ) -> Tensor | None:
        """(R, C) sum of a (B, C) bias and the functions', 0 where nothing is kept; None for 0."""
        found = [] if given is None else [given[i, j]]
        if tile is not None and self.bias_functions:
            dtype = tile.partner.dtype
            added = [called_for("bias", f, tile) for f in self.bias_functions]
            found += [x.to(dtype) for x in added if x is not None]
        if not found:
            return None
        total = functools.reduce(torch.add, found)
        return total if kept is None else total.masked_fill(~kept, 0)

    def of_octaves(
        self,
        i: slice,
        j: slice,
        octaves: Tensor,
        scale: float | Tensor,
        add: Tensor | None,
        bias: Tensor | None,
        positives: Callable[[], Tensor] | None = None,
    ) -> tuple[Tensor | None, Tensor | None]:
        """:meth:`kept` and :meth:`bias` of a tile of logits that is products times scale, plus add.

        To be called before the tile is overwritten.
        """
        # The sum is exact enough: what it lost is of the size of the products' own rounding.
        products = functools.partial(_from_octaves, octaves, scale, add)
        tile = self.tile(i, j, products, positives)
        kept = self.kept(i, j, tile)
        return kept, self.bias(bias, i, j, tile, kept)

    def partners_bias(self, given: Tensor | None, partners: Tensor) -> Tensor | None:
        """(B,) what is added to the partners' own logits; 0 for partners that take no part."""
        found = [] if given is None else [at_partners(given, partners)]
        if self.known is not None and self.known.bias is not None:
            found.append(self.known.bias)
        if not found:
            return None
        total = functools.reduce(torch.add, found)
        there = total != -math.inf
        if self.keep is not None:
            there = there & at_partners(self.keep, partners)
        return torch.where(there, total, 0)


EVERY_PAIR = PairRules()
"""No mask and no function."""


def pair_rules(
    keep: PairTerm | None, bias: PairTerm | None, size: tuple[int, int]
) -> tuple[PairRules, Tensor | None]:
    """The checked rules, and the (B, C) tensor of the biases."""
    masks, keep_functions = _split("keep", keep, BOOL)
    biases, bias_functions = _split("bias", bias, FLOATING)
    for mask in masks:
        arguments.mask("keep", mask, size)
    for x in biases:
        _check_bias(x, size)
    kept = functools.reduce(torch.logical_and, masks) if masks else None
    added = functools.reduce(torch.add, biases) if biases else None
    return PairRules(kept, keep_functions, bias_functions), added


def _split(
    name: str, given: PairTerm | None, expected: str
) -> tuple[list[Tensor], tuple[TileFunction, ...]]:
    """Tensors and functions."""
    if given is None:
        return [], ()
    every = list(given) if isinstance(given, list | tuple) else [given]
    tensors = [x for x in every if isinstance(x, Tensor)]
    functions: list[Any] = [x for x in every if not isinstance(x, Tensor)]
    for function in functions:
        arguments.accepting(name, function, expected, 1)
    return tensors, tuple(functions)


def _check_bias(x: Tensor, size: tuple[int, int]) -> None:
    if arguments.tensor("bias", x).shape != size:
        wide = f" (one for each candidate: bias.expand({size[0]}, -1))"
        got = arguments.shape(x) + (wide if x.shape == size[1:] else "")
        arguments.fail("bias", f"shape ({size[0]}, {size[1]})", got)
    if not x.is_floating_point():
        arguments.fail("bias", "a floating dtype", x.dtype)


def _from_octaves(octaves: Tensor, scale: float | Tensor, add: Tensor | None) -> Tensor:
    return octaves / scale if add is None else (octaves - add).div_(scale)


def at_partners(pairs: Tensor, partners: Tensor) -> Tensor:
    """(B,) entries of (B, C) pairs at the partners; anything where there is none."""
    if pairs.shape[1] == 0:
        return pairs.new_zeros(partners.shape)
    return pairs.gather(1, partners.clamp_min(0)[:, None])[:, 0]


def _best(tile: Tile) -> Tensor:
    return most_similar(tile.similarity, tile.positive)


def with_partners(similarity: Tensor, positive: Tensor, partner: Tensor) -> Tensor:
    """Similarities, those of partners exactly as ``partner`` says: else rounding would decide."""
    there = positive & (partner != math.inf)[:, None]
    return torch.where(there, partner[:, None], similarity)


def most_similar(similarity: Tensor, positive: Tensor) -> Tensor:
    """(R,) the largest similarity of a positive, infinity without one."""
    if similarity.shape[1] == 0:
        return similarity.new_full(similarity.shape[:1], math.inf)
    found = torch.where(positive, similarity, -math.inf).amax(1)
    return torch.where(positive.any(1), found, math.inf)


def as_tensors(
    rules: PairRules,
    bias: Tensor | None,
    rows: Tensor,
    columns: Tensor,
    positives: Callable[[], Tensor] | None = None,
) -> tuple[Tensor | None, Tensor | None]:
    """The (B, C) mask and bias of all pairs as one tile, for plain paths.

    Args:
        rules: told of the partners.
        bias: (B, C) or None.
        rows: (B, D), mapped.
        columns: (C, D), mapped.
        positives: makes (B, C) bool, where a row may have several partners.
    """
    i, j = slice(0, rows.shape[0]), slice(0, columns.shape[0])
    tile = rules.tile(i, j, lambda: dot(rows.detach(), columns.detach()), positives)
    kept = rules.kept(i, j, tile)
    return kept, rules.bias(bias, i, j, tile, kept)


def for_operators(
    rules: PairRules,
    bias: Tensor | None,
    rows: Tensor,
    columns: Tensor,
    positives: Callable[[], Tensor] | None = None,
) -> tuple[PairRules, Tensor | None]:
    """Rules without functions under a compiler: what they say of all pairs at once."""
    if is_eager():
        return rules, bias
    keep, bias = as_tensors(rules, bias, rows, columns, positives)
    return PairRules(keep), bias


def as_function(positives: Tensor | None) -> Callable[[], Tensor] | None:
    """What makes positives that are there already; None for None."""
    return None if positives is None else lambda: positives
