"""HyCon's semi-contrast, eq. 6: the modalities of each sample are drawn together."""

from collections.abc import Mapping

import torch
from torch import Tensor

from mmcontrast import arguments
from mmcontrast.distributed import Group, check_names
from mmcontrast.eager import known_finite
from mmcontrast.hybrid.pairs import map_modalities
from mmcontrast.learned import replicated, replicated_module
from mmcontrast.masks import off_diagonal
from mmcontrast.presence import presence
from mmcontrast.reductions import Reduction
from mmcontrast.rows import RowMap, dot, softmax_normalize
from mmcontrast.sharded import local_rows
from mmcontrast.wide import may_widen, narrow, widen


@local_rows
def semi_contrast(
    features: Mapping[str, Tensor],
    *,
    margin: float | Tensor = 0.8,
    normalize: RowMap | None = softmax_normalize,
    present: Mapping[str, Tensor] | None = None,
    weight: Tensor | None = None,
    reduction: str = "mean",
    group: Group | None = None,
) -> Tensor:
    r"""Semi-contrastive loss (SCL): draw the modalities of a sample together, up to a margin.

    .. math:: \ell_{i,m} = \frac{1}{M - 1} \sum_{m' \ne m} (s(x_{m,i}, x_{m',i}) - \alpha)^2

    It has no negatives and needs no labels. Where a modality is missing, the mean is over the
    present partners.

    Args:
        features: (B, D) by modality, two or more.
        margin: :math:`\alpha`, the similarity aimed at; 1 is no margin.
        normalize: row map before the dot product. HyCon's softmax leaves two random rows of 50
            features a similarity of about 0.02, and rows that are nearly one-hot near 0.8.
        present: (B,) bool by modality, which samples have it; all where it is left out.
        weight: (B,) sample weights.
        reduction: ``"mean"`` and ``"sum"`` over samples and modalities give a scalar, ``"none"``
            gives (B, M) in the mapping's order.
        group: a process group, or ``"world"``: mean and sum are those of all its ranks' samples,
            the same on every rank, which all must have the same modalities in the same order.
            None: this rank's own.

    Returns:
        Scalar or (B, M), float32, or float64 for float64 input. An anchor that is absent or has no
        present partner is 0 and not counted.

    Raises:
        ValueError: on fewer than two modalities, or shapes that disagree.

    Example:
        >>> semi_contrast({"text": torch.zeros(1, 2), "audio": torch.zeros(1, 2)})  # (1/2 - 0.8)^2
        tensor(0.0900)

    References: HyCon, IEEE TAFFC 14(3), eq. 6.
    """
    check_names("features", features, group)
    arguments.features(features)
    some = next(iter(features.values()))
    margin = replicated(arguments.number_or_scalar("margin", margin), group, some)
    normalize = replicated_module(normalize, group)
    arguments.reduction(reduction)
    present = presence(features, present)
    here = torch.stack(list(present.values()), dim=1)  # (B, M)

    def values(rows: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        similarity = own_similarities(map_modalities(rows, present, normalize))
        return semi_losses(similarity, here, margin)

    losses, counted = values(features)
    if not known_finite(losses) and may_widen(*features.values(), normalize=normalize):
        losses, counted = narrow(values(widen(features)))
    return Reduction(reduction, weight, group).reduce(losses, counted)


def own_similarities(rows: Mapping[str, Tensor]) -> Tensor:
    """Similarities between the modalities of each sample, (B, D) by modality -> (B, M, M)."""
    x = torch.stack(list(rows.values()), dim=1)  # (B, M, D)
    return dot(x, x)


def semi_losses(
    similarity: Tensor, present: Tensor, margin: float | Tensor
) -> tuple[Tensor, Tensor]:
    """Eq. 6 for each sample and modality, with the mask of those that have a present partner.

    Args:
        similarity: (B, M, M), from :func:`own_similarities`.
        present: (B, M) bool.
        margin: the similarity aimed at.

    Returns:
        (B, M) losses and (B, M) bool.
    """
    others = off_diagonal(present.shape[1], present.device)
    partners = present[:, :, None] & present[:, None, :] & others  # (B, M, M)
    number = partners.sum(-1)
    losses = torch.where(partners, (similarity - margin).square(), 0).sum(-1)
    return losses / number.clamp_min(1), number > 0
