"""HyCon's three losses: semi-, intra- and inter-modal contrast."""

from collections.abc import Mapping

import torch
from torch import Tensor

from mmcontrast import arguments
from mmcontrast.distributed import Group
from mmcontrast.hybrid.engine import evaluate, mapped, own_similarity, semi
from mmcontrast.hybrid.selection import PairSelection
from mmcontrast.presence import presence
from mmcontrast.reductions import Reduction
from mmcontrast.rows import RowMap, softmax_normalize


def semi_contrast(
    features: Mapping[str, Tensor],
    *,
    margin: float = 0.8,
    normalize: RowMap | None = softmax_normalize,
    present: Mapping[str, Tensor] | None = None,
    weight: Tensor | None = None,
    reduction: str = "mean",
    group: Group | None = None,
) -> Tensor:
    r"""Semi-contrastive loss (SCL): a sample's modalities shall be alike, up to a margin.

    .. math:: \ell_{i,m} = \frac{1}{M - 1} \sum_{m' \ne m} (s(x_{m,i}, x_{m',i}) - \alpha)^2

    No negatives and no labels. Where a modality is missing, the mean goes over the present
    partners.

    Args:
        features: (B, D) by modality, two or more.
        margin: :math:`\alpha`, the similarity aimed at; 1 takes the modality margin away.
        normalize: row map before the dot product. HyCon's softmax leaves two random rows of 50
            features a similarity of about 0.02, and rows that are nearly one-hot near 0.8.
        present: (B,) bool by modality, who has it; all do where nothing is said.
        weight: (B,) sample weights.
        reduction: ``"mean"`` and ``"sum"`` over samples and modalities give a scalar, ``"none"``
            gives (B, M) in the mapping's order.
        group: a process group, or ``"world"``: mean and sum are those of all its ranks' samples,
            the same on every rank. None: this rank's own.

    Returns:
        Scalar or (B, M), float32, or float64 for float64 input. An anchor that is absent or has no
        present partner is worth 0 and not counted.

    Raises:
        ValueError: on fewer than two modalities, or shapes that disagree.

    Example:
        >>> semi_contrast({"text": torch.zeros(1, 2), "audio": torch.zeros(1, 2)})  # (1/2 - 0.8)^2
        tensor(0.0900)

    References: HyCon, IEEE TAFFC 14(3), eq. 6.
    """
    arguments.features(features)
    arguments.reduction(reduction)
    present = presence(features, present)
    own = own_similarity(mapped(features, present, normalize))
    here = torch.stack(list(present.values()), dim=1)
    return Reduction(reduction, weight, group).reduce(*semi(own, here, margin))


