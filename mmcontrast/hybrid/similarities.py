"""HyCon's losses from the similarities of all pairs, of all anchors at once or block by block."""

from collections.abc import Callable, Mapping
from itertools import pairwise

import torch
from einops import rearrange
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from mmcontrast.distributed import part
from mmcontrast.eager import is_eager
from mmcontrast.exact.ties import first_equal, share_scores
from mmcontrast.hybrid.pair_sums import (
    PairSums,
    TermValues,
    stack_contrasts,
    sum_over_partners,
    term_values,
)
from mmcontrast.hybrid.pairs import MaskRows, Pairs, modal_pairs
from mmcontrast.hybrid.ratio import ratio_losses
from mmcontrast.hybrid.selection import PairSelection, hardness_weights, thin
from mmcontrast.hybrid.settings import Settings
from mmcontrast.rows import dot

Block = Callable[[slice], dict[str, TermValues]]
"""Evaluates "intra" and "inter" for a slice of the anchors."""


def all_pairs(
    rows: Mapping[str, Tensor],
    taking_part: Mapping[str, Tensor],
    masks: MaskRows,
    targets: Mapping[str, float | Tensor],
    settings: Settings,
) -> Block:
    """All pairs without selection, weighted where the masks are floating.

    Only the refinement needs the similarities of all pairs. The ratio needs their sums, and the sum
    of an anchor's similarities to its positives is its similarity to the sum of the positives.
    """
    here = torch.stack(list(taking_part.values()))  # (M, B)
    x = torch.stack([y * taken[:, None] for y, taken in zip(rows.values(), here, strict=True)])
    here = here.to(x.dtype)
    columns = x.transpose(0, 1).flatten(1).mT  # (M D, B)

    def block(anchors: slice) -> dict[str, TermValues]:
        contrasts = stack_contrasts(targets, len(x), like=x)
        partners = contrasts.partners
        own, there = part(x, anchors, 1), part(here, anchors, 1).mT  # (M, b, D), (b, M)
        positives, negatives = (mask.to(x.dtype) for mask in masks(anchors))  # (b, B)
        similarity = dot(own.flatten(0, 1), x.flatten(0, 1)).view(*own.shape[:2], *here.shape)
        # Every pair of modalities belongs to one loss, so one matrix holds all targets.
        aims = (partners * contrasts.targets[..., None]).sum(0)
        pairs = positives[:, None] * here  # (b, M, B)
        errors = ((similarity - aims[:, None, :, None]).square() * pairs).sum(-1).transpose(0, 1)
        # Sums of rows first, then their dot products; one product for positives and negatives.
        row_sums = dot(torch.cat([positives, negatives]), columns)  # (2 b, M D)
        row_sums = rearrange(row_sums, "(s b) (m d) -> b (s m) d", s=2, m=len(x))
        pair_sums = dot(own.transpose(0, 1), row_sums).chunk(2, dim=2)  # (b, M, M) each
        sums = sum_over_partners(torch.cat([*pair_sums, errors]), partners).chunk(3)
        counts = (
            sum_over_partners(dot(mask, here)[:, None] * there[..., None], partners)
            for mask in (positives, negatives)
        )
        values = term_values(PairSums(*sums, *counts), settings)
        return {name: TermValues(*(y[:, k] for y in values)) for k, name in enumerate(targets)}

    return block


def selected_pairs(
    rows: Mapping[str, Tensor],
    taking_part: Mapping[str, Tensor],
    masks: MaskRows,
    targets: Mapping[str, float | Tensor],
    selection: PairSelection,
    settings: Settings,
) -> Block:
    """HyCon-v2: the hardest pairs of each anchor, weighted by their hardness (eq. 13-15)."""
    count = selection.count(torch.stack(list(taking_part.values())).any(0).sum())

    def block(anchors: slice) -> dict[str, TermValues]:
        related = masks(anchors)
        found = {}
        for name, target in targets.items():
            inter = name == "inter"
            number = (selection.inter_factor if inter else 1) * count
            pairs = modal_pairs(rows, taking_part, related, inter=inter, anchors=anchors)
            columns = [
                _selected_values(x, target, number, selection, settings) for x in pairs.values()
            ]
            found[name] = TermValues(*(torch.stack(x, dim=1) for x in zip(*columns, strict=True)))
        return found

    return block


def in_blocks(
    block: Block, rows: Mapping[str, Tensor], own: slice, step: int
) -> dict[str, TermValues]:
    """The values of this rank's anchors, ``step`` of them at a time where there are more.

    A block keeps none of its similarities for the backward pass, which makes them again.
    """
    if not is_eager(*rows.values()) or step >= own.stop - own.start:
        return block(own)
    cuts = [*range(own.start, own.stop, step), own.stop]
    blocks = [checkpoint(block, slice(*ends), use_reentrant=False) for ends in pairwise(cuts)]
    return {
        name: TermValues(*map(torch.cat, zip(*(found[name] for found in blocks), strict=True)))
        for name in blocks[0]
    }


def _selected_values(
    pairs: Pairs,
    target: float | Tensor,
    count: int | Tensor,
    selection: PairSelection,
    settings: Settings,
) -> TermValues:
    """The values of one modality's anchors, (B,) each."""
    anchors, candidates, positives, negatives, _ = pairs
    similarity = dot(anchors, candidates)  # (B, C)
    # The choice is by scores in which equal candidates tie, the loss by each one's own row.
    shared = share_scores(similarity.detach(), first_equal(candidates.detach()))
    chosen, rejected = thin(shared, positives, negatives, selection, count)
    pull, push = _selection_weights(similarity, chosen, rejected, selection)
    ratios = ratio_losses(similarity, pull, push, log=settings.log, signed=settings.signed)
    refined = positives if settings.refine_on == "all" else chosen
    value = similarity * pull if settings.refine_on == "weighted" else similarity
    number = refined.sum(-1)
    errors = ((value - target).square() * refined).sum(-1)
    refinement = errors / torch.where(number > 0, number, 1)
    return TermValues(ratios.losses, ratios.counted, refinement, number > 0, ratios.certain)


def _selection_weights(
    similarity: Tensor, positives: Tensor, negatives: Tensor, selection: PairSelection
) -> tuple[Tensor, Tensor]:
    """Hardness weights on the sides that are selected; on the others a mean's or a sum's."""
    weights = hardness_weights(similarity, positives, negatives, gamma=selection.gamma)

    def plain(mask: Tensor) -> Tensor:
        ones = mask.to(similarity.dtype)
        number = mask.sum(-1, keepdim=True).clamp_min(1)
        return ones / number if selection.unselected == "mean" else ones

    return (
        weights[0] if selection.positives else plain(positives),
        weights[1] if selection.negatives else plain(negatives),
    )
