"""Who is contrasted with whom in HyCon: pairs within a modality and across modalities."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from mmcontrast import arguments
from mmcontrast.distributed import Group, joined, total
from mmcontrast.masks import different_label, labelled, same_label
from mmcontrast.presence import only_present, presence

EVERYBODY = slice(None)

Related = Callable[[slice], tuple[Tensor, Tensor]]
"""Makes the rows of the (B, B) masks that it is asked for, so that a block holds only its own."""


class Relations(NamedTuple):
    """Who is whose positive and negative, and who is known at all."""

    masks: Related
    """Of the samples of all ranks, anchors counted through them."""
    known: Tensor
    """(B,) bool: which of this rank's samples are known."""
    own: slice
    """Which samples of all ranks are this rank's."""
    labels: Tensor | None
    """(B, ...) of all ranks."""


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
    related = relations(features, labels, positives, negatives)
    taking_part = participants(features, related.known, present)
    rows = only_present(features, taking_part)
    return modal_pairs(rows, taking_part, related.masks(EVERYBODY), inter=False)


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
    related = relations(features, labels, positives, negatives)
    taking_part = participants(features, related.known, present)
    rows = only_present(features, taking_part)
    return modal_pairs(rows, taking_part, related.masks(EVERYBODY), inter=True)


def modal_pairs(
    rows: Mapping[str, Tensor],
    taking_part: Mapping[str, Tensor],
    masks: tuple[Tensor, Tensor],
    *,
    inter: bool,
    anchors: slice = EVERYBODY,
) -> dict[str, Pairs]:
    """By modality, a block of its anchors and their candidates in the other modalities, or in it.

    Args:
        rows: (B, D) by modality, zero where they take no part.
        taking_part: (B,) bool by modality.
        masks: (b, B) positives and negatives of these anchors, whatever the modality.
        inter: across modalities; else within one.
        anchors: which samples' rows are the anchors.
    """
    positives, negatives = masks
    pairs = {}
    for name, x in rows.items():
        partners = [other for other in rows if (other != name) == inter]
        here = taking_part[name][anchors]
        both = here[:, None] & torch.cat([taking_part[other] for other in partners])
        pairs[name] = Pairs(
            x[anchors],
            torch.cat([rows[other] for other in partners]) if inter else x,
            positives.repeat(1, len(partners)) * both,
            negatives.repeat(1, len(partners)) * both,
            here,
        )
    return pairs


def relations(
    features: Mapping[str, Tensor],
    labels: Tensor | None,
    positives: Tensor | None,
    negatives: Tensor | None,
    group: Group | None = None,
) -> Relations:
    """Who is whose positive and negative, oneself neither, among the samples of all ranks."""
    arguments.features(features)
    size = len(next(iter(features.values())))
    if labels is not None:
        arguments.labels("labels", labels, size)
        if positives is not None or negatives is not None:
            arguments.fail("positives", "None where labels are given", "a mask")
        every, own = joined(labels, group)
        return Relations(partial(_by_label, every), labelled(labels), own, every)
    if positives is None or negatives is None:
        arguments.fail("labels", "labels, or positives and negatives in their place", None)
    whose, own = joined(torch.arange(size, device=positives.device), group)
    arguments.mask("positives", positives, (size, len(whose)), weights=True)
    arguments.mask("negatives", negatives, (size, len(whose)), weights=True)
    related = (positives != 0) | (negatives != 0)
    known = related.any(-1) | (total(related.sum(0), group) > 0)[own]
    return Relations(partial(_by_mask, positives, negatives, own.start), known, own, None)


def _by_label(labels: Tensor, anchors: slice) -> tuple[Tensor, Tensor]:
    own = labels[anchors]
    others = _others(anchors, len(labels), labels.device)
    return same_label(own, labels) & others, different_label(own, labels)


def _by_mask(
    positives: Tensor, negatives: Tensor, first: int, anchors: slice
) -> tuple[Tensor, Tensor]:
    others = _others(anchors, positives.shape[1], positives.device)
    rows = anchors
    if anchors != EVERYBODY:
        rows = slice(anchors.start - first, anchors.stop - first)
    return positives[rows] * others, negatives[rows] * others


def _others(anchors: slice, size: int, device: torch.device) -> Tensor:
    """(b, B) bool: everybody but oneself."""
    everybody = torch.arange(size, device=device)
    return everybody[anchors, None] != everybody


def participants(
    features: Mapping[str, Tensor], known: Tensor, present: Mapping[str, Tensor] | None
) -> dict[str, Tensor]:
    """By modality who takes part, (B,) bool: who has it, and is known."""
    return {name: here & known for name, here in presence(features, present).items()}
