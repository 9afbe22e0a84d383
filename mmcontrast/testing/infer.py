"""The known form that is nearest to a loss, how far away it is, and where the two differ."""

import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from mmcontrast.testing.batch import Batch
from mmcontrast.testing.departures import DEPARTURES, PLAIN, Array, Departure, Table, anchor_table
from mmcontrast.testing.strategies import normal, unit_rows
from mmcontrast.testing.subject import Subject, one_line, show
from mmcontrast.testing.traits import Loss, Traits

SIZES = ((3, 3), (4, 5), (5, 4), (6, 3), (7, 6), (5, 5), (4, 3))
"""Samples and features of the batches that are tried; partners face away in the last."""

GRID = np.logspace(-3, 2, 41)
"""Temperatures where the search begins, and the bounds of what it finds."""

EXACT = 1e-6
"""How far apart, relative to 1 + value, a loss and a form may be and still be called equal."""

FAR = 0.5
"""From this difference on, a form is not called near."""


@dataclass(frozen=True)
class Base:
    """A form that a loss may have, or that it may have if its inputs are changed first."""

    traits: Traits
    changed: Callable[[Batch], Batch] | None = None
    said: str = ""
    """What is changed."""


@dataclass(frozen=True)
class Fit:
    """A form with a temperature, and how far a loss is from it."""

    base: Base
    departure: Departure
    temperature: float
    number: float
    apart: Array
    """By batch, the difference relative to 1 + the loss."""
    losses: Array
    """By batch, what the form gives."""

    @property
    def distance(self) -> float:
        """The largest difference."""
        return float(self.apart.max())

    @property
    def claims(self) -> dict[str, Any]:
        """The traits that declare the form."""
        traits = self.base.traits
        found: dict[str, Any] = {"form": traits.form}
        if traits.symmetric:
            found["symmetric"] = True
        if not traits.normalized:
            found["normalized"] = False
        return {**found, "temperature": float(f"{self.temperature:.6g}")}

    @property
    def said(self) -> str:
        """What differs from the form."""
        own = self.departure.say(self.number, self.temperature)
        return " and ".join(part for part in (self.base.said, own) if part)


def trial_batches(traits: Traits) -> list[Batch]:
    """Generic batches whose partners are near; those of the last one are opposite."""
    found = []
    for k, (n, d) in enumerate(SIZES):
        d = traits.features or d
        rows = normal(k, n, d) * (1 + torch.arange(n) % 3)[:, None]
        if traits.kind == "labelled":
            labels = torch.arange(n) * 2 % 5 % 3
            found.append(Batch("labelled", {"z": rows}, labels))
            continue
        other = -rows if k == len(SIZES) - 1 else rows / 2 + normal(100 + k, n, d)
        found.append(Batch("paired", {"a": rows, "b": other}))
    return [batch.map(unit_rows) for batch in found] if traits.unit else found


def known_forms(traits: Traits) -> Iterator[Base]:
    """Every form that losses of a kind can have."""
    for normalized in (True,) if traits.unit else (True, False):
        if traits.kind == "labelled":
            yield Base(replace(traits, form="sup_con", symmetric=False, normalized=normalized))
            continue
        for form, symmetric in (("info_nce", False), ("info_nce", True), ("nt_xent", True)):
            yield Base(replace(traits, form=form, symmetric=symmetric, normalized=normalized))


def changed_forms(traits: Traits) -> Iterator[Base]:
    """InfoNCE with its inputs exchanged, one of them normalised, or targets off by one."""
    if traits.kind != "paired":
        return
    one_way = replace(traits, form="info_nce", symmetric=False)
    yield Base(one_way, _exchanged, "the rows of b are the anchors, those of a the candidates")
    raw = replace(one_way, normalized=False)
    for name in ("a", "b"):
        yield Base(raw, functools.partial(_one_of_length_one, name), f"only {name} is normalised")
    for step in (1, -1):
        said = f"the partner of row i is row i {'+-'[step < 0]} 1"
        yield Base(one_way, functools.partial(_moved, step), said)


