"""The triplet loss with one mistake each."""

from torch import Tensor

from mmcontrast.testing.broken.mistake import Mistake
from mmcontrast.testing.broken.parts import gap, mean
from mmcontrast.testing.traits import Loss, Traits
from mmcontrast.testing.vary import Vary


def negative_pulled(a: Tensor, p: Tensor, n: Tensor, margin: float = 0.5) -> Tensor:
    """Positive and negative exchanged."""
    return mean((margin - gap(a, p, n)).relu())


def margin_subtracted(a: Tensor, p: Tensor, n: Tensor, margin: float = 0.5) -> Tensor:
    """The margin with the wrong sign: collapse is worth 0."""
    return mean((gap(a, p, n) - margin).relu())


def no_hinge(a: Tensor, p: Tensor, n: Tensor, margin: float = 0.5) -> Tensor:
    """Nothing stops at 0."""
    return mean(gap(a, p, n) + margin)


def hard_triplets_only(a: Tensor, p: Tensor, n: Tensor, margin: float = 0.5) -> Tensor:
    """The mean over the triplets above 0: it jumps where one of them reaches 0."""
    each = (gap(a, p, n) + margin).relu()
    return each.sum() / (each > 0).sum().clamp_min(1)


def normalized_first(a: Tensor, p: Tensor, n: Tensor, margin: float = 0.5) -> Tensor:
    """Differences of unit rows, where differences of rows are said to matter."""
    a, p, n = (x / x.norm(dim=1, keepdim=True).clamp_min(1e-6) for x in (a, p, n))
    return mean((gap(a, p, n) + margin).relu())


def distance_to_the_positive(a: Tensor, p: Tensor, n: Tensor, margin: float = 0.5) -> Tensor:
    """The negative is compared with the positive twice, and never with the anchor."""
    gap = (a - p).norm(dim=1) - (p - n).norm(dim=1) - (p - n).norm(dim=1)
    return mean((gap + margin).relu())


def sum_over_triplets(a: Tensor, p: Tensor, n: Tensor, margin: float = 0.5) -> Tensor:
    """A sum for a mean."""
    return (gap(a, p, n) + margin).relu().sum()


def _wrong(loss: Loss, wrong: str, law: str) -> Mistake:
    traits = Traits(
        kind="triplet",
        normalized=False,
        translation_invariant=True,
        factory=Vary(loss, "margin"),
    )
    return Mistake(loss, wrong, law, traits)


TRIPLETS = (
    _wrong(sum_over_triplets, "a sum for a mean", "repeated_triplets"),
    _wrong(negative_pulled, "positive and negative exchanged", "satisfied_triplet_is_zero"),
    _wrong(margin_subtracted, "the margin's sign", "equal_rows_are_at_the_margin"),
    _wrong(no_hinge, "no hinge", "nonnegative"),
    _wrong(hard_triplets_only, "a mean over what is above 0", "triplets_do_not_meet"),
    _wrong(normalized_first, "rows normalised first", "translation_invariant"),
    _wrong(
        distance_to_the_positive,
        "the negative's distance counted twice",
        "exchange_cannot_win_twice",
    ),
)
