"""What functions of a tile are told of the partners, and what they say of them.

They are called for the partners alone before the tiles, because a mean divides by the number of
anchors that keep theirs.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from mmcontrast.eager import is_eager
from mmcontrast.exact.pair_rules import Known, PairRules, at_partners, with_partners
from mmcontrast.exact.pair_tile import Tile
from mmcontrast.exact.tiles import slices
from mmcontrast.masks import IGNORE
from mmcontrast.rows import dot

PARTNERS_AT_A_TIME = 256
"""Rows of the tiles in which functions are asked for the partners alone."""

PIECE = 512
"""Rows of which products with their partners are made at a time."""


@torch.no_grad()
def told(
    rules: PairRules,
    rows: Tensor,
    columns: Tensor,
    partners: Tensor | None,
    first: int,
    total: int,
    *,
    start: int | None = None,
    column_partner: Callable[[Tensor], Tensor] | None = None,
) -> PairRules:
    """Rules with what their functions may ask: indices of rows, and the partners' similarities.

    Args:
        rules: of this rank's rows.
        rows: (B, D), mapped.
        columns: (C, D) of all ranks, mapped.
        partners: (B,) columns, -100 for none; None where a row may have several.
        first: the first row's index among those of all ranks.
        total: number of all ranks' rows.
        start: the first of the partners where they follow each other.
        column_partner: makes (C,) of the (B,) similarities of partners.
    """
    size = total, columns.shape[0]
    numbers = torch.arange(first, first + rows.shape[0], device=rows.device)
    known = Known(numbers, torch.arange(columns.shape[0], device=rows.device), size)
    if partners is not None:
        own = _partner_similarity(rows, columns, partners)
        if rules.keep is not None:  # a partner outside it is none
            own = torch.where(at_partners(rules.keep, partners), own, math.inf)
        others = None if column_partner is None else column_partner(own)
        known = known._replace(partners=partners, start=start, partner=own, column_partner=others)
    return rules._replace(known=known)


def _partner_similarity(rows: Tensor, columns: Tensor, partners: Tensor) -> Tensor:
    """(B,) products of rows and their partners; infinity without one."""
    if 0 in (rows.shape[0], columns.shape[0]):
        return rows.new_full(partners.shape, math.inf)
    at = partners.clamp_min(0)
    if is_eager():
        pieces = slices(rows.shape[0], PIECE)
        own = torch.cat([(rows[i] * columns[at[i]]).sum(1) for i in pieces])
    else:
        own = (rows * columns[at]).sum(1)
    return torch.where(partners == IGNORE, math.inf, own)


def kept_partners(partners: Tensor, keep: Tensor | None) -> Tensor:
    """(B,) bool: anchors that have a partner, and keep it."""
    counted = partners != IGNORE
    return counted if keep is None else counted & at_partners(keep, partners)


@torch.no_grad()
def of_partners(
    rules: PairRules, bias: Tensor | None, rows: Tensor, columns: Tensor, partners: Tensor
) -> tuple[PairRules, Tensor]:
    """Rules that know what their functions say of the partners, and (B,) which partners are kept.

    The partners of some rows are the diagonal of a tile of these rows and their partners' columns.
    """
    kept = kept_partners(partners, rules.keep)
    if 0 in (rows.shape[0], columns.shape[0]):
        return rules, kept
    if bias is not None:
        kept = kept & (at_partners(bias, partners) != -math.inf)
    if rules.known is None or rules.known.partner is None:
        return rules, kept
    masks, biases = [], []
    for i in slices(rows.shape[0], PARTNERS_AT_A_TIME):
        tile = _partners_tile(rules.known, rules.known.partner[i], rows[i], columns, partners, i)
        mask = rules._replace(keep=None).kept(i, i, tile)
        masks.append(partners[i] != IGNORE if mask is None else mask.diagonal())
        added = rules.bias(None, i, i, tile, None)
        biases += [] if added is None else [added.diagonal()]
    kept = kept & torch.cat(masks)
    if rules.bias_functions:
        own = torch.cat(biases)
        kept = kept & (own != -math.inf)
        rules = rules._replace(known=rules.known._replace(bias=own))
    return rules, kept


def _partners_tile(
    known: Known, own: Tensor, x: Tensor, columns: Tensor, partners: Tensor, i: slice
) -> Tile:
    """The tile of (R, D) rows, ``own`` similar to their partners, and the partners' columns."""
    at = partners[i].clamp_min(0)
    positive = partners[i, None] == at
    return Tile(
        known.rows[i],
        at,
        lambda _: with_partners(dot(x, columns[at]), positive, own),
        own,
        positive=positive,
        column_partner=None if known.column_partner is None else known.column_partner[at],
        partners=partners[i],
        size=known.size,
    )
