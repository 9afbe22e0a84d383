"""The known forms as functions of their temperature, and ways in which losses depart from them."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mmcontrast.testing.batch import Batch
from mmcontrast.testing.formula import anchors
from mmcontrast.testing.traits import Traits

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Table:
    """All anchors of several batches, (A,), against their candidates, (A, C), padded."""

    similarities: Array
    positives: Array
    """1 for a positive, else 0."""
    candidates: Array
    """1 for a candidate, positives among them, 0 for padding."""
    batch: NDArray[np.int64]
    """(A,) the index of the anchor's batch."""
    anchors: Array
    """(batches,) the number of anchors, at least 1."""
    sizes: Array
    """(batches,) the number of samples."""
    features: Array
    """(batches,) the number of features."""


def anchor_table(traits: Traits, batches: Sequence[Batch]) -> Table:
    """The anchors of the declared form, in all batches."""
    found = [(k, anchor) for k, batch in enumerate(batches) for anchor in anchors(traits, batch)]
    width = max(len(anchor.similarities) for _, anchor in found)
    similarities, positives, candidates = np.zeros((3, len(found), width))
    for row, (_, anchor) in enumerate(found):
        number = len(anchor.similarities)
        similarities[row, :number] = anchor.similarities.numpy()
        candidates[row, :number] = 1
        positives[row, anchor.positives] = 1
    batch = np.array([k for k, _ in found])
    return Table(
        similarities,
        positives,
        candidates,
        batch,
        np.bincount(batch, minlength=len(batches)).clip(1).astype(float),
        np.array([float(len(batch)) for batch in batches]),
        np.array([float(batch.features) for batch in batches]),
    )


def _log_sum(logits: Array, weights: Array) -> Array:
    """(A,) log sum of weights times exp(logits), for weights that may be 0."""
    most = np.where(weights != 0, logits, -np.inf).max(1, keepdims=True)
    total: Array = np.log((weights * np.exp(np.minimum(logits - most, 0))).sum(1)) + most[:, 0]
    return total


def _of_positives(t: Table, x: Array) -> Array:
    """(A,) the mean over an anchor's positives."""
    found: Array = (x * t.positives).sum(1) / t.positives.sum(1)
    return found


def _each(t: Table, temperature: float | Array) -> Array:
    logits = t.similarities / temperature
    return _log_sum(logits, t.candidates) - _of_positives(t, logits)


def _batch_means(t: Table, each: Array) -> Array:
    """(batches,) the mean over each batch's anchors."""
    return np.bincount(t.batch, each, minlength=len(t.sizes)) / t.anchors


# --- ways to depart: (table, temperature, number) -> (batches,) losses ----------------------------


def _plain(t: Table, temperature: float, x: float) -> Array:
    return _batch_means(t, _each(t, temperature))


def _negated(t: Table, temperature: float, x: float) -> Array:
    return _plain(t, -temperature, x)


def _lowered(t: Table, temperature: float, x: float) -> Array:
    logits = t.similarities / temperature - x * t.positives
    return _batch_means(t, _log_sum(logits, t.candidates) - _of_positives(t, logits))


def _with_weight(t: Table, temperature: float, x: float) -> Array:
    logits = t.similarities / temperature
    weights = np.where(t.positives > 0, x, t.candidates)
    return _batch_means(t, _log_sum(logits, weights) - _of_positives(t, logits))


def _decoupled(t: Table, temperature: float, x: float) -> Array:
    return _with_weight(t, temperature, 0.0)


def _with_itself(t: Table, temperature: float, x: float) -> Array:
    logits = t.similarities / temperature
    one = np.ones((len(logits), 1))
    all_logits = np.concatenate([logits, one / temperature], axis=1)
    weights = np.concatenate([t.candidates, x * one], axis=1)
    return _batch_means(t, _log_sum(all_logits, weights) - _of_positives(t, logits))


def _averaged(t: Table, temperature: float, x: float) -> Array:
    logits = t.similarities / temperature
    negatives = t.candidates - t.positives
    weights = t.positives + negatives / negatives.sum(1, keepdims=True).clip(1)
    return _batch_means(t, _log_sum(logits, weights) - _of_positives(t, logits))


def _smoothed(t: Table, temperature: float, x: float) -> Array:
    logits = t.similarities / temperature
    over_all = (logits * t.candidates).sum(1) / t.candidates.sum(1)
    chosen = (1 - x) * _of_positives(t, logits) + x * over_all
    return _batch_means(t, _log_sum(logits, t.candidates) - chosen)


