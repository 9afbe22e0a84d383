"""Known values: for equal rows, for matching partners, and for larger batches."""

import math

import torch
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn
from torch import Tensor

from mmcontrast.testing import draws, formula
from mmcontrast.testing.batch import NAMES, Batch
from mmcontrast.testing.registry import check
from mmcontrast.testing.strategies import normal, rows, seeds, unit_rows
from mmcontrast.testing.subject import Subject, demand, show
from mmcontrast.testing.traits import Traits


@st.composite
def _equal_rows(draw: DrawFn, traits: Traits) -> Batch:
    """The output of a collapsed network: N equal rows in every input, all of one class."""
    n = draw(st.integers(2, 6))
    d = draw(st.integers(1, 4)) if traits.features is None else traits.features
    row = draw(rows(1, d, ("grid", "gauss")))
    labels = torch.zeros(n, dtype=torch.int64) if traits.labelled else None
    row = unit_rows(row) if traits.unit else row
    return Batch(traits.kind, {k: row.repeat(n, 1) for k in NAMES[traits.kind]}, labels)


@st.composite
def _orthogonal_partners(draw: DrawFn, traits: Traits) -> Batch:
    """The ideal output: partners (pair, class or sample) are equal, all other rows orthogonal."""
    n = draw(st.integers(2, min(traits.features or 4, 4)))
    d = traits.features or n
    rotation = torch.linalg.qr(normal(draw(seeds), d, n))[0].T
    names = NAMES[traits.kind]
    if traits.labelled:
        ids = torch.arange(n).repeat(2)
        return Batch(traits.kind, dict.fromkeys(names, rotation[ids]), ids)
    by_name = dict.fromkeys(names, rotation)
    if traits.kind == "triplet":
        by_name["n"] = rotation.roll(1, 0)
    return Batch(traits.kind, by_name)


