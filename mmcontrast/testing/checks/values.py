"""Values that are known: where all rows are equal, where partners match, where the batch grows."""

import math

import torch
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn, SearchStrategy
from torch import Tensor

from mmcontrast.testing import formula
from mmcontrast.testing import strategies as draws
from mmcontrast.testing.batch import NAMES, Batch
from mmcontrast.testing.registry import check, generic
from mmcontrast.testing.subject import Subject, demand, show
from mmcontrast.testing.traits import Traits

SOFTMAX = "form"


def has_form(traits: Traits) -> bool:
    """A softmax over the batch."""
    return traits.form is not None


def _on_logits(traits: Traits) -> bool:
    """Rows times the identity are logits."""
    raw = not traits.normalized and traits.features is None
    return traits.form == "info_nce" and raw and not traits.symmetric


@st.composite
def _equal_rows(draw: DrawFn, traits: Traits) -> Batch:
    """N equal rows in every input; for labels, all of one class."""
    n = draw(st.integers(2, 6))
    d = draw(st.integers(1, 4)) if traits.features is None else traits.features
    row = draw(draws.rows(1, d, ("grid", "gauss")))
    labels = torch.zeros(n, dtype=torch.int64) if traits.labelled else None
    return Batch(traits.kind, {k: row.repeat(n, 1) for k in NAMES[traits.kind]}, labels)


def equal_rows(traits: Traits) -> SearchStrategy[Batch]:
    """A collapsed network's output."""
    found: SearchStrategy[Batch] = _equal_rows(traits)
    return found


@st.composite
def _orthogonal_partners(draw: DrawFn, traits: Traits) -> Batch:
    """Partners (of a pair, a class, a sample) are equal, strangers are at right angles."""
    n = draw(st.integers(2, min(traits.features or 4, 4)))
    d = traits.features or n
    rotation = torch.linalg.qr(draws.normal(draw(draws.seeds), d, n))[0].T
    names = NAMES[traits.kind]
    if traits.labelled:
        ids = torch.arange(n).repeat(2)
        return Batch(traits.kind, dict.fromkeys(names, rotation[ids]), ids)
    rows = dict.fromkeys(names, rotation)
    if traits.kind == "triplet":
        rows["n"] = rotation.roll(1, 0)
    return Batch(traits.kind, rows)


def orthogonal_partners(traits: Traits) -> SearchStrategy[Batch]:
    """What a trained network's output would ideally be."""
    found: SearchStrategy[Batch] = _orthogonal_partners(traits)
    return found


@check(
    "10",
    when=lambda t: t.discriminative and t.features != 1,
    needs="discriminative",
    batches=orthogonal_partners,
)
def partners_are_worth_less(subject: Subject, batch: Batch) -> None:
    """Rows beside their partners are worth less than the same rows beside strangers.

    The sign, positives and negatives exchanged, or a diagonal off by one: the loss would teach the
    opposite, or nothing.
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
        f"beside their partners the rows are worth {show(near)}, beside strangers {show(far)}",
    )


@check(
    "2, 29",
    when=lambda t: t.form is not None or t.collapse_value is not None,
    needs="form, or collapse_value",
    batches=equal_rows,
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
    subject.same(subject.value(batch), expected, (f"the loss of {n} equal rows", "the right value"))


@check("18", when=has_form, needs=SOFTMAX, batches=equal_rows)
def collapse_is_stationary(subject: Subject, batch: Batch) -> None:
    """Where all rows are equal the gradient is 0: nothing says which way to part.

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
    rows = formula.anchors(traits, batch)
    if not rows:
        return
    lows, highs = [], []
    for row in rows:
        c, p = len(row.similarities), len(row.positives)
        lows.append(math.log(p + (c - p) * math.exp(-reach)))
        highs.append(reach + math.log((c - 1) + math.exp(-reach)))
    value = subject.value(batch)
    subject.at_most(math.fsum(lows) / len(rows), value, ("the lower bound", "the loss"))
    subject.at_most(value, math.fsum(highs) / len(rows), ("the loss", "the upper bound"))


@check("15", when=lambda t: t.form == "info_nce", needs="form='info_nce'")
def duplicated_batch(subject: Subject, batch: Batch) -> None:
    """The batch twice over doubles every denominator: the loss grows by exactly log 2.

    A sum in place of a mean, a mean over all pairs, a direction that is missing or counted twice.
    """
    twice = subject.value(batch.take([*range(len(batch))] * 2))
    expected = float(subject.value(batch)) + math.log(2)
    subject.same(twice, expected, ("the loss of the batch twice over", "the loss plus log 2"))


