"""HyCon's pairs: each anchor's positives and negatives, within or across modalities."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import NamedTuple

import torch
from einops import repeat
from torch import Tensor

from mmcontrast import arguments
from mmcontrast.distributed import Group, joined, part, total
from mmcontrast.masks import columns_of, different_label, labelled, same_label
from mmcontrast.presence import only_present, presence
from mmcontrast.rows import RowMap, map_rows
from mmcontrast.sharded import local_rows

ALL = slice(None)

MaskRows = Callable[[slice], tuple[Tensor, Tensor]]
"""The positives' and negatives' masks of a slice of anchors, (b, B of all ranks) each.

They are made when a block of anchors asks for them, so that no (B, B) mask has to be stored. The
slice is an index into the samples of all ranks.
"""


class Relations(NamedTuple):
    """How the samples of a batch are related: the masks, and the samples that take part."""

    masks: MaskRows
    known: Tensor
    """(B,) bool: which of this rank's samples have a label, or are related to any sample."""
    own: slice
    """Which samples of all ranks are this rank's."""
    labels: Tensor | None
    """(B, ...) of all ranks."""
    size: int
    """Samples of all ranks."""


class Pairs(NamedTuple):
    """The anchors of one modality, their candidates, and how these are related.

    Fields:
        anchors: (B, D).
        candidates: (C, D).
        positives: (B, C) bool, or floating weights.
        negatives: (B, C) bool, or floating weights.
        here: (B,) bool: which samples have this modality, and a label.
    """

    anchors: Tensor
    candidates: Tensor
    positives: Tensor
    negatives: Tensor
    here: Tensor


@local_rows
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
        labels: (B,) classes, or (B, L): equal in every column; -100 takes no part. None with
            positives and negatives.
        positives, negatives: instead of labels, (B, B) bool or floating; the diagonal makes no
            pair; a sample related to no sample, not even itself, takes no part.
        present: (B,) bool by modality, which samples have it; all where it is left out.

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
    taking_part = participation(features, related.known, present)
    rows = only_present(features, taking_part)
    return modal_pairs(rows, taking_part, related.masks(ALL), inter=False)


@local_rows
def inter_modal_pairs(
    features: Mapping[str, Tensor],
    labels: Tensor | None,
    *,
    positives: Tensor | None = None,
    negatives: Tensor | None = None,
    present: Mapping[str, Tensor] | None = None,
) -> dict[str, Pairs]:
    """Pairs across modalities: other samples, in the other modalities, by class.

    The other modalities of the same sample are no pairs here, but in :func:`semi_contrast`.

    Args:
        features: (B, D) by modality, two or more.
        labels: (B,) classes, or (B, L): equal in every column; -100 takes no part. None with
            positives and negatives.
        positives, negatives: instead of labels, (B, B) bool or floating; the diagonal makes no
            pair; a sample related to no sample, not even itself, takes no part.
        present: (B,) bool by modality, which samples have it; all where it is left out.

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
    taking_part = participation(features, related.known, present)
    rows = only_present(features, taking_part)
    return modal_pairs(rows, taking_part, related.masks(ALL), inter=True)


def modal_pairs(
    rows: Mapping[str, Tensor],
    taking_part: Mapping[str, Tensor],
    masks: tuple[Tensor, Tensor],
    *,
    inter: bool,
    anchors: slice = ALL,
) -> dict[str, Pairs]:
    """A block of anchors of every modality, with their candidates.

    Args:
        rows: (B, D) by modality, zero where they take no part.
        taking_part: (B,) bool by modality.
        masks: (b, B) positives and negatives of these anchors, the same for all modalities.
        inter: candidates of the other modalities; otherwise of the anchor's own one.
        anchors: which samples are the anchors.
    """
    positives, negatives = masks
    pairs = {}
    for name, x in rows.items():
        partners = [other for other in rows if (other != name) == inter]
        here = part(taking_part[name], anchors)
        both = here[:, None] & torch.cat([taking_part[other] for other in partners])  # (b, C)
        pairs[name] = Pairs(
            part(x, anchors),
            torch.cat([rows[other] for other in partners]) if inter else x,
            repeat(positives, "b c -> b (m c)", m=len(partners)) * both,
            repeat(negatives, "b c -> b (m c)", m=len(partners)) * both,
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
    """Positives and negatives among the samples of all ranks; a sample is neither to itself."""
    arguments.features(features)
    size = next(iter(features.values())).shape[0]
    if labels is not None:
        labels = arguments.labels("labels", labels, size)
        if positives is not None or negatives is not None:
            arguments.fail("positives", "None where labels are given", "a mask")
        return related_by_label(*joined(labels, group))
    if positives is None or negatives is None:
        arguments.fail("labels", "labels, or positives and negatives in their place", None)
    arguments.tensor("positives", positives)
    here = torch.arange(size, device=positives.device)
    every, own = joined(here, group, size=columns_of(positives))
    everyone = every.shape[0]
    arguments.weights("positives", positives, (size, everyone))
    arguments.weights("negatives", negatives, (size, everyone))
    related = (positives != 0) | (negatives != 0)
    as_candidate = part(total(related.sum(0), group) > 0, own)
    masks = partial(_by_mask, positives, negatives, own.start)
    return Relations(masks, related.any(-1) | as_candidate, own, None, everyone)


def related_by_label(labels: Tensor, own: slice) -> Relations:
    """Relations by the labels of all ranks' samples, ``own`` of which are this rank's."""
    known = labelled(part(labels, own))
    return Relations(partial(_by_label, labels), known, own, labels, labels.shape[0])


def _by_label(labels: Tensor, anchors: slice) -> tuple[Tensor, Tensor]:
    own = part(labels, anchors)
    others = _others(anchors, labels.shape[0], labels.device)
    return same_label(own, labels) & others, different_label(own, labels)


def _by_mask(
    positives: Tensor, negatives: Tensor, first: int, anchors: slice
) -> tuple[Tensor, Tensor]:
    others = _others(anchors, positives.shape[1], positives.device)
    rows = anchors
    if anchors.start is not None:  # some of them
        rows = slice(anchors.start - first, anchors.stop - first)
    return positives[rows] * others, negatives[rows] * others


def _others(anchors: slice, size: int, device: torch.device) -> Tensor:
    """(b, B) bool: True but for each anchor's own sample."""
    place = torch.arange(size, device=device)
    return part(place, anchors)[:, None] != place


def participation(
    features: Mapping[str, Tensor], known: Tensor, present: Mapping[str, Tensor] | None
) -> dict[str, Tensor]:
    """(B,) bool by modality: the samples that have it and are known."""
    return {name: here & known for name, here in presence(features, present).items()}


def map_modalities(
    features: Mapping[str, Tensor], taking_part: Mapping[str, Tensor], normalize: RowMap | None
) -> dict[str, Tensor]:
    """Row-mapped features by modality; rows that take no part are replaced by zeros before."""
    rows = only_present(features, taking_part)
    return {name: map_rows(x, normalize) for name, x in rows.items()}
