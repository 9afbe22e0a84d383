"""Losses over positives and negatives that labels name: ratio contrast and N-pair."""

import torch
import torch.nn.functional as F
from torch import Tensor

from mmcontrast import _checks
from mmcontrast.infonce import info_nce
from mmcontrast.rows import RowMap, upcast


def ratio_contrast(
    similarity: Tensor,
    positives: Tensor,
    negatives: Tensor,
    *,
    log: bool = False,
    weight: Tensor | None = None,
    reduction: str = "mean",
) -> Tensor:
    r"""The positives' share of all similarity, negated: a contrast without exponentials.

    .. math:: \ell_i = -\frac{\sum_P s_{ij}}{\sum_P s_{ij} + \sum_Q s_{ij}} \in [-1, 0]

    With one positive this is HyCon's classical contrastive loss, and with ``log=True`` COBRA's;
    with several it is the ratio inside HyCon's intra- and inter-modal losses.

    Args:
        similarity: (B, C) similarities of at least 0.
        positives: (B, C) bool, or floating weights of the positives' similarities.
        negatives: (B, C) bool, or floating weights of the negatives' similarities.
        log: the negated logarithm of the share instead of the negated share.
        weight: (B,) sample weights.
        reduction: ``"mean"`` and ``"sum"`` give a scalar, ``"none"`` gives (B,).

    Returns:
        Scalar or (B,), float32, or float64 for float64 input. An anchor without a positive or
        without a negative is worth 0 and not counted: without negatives the share is 1 whatever the
        similarities are. A share of nothing, where both sums are 0, is 0.

    Raises:
        ValueError: on shapes or dtypes that disagree.

    Example:
        >>> similarity = torch.tensor([[0.6, 0.2]])
        >>> positives = torch.tensor([[True, False]])
        >>> ratio_contrast(similarity, positives, ~positives)
        tensor(-0.7500)

    References: HyCon, IEEE TAFFC 14(3), eq. 5 (COBRA), 7, 10 and 18.
    """
    _checks.table("similarity", similarity)
    size = tuple(similarity.shape)
    _checks.mask("positives", positives, size, weights=True)
    _checks.mask("negatives", negatives, size, weights=True)
    _checks.reduction(reduction)
    losses, counted = share(upcast(similarity), positives, negatives, log=log)
    return _checks.reduce(losses, counted, weight=weight, reduction=reduction)


def share(
    similarity: Tensor, positives: Tensor, negatives: Tensor, *, log: bool
) -> tuple[Tensor, Tensor]:
    """(..., B) negated shares of the positives, or their negated logs, and (..., B) who counts."""
    counted = (positives != 0).any(-1) & (negatives != 0).any(-1)
    sum_positives = (similarity * positives).sum(-1)
    sum_negatives = (similarity * negatives).sum(-1)
    if log:
        # -log(P / (P + Q)) = softplus(log Q - log P), exact where Q is far below P. The floor keeps
        # a sum that underflowed to 0 finite.
        floor = torch.finfo(similarity.dtype).tiny
        gap = sum_negatives.clamp_min(floor).log() - sum_positives.clamp_min(floor).log()
        return F.softplus(gap, threshold=50), counted
    total = sum_positives + sum_negatives
    return -sum_positives / torch.where(total == 0, 1, total), counted


def n_pair(
    anchors: Tensor,
    candidates: Tensor,
    targets: Tensor | None = None,
    *,
    positives: Tensor | None = None,
    keep: Tensor | None = None,
    weight: Tensor | None = None,
    normalize: RowMap | None = None,
    reduction: str = "mean",
) -> Tensor:
    r"""N-pair loss: every negative's lead over the positive, in one logarithm.

    .. math:: \ell_i = \log\Big(1 + \sum_j \exp(a_i \cdot n_j - a_i \cdot p_i)\Big)

    This is :func:`info_nce` on raw dot products at temperature 1, by another name.

    Args:
        anchors: (B, D) one embedding per sample.
        candidates: (C, D) positives and negatives.
        targets: (B,) index of each anchor's positive, -100 for none; all else is negative. Default:
            row ``i`` belongs to anchor ``i``.
        positives: instead of targets, (B, C) bool or floating, as in :func:`info_nce`.
        keep: (B, C) bool: a candidate outside it takes no part for that anchor.
        weight: (B,) sample weights.
        normalize: row map before the dot product; None for raw dot products.
        reduction: ``"mean"`` and ``"sum"`` give a scalar, ``"none"`` gives (B,).

    Returns:
        Scalar or (B,), float32, or float64 for float64 input.

    Raises:
        ValueError: on shapes or dtypes that disagree, as :func:`info_nce`.

    Example:
        >>> n_pair(torch.eye(3), torch.eye(3))  # log(1 + 2 / e)
        tensor(0.5514)

    References: N-pair loss, Sohn, NeurIPS 2016; HyCon, IEEE TAFFC 14(3), eq. 20.
    """
    return info_nce(
        anchors,
        candidates,
        targets,
        temperature=1.0,
        positives=positives,
        keep=keep,
        weight=weight,
        normalize=normalize,
        reduction=reduction,
    )
