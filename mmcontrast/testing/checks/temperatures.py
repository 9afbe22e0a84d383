"""The effect of the temperature; these laws need a factory: temperature -> loss."""

import torch
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from mmcontrast.testing import draws, formula
from mmcontrast.testing.batch import Batch
from mmcontrast.testing.registry import check
from mmcontrast.testing.subject import LawBroken, Subject, demand, demand_close, show
from mmcontrast.testing.traits import Traits, rounding

KINDS = ("paired", "labelled", "multimodal")
IN_USE = (1.0, 0.07, 0.01)


def _softmax(traits: Traits) -> bool:
    return traits.factory is not None and traits.form is not None


def _factors(batch: Batch) -> SearchStrategy[float]:
    return st.sampled_from([2.0, 0.5, 10.0])


@check("11", kinds=KINDS, when=_softmax, needs="factory and form")
def high_temperature_limit(subject: Subject, batch: Batch) -> None:
    """As the temperature grows the loss goes to the logarithm of the number of candidates.

    A temperature that multiplies, or that is applied in one direction or one term only.
    """
    value = subject.value(batch, loss=subject.from_factory(1e9))
    expected = formula.mean_log_candidates(subject.traits, batch)
    demand(
        abs(float(value) - expected) < 1e-5,
        f"at temperature 1e9 the loss is {show(value)}, not {show(expected)}",
    )


@check("12", kinds=KINDS, when=_softmax, needs="factory and form")
def low_temperature_limit(subject: Subject, batch: Batch) -> None:
    """T times the loss exceeds the hardest negative's lead over the positive by at most T log C.

    exp() before log(), an epsilon inside the logarithm, or a clamp: the loss saturates, and its
    gradient vanishes.
    """
    lead = formula.mean_lead(subject.traits, batch)
    for temperature in (0.05, 0.001):
        value = subject.value(batch, loss=subject.from_factory(temperature))
        most = lead + temperature * formula.mean_log_candidates(subject.traits, batch)
        what = f"T times the loss at T = {temperature}"
        scaled = temperature * value
        subject.at_most(lead, scaled, ("the hardest candidate's lead", what))
        subject.at_most(scaled, most, (what, "that lead plus T log C"))


@check(
    "22",
    kinds=KINDS,
    when=_softmax,
    needs="factory and form",
    draws={"temperature": draws.any_temperature},
)
def temperature_divides(subject: Subject, batch: Batch, temperature: float) -> None:
    """At any temperature the loss is the formula of similarities over the temperature.

    A temperature that multiplies, is squared, is left out, or is kept from an earlier call.
    """
    value = subject.value(batch, loss=subject.from_factory(temperature))
    expected = formula.mean_loss(subject.traits, batch, temperature)
    what = (f"the loss at temperature {temperature}", "the formula")
    subject.same(value, expected, what, scale=1 / temperature)


@check(
    "22",
    kinds=("paired",),
    when=lambda t: _softmax(t) and not t.normalized,
    needs="factory and form, not normalized",
    draws={"factor": _factors},
)
def only_the_quotient_matters(subject: Subject, batch: Batch, factor: float) -> None:
    """Similarities and temperature multiplied by one number change nothing.

    An epsilon, a clamp or a margin that is applied before the division by the temperature.
    """
    a, b = batch.rows.values()
    scaled = batch.with_rows({"a": a * factor, "b": b})
    plain = subject.value(batch, loss=subject.from_factory(0.5))
    both = subject.value(scaled, loss=subject.from_factory(0.5 * factor))
    subject.same(plain, both, ("the loss", f"with both times {factor} it"))


@check("23", kinds=KINDS, when=lambda t: t.factory is not None, needs="factory")
def finite_at_any_temperature(subject: Subject, batch: Batch) -> None:
    """In float32 value and gradient are finite from temperature 1 down to 0.01.

    exp() before log(), or a maximum taken over entries that are then masked out.
    """
    low = batch.to(torch.float32)
    for temperature in IN_USE:
        try:
            subject.gradients(low, loss=subject.from_factory(temperature))
        except LawBroken as error:
            raise LawBroken(f"at temperature {temperature}, {error}") from error


@check("24", kinds=KINDS, when=lambda t: t.factory is not None, needs="factory")
def precise_at_any_temperature(subject: Subject, batch: Batch) -> None:
    """At any temperature the float32 value is the float64 value, up to the logits' rounding.

    An epsilon inside the logarithm, or exp() before it: the loss saturates where it should be
    largest.
    """
    low = batch.to(torch.float32)
    for temperature in IN_USE:
        loss = subject.from_factory(temperature)
        value = subject.value(low, loss=loss)
        exact = subject.value(low.to(torch.float64), loss=loss)
        demand_close(
            value,
            exact,
            rounding(torch.float32, temperature),
            f"at temperature {temperature} the loss is {show(value)} in float32, "
            f"{show(exact)} in float64",
        )
