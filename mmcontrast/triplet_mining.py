"""Batch-hard and semi-hard triplets of a labelled batch."""

import torch
from torch import Tensor

from mmcontrast import arguments
from mmcontrast.distances import Distance
from mmcontrast.distributed import Group, name_of
from mmcontrast.exact.batch_hard import hardest_triplets, triplets_of
from mmcontrast.exact.closeness import MEASURES
from mmcontrast.exact.ties import map_equal_rows
from mmcontrast.mining import measures
from mmcontrast.rows import RowMap, l2_normalize
from mmcontrast.sharded import local_rows


@local_rows
@torch.no_grad()
def hard_triplets(
    anchors: Tensor,
    labels: Tensor,
    *,
    distance: Distance | None = None,
    semi_hard: float | None = None,
    normalize: RowMap | None = l2_normalize,
    chunk_size: int | None = None,
    group: Group | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Each anchor's least similar positive and most similar negative: batch-hard triplets.

    With a distance these are the farthest positive and the closest negative. Ties go to the lower
    index; equal rows always tie. Mapped rows with NaN or infinity take no part.

    Args:
        anchors: (B, D) one embedding per sample.
        labels: (B,) classes, or (B, L): equal in every column; -100 takes no part.
        distance: instead of the dot product of mapped rows, a distance of rows as they are, such as
            :func:`euclidean`, or a callable (..., D), (..., D) -> (...). The one of
            :func:`triplet`, whose losses these triplets then have at their largest.
        semi_hard: take the most similar negative among those that are less similar than the
            positive, but by at most this margin. An anchor without any has no triplet.
        normalize: row map before the dot product; None for raw dot products.
        chunk_size: number of anchors at a time, as in :func:`hard_negatives`.
        group: a process group, or ``"world"``: positives and negatives come from all its ranks,
            and indices count their rows in the order of the ranks; a are this rank's rows.

    Returns:
        Index tensors (a, p, n), (B,) int64 each, one triplet for each anchor. An anchor that lacks
        a positive or a negative has p = n = a: ``keep=p != a`` leaves it out of :func:`triplet`.

    Raises:
        ValueError: on shapes or dtypes that disagree, labels with fractions, a row map beside a
            distance, or a semi_hard margin that is not above 0.

    Example:
        >>> x = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.8, 0.6], [0.9, 0.1]])
        >>> hard_triplets(x, torch.tensor([0, 0, 0, 1]))
        (tensor([0, 1, 2, 3]), tensor([1, 0, 1, 3]), tensor([3, 3, 3, 3]))

    Note:
        Equals pytorch-metric-learning's ``BatchHardMiner``, and with ``semi_hard``, but for its
        margin, ``BatchEasyHardMiner(pos_strategy="hard", neg_strategy="semihard")``; both with
        ``LpDistance(normalize_embeddings=False)`` for :func:`euclidean`. Semi-hard negatives of all
        pairs of a class, as FaceNet has them: see :func:`hard_negatives`.

    References: batch-hard triplets, arXiv:1703.07737; semi-hard negatives, FaceNet,
        arXiv:1503.03832, section 3.2; HyCon, IEEE TAFFC 14(3), section 4.5.7.
    """
    arguments.matrix("anchors", anchors)
    labels = arguments.labels("labels", labels, anchors.shape[0])
    chunk_size = arguments.chunk(chunk_size)
    normalize, distance = measures(normalize, distance)
    if semi_hard is not None:
        arguments.positive("semi_hard", semi_hard)
    rows = map_equal_rows(anchors, normalize)
    given = rows, labels, normalize is None, chunk_size, name_of(group)
    if distance in MEASURES:
        return hardest_triplets(*given, MEASURES.index(distance), semi_hard)
    return triplets_of(*given, distance, semi_hard)
