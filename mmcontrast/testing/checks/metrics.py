"""Distances: the axioms of a metric, what they do not depend on, their gradient and rounding."""

import torch
from torch import Tensor

from mmcontrast.testing import draws
from mmcontrast.testing.batch import Batch
from mmcontrast.testing.between import all_distances, between, largest, same_distances
from mmcontrast.testing.checks.gradients import derivatives_agree
from mmcontrast.testing.checks.precision import usable
from mmcontrast.testing.registry import check, few_samples, generic
from mmcontrast.testing.strategies import unit_rows
from mmcontrast.testing.subject import LawBroken, Subject, demand, show

KINDS = ("distance",)


@check(kinds=KINDS)
def distance_is_one_number_a_pair(subject: Subject, batch: Batch) -> None:
    """Of x and y, (N, D) each, it returns (N,) finite numbers; of all pairs, (N, N).

    A mean that is left in, all pairs where pairs were asked for (declare matrix=True), a squared
    distance that overflows, or a division by a length of 0. The other laws are not tried where this
    one fails.
    """
    between(subject, batch)


@check("33", kinds=KINDS, when=lambda t: t.nonnegative, needs="nonnegative")
def distance_is_nonnegative(subject: Subject, batch: Batch) -> None:
    """No distance is below 0.

    1 - cos, or a squared length as |x|^2 + |y|^2 - 2 x.y, that rounding takes below 0; a sign.
    """
    found = between(subject, batch)
    demand((found >= 0).all(), f"the distances are {found.tolist()}")


@check("33", kinds=KINDS, when=lambda t: t.symmetric, needs="symmetric")
def distance_is_symmetric(subject: Subject, batch: Batch) -> None:
    """x is as far from y as y from x.

    A map of one side only, a divergence in place of a distance, or a division by the length of x.
    """
    x, y = batch.rows.values()
    back = between(subject, batch.with_rows({"x": y, "y": x}))
    same_distances(subject, between(subject, batch), back, ("one way they", "the other way they"))


@check("33, 50", kinds=KINDS, when=lambda t: t.nonnegative, needs="nonnegative")
def distance_to_itself_is_zero(subject: Subject, batch: Batch) -> None:
    """A row is at distance 0 of itself, in float64 and float32, however long it is.

    A matrix product in place of a difference: |x|^2 + |y|^2 - 2 x.y leaves |x| sqrt(eps), 1e-3 of
    itself in float32; an epsilon under a root; an angle from the arc cosine of a cosine near 1.
    """
    for dtype in (torch.float64, torch.float32):
        rows = batch.rows["x"].to(dtype)
        found = between(subject, batch.with_rows({"x": rows, "y": rows.clone()}))
        length = max(1.0, largest(batch))
        allowed = subject.allowed(found) * length ** max(1.0, subject.traits.degree or 1.0)
        demand(
            (found.abs() <= allowed).all(),
            f"in {dtype} rows are at the distances {found.tolist()} from themselves",
        )


@check(
    "33",
    kinds=KINDS,
    when=lambda t: t.metric and not t.unit,
    needs="metric, not unit",
    batches=generic,
)
def distinct_rows_are_apart(subject: Subject, batch: Batch) -> None:
    """Rows that differ are at a distance above 0.

    A feature that is not read, or a map that loses one: a distance of it is a pseudometric.
    """
    x = batch.rows["x"]
    for k in range(batch.features):
        moved = x.clone()
        moved[:, k] += 1
        found = between(subject, batch.with_rows({"x": x, "y": moved}))
        demand(
            (found > subject.allowed(found)).all(),
            f"rows that differ by 1 in feature {k} are {found.tolist()} apart",
        )


@check(
    "33", kinds=KINDS, when=lambda t: t.metric, needs="metric", draws={"through": draws.more_rows}
)
def triangle_inequality(subject: Subject, batch: Batch, through: Tensor) -> None:
    """No way from x to y over a third row is shorter than the distance of x and y.

    1 - cos and squared distances are no metrics: declare metric=False, or take an angle or a root.
    """
    x, y = batch.rows.values()
    rows = torch.cat([through, (x[:1] + y[:1]) / 2])
    if subject.traits.normalized:  # a row of zeros has no direction
        rows = rows[(rows != 0).any(1)]
    for middle in unit_rows(rows) if subject.traits.unit else rows:
        third = middle.expand_as(x).clone()
        first = between(subject, batch.with_rows({"x": x, "y": third}))
        second = between(subject, batch.with_rows({"x": third, "y": y}))
        straight = between(subject, batch)
        slack = subject.allowed(straight) * (1 + straight)
        worst = int((straight - first - second).argmax())
        if not (straight <= first + second + slack).all():
            raise LawBroken(
                f"pair {worst} is {show(straight[worst])} apart, but {show(first[worst])} and "
                f"{show(second[worst])} from {middle.tolist()}"
            )


