"""Who is contrasted with whom in HyCon: pairs within a modality and across modalities."""

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from mmcontrast import _checks
from mmcontrast.masks import (
    different_label,
    labelled,
    off_diagonal,
    only_present,
    presence,
    same_label,
)


class Pairs(NamedTuple):
    """The anchors of one modality, and whom each is contrasted with."""

    anchors: Tensor
    """(B, D)."""
    candidates: Tensor
    """(C, D)."""
    positives: Tensor
    """(B, C) bool, or floating weights."""
    negatives: Tensor
    """(B, C) bool, or floating weights."""
    here: Tensor
    """(B,) bool: who has this modality, and a label."""


def intra_modal_pairs(
    features: Mapping[str, Tensor],
    labels: Tensor | None,
    *,
    positives: Tensor | None = None,
    negatives: Tensor | None = None,
    present: Mapping[str, Tensor] | None = None,
) -> dict[str, Pairs]:
    """Pairs within a modality: other samples of the same class against samples of other classes.

    Args:
        features: (B, D) by modality, two or more.
        labels: (B,) classes, or (B, L): equal in every column; -100 takes no part. None where
            positives and negatives say it all.
        positives, negatives: instead of labels, (B, B) bool or floating; the diagonal makes no
            pair; a sample related to nobody, not even itself, takes no part.
        present: (B,) bool by modality, who has it; all do where nothing is said.

    Returns:
        By modality, C = B. Rows that take no part are zero.

    Raises:
        ValueError: on fewer than two modalities, or shapes that disagree.

    Example:
        >>> x = {"text": torch.eye(3), "audio": torch.eye(3)}
        >>> intra_modal_pairs(x, torch.tensor([0, 0, 1]))["text"].positives
        tensor([[False,  True, False],
                [ True, False, False],
                [False, False, False]])

    References: HyCon, IEEE TAFFC 14(3), section 3.3.2.
    """
    positives, negatives, known = relations(features, labels, positives, negatives)
    rows, taking_part = participants(features, known, present)
    pairs = {}
    for name, x in rows.items():
        both = taking_part[name][:, None] & taking_part[name]
        pairs[name] = Pairs(x, x, positives * both, negatives * both, taking_part[name])
    return pairs


def inter_modal_pairs(
    features: Mapping[str, Tensor],
    labels: Tensor | None,
    *,
    positives: Tensor | None = None,
    negatives: Tensor | None = None,
    present: Mapping[str, Tensor] | None = None,
) -> dict[str, Pairs]:
    """Pairs across modalities: other samples, in the other modalities, by class.

    The other modalities of the same sample are no pairs here; they are the semi-contrastive loss's.

    Args:
        features: (B, D) by modality, two or more.
        labels: (B,) classes, or (B, L): equal in every column; -100 takes no part. None where
            positives and negatives say it all.
        positives, negatives: instead of labels, (B, B) bool or floating; the diagonal makes no
            pair; a sample related to nobody, not even itself, takes no part.
        present: (B,) bool by modality, who has it; all do where nothing is said.

    Returns:
        By modality, C = (M - 1) B: the other modalities' rows, one after the other in the mapping's
        order. Rows that take no part are zero.

    Raises:
        ValueError: on fewer than two modalities, or shapes that disagree.

    Example:
        >>> x = {"text": torch.eye(2), "audio": torch.eye(2), "vision": torch.eye(2)}
        >>> inter_modal_pairs(x, torch.tensor([5, 5]))["text"].positives
        tensor([[False,  True, False,  True],
                [ True, False,  True, False]])

    References: HyCon, IEEE TAFFC 14(3), section 3.3.3.
    """
    positives, negatives, known = relations(features, labels, positives, negatives)
    rows, taking_part = participants(features, known, present)
    pairs = {}
    for name, x in rows.items():
        others = [other for other in rows if other != name]
        both = taking_part[name][:, None] & torch.cat([taking_part[other] for other in others])
        pairs[name] = Pairs(
            x,
            torch.cat([rows[other] for other in others]),
            positives.repeat(1, len(others)) * both,
            negatives.repeat(1, len(others)) * both,
            taking_part[name],
        )
    return pairs


def relations(
    features: Mapping[str, Tensor],
    labels: Tensor | None,
    positives: Tensor | None,
    negatives: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor]:
    """(B, B) who is whose positive and negative, oneself neither, and (B,) who is known at all."""
    _checks.features(features)
    size = len(next(iter(features.values())))
    if labels is not None:
        _checks.labels("labels", labels, size)
        if positives is not None or negatives is not None:
            _checks.fail("positives", "None where labels are given", "a mask")
        positives, negatives, known = same_label(labels), different_label(labels), labelled(labels)
    elif positives is None or negatives is None:
        _checks.fail("labels", "labels, or positives and negatives in their place", None)
    else:
        _checks.mask("positives", positives, (size, size), weights=True)
        _checks.mask("negatives", negatives, (size, size), weights=True)
        related = (positives != 0) | (negatives != 0)
        known = related.any(-1) | related.any(-2)
    others = off_diagonal(size, known.device)
    return positives * others, negatives * others, known


def participants(
    features: Mapping[str, Tensor], known: Tensor, present: Mapping[str, Tensor] | None
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The features, zero where they take no part, and by modality who takes part, (B,) bool."""
    taking_part = {name: here & known for name, here in presence(features, present).items()}
    return only_present(features, taking_part), taking_part
