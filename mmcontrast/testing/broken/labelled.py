"""SupCon with one mistake each."""

import torch
import torch.nn.functional as F
from torch import Tensor

from mmcontrast.testing.broken.correct import correct_by_label, cosines, mean, mean_share, not_self
from mmcontrast.testing.broken.mistake import Mistake
from mmcontrast.testing.traits import Loss, Traits
from mmcontrast.testing.vary import Vary


def self_not_masked(z: Tensor, labels: Tensor, temperature: float = 0.1) -> Tensor:
    """The anchor is among its own candidates."""
    same = (labels[:, None] == labels) & not_self(len(z))
    return mean_share(cosines(z, z) / temperature, same, torch.ones_like(same))


def self_is_a_positive(z: Tensor, labels: Tensor, temperature: float = 0.1) -> Tensor:
    """The anchor is its own positive."""
    same = labels[:, None] == labels
    return mean_share(cosines(z, z) / temperature, same, torch.ones_like(same))


def classes_exchanged(z: Tensor, labels: Tensor, temperature: float = 0.1) -> Tensor:
    """The other classes are the positives."""
    return mean_share(cosines(z, z) / temperature, labels[:, None] != labels, not_self(len(z)))


def only_neighbours(z: Tensor, labels: Tensor, temperature: float = 0.1) -> Tensor:
    """Only the rows next to the anchor can be positives."""
    near = (torch.arange(len(z))[:, None] - torch.arange(len(z))).abs() == 1
    same = (labels[:, None] == labels) & near
    return mean_share(cosines(z, z) / temperature, same, not_self(len(z)))


def labels_as_floats(z: Tensor, labels: Tensor, temperature: float = 0.1) -> Tensor:
    """Labels that are equal in float32 form one class."""
    return correct_by_label(z, labels.float(), temperature)


def labels_in_double(z: Tensor, labels: Tensor, temperature: float = 0.1) -> Tensor:
    """Labels that are equal in float64 form one class."""
    return correct_by_label(z, labels.double(), temperature)


def labels_as_indices(z: Tensor, labels: Tensor, temperature: float = 0.1) -> Tensor:
    """A one-hot matrix with a fixed number of columns, indexed by label."""
    table = F.one_hot(labels, 3).to(z.dtype)
    same = (table @ table.T > 0) & not_self(len(z))
    return mean_share(cosines(z, z) / temperature, same, not_self(len(z)))


def nan_without_positives(z: Tensor, labels: Tensor, temperature: float = 0.1) -> Tensor:
    """A division by the number of positives, which may be 0."""
    same = (labels[:, None] == labels) & not_self(len(z))
    logits = cosines(z, z) / temperature
    floor = torch.finfo(logits.dtype).min
    shares = logits.masked_fill(~not_self(len(z)), floor).log_softmax(1)
    return mean(-torch.where(same, shares, 0).sum(1) / same.sum(1))


def everybody_in_the_mean(z: Tensor, labels: Tensor, temperature: float = 0.1) -> Tensor:
    """Anchors without a positive count as zeros."""
    same = (labels[:, None] == labels) & not_self(len(z))
    anchors = (same.any(1)).sum()
    value = mean_share(cosines(z, z) / temperature, same, not_self(len(z)))
    return value * anchors / max(len(z), 1)


def maximum_with_self(z: Tensor, labels: Tensor, temperature: float = 0.1) -> Tensor:
    """The subtracted maximum is the similarity to itself, so that all others may underflow."""
    same = (labels[:, None] == labels) & not_self(len(z))
    logits = cosines(z, z) / temperature
    logits = logits - (logits.amax(1, keepdim=True).detach() if len(z) else 0)
    odds = logits.exp() * not_self(len(z))
    number = same.sum(1)
    each = -(same * (logits - odds.sum(1, keepdim=True).log())).sum(1) / number.clamp_min(1)
    return torch.where(number > 0, each, 0).sum() / (number > 0).sum().clamp_min(1)


def ignored_still_negative(z: Tensor, labels: Tensor, temperature: float = 0.1) -> Tensor:
    """Samples with the label -100 are no anchors, but negatives of all others."""
    same = (labels[:, None] == labels) & not_self(len(z)) & (labels != -100)
    return mean_share(cosines(z, z) / temperature, same, not_self(len(z)))


def share_of_the_rest(z: Tensor, labels: Tensor) -> Tensor:
    """A ratio contrast whose denominator has the negatives only, so that it has no bound."""
    alike = (1 + cosines(z, z)) / 2
    same = (labels[:, None] == labels) & not_self(len(z))
    other = labels[:, None] != labels
    counted = same.any(1) & other.any(1)
    ratio = (alike * same).sum(1) / (alike * other).sum(1).clamp_min(1e-6)
    return -torch.where(counted, ratio, 0).sum() / counted.sum().clamp_min(1)


def negatives_of_nobody(z: Tensor, labels: Tensor) -> Tensor:
    """The logarithm of the sum over the negatives, also where there are none."""
    logits = cosines(z, z) / 0.1
    same = (labels[:, None] == labels) & not_self(len(z))
    against = logits.masked_fill(labels[:, None] == labels, -torch.inf).logsumexp(1, keepdim=True)
    losses = torch.where(same, torch.nn.functional.softplus(logits - against), 0).sum(1)
    return -losses.sum() / same.sum().clamp_min(1)


def _sup_con(loss: Loss, wrong: str, law: str, *, ignore_index: int | None = None) -> Mistake:
    traits = Traits(
        kind="labelled",
        form="sup_con",
        temperature=0.1,
        factory=Vary(loss, "temperature"),
        ignore_index=ignore_index,
    )
    return Mistake(loss, wrong, law, traits)


LABELLED = (
    _sup_con(self_not_masked, "the anchor among its candidates", "collapse_value"),
    _sup_con(self_is_a_positive, "the anchor its own positive", "no_positives_is_zero"),
    _sup_con(classes_exchanged, "positives and negatives exchanged", "partners_are_worth_less"),
    _sup_con(only_neighbours, "positives by position", "permutation_invariant"),
    _sup_con(labels_as_floats, "labels compared as float32", "relabelling_invariant"),
    _sup_con(labels_in_double, "labels compared as float64", "relabelling_invariant"),
    _sup_con(labels_as_indices, "labels used as indices", "relabelling_invariant"),
    _sup_con(nan_without_positives, "0 / 0 without positives", "no_positives_is_zero"),
    _sup_con(
        everybody_in_the_mean, "anchors without positives in the mean", "stranger_never_lowers"
    ),
    _sup_con(maximum_with_self, "the maximum includes the anchor", "finite_at_any_temperature"),
    _sup_con(
        ignored_still_negative,
        "ignored samples in the denominator",
        "ignored_sample_is_removed",
        ignore_index=-100,
    ),
    Mistake(
        share_of_the_rest,
        "a denominator without its numerator",
        "within_bounds",
        Traits(kind="labelled", nonnegative=False, bounds=(-1.0, 0.0)),
    ),
    Mistake(
        negatives_of_nobody,
        "a logarithm of no negatives",
        "one_class_is_finite",
        Traits(kind="labelled", nonnegative=False),
    ),
)
