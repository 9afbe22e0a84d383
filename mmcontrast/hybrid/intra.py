"""HyCon's intra-modal contrast, eq. 7-9: within a modality, by class."""

from collections.abc import Mapping

from torch import Tensor

from mmcontrast.distributed import Group
from mmcontrast.hybrid.engine import terms_by_name
from mmcontrast.hybrid.selection import PairSelection
from mmcontrast.hybrid.settings import Settings
from mmcontrast.reductions import Reduction
from mmcontrast.rows import RowMap, softmax_normalize
from mmcontrast.sharded import local_rows


@local_rows
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
        labels: (B,) classes, or (B, L): equal in every column; -100 takes no part. None with
            ``positives`` and ``negatives``.
        refine: add the refinement.
        log: the negated logarithm of the ratio instead of the negated ratio of the paper.
        selection: HyCon-v2's pair selection; None for all pairs. Selected similarities enter the
            ratio weighted by their hardness.
        refine_on: with a selection, the refinement's pairs: the ``"selected"`` ones, unweighted;
            ``"all"``; or the selected ones ``"weighted"``: their similarities times the weights
            of the ratio, which sum to 1.
        positives, negatives: instead of labels, (B, B) masks of each anchor's positives and
            negatives. The diagonal makes no pair, but a sample that is related to no sample, not
            even itself, takes no part at all. Floating weights of at least 0, such as
            ``score_kernel(scores, bandwidth=1)`` and ``score_distance(scores, bandwidth=1)``, weigh
            the similarities in the ratio and in the refinement; they cannot be combined with a
            selection.
        normalize: row map before the dot product.
        present: (B,) bool by modality, which samples have it; all where it is left out. Rows of
            absent modalities may hold anything, even NaN. (Give an encoder zeros there all the
            same: a NaN in its inputs would reach its own weights.)
        weight: (B,) sample weights.
        reduction: ``"mean"`` and ``"sum"`` over samples and modalities give a scalar, ``"none"``
            gives (B, M) in the mapping's order.
        group: a process group, or ``"world"``: candidates are the samples of all its ranks, and
            mean and sum those of all its anchors; masks are (B, B of all ranks). The mean over
            ranks of the gradients is then that of one process on the whole batch. Every rank must
            have the same modalities in the same order, which is checked. None: this rank alone.

    Returns:
        Scalar or (B, M), float32, or float64 for float64 input; 0 with a graph where no anchor has
        a positive.

    Raises:
        ValueError: on fewer than two modalities, shapes that disagree, labels with fractions, or
            another word for refine_on.

    Example:
        >>> import torch
        >>> x = {"text": torch.zeros(3, 2), "audio": torch.zeros(3, 2)}  # all similarities are 1/2
        >>> intra_modal_contrast(x, torch.tensor([0, 0, 1]))  # -1/2 + (1/2 - 1)^2
        tensor(-0.2500)

    Note:
        See :func:`hybrid_contrast` for the evaluation of large batches.

    References: HyCon, IEEE TAFFC 14(3), eq. 7-9 and 13-15.
    """
    settings = Settings(
        refine, log, selection, refine_on, normalize, Reduction(reduction, weight, group)
    )
    terms = terms_by_name(
        features,
        labels,
        {"intra": 1.0},
        settings,
        positives=positives,
        negatives=negatives,
        present=present,
    )
    return terms["intra"]