def _exchanged(batch: Batch) -> Batch:
    return batch.with_rows({"a": batch.rows["b"], "b": batch.rows["a"]})


def _moved(step: int, batch: Batch) -> Batch:
    return batch.with_rows({"a": batch.rows["a"], "b": batch.rows["b"].roll(-step, 0)})


def _one_of_length_one(name: str, batch: Batch) -> Batch:
    return batch.with_rows({**batch.rows, name: unit_rows(batch.rows[name])})


def proposal(loss: Loss, traits: Traits) -> str:
    """What to declare: the nearest known form, how far the loss is from it, and how it differs.

    Example:
        >>> from mmcontrast import n_pair
        >>> print(proposal(n_pair, Traits()))
        nearest known form: form='info_nce', normalized=False, temperature=1.0
            The loss equals it on 7 batches: declare it, and its laws are run too.
    """
    if traits.kind not in ("paired", "labelled"):
        if traits.noun != "loss":
            return f"nearest known form: a {traits.noun} has none"
        return f"nearest known form: none is known of a {traits.kind} loss; give reference="
    try:
        batches, values, found = nearest_forms(loss, traits)
    except Exception as error:  # of the loss, or of a law that it breaks
        return f"nearest known form: not sought, since on a generic batch {one_line(error)}"
    near = found[0]
    declared = ", ".join(f"{name}={value!r}" for name, value in near.claims.items())
    lines = [f"nearest known form: {declared}"]
    if near.distance <= EXACT:
        lines.append(
            f"The loss equals it on {len(batches)} batches: declare it, and its laws are run too."
        )
    else:
        lines += _difference(near, found[1:], batches, values)
    if near.temperature >= 2:
        inverse = f"{1 / near.temperature:.6g}"
        lines.append(
            f"A temperature of {near.temperature:.6g} multiplies similarities by {inverse}: is "
            f"{inverse} meant to divide them?"
        )
    return "\n    ".join(lines)


def _difference(near: Fit, explained: list[Fit], batches: list[Batch], values: Array) -> list[str]:
    """Where a loss differs from a form, and the change of the form that explains it."""
    k = int(near.apart.argmax())
    where = f"{len(batches[k])} samples of {batches[k].features} features"
    lines = [
        f"The loss does not equal it: it is {show(values[k])} where the form is "
        f"{show(near.losses[k])}, for {where}."
    ]
    if explained:
        lines.append(f"With one change it is equal: {explained[0].said}.")
    elif near.distance > FAR:
        lines.append("That is far away: it may be a loss of another kind. Compare with reference=.")
    else:
        lines.append(
            "No single change that is known here explains it: compare it with a reference=."
        )
    return lines


def nearest_forms(loss: Loss, traits: Traits) -> tuple[list[Batch], Array, list[Fit]]:
    """The trial batches, the loss of each, and the nearest form.

    Where the form is not exact, but a departure from one is, the form at the departure's
    temperature, and the departure.
    """
    batches = trial_batches(traits)
    subject = Subject(loss, traits)
    values = np.array([float(subject.value(batch)) for batch in batches])
    with np.errstate(all="ignore"):
        tried = [(base, anchor_table(base.traits, batches)) for base in known_forms(traits)]
        near = sorted((_fit(values, *one, PLAIN) for one in tried), key=lambda fit: fit.distance)
        if near[0].distance <= EXACT:
            return batches, values, near[:1]
        places = {id(fit.base): place for place, fit in enumerate(near)}
        tried.sort(key=lambda one: places[id(one[0])])
        for base, made, departure in _ways(traits, batches, tried):
            fit = _fit(values, base, made, departure)
            if fit.distance <= EXACT:
                at = np.array([np.log(fit.temperature)])
                form_itself = Base(base.traits)
                made = anchor_table(base.traits, batches)
                return batches, values, [_at(values, form_itself, made, PLAIN, at), fit]
    return batches, values, near[:1]


