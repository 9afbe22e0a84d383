"""Departures from the known forms, against loops over anchors in float64."""

import math

import numpy as np
import pytest

from mmcontrast.testing import Traits
from mmcontrast.testing.departures import DEPARTURES, PLAIN, anchor_table
from mmcontrast.testing.formula import anchors, mean_loss
from mmcontrast.testing.infer import trial_batches

SUP_CON = Traits(kind="labelled", form="sup_con")
BATCHES = trial_batches(SUP_CON)
BOTH = Traits(form="info_nce", symmetric=True)
T, X = 0.3, 0.4


def slow(each, batch, traits=SUP_CON):
    """The mean over the batch's anchors of a function of logits and positives."""
    found = [each((a.similarities / T).tolist(), a.positives) for a in anchors(traits, batch)]
    return sum(found) / len(found) if found else 0.0


def log_sum(values):
    return math.log(math.fsum(math.exp(value) for value in values))


def rest(s, p):
    return [value for j, value in enumerate(s) if j not in p]


def mean(values):
    values = list(values)
    return sum(values) / len(values)


def own(s, p):
    return mean(s[j] for j in p)


BY_ANCHOR = {
    "positive is missing": lambda s, p: math.log(sum(map(math.exp, rest(s, p)))) - own(s, p),
    "denominator 0.4 times": lambda s, p: (
        math.log(X * sum(math.exp(s[j]) for j in p) + sum(math.exp(value) for value in rest(s, p)))
        - own(s, p)
    ),
    "lowered by 0.4": lambda s, p: (
        log_sum([value - X * (j in p) for j, value in enumerate(s)]) - own(s, p) + X
    ),
    "itself is among": lambda s, p: (
        math.log(sum(map(math.exp, s)) + X * math.exp(1 / T)) - own(s, p)
    ),
    "negatives are averaged": lambda s, p: (
        math.log(sum(math.exp(s[j]) for j in p) + mean(map(math.exp, rest(s, p)))) - own(s, p)
    ),
    "smoothed by 0.4": lambda s, p: log_sum(s) - (1 - X) * own(s, p) - X * mean(s),
    "added to the share": lambda s, p: -math.log(math.exp(own(s, p) - log_sum(s)) + math.exp(X)),
    "summed inside": lambda s, p: log_sum(s) - log_sum([s[j] for j in p]),
    "averaged inside": lambda s, p: log_sum(s) - log_sum([s[j] for j in p]) + math.log(len(p)),
    "negated": lambda s, p: log_sum([-value for value in s]) + own(s, p),
}


def by_pairs(found):
    number = sum(len(a.positives) for a in found)
    return sum(len(a.positives) * a.loss(T) for a in found) / max(number, 1)


BY_BATCH = {
    "multiplied by N": lambda loss, batch: loss * len(batch) ** X,
    "multiplied by 0.4": lambda loss, batch: X * loss,
    "0.4 is added": lambda loss, batch: X + loss,
    "anchors without a positive": lambda loss, batch: (
        loss * len(list(anchors(SUP_CON, batch))) / len(batch)
    ),
    "mean over the pairs": lambda loss, batch: by_pairs(list(anchors(SUP_CON, batch))),
    "divided by D": lambda loss, batch: mean_loss(SUP_CON, batch, T * batch.features**X),
}


def departure(words):
    (found,) = [d for d in DEPARTURES if words in d.say(X, T)]
    return found


@pytest.mark.parametrize("traits", [SUP_CON, BOTH, Traits(form="nt_xent")])
def test_the_plain_form_is_the_formula(traits):
    batches = trial_batches(traits)
    found = PLAIN.losses(anchor_table(traits, batches), T, X)
    expected = [mean_loss(traits, batch, T) for batch in batches]
    np.testing.assert_allclose(found, expected, rtol=1e-12)


@pytest.mark.parametrize("words", BY_ANCHOR)
def test_departures_of_each_anchor(words):
    # One whose anchors all have negatives, since a logarithm of none is not finite.
    batches = [batch for batch in BATCHES if len(batch.labels.unique()) > 1]
    found = departure(words).losses(anchor_table(SUP_CON, batches), T, X)
    expected = [slow(BY_ANCHOR[words], batch) for batch in batches]
    np.testing.assert_allclose(found, expected, rtol=1e-10)


@pytest.mark.parametrize("words", BY_BATCH)
def test_departures_of_the_batch(words):
    found = departure(words).losses(anchor_table(SUP_CON, BATCHES), T, X)
    expected = [BY_BATCH[words](mean_loss(SUP_CON, batch, T), batch) for batch in BATCHES]
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_every_departure_is_tested_here():
    assert len(BY_ANCHOR) + len(BY_BATCH) == len(DEPARTURES)
    assert len({d.say(X, T) for d in DEPARTURES}) == len(DEPARTURES)
