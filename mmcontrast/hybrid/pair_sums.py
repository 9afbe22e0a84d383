"""From sums over an anchor's pairs to its two values, the ratio and the refinement.

Whatever way HyCon's intra- and inter-modal losses are evaluated, an anchor needs five sums over its
positives P and its negatives Q: the similarities over P and over Q, the squared distances of P's
similarities from the target, and the numbers of both. :class:`PairSums` holds them and
:func:`term_values` makes the terms of them.

Both losses sum over the same pairs of samples and differ in the modalities of the partner: the
anchor's own one, or all others. So everything is first summed over the partner's samples, for every
pair of modalities, (B, M, M); :func:`sum_over_partners` then adds up the modalities of each loss.
"""

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from mmcontrast.hybrid.ratio import ratio_losses
from mmcontrast.hybrid.settings import Settings
from mmcontrast.rows import dot


class Contrasts(NamedTuple):
    """The N losses that are evaluated together: intra-modal, inter-modal, or both."""

    partners: Tensor
    """(N, M, M) of 1 and 0: the modalities that each anchor's modality is contrasted with."""
    targets: Tensor
    """(N, 1) what the positives' similarities are compared with."""


class PairSums(NamedTuple):
    """Sums over each anchor's pairs; (k, N, M) each, 0 where a sample does not take part."""

    positives: Tensor
    """Sum of the similarities to its positives."""
    negatives: Tensor
    """Sum of the similarities to its negatives."""
    errors: Tensor
    """Sum of the squared distances of the positives' similarities from the target."""
    positive_count: Tensor
    """Number (or total weight) of its positives."""
    negative_count: Tensor
    """Number (or total weight) of its negatives."""
    certain: Tensor | None = None
    """bool: where no sum is what is left of far larger ones that cancel; None: everywhere."""


class TermValues(NamedTuple):
    """Both parts of a loss for each anchor; (B, M), (B,) of one modality, or (k, N, M) of N."""

    ratio: Tensor
    """The positives' share of all similarity, negated."""
    contrasted: Tensor
    """bool: which anchors have a positive and a negative."""
    refinement: Tensor
    """Mean squared distance of the positives' similarities from the target."""
    refined: Tensor
    """bool: which anchors have a positive."""
    certain: Tensor
    """bool: where no sum is too large, too near 0, or left of what cancels, for its dtype."""


def stack_contrasts(targets: Mapping[str, float | Tensor], size: int, like: Tensor) -> Contrasts:
    """The losses "intra" and "inter" that have a target, for ``size`` modalities."""
    same = torch.eye(size, dtype=like.dtype, device=like.device)
    partners = [1 - same if name == "inter" else same for name in targets]
    aims = [like.new_zeros(1) + target for target in targets.values()]
    return Contrasts(torch.stack(partners), torch.stack(aims))


def sum_over_partners(x: Tensor, partners: Tensor) -> Tensor:
    """Sum over the partner's modality, (k, M, M) by the anchor's and the partner's -> (k, N, M)."""
    number, size, _ = partners.shape
    # One matrix product, because broadcasts over axes this short are slow: its (N M, M M) matrix
    # holds, for each loss and anchor's modality, the partners of that one modality and 0 elsewhere.
    chosen = torch.diag_embed(partners.mT, dim1=1, dim2=2).flatten(2)
    return dot(x.flatten(1), chosen.flatten(0, 1)).view(-1, number, size)


def term_values(sums: PairSums, settings: Settings) -> TermValues:
    """The ratio and the refinement of each anchor, (k, N, M) each."""
    refined, opposed = sums.positive_count > 0, sums.negative_count > 0
    none = torch.zeros_like(refined)
    # Two candidates each, of which the first is the only positive: the sums instead of the pairs.
    similarity = torch.stack([sums.positives, sums.negatives], dim=-1)  # (k, N, M, 2)
    masks = torch.stack([refined, none], dim=-1), torch.stack([none, opposed], dim=-1)
    ratios = ratio_losses(similarity, *masks, log=settings.log, signed=settings.signed)
    refinement = sums.errors / torch.where(refined, sums.positive_count, 1)
    certain = ratios.certain
    if sums.certain is not None:
        certain = certain & (sums.certain | ~refined)
    return TermValues(ratios.losses, ratios.counted, refinement, refined, certain)