@check(
    "31",
    kinds=KINDS,
    when=lambda t: t.translation_invariant and not t.unit,
    needs="translation_invariant, not unit",
    draws={"vector": draws.vectors},
)
def distance_ignores_the_origin(subject: Subject, batch: Batch, vector: list[float]) -> None:
    """One vector added to all rows changes no distance.

    Rows that are normalised first, or weights that depend on the rows and not on their difference.
    """
    shift = torch.tensor(vector, dtype=torch.float64)
    moved = between(subject, batch.map(lambda x: x + shift))
    scale = 1 + largest(batch)
    same_distances(subject, between(subject, batch), moved, ("here they", "elsewhere they"), scale)


@check(
    "6",
    kinds=KINDS,
    when=lambda t: t.normalized and not t.unit,
    needs="normalized, not unit",
    draws={"scales": draws.row_scales},
)
def distance_ignores_row_scales(subject: Subject, batch: Batch, scales: list[float]) -> None:
    """A row times a positive number is as far from the others as before.

    One of the two sides is not normalised, or an epsilon beside a length that is not small.
    """
    factors = torch.tensor(scales, dtype=torch.float64)[:, None]
    scaled = between(subject, batch.map(lambda x: x * factors))
    same_distances(subject, between(subject, batch), scaled, ("rows as they are", "scaled rows"))


@check(
    "5",
    kinds=KINDS,
    when=lambda t: t.rotation_invariant,
    needs="rotation_invariant",
    draws={"rotation": draws.rotations},
)
def distance_ignores_rotations(subject: Subject, batch: Batch, rotation: Tensor) -> None:
    """All rows rotated together are as far apart as before.

    Absolute values where there should be squares, or weights by feature.
    """
    turned = between(subject, batch.map(lambda x: x @ rotation))
    scale = 1 + largest(batch)
    same_distances(subject, between(subject, batch), turned, ("here they", "turned they"), scale)


@check(
    kinds=KINDS,
    when=lambda t: t.degree is not None and not t.unit,
    needs="degree, not unit",
    batches=generic,
)
def distance_scales_with_rows(subject: Subject, batch: Batch) -> None:
    """All rows times c multiply the distance by |c| to the declared degree.

    A root that is missing or one too many, or an epsilon that small distances feel.
    """
    degree = subject.traits.degree
    assert degree is not None
    found = between(subject, batch)
    for c in (-1.0, 4.0, 1 / 64):
        factor = abs(c) ** degree
        scaled = between(subject, batch.map(lambda x, c=c: x * c))  # type: ignore[misc]
        what = (f"divided by {factor:g}, those of {c:g} times the rows", "those of the rows")
        same_distances(subject, scaled / factor, found, what)


@check("4", kinds=KINDS)
def distance_pairs_do_not_meet(subject: Subject, batch: Batch) -> None:
    """A pair is as far apart alone as in a batch, and with leading axes that broadcast.

    A maximum or a mean over the batch, a sum over the first axis in place of the last, or a
    `squeeze()` of one pair. A distance is a function (..., D), (..., D) -> (...).
    """
    x, y = batch.rows.values()
    every = all_distances(subject, batch)
    for i in range(len(x)):
        for j in range(len(y)):
            alone = between(subject, batch.with_rows({"x": x[i : i + 1], "y": y[j : j + 1]}))
            what = (f"rows {i} and {j} in a table", "alone they")
            same_distances(subject, every[i, j : j + 1], alone, what, 1 + largest(batch))


@check("23", kinds=KINDS)
def distance_gradient_is_finite(subject: Subject, batch: Batch) -> None:
    """The gradient is finite for any rows, equal ones and rows of zeros too.

    The root of a sum of squares has an infinite slope at 0: the first anchor that meets its own
    copy turns every weight into NaN. So has a division by a length of 0, and an arc cosine at 1.
    """
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
        leaves = batch.with_rows({"x": left, "y": right}).leaves()
        total = between(subject, leaves).sum()
        demand(total.requires_grad, "the distance has no graph: no row gets a gradient")
        for name, gradient in zip(
            leaves.rows,
            torch.autograd.grad(total, list(leaves.rows.values()), allow_unused=True),
            strict=True,
        ):
            if gradient is not None and not gradient.isfinite().all():
                raise LawBroken(f"{said}, the gradient of {name} is {gradient.tolist()}")


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
    before = batch.copy()
    found = between(subject, batch)
    for name, x in batch.rows.items():
        demand(torch.equal(x, before.rows[name]), f"{name} was changed to {x.tolist()}")
    transposed = between(subject, before.map(lambda x: x.T.contiguous().T))
    same_distances(subject, found, transposed, ("of contiguous rows they", "of transposed ones"))
