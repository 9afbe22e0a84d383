"""Ratio contrast: the positives' share of all similarity."""

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from mmcontrast import arguments
from mmcontrast.distances import within
from mmcontrast.distributed import Group
from mmcontrast.reductions import Reduction
from mmcontrast.rows import upcast
from mmcontrast.sharded import local_rows
from mmcontrast.wide import may_widen, narrow, widen


@local_rows
def ratio_contrast(
    similarity: Tensor,
    positives: Tensor,
    negatives: Tensor,
    *,
    log: bool = False,
    weight: Tensor | None = None,
    reduction: str = "mean",
    group: Group | None = None,
) -> Tensor:
    r"""The positives' share of all similarity, negated: a contrast without exponentials.

    .. math:: \ell_i = -\frac{\sum_P s_{ij}}{\sum_P s_{ij} + \sum_Q s_{ij}} \in [-1, 0]

    With one positive this is HyCon's classical contrastive loss, and with ``log=True`` COBRA's;
    with several it is the ratio inside HyCon's intra- and inter-modal losses.

    Args:
        similarity: (B, C) similarities, meant to be at least 0: the share of negative ones, such as
            cosines, has no bounds.
        positives: (B, C) bool, or floating weights, at least 0, of the positives' similarities.
        negatives: (B, C) bool, or floating weights, at least 0, of the negatives' similarities.
        log: the negated logarithm of the share instead of the negated share.
        weight: (B,) sample weights.
        reduction: ``"mean"`` and ``"sum"`` give a scalar, ``"none"`` gives (B,).
        group: a process group, or ``"world"``: mean and sum are those of all its ranks' anchors.
            Each rank passes the similarities of its own anchors to all ranks' candidates.

    Returns:
        Scalar or (B,), float32, or float64 for float64 input. An anchor without a positive or
        without a negative is 0 and not counted: without negatives the share is 1 whatever the
        similarities are. Where both sums are 0, the share is 0, and the loss with ``log`` is log 2.
        A sum below 1e-31 (1e-292 in float64, which is taken on the CPU in eager mode) counts as 0.

    Raises:
        ValueError: on shapes or dtypes that disagree, or negative weights (read on the CPU
            only).

    Example:
        >>> similarity = torch.tensor([[0.6, 0.2]])
        >>> positives = torch.tensor([[True, False]])
        >>> ratio_contrast(similarity, positives, ~positives)
        tensor(-0.7500)

    References: HyCon, IEEE TAFFC 14(3), eq. 5 (COBRA), 7, 10 and 18.
    """
    arguments.table("similarity", similarity)
    size = tuple(similarity.shape)
    arguments.weights("positives", positives, size)
    arguments.weights("negatives", negatives, size)
    arguments.flag("log", log)
    arguments.reduction(reduction)
    ratios = ratio_losses(upcast(similarity), positives, negatives, log=log, signed=False)
    if may_widen(similarity) and not ratios.certain.all():
        wide = widen(similarity), widen(positives), widen(negatives)
        ratios = narrow(ratio_losses(*wide, log=log, signed=False))
    return Reduction(reduction, weight, group).reduce(ratios.losses, ratios.counted)


class Ratios(NamedTuple):
    """The ratio of each anchor, (..., B) each."""

    losses: Tensor
    """The positives' shares, negated, or their negated logs."""
    counted: Tensor
    """bool: which anchors have a positive and a negative."""
    certain: Tensor
    """bool: where no sum that matters is so large, or so near 0, that its dtype cannot tell it."""


def ratio_losses(
    similarity: Tensor, positives: Tensor, negatives: Tensor, *, log: bool, signed: bool
) -> Ratios:
    """The positives' share of all similarity, for each anchor.

    Args:
        similarity: (..., B, C).
        positives, negatives: (..., B, C) bool or floating weights.
        log: negated logarithms.
        signed: whether sums of similarities may be negative. If not, rounding alone took those that
            are below 0 there, and they count as 0.
    """
    positive, negative = positives != 0, negatives != 0
    counted = positive.any(-1) & negative.any(-1)
    sum_positives = (torch.where(positive, similarity, 0) * positives).sum(-1)
    sum_negatives = (torch.where(negative, similarity, 0) * negatives).sum(-1)
    if not signed:
        sum_positives, sum_negatives = (
            within(x, 0, math.inf) for x in (sum_positives, sum_negatives)
        )
    # A sum below this counts as 0: 1 / sum, times sums of rows on the way to the features, could
    # overflow, and of what the sum was made of, too much may have underflowed.
    limits = torch.finfo(similarity.dtype)
    floor = limits.tiny / limits.eps
    total = sum_positives + sum_negatives
    if log:
        # -log(P / (P + Q)) = softplus(log Q - log P), exact where Q is far below P.
        gap = sum_negatives.clamp_min(floor).log() - sum_positives.clamp_min(floor).log()
        least = torch.minimum(sum_negatives, sum_positives)
        losses = F.softplus(gap, threshold=50)
    else:
        least = total.abs()
        losses = -sum_positives / torch.where(least < floor, 1, total)
    certain = ~counted | ((least >= floor) & total.isfinite())
    return Ratios(losses, counted, certain)