def intra_modal_contrast(
    features: Mapping[str, Tensor],
    labels: Tensor | None,
    *,
    refine: bool = True,
    log: bool = False,
    selection: PairSelection | None = None,
    refine_on: str = "selected",
    positives: Tensor | None = None,
    negatives: Tensor | None = None,
    normalize: RowMap | None = softmax_normalize,
    present: Mapping[str, Tensor] | None = None,
    weight: Tensor | None = None,
    reduction: str = "mean",
    group: Group | None = None,
) -> Tensor:
    r"""Intra-modal contrastive loss (IAMCL): within a modality, by class.

    .. math:: \ell_{i,m} = -\frac{\sum_P s}{\sum_P s + \sum_Q s} + \frac1N \sum_P (s - 1)^2

    P are the N other samples of the anchor's class and Q those of other classes, in the anchor's
    modality; the second term is the refinement. The ratio is averaged over the anchors that have a
    positive and a negative, the refinement over those that have a positive.

    Args:
        features: (B, D) by modality, two or more.
        labels: (B,) classes, or (B, L): equal in every column; -100 takes no part. None where
            positives and negatives say it all.
        refine: add the refinement.
        log: the negated logarithm of the ratio instead of the negated ratio that is printed.
        selection: HyCon-v2's pair selection; None for all pairs. Selected similarities enter the
            ratio weighted by their hardness.
        refine_on: with a selection, the refinement's pairs: the ``"selected"`` ones, unweighted;
            ``"all"``; or the selected ones ``"weighted"``, where the similarities as they enter the
            ratio, times weights that sum to 1, are drawn to 1 each.
        positives, negatives: instead of labels, (B, B) masks of who is whose. The diagonal makes no
            pair, but a sample that is related to nobody, not even itself, takes no part at all.
            Floating weights, ``score_kernel(scores, bandwidth=1)`` and 1 minus it, say, weigh the
            similarities in the ratio and in the refinement; they go without selection.
        normalize: row map before the dot product.
        present: (B,) bool by modality, who has it; all do where nothing is said.
        weight: (B,) sample weights.
        reduction: ``"mean"`` and ``"sum"`` over samples and modalities give a scalar, ``"none"``
            gives (B, M) in the mapping's order.
        group: a process group, or ``"world"``: candidates are the samples of all its ranks, and
            mean and sum those of all its anchors; masks are (B, B of all ranks). The mean over
            ranks of the gradients is then that of one process on the whole batch. None: this rank
            alone.

    Returns:
        Scalar or (B, M), float32, or float64 for float64 input; 0 with a graph where no anchor has
        a positive.

    Raises:
        ValueError: on fewer than two modalities, shapes that disagree, or another word for
            refine_on.

    Example:
        >>> x = {"text": torch.zeros(3, 2), "audio": torch.zeros(3, 2)}  # all similarities are 1/2
        >>> intra_modal_contrast(x, torch.tensor([0, 0, 1]))  # -1/2 + (1/2 - 1)^2
        tensor(-0.2500)

    Note:
        How large batches are evaluated is said at :func:`hybrid_contrast`.

    References: HyCon, IEEE TAFFC 14(3), eq. 7-9 and 13-15.
    """
    terms = evaluate(
        features,
        labels,
        {"intra": 1.0},
        refine=refine,
        log=log,
        selection=selection,
        refine_on=refine_on,
        positives=positives,
        negatives=negatives,
        normalize=normalize,
        present=present,
        weight=weight,
        reduction=reduction,
        group=group,
    )
    return terms["intra"]


def inter_modal_contrast(
    features: Mapping[str, Tensor],
    labels: Tensor | None,
    *,
    margin: float = 0.8,
    refine: bool = True,
    log: bool = False,
    selection: PairSelection | None = None,
    refine_on: str = "selected",
    positives: Tensor | None = None,
    negatives: Tensor | None = None,
    normalize: RowMap | None = softmax_normalize,
    present: Mapping[str, Tensor] | None = None,
    weight: Tensor | None = None,
    reduction: str = "mean",
    group: Group | None = None,
) -> Tensor:
    r"""Inter-modal contrastive loss (IEMCL): across modalities, by class.

    .. math:: \ell_{i,m} = -\frac{\sum_P s}{\sum_P s + \sum_Q s}
              + \frac{1}{|P|} \sum_P (s - \alpha)^2

    P are the other samples of the anchor's class and Q those of other classes, in the modalities
    that the anchor is not of.

    Args:
        features: (B, D) by modality, two or more.
        labels: (B,) classes, or (B, L): equal in every column; -100 takes no part.
        margin: :math:`\alpha`, the similarity that the refinement aims at; 1 takes the modality
            margin away.
        refine, log, selection, refine_on, positives, negatives, normalize, present, weight,
            reduction, group: as in
            :func:`intra_modal_contrast`.

    Returns:
        Scalar or (B, M), float32, or float64 for float64 input; 0 with a graph where no anchor has
        a positive.

    Raises:
        ValueError: on fewer than two modalities, shapes that disagree, or another word for
            refine_on.

    Example:
        >>> x = {"text": torch.zeros(3, 2), "audio": torch.zeros(3, 2)}  # all similarities are 1/2
        >>> inter_modal_contrast(x, torch.tensor([0, 0, 1]))  # -1/2 + (1/2 - 0.8)^2
        tensor(-0.4100)

    Note:
        How large batches are evaluated is said at :func:`hybrid_contrast`.

    References: HyCon, IEEE TAFFC 14(3), eq. 10-12 and 13-15.
    """
    terms = evaluate(
        features,
        labels,
        {"inter": margin},
        refine=refine,
        log=log,
        selection=selection,
        refine_on=refine_on,
        positives=positives,
        negatives=negatives,
        normalize=normalize,
        present=present,
        weight=weight,
        reduction=reduction,
        group=group,
    )
    return terms["inter"]
