"""Substitutes for HyCon's similarity, and for its intra- and inter-modal contrast."""

from collections.abc import Mapping

import torch
from torch import Tensor

from mmcontrast import (
    Pairs,
    extreme,
    l2_normalize,
    n_pair,
    ratio_contrast,
    sample_one,
    shifted_cosine_normalize,
    softmax_normalize,
    softplus_normalize,
    squared_euclidean,
    triplet,
)
from mmcontrast.rows import RowMap, dot, map_rows

SIMILARITIES = {
    "softmax": softmax_normalize,
    "cosine": l2_normalize,
    "cosine01": shifted_cosine_normalize,
    "softplus_l2": softplus_normalize,
    "dot": None,
}
SUBSTITUTES = ("triplet", "hard_triplet", "n_pair", "classical")


def substitute_contrast(
    pairs: Mapping[str, Pairs],
    *,
    loss: str,
    normalize: RowMap | None,
    log: bool = False,
    generator: torch.Generator | None = None,
) -> Tensor:
    r"""One of the substitutes, on the pairs of HyCon's own losses.

    * ``"classical"``: :math:`-a \cdot p / (a \cdot p + \sum_j a \cdot n_j)`, one random positive
      and all negatives.
    * ``"n_pair"``: :math:`\log(1 + \sum_j \exp(a \cdot n_j - a \cdot p))`, on the same pairs.
    * ``"triplet"``: :math:`\|a - p\|^2 - \|a - n\|^2 + 1`, one random positive and negative.
    * ``"hard_triplet"``: the same on the least similar positive and the most similar negative.

    The triplet losses have no hinge, as printed.

    Args:
        pairs: by modality, from ``intra_modal_pairs`` or ``inter_modal_pairs``.
        loss: one of the names above.
        normalize: row map of anchors and candidates (the paper's is the softmax), or None.
        log: for ``"classical"``, the negated logarithm of the share instead of the negated share.
        generator: draws the random pairs, on the features' device; None: torch's default.

    Returns:
        Scalar: the mean over the anchors, of all modalities, that have both a positive and a
        negative; 0 with a graph where there is no such anchor.

    Raises:
        ValueError: another name.

    References: HyCon, IEEE TAFFC 14(3), section 4.5.7, eq. 18-20.
    """
    if loss not in SUBSTITUTES:
        raise ValueError(f"loss: expected one of {SUBSTITUTES}, got {loss!r}")
    values, counted = [], []
    for pair in pairs.values():
        positives, negatives = pair.positives, pair.negatives
        anchors = map_rows(pair.anchors, normalize)
        candidates = map_rows(pair.candidates, normalize)
        similarity = dot(anchors, candidates)
        has_both = positives.any(1) & negatives.any(1)
        if loss == "hard_triplet":
            positive, _ = extreme(similarity.detach(), positives, largest=False)
            negative, _ = extreme(similarity.detach(), negatives, largest=True)
        else:
            positive, _ = sample_one(positives, generator=generator)
            negative, _ = sample_one(negatives, generator=generator)
        if loss in ("triplet", "hard_triplet"):
            value = triplet(
                anchors,
                candidates[positive],
                candidates[negative],
                margin=1.0,
                distance=squared_euclidean,
                hinge=False,
                keep=has_both,
                reduction="none",
            )
        else:
            columns = torch.arange(positives.shape[1], device=positives.device)
            drawn = (columns == positive[:, None]) & has_both[:, None]  # (B, C): the one positive
            if loss == "n_pair":
                value = n_pair(
                    anchors, candidates, positives=drawn, keep=drawn | negatives, reduction="none"
                )
            else:
                value = ratio_contrast(similarity, drawn, negatives, log=log, reduction="none")
        values.append(value)
        counted.append(has_both)
    # Every loss above is 0 for an anchor without a positive or a negative.
    return torch.cat(values).sum() / torch.cat(counted).sum().clamp_min(1)
