"""N-pair loss: InfoNCE on raw dot products at temperature 1."""

from torch import Tensor

from mmcontrast.distributed import Group
from mmcontrast.infonce import info_nce
from mmcontrast.rows import RowMap
from mmcontrast.sharded import local_rows


@local_rows
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
    group: Group | None = None,
) -> Tensor:
    r"""N-pair loss: InfoNCE on raw dot products, without a temperature.

    .. math:: \ell_i = \log\Big(1 + \sum_j \exp(a_i \cdot n_j - a_i \cdot p_i)\Big)

    p is the anchor's positive, n are all its other candidates. The same as :func:`info_nce` with
    ``normalize=None`` and ``temperature=1``.

    Args:
        anchors: (B, D) one embedding per sample.
        candidates: (C, D) positives and negatives.
        targets: (B,) index of each anchor's positive, -100 for none; all others are negatives.
            Default: row ``i`` belongs to anchor ``i``.
        positives: instead of targets, (B, C) bool or floating, as in :func:`info_nce`.
        keep: (B, C) bool: a candidate outside it takes no part for that anchor.
        weight: (B,) sample weights.
        normalize: row map before the dot product; None for raw dot products.
        reduction: ``"mean"`` and ``"sum"`` give a scalar, ``"none"`` gives (B,).
        group: as in :func:`info_nce`.

    Returns:
        Scalar or (B,), float32, or float64 for float64 input.

    Raises:
        ValueError: on shapes or dtypes that disagree, as :func:`info_nce`.

    Example:
        >>> import torch
        >>> n_pair(torch.eye(3), torch.eye(3))  # log(1 + 2 / e)
        tensor(0.5514)

    Note:
        Equals pytorch-metric-learning's ``NPairsLoss`` with a ``DotProductSimilarity`` that does
        not normalise, and on unit rows info-nce-pytorch's ``InfoNCE(temperature=1)``.

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
        group=group,
    )