@check(
    "10",
    when=lambda t: t.discriminative and t.features != 1 and t.classes is None,
    needs="discriminative, no classes",
    batches=_orthogonal_partners,
)
def partners_are_worth_less(subject: Subject, batch: Batch) -> None:
    """The loss is lower for matching partners than for the same rows mismatched.

    A wrong sign, positives and negatives exchanged, or a diagonal off by one: minimising the loss
    would not bring partners together.
    """
    if batch.labels is not None:
        strangers = batch.with_labels(torch.arange(len(batch)) // 2)
    elif batch.kind == "triplet":
        strangers = batch.with_rows(
            {"a": batch.rows["a"], "p": batch.rows["n"], "n": batch.rows["p"]}
        )
    else:
        moved = {name: x.roll(k, 0) for k, (name, x) in enumerate(batch.rows.items())}
        strangers = batch.with_rows(moved)
    near, far = subject.value(batch), subject.value(strangers)
    demand(
        near < far,
        f"the loss is {show(near)} for matching partners, {show(far)} for mismatched rows",
    )


@check(
    "2, 29",
    when=lambda t: t.form is not None or t.collapse_value is not None,
    needs="form, or collapse_value",
    batches=_equal_rows,
)
def collapse_value(subject: Subject, batch: Batch) -> None:
    """Equal rows make all candidates equally likely: the loss is the logarithm of their number.

    A missing or doubled direction, a sum over the batch, the sample itself among its candidates, or
    a positive that is missing from the denominator.
    """
    traits = subject.traits
    n = len(batch)
    known = traits.collapse_value
    if traits.form == "sup_con":
        expected = math.log(n - 1)
    else:
        expected = formula.mean_log_candidates(traits, batch) if known is None else known(n)
    subject.same(subject.value(batch), expected, (f"the loss of {n} equal rows", "the known value"))


@check("18", when=lambda t: t.form is not None, needs="form", batches=_equal_rows)
def collapse_is_stationary(subject: Subject, batch: Batch) -> None:
    """Where all rows are equal the gradient is 0, by symmetry.

    A positive that enters the denominator twice or not at all, or a detached input.
    """
    _, gradients = subject.gradients(batch)
    nothing = {name: torch.zeros_like(g) for name, g in gradients.items()}
    subject.same_gradients(nothing, gradients, ("a collapsed batch by symmetry", "the loss"))


@check(
    "3, 27",
    when=lambda t: t.form is not None and t.normalized and t.temperature is not None,
    needs="form, normalized and temperature",
)
def cosine_bounds(subject: Subject, batch: Batch) -> None:
    """Cosines lie in [-1, 1], so the loss lies between log P and log(1 + (C - 1) exp(2 / T)).

    More exactly, with P of C candidates positive, above log(P + (C - P) exp(-2 / T)). Rows that are
    not normalised, a temperature that multiplies, or one that is applied twice.
    """
    traits = subject.traits
    assert traits.temperature is not None
    reach = 2 / traits.temperature
    anchors = list(formula.anchors(traits, batch))
    if not anchors:
        return
    lows, highs = [], []
    for anchor in anchors:
        c, p = len(anchor.similarities), len(anchor.positives)
        lows.append(math.log(p + (c - p) * math.exp(-reach)))
        highs.append(reach + math.log((c - 1) + math.exp(-reach)))
    value = subject.value(batch)
    subject.at_most(math.fsum(lows) / len(anchors), value, ("the lower bound", "the loss"))
    subject.at_most(value, math.fsum(highs) / len(anchors), ("the loss", "the upper bound"))


@check("15", when=lambda t: t.form == "info_nce", needs="form='info_nce'")
def duplicated_batch(subject: Subject, batch: Batch) -> None:
    """The batch twice over doubles every denominator: the loss grows by exactly log 2.

    A sum in place of a mean, a mean over all pairs, or a direction missing or counted twice.
    """
    twice = subject.value(batch.take([*range(len(batch))] * 2))
    expected = float(subject.value(batch)) + math.log(2)
    subject.same(twice, expected, ("the loss of the batch twice over", "the loss plus log 2"))


@check("15", kinds=("triplet",))
def repeated_triplets(subject: Subject, batch: Batch) -> None:
    """Repeating every triplet does not change the mean.

    A sum in place of a mean, a mean over the features, or distances across triplets.
    """
    twice = subject.value(batch.take([*range(len(batch))] * 2))
    subject.same(twice, subject.value(batch), ("every triplet twice", "every triplet once"))


@check(
    "14, 43",
    when=lambda t: t.rectangular,
    needs="rectangular",
    draws={"more": draws.more_rows},
)
def more_negatives_cost_more(subject: Subject, batch: Batch, more: Tensor) -> None:
    """Further negatives never lower the loss, and an empty set of them does not change it.

    Negatives that are averaged in the denominator, or extra rows that are used as partners.
    """
    a, b = batch.rows.values()
    alone = subject.value(batch)
    longer = subject.value(batch.with_rows({"a": a, "b": torch.cat([b, more])}))
    none = subject.value(batch.with_rows({"a": a, "b": torch.cat([b, more[:0]])}))
    subject.same(alone, none, ("the loss", "with no further negative it"))
    subject.at_most(alone, longer, ("the loss", "that with further negatives"))


@check(
    "20",
    when=lambda t: t.rectangular and not t.symmetric and t.smallest == 1,
    needs="rectangular, not symmetric",
)
def ranks_agree(subject: Subject, batch: Batch) -> None:
    """The mean over ranks of local anchors against all candidates is the loss of the whole batch.

    A mean that divides by the number of candidates, or partners expected at a global index.
    """
    a, b = batch.rows.values()
    shares = []
    for rank in range(len(batch)):
        first = b.roll(-rank, 0)  # the local partners first, then those of the other ranks
        shares.append(float(subject.value(batch.with_rows({"a": a[rank : rank + 1], "b": first}))))
    what = ("the whole batch", "the mean over ranks of one sample")
    subject.same(subject.value(batch), math.fsum(shares) / len(shares), what)
