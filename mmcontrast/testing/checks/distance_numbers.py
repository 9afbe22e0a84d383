"""Distances: their gradient, their rounding, and how they are called."""

import torch
from torch import Tensor

from mmcontrast.testing.batch import Batch
from mmcontrast.testing.between import between, same_distances
from mmcontrast.testing.checks.engineering import only_read, strided
from mmcontrast.testing.checks.gradients import derivatives_agree
from mmcontrast.testing.checks.precision import usable
from mmcontrast.testing.registry import check, few_samples
from mmcontrast.testing.subject import LawBroken, Subject, demand

KINDS = ("distance",)


@check("23", kinds=KINDS)
def distance_gradient_is_finite(subject: Subject, batch: Batch) -> None:
    """The gradient is finite for any rows, equal ones and rows of zeros too.

    The root of a sum of squares has an infinite slope at 0: the first anchor that meets its own
    copy turns every weight into NaN. So has a division by a length of 0, and an arc cosine at 1.
    """

    def total(x: Tensor, y: Tensor) -> Tensor:
        return between(subject, batch.with_rows({"x": x, "y": y})).sum()

    x, y = batch.rows.values()
    zero = torch.zeros_like(x)
    for said, left, right in (
        ("of the rows", x, y),
        ("at distance 0", x, x),
        ("from a row of zeros", zero, y),
        ("to a row of zeros", x, zero),
    ):
        if subject.traits.unit and said.endswith("zeros"):
            continue
        try:
            subject.gradients(batch.with_rows({"x": left, "y": right}), total)
        except LawBroken as error:
            raise LawBroken(f"{said}, {error}") from error


@check("44", kinds=KINDS, when=lambda t: t.smooth, needs="smooth", batches=few_samples, most=10)
def distance_gradient_is_its_slope(subject: Subject, batch: Batch) -> None:
    """The gradient equals finite differences.

    A hand-written backward, a `.detach()` of a length or a weight, or float32 inside.
    """

    def function(x: Tensor, y: Tensor) -> Tensor:
        return between(subject, batch.with_rows({"x": x, "y": y}))

    derivatives_agree(function, list(batch.leaves().rows.values()), torch.autograd.gradcheck)


@check("24", kinds=KINDS)
def distance_is_close_in_every_dtype(subject: Subject, batch: Batch) -> None:
    """In each dtype the distance is that of float64, up to rounding, and no less precise.

    A square that overflows or vanishes, a sum in half precision, or a matrix product whose digits
    cancel.
    """
    for dtype in subject.traits.dtypes:
        rounded = batch.to(dtype)
        if not all(usable(x) for x in rounded.rows.values()):
            continue
        found = between(subject, rounded)
        demand(
            torch.finfo(found.dtype).eps <= torch.finfo(dtype).eps,
            f"rows of {dtype} gave distances of {found.dtype}",
        )
        exact = between(subject, rounded.to(torch.float64))
        allowed = subject.traits.tolerance(dtype) * (1 + exact.abs().max().item())
        worst = (found.double() - exact).abs().max()
        demand(
            worst <= allowed,
            f"in {dtype} the distances are {found.tolist()}, in float64 {exact.tolist()}",
        )


@check("34", kinds=KINDS, when=lambda t: t.bounds is not None, needs="bounds")
def distance_within_bounds(subject: Subject, batch: Batch) -> None:
    """Every distance lies within the declared bounds.

    A cosine that rounding takes beyond 1, an angle in degrees, or a factor of 2.
    """
    assert subject.traits.bounds is not None
    low, high = subject.traits.bounds
    found = between(subject, batch)
    slack = subject.allowed(found)
    demand(
        ((found >= low - slack) & (found <= high + slack)).all(),
        f"the distances are {found.tolist()}",
    )


@check("34", kinds=KINDS, when=lambda t: t.reference is not None, needs="reference")
def distance_equals_its_reference(subject: Subject, batch: Batch) -> None:
    """The distance equals the slow reference.

    Compute the smallest example by hand: one of the two is wrong.
    """
    expected = between(subject, batch, subject.traits.reference)
    same_distances(subject, between(subject, batch), expected, ("they", "those of the reference"))


@check("57, 58", kinds=KINDS)
def distance_leaves_its_inputs(subject: Subject, batch: Batch) -> None:
    """Rows are not changed, and need not lie in one piece.

    An in-place subtraction or normalisation, or `.view` of rows that are not contiguous.
    """
    with only_read(batch):
        found = between(subject, batch)
    again = between(subject, batch.map(strided))
    same_distances(subject, found, again, ("of contiguous rows they", "of strided ones"))
