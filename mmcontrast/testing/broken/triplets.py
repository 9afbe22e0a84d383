"""The triplet loss with one mistake each."""

from torch import Tensor

from mmcontrast.testing.broken.correct import distance_gap, mean
from mmcontrast.testing.broken.mistake import Mistake
from mmcontrast.testing.traits import Loss, Traits
from mmcontrast.testing.vary import Vary


def negative_pulled(a: Tensor, p: Tensor, n: Tensor, margin: float = 0.5) -> Tensor:
    """Positive and negative exchanged."""
    return mean((margin - distance_gap(a, p, n)).relu())


def margin_subtracted(a: Tensor, p: Tensor, n: Tensor, margin: float = 0.5) -> Tensor:
    """The margin with the wrong sign: a collapsed batch has loss 0."""
    return mean((distance_gap(a, p, n) - margin).relu())


def no_hinge(a: Tensor, p: Tensor, n: Tensor, margin: float = 0.5) -> Tensor:
    """Without the maximum with 0."""
    return mean(distance_gap(a, p, n) + margin)


def hard_triplets_only(a: Tensor, p: Tensor, n: Tensor, margin: float = 0.5) -> Tensor:
    """The mean over the triplets above 0, which is discontinuous where one of them reaches 0."""
    each = (distance_gap(a, p, n) + margin).relu()
    return each.sum() / (each > 0).sum().clamp_min(1)


def normalized_first(a: Tensor, p: Tensor, n: Tensor, margin: float = 0.5) -> Tensor:
    """Distances of normalised rows, declared to be invariant to translation."""
    a, p, n = (x / x.norm(dim=1, keepdim=True).clamp_min(1e-6) for x in (a, p, n))
    return mean((distance_gap(a, p, n) + margin).relu())


def distance_to_the_positive(a: Tensor, p: Tensor, n: Tensor, margin: float = 0.5) -> Tensor:
    """The distance from positive to negative, twice, in place of that from the anchor."""
    wrong_gap = (a - p).norm(dim=1) - 2 * (p - n).norm(dim=1)
    return mean((wrong_gap + margin).relu())


def sum_over_triplets(a: Tensor, p: Tensor, n: Tensor, margin: float = 0.5) -> Tensor:
    """A sum for a mean."""
    return (distance_gap(a, p, n) + margin).relu().sum()


def _triplet(loss: Loss, wrong: str, law: str) -> Mistake:
    traits = Traits(
        kind="triplet",
        normalized=False,
        translation_invariant=True,
        factory=Vary(loss, "margin"),
    )
    return Mistake(loss, wrong, law, traits)


TRIPLETS = (
    _triplet(sum_over_triplets, "a sum for a mean", "repeated_triplets"),
    _triplet(negative_pulled, "positive and negative exchanged", "satisfied_triplet_is_zero"),
    _triplet(margin_subtracted, "the margin's sign", "equal_rows_are_at_the_margin"),
    _triplet(no_hinge, "no hinge", "nonnegative"),
    _triplet(hard_triplets_only, "a mean over what is above 0", "triplets_do_not_meet"),
    _triplet(normalized_first, "rows normalised first", "translation_invariant"),
    _triplet(
        distance_to_the_positive,
        "the negative's distance counted twice",
        "exchange_cannot_win_twice",
    ),
)