def _ways(
    traits: Traits, batches: list[Batch], tried: list[tuple[Base, Table]]
) -> Iterator[tuple[Base, Table, Departure]]:
    """All that may explain a loss that has no known form, the simple ways first."""
    for base in changed_forms(traits):
        assert base.changed is not None
        yield base, anchor_table(base.traits, [base.changed(batch) for batch in batches]), PLAIN
    for departure in DEPARTURES:
        for base, made in tried:
            if base.traits.form in departure.forms:
                yield base, made, departure


def _at(values: Array, base: Base, made: Table, departure: Departure, at: Array) -> Fit:
    """A fit at the logarithm of a temperature and, where there is one, a departure's number."""
    temperature, number = float(np.exp(at[0])), float(at[-1])
    losses = departure.losses(made, temperature, number)
    apart = np.nan_to_num(np.abs(losses - values) / (1 + np.abs(values)), nan=np.inf)
    return Fit(base, departure, temperature, number, apart, losses)


def _fit(values: Array, base: Base, made: Table, departure: Departure) -> Fit:
    """The temperature, and the departure's number, that come closest to the losses."""

    def residuals(at: Array) -> Array:
        losses = departure.losses(made, float(np.exp(at[0])), float(at[-1]))
        found: Array = np.nan_to_num((losses - values) / (1 + np.abs(values)), nan=1e9)
        return found

    best: Fit | None = None
    for start in departure.starts or (None,):
        tail = [] if start is None else [start]
        grid = [np.array([np.log(t), *tail]) for t in GRID]
        errors = np.array([np.square(residuals(at)).sum() for at in grid])
        for place in _valleys(errors):
            at = _descend(residuals, grid[place])
            fit = _rounded(values, base, made, departure, at)
            if best is None or fit.distance < best.distance:
                best = fit
            if best.distance <= EXACT:
                return best
    assert best is not None
    return best


def _valleys(errors: Array) -> list[int]:
    """The places of the two lowest local minima."""
    padded = np.pad(errors, 1, constant_values=np.inf)
    local = np.flatnonzero((errors <= padded[:-2]) & (errors <= padded[2:]))
    return [int(k) for k in sorted(local, key=lambda k: errors[k])[:2]]


def _descend(residuals: Callable[[Array], Array], at: Array) -> Array:
    """Least squares by Levenberg and Marquardt, with temperatures kept within those tried."""
    low, high = np.log(GRID[0]), np.log(GRID[-1])
    here = residuals(at)
    damping = 1e-3
    for _ in range(30):
        steps = 1e-7 * np.eye(len(at))
        slopes = np.stack([(residuals(at + h) - here) / 1e-7 for h in steps], axis=1)
        curvature = slopes.T @ slopes
        ridge = damping * np.diag(np.diag(curvature) + 1e-12)
        to = at - np.linalg.solve(curvature + ridge, slopes.T @ here)
        to[0] = np.clip(to[0], low, high)
        there = residuals(to)
        if there @ there < here @ here:
            gain = 1 - (there @ there) / (here @ here)
            at, here, damping = to, there, damping / 10
            if here @ here < 1e-26 or gain < 1e-4:
                break
        else:
            damping *= 10
            if damping > 1e6:
                break
    return at


def _rounded(values: Array, base: Base, made: Table, departure: Departure, at: Array) -> Fit:
    """The fit at a temperature of few digits, where that is as good."""
    exact = _at(values, base, made, departure, at)
    short = float(f"{exact.temperature:.6g}")
    rounded = _at(values, base, made, departure, np.array([np.log(short), *at[1:]]))
    return rounded if rounded.distance <= max(EXACT, 1.001 * exact.distance) else exact
