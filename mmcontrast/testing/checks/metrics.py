"""Distances: the axioms of a metric, and what they do not depend on."""

import torch
from torch import Tensor

from mmcontrast.testing import draws
from mmcontrast.testing.batch import Batch
from mmcontrast.testing.between import all_distances, between, largest, same_distances
from mmcontrast.testing.registry import check, generic
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
    straight = between(subject, batch)
    slack = subject.allowed(straight) * (1 + straight)
    for middle in unit_rows(rows) if subject.traits.unit else rows:
        third = middle.expand_as(x).clone()
        first = between(subject, batch.with_rows({"x": x, "y": third}))
        second = between(subject, batch.with_rows({"x": third, "y": y}))
        if not (straight <= first + second + slack).all():
            worst = int((straight - first - second).argmax())
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
        scaled = between(subject, batch.with_rows({name: c * x for name, x in batch.rows.items()}))
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
    scale = 1 + largest(batch)
    for i in range(len(x)):
        for j in range(len(y)):
            alone = between(subject, batch.with_rows({"x": x[i : i + 1], "y": y[j : j + 1]}))
            what = (f"rows {i} and {j} in a table", "alone they")
            same_distances(subject, every[i, j : j + 1], alone, what, scale)
