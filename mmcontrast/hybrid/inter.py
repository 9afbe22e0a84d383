"""HyCon's inter-modal contrast, eq. 10-12: across modalities, by class."""

from collections.abc import Mapping

from torch import Tensor

from mmcontrast import arguments
from mmcontrast.distributed import Group
from mmcontrast.hybrid.engine import terms_by_name
from mmcontrast.hybrid.selection import PairSelection
from mmcontrast.hybrid.settings import Settings
from mmcontrast.reductions import Reduction
from mmcontrast.rows import RowMap, softmax_normalize
from mmcontrast.sharded import local_rows


@local_rows
def inter_modal_contrast(
    features: Mapping[str, Tensor],
    labels: Tensor | None,
    *,
    margin: float | Tensor = 0.8,
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

    P are the other samples of the anchor's class and Q those of other classes, in all
    modalities but the anchor's.

    Args:
        features: (B, D) by modality, two or more.
        labels: (B,) classes, or (B, L): equal in every column; -100 takes no part.
        margin: :math:`\alpha`, the similarity that the refinement aims at; 1 is no margin.
        refine, log, selection, refine_on, positives, negatives, normalize, present, weight,
            reduction, group: as in :func:`intra_modal_contrast`.

    Returns:
        Scalar or (B, M), float32, or float64 for float64 input; 0 with a graph where no anchor has
        a positive.

    Raises:
        ValueError: on fewer than two modalities, shapes that disagree, labels with fractions, or
            another word for refine_on.

    Example:
        >>> import torch
        >>> x = {"text": torch.zeros(3, 2), "audio": torch.zeros(3, 2)}  # all similarities are 1/2
        >>> inter_modal_contrast(x, torch.tensor([0, 0, 1]))  # -1/2 + (1/2 - 0.8)^2
        tensor(-0.4100)

    Note:
        See :func:`hybrid_contrast` for the evaluation of large batches.

    References: HyCon, IEEE TAFFC 14(3), eq. 10-12 and 13-15.
    """
    margin = arguments.constant("margin", margin)
    settings = Settings(
        refine, log, selection, refine_on, normalize, Reduction(reduction, weight, group)
    )
    terms = terms_by_name(
        features,
        labels,
        {"inter": margin},
        settings,
        positives=positives,
        negatives=negatives,
        present=present,
    )
    return terms["inter"]
