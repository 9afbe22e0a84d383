"""Softmax losses: their logits, and their formula."""

import torch
from hypothesis.strategies import SearchStrategy

from mmcontrast.testing import draws, formula
from mmcontrast.testing.batch import Batch
from mmcontrast.testing.registry import check, generic
from mmcontrast.testing.strategies import batches
from mmcontrast.testing.subject import Subject, demand
from mmcontrast.testing.traits import Traits


def _on_logits(traits: Traits) -> bool:
    """Whether rows times the identity matrix are the logits."""
    raw = not traits.normalized and traits.features is None
    return traits.form == "info_nce" and raw and not traits.symmetric


def _also_uneven(traits: Traits) -> SearchStrategy[Batch]:
    """Any samples; with labels, a large class beside one of two as often."""
    if not traits.labelled:
        return batches(traits)
    some = batches(traits, min_size=5, generic=True)
    return batches(traits) | some.map(
        lambda batch: batch.with_labels((torch.arange(len(batch)) < 2).long())
    )


@check(
    "13",
    when=_on_logits,
    needs="form='info_nce' on raw dot products of any D, one way",
    batches=generic,
)
def logit_gradients(subject: Subject, batch: Batch) -> None:
    """With b = I the rows of a are the logits; their gradient (softmax - I) / N sums to 0 by row.

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

    exp() without subtracting the maximum, an epsilon inside the logarithm, or the wrong axis.
    """
    table = batch.rows["a"] @ batch.rows["b"].T
    eye = torch.eye(len(batch), dtype=table.dtype)
    step = 100 * torch.tensor(shifts, dtype=table.dtype)[:, None]
    plain = subject.value(batch.with_rows({"a": table, "b": eye}))
    moved = subject.value(batch.with_rows({"a": table + step, "b": eye}))
    subject.same(plain, moved, ("the loss", "with shifted logits it"))


@check(
    kinds=("paired",),
    when=lambda t: (
        t.decoupled
        and t.temperature is not None
        and t.rotation_invariant
        and t.features is None
        and not t.unit
    ),
    needs="decoupled and temperature, on dot products of any D",
    batches=generic,
)
def positive_is_linear(subject: Subject, batch: Batch) -> None:
    """A partner more similar by s, and nothing else, lowers the loss by s over the temperature.

    The positive left in the denominator, a softplus or hinge of it, or a weight on its logit.
    """
    traits, n = subject.traits, len(batch)
    assert traits.temperature is not None
    a, b = batch.rows.values()
    if traits.normalized:
        a, b = (x / x.norm(dim=1, keepdim=True) for x in (a, b))
    # Two more features for each sample: where its rows share one, only their product is larger.
    one, none = torch.eye(n, dtype=a.dtype), torch.zeros(n, n, dtype=a.dtype)
    half = 0.5**0.5  # keeps rows of length one so
    far = {"a": half * torch.cat([a, one, none], 1), "b": half * torch.cat([b, none, one], 1)}
    near = {**far, "b": half * torch.cat([b, one, none], 1)}
    expected = float(subject.value(batch.with_rows(far))) - 0.5 / traits.temperature
    value = subject.value(batch.with_rows(near))
    subject.same(value, expected, ("the loss of nearer partners", "what the nearness takes off"))


@check(
    "12, 30, 32",
    when=lambda t: t.form is not None and t.temperature is not None,
    needs="form and temperature",
    batches=_also_uneven,
)
def equals_its_formula(subject: Subject, batch: Batch) -> None:
    """The loss equals the formula of its form, written out row by row, at its temperature.

    A softmax over the wrong axis, which is the other direction's loss; a temperature other than the
    declared one; anchors left out of the mean because of their value, or counted in it without a
    positive; a factor; or anything else that the other laws let pass.
    """
    traits = subject.traits
    assert traits.temperature is not None
    expected = formula.mean_loss(traits, batch, traits.temperature)
    subject.same(
        subject.value(batch), expected, ("the loss", "the formula"), scale=1 / traits.temperature
    )
