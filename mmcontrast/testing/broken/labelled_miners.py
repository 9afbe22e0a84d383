"""Batch-hard triplets with one mistake each."""

import torch
from torch import Tensor

from mmcontrast.testing.broken.correct import cosines, not_self
from mmcontrast.testing.broken.mistake import Mistake
from mmcontrast.testing.traits import Loss, Traits

Triplets = tuple[Tensor, Tensor, Tensor]


def pair_masks(labels: Tensor, none: int = -100) -> tuple[Tensor, Tensor]:
    """(N, N) positives and negatives, without samples of the label for none: correct."""
    here = labels != none
    both = here[:, None] & here
    same = labels[:, None] == labels
    return same & not_self(len(labels)) & both, ~same & both


def triplets_by(similarity: Tensor, positives: Tensor, negatives: Tensor) -> Triplets:
    """The least similar positive and the most similar negative of who has both: correct."""
    a = (positives.any(1) & negatives.any(1)).nonzero()[:, 0]
    if len(a) == 0:
        return a, a, a
    similarity = similarity.detach()
    p = similarity.masked_fill(~positives, torch.inf).argmin(1)
    n = similarity.masked_fill(~negatives, -torch.inf).argmax(1)
    return a, p[a], n[a]


def correct_triplet_miner(z: Tensor, labels: Tensor) -> Triplets:
    """Batch-hard triplets without a mistake."""
    return triplets_by(cosines(z, z), *pair_masks(labels))


def own_positive(z: Tensor, labels: Tensor) -> Triplets:
    """A sample counts as a positive of itself."""
    positives, negatives = pair_masks(labels)
    return triplets_by(cosines(z, z), positives | ~not_self(len(z)), negatives)


def closest_positive(z: Tensor, labels: Tensor) -> Triplets:
    """The easiest positive."""
    similarity, (positives, negatives) = cosines(z, z), pair_masks(labels)
    a, _, n = triplets_by(similarity, positives, negatives)
    return a, triplets_by(-similarity, positives, negatives)[1], n


def zero_is_no_label(z: Tensor, labels: Tensor) -> Triplets:
    """Class 0 is taken for samples without a label."""
    return triplets_by(cosines(z, z), *pair_masks(labels, none=0))


def labels_in_int32(z: Tensor, labels: Tensor) -> Triplets:
    """Identifiers lose their upper half."""
    return correct_triplet_miner(z, labels.int())


def labels_in_float(z: Tensor, labels: Tensor) -> Triplets:
    """Identifiers lose their last digits."""
    return correct_triplet_miner(z, labels.double())


def ignored_as_a_class(z: Tensor, labels: Tensor) -> Triplets:
    """Samples that are to be ignored are negatives of all others."""
    return triplets_by(cosines(z, z), *pair_masks(labels, none=-101))


def extremes_of_nothing(z: Tensor, labels: Tensor) -> Triplets:
    """Every anchor has a triplet, whether or not it has a positive and a negative."""
    positives, negatives = pair_masks(labels)
    similarity = cosines(z, z).detach()
    p = similarity.masked_fill(~positives, torch.inf).argmin(1)
    return torch.arange(len(z)), p, similarity.masked_fill(~negatives, -torch.inf).argmax(1)


def _mined_by_label(loss: Loss, wrong: str, law: str) -> Mistake:
    return Mistake(loss, wrong, law, Traits(kind="labelled_miner", ignore_index=-100))


LABELLED_MINERS = (
    _mined_by_label(own_positive, "itself as a positive", "positives_have_the_same_label"),
    _mined_by_label(closest_positive, "the easiest positive", "mined_positives_are_hardest"),
    _mined_by_label(zero_is_no_label, "class 0 left out", "relabelling_changes_no_mining"),
    _mined_by_label(labels_in_int32, "labels in int32", "relabelling_changes_no_mining"),
    _mined_by_label(labels_in_float, "labels as floats", "relabelling_changes_no_mining"),
    _mined_by_label(
        ignored_as_a_class, "ignored samples as negatives", "ignored_samples_are_not_mined"
    ),
    _mined_by_label(extremes_of_nothing, "an argmax over nothing", "one_class_has_no_negatives"),
)