def _with_epsilon(t: Table, temperature: float, x: float) -> Array:
    return _batch_means(t, -np.log(np.exp(-_each(t, temperature)) + np.exp(x)))


def _summed_inside(t: Table, temperature: float, x: float) -> Array:
    logits = t.similarities / temperature
    return _batch_means(t, _log_sum(logits, t.candidates) - _log_sum(logits, t.positives))


def _averaged_inside(t: Table, temperature: float, x: float) -> Array:
    return _summed_inside(t, temperature, x) + _batch_means(t, np.log(t.positives.sum(1)))


def _by_width(t: Table, temperature: float, x: float) -> Array:
    return _batch_means(t, _each(t, temperature * (t.features**x)[t.batch][:, None]))


def _scaled(t: Table, temperature: float, x: float) -> Array:
    return x * _plain(t, temperature, x)


def _raised(t: Table, temperature: float, x: float) -> Array:
    return x + _plain(t, temperature, x)


def _by_size(t: Table, temperature: float, x: float) -> Array:
    return t.sizes**x * _plain(t, temperature, x)


def _by_pairs(t: Table, temperature: float, x: float) -> Array:
    number = t.positives.sum(1)
    found: Array = _batch_means(t, number * _each(t, temperature)) / _batch_means(t, number).clip(1)
    return found


def _everybody(t: Table, temperature: float, x: float) -> Array:
    counted: Array = np.bincount(t.batch, minlength=len(t.sizes)) / t.sizes
    return counted * _plain(t, temperature, x)


@dataclass(frozen=True)
class Departure:
    """A change of a form with one free number, and what is said of a loss that it explains."""

    losses: Callable[[Table, float, float], Array]
    starts: tuple[float, ...]
    """Where the search for the number begins; empty where there is none."""
    say: Callable[[float, float], str]
    """(number, temperature) -> a clause."""
    forms: tuple[str, ...] = ("info_nce", "nt_xent", "sup_con")


PLAIN = Departure(_plain, (), lambda x, t: "")


def _say_size(x: float, temperature: float) -> str:
    if abs(x - 1) < 1e-6:
        return "it is summed over the samples, not averaged"
    return f"it is multiplied by N ** {x:.4g}, for N samples"


DEPARTURES = (
    Departure(_negated, (), lambda x, t: "the similarities are negated"),
    Departure(_by_size, (1.0, -1.0), _say_size),
    Departure(_scaled, (1.0,), lambda x, t: f"it is multiplied by {x:.4g}"),
    Departure(
        _decoupled,
        (),
        lambda x, t: (
            "the positive is missing from the denominator (where that is meant, a paired loss "
            "declares decoupled=True in the place of form=)"
        ),
    ),
    Departure(
        _with_weight, (1.5, 0.5), lambda x, t: f"the positive is in the denominator {x:.4g} times"
    ),
    Departure(
        _lowered,
        (0.2, -0.2),
        lambda x, t: (
            f"the positive's logit is lowered by {x:.4g}: a margin of {x:.4g} after the division "
            f"by the temperature, {x * t:.4g} before it"
        ),
    ),
    Departure(
        _with_itself,
        (0.5,),
        lambda x, t: f"the sample itself is among its candidates ({x:.4g} times): not masked out",
        ("nt_xent", "sup_con"),
    ),
    Departure(_averaged, (), lambda x, t: "the negatives are averaged in the denominator"),
    Departure(
        _smoothed, (0.1,), lambda x, t: f"the targets are smoothed by {x:.4g} over all candidates"
    ),
    Departure(
        _with_epsilon,
        (math.log(1e-3), math.log(1e-6)),
        lambda x, t: f"{math.exp(x):.4g} is added to the share inside the logarithm",
    ),
    Departure(
        _summed_inside,
        (),
        lambda x, t: "the positives' shares are summed inside the logarithm",
        ("sup_con",),
    ),
    Departure(
        _averaged_inside,
        (),
        lambda x, t: "the positives' shares are averaged inside the logarithm",
        ("sup_con",),
    ),
    Departure(
        _everybody,
        (),
        lambda x, t: "anchors without a positive count in the mean, as zeros",
        ("sup_con",),
    ),
    Departure(
        _by_pairs,
        (),
        lambda x, t: "it is the mean over the pairs, so that large classes weigh more",
        ("sup_con",),
    ),
    Departure(
        _by_width, (0.5, 1.0), lambda x, t: f"similarities are divided by D ** {x:.4g}, D features"
    ),
    Departure(_raised, (0.0,), lambda x, t: f"{x:.4g} is added to it"),
)
"""The simple ones first: the first that explains a loss is named."""