@check("15", kinds=("triplet",))
def repeated_triplets(subject: Subject, batch: Batch) -> None:
    """Every triplet twice leaves the mean as it is.

    A sum in place of a mean, a mean over the features, or triplets that see each other.
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
    """Further negatives never lower the loss, and none of them leave it as it is.

    Negatives that are averaged in the denominator, or extra rows that are taken for partners.
    """
    a, b = batch.rows.values()
    alone = subject.value(batch)
    longer = subject.value(batch.with_rows({"a": a, "b": torch.cat([b, more])}))
    none = subject.value(batch.with_rows({"a": a, "b": torch.cat([b, more[:0]])}))
    subject.same(alone, none, ("the loss", "with no further negative it"))
    subject.at_most(alone, longer, ("the loss", "with further negatives it"))


@check("20", when=lambda t: t.rectangular and not t.symmetric, needs="rectangular, not symmetric")
def ranks_agree(subject: Subject, batch: Batch) -> None:
    """Local rows against all ranks' candidates, averaged over ranks, are the whole batch's loss.

    A mean that divides by the candidates, or partners that are looked for at a global place.
    """
    a, b = batch.rows.values()
    shares = []
    for rank in range(len(batch)):
        first = b.roll(-rank, 0)  # the local partners first, the other ranks' after
        shares.append(float(subject.value(batch.with_rows({"a": a[rank : rank + 1], "b": first}))))
    said = ("the whole batch", "the mean over ranks of one sample")
    subject.same(subject.value(batch), math.fsum(shares) / len(shares), said)


@check(
    "13",
    when=_on_logits,
    needs="form='info_nce' on raw dot products of any D, one way",
    batches=generic,
)
def logit_gradients(subject: Subject, batch: Batch) -> None:
    """Of the logits S = a at b = I, the gradient is (softmax - I) / N: rows sum to 0.

    The wrong axis of the softmax, a positive outside the denominator, or a sum for a mean.
    """
    n = len(batch)
    table = batch.rows["a"] @ batch.rows["b"].T
    eye = torch.eye(n, dtype=table.dtype)
    _, gradients = subject.gradients(batch.with_rows({"a": table, "b": eye}))
    slope = gradients["a"]
    nothing = torch.zeros(n, dtype=slope.dtype)
    subject.same_gradients({"a": slope.sum(1)}, {"a": nothing}, ("rows, summed,", "a softmax"))
    off = slope - torch.diag(slope.diagonal())
    demand((slope.diagonal() <= 1e-12).all(), "a partner's logit has a positive slope")
    demand((off >= -1e-12).all(), "a negative's logit has a negative slope")


@check(
    "9",
    when=_on_logits,
    needs="form='info_nce' on raw dot products of any D, one way",
    draws={"shifts": draws.numbers},
)
def logit_shift_invariant(subject: Subject, batch: Batch, shifts: list[float]) -> None:
    """A number added to all logits of an anchor changes nothing.

    exp() without the row's maximum taken off, an epsilon inside the logarithm, or the wrong axis.
    """
    table = batch.rows["a"] @ batch.rows["b"].T
    eye = torch.eye(len(batch), dtype=table.dtype)
    step = 100 * torch.tensor(shifts, dtype=table.dtype)[:, None]
    plain = subject.value(batch.with_rows({"a": table, "b": eye}))
    moved = subject.value(batch.with_rows({"a": table + step, "b": eye}))
    subject.same(plain, moved, ("the loss", "with shifted logits it"))


@check(
    "12, 30, 32",
    when=lambda t: t.form is not None and t.temperature is not None,
    needs="form and temperature",
)
def equals_its_formula(subject: Subject, batch: Batch) -> None:
    """The loss equals the formula of its form, written out row by row, at its temperature.

    Whatever the other laws let pass: a temperature that is not the declared one, anchors left out
    of the mean by their value, a scale.
    """
    traits = subject.traits
    assert traits.temperature is not None
    expected = formula.mean_loss(traits, batch, traits.temperature)
    subject.same(
        subject.value(batch), expected, ("the loss", "the formula"), scale=1 / traits.temperature
    )
