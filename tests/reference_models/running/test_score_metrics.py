"""Metrics of scores, against their definitions; what is not defined is NaN."""

import math
import warnings
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reference_models.running.score_metrics import regression_metrics, sims_metrics

thirds = st.integers(-9, 9).map(lambda k: k / 3)
fifths = st.integers(-15, 15).map(lambda k: 0.2 * k)
halves = st.integers(-8, 8).map(lambda k: k / 2)
fine = st.integers(-256, 256).map(lambda k: k / 64)
zeros = st.just(0.0)


@st.composite
def scored(draw):
    """Predictions and labels of one length; every kind of label, some constant, some all zero."""
    size = draw(st.integers(1, 12))
    labels = draw(st.sampled_from([thirds, fifths, halves, zeros, thirds | zeros]))
    predictions = draw(st.sampled_from([thirds, fifths, halves, fine, zeros]))
    if draw(st.booleans()):
        labels = st.just(draw(labels))
    if draw(st.booleans()):
        predictions = st.just(draw(predictions))
    return [draw(st.lists(x, min_size=size, max_size=size)) for x in (predictions, labels)]


def weighted_f1(truth, chosen):
    total = 0.0
    for label in (False, True):
        both = sum(t == label and c == label for t, c in zip(truth, chosen, strict=True))
        support, predicted = truth.count(label), chosen.count(label)
        if support and predicted and both:
            precision, recall = both / predicted, both / support
            total += support * 2 * precision * recall / (precision + recall)
    return total / len(truth)


def share_equal(x, y):
    return sum(a == b for a, b in zip(x, y, strict=True)) / len(x)


def clipped_and_rounded(x, bound):
    # Python's round goes half to even.
    return [round(min(max(v, -bound), bound)) for v in x]


def correlation(p, y):
    if len(set(p)) <= 1 or len(set(y)) <= 1:
        return math.nan
    mean_p, mean_y = math.fsum(p) / len(p), math.fsum(y) / len(y)
    covariance = math.fsum((a - mean_p) * (b - mean_y) for a, b in zip(p, y, strict=True))
    spread = [math.fsum((v - m) ** 2 for v in x) for x, m in ((p, mean_p), (y, mean_y))]
    return covariance / math.sqrt(spread[0] * spread[1])


def mae(p, y):
    return sum(abs(a - b) for a, b in zip(p, y, strict=True)) / len(y) if y else math.nan


def oracle(p, y, protocol):
    kept = [i for i, score in enumerate(y) if score != 0]
    p_kept, y_kept = [p[i] for i in kept], [y[i] for i in kept]
    has0 = [v >= 0 for v in y], [v >= 0 for v in p]
    non0 = [v > 0 for v in y_kept], [v > 0 for v in p_kept]
    result = {
        "mae": mae(p, y),
        "corr": correlation(p, y),
        "acc7": share_equal(clipped_and_rounded(p, 3), clipped_and_rounded(y, 3)),
        "acc5": share_equal(clipped_and_rounded(p, 2), clipped_and_rounded(y, 2)),
        "acc2": {"nn_n": share_equal(*has0)},
        "f1": {"nn_n": weighted_f1(*has0)},
    }
    if protocol == "mag_bert":
        non0 = [v >= 0 for v in y_kept], [v >= 0 for v in p_kept]
        result |= {"mae": mae(p_kept, y_kept), "corr": correlation(p_kept, y_kept)}
    result["acc2"]["p_n"] = share_equal(*non0) if kept else math.nan
    result["f1"]["p_n"] = weighted_f1(*non0) if kept else math.nan
    if protocol == "mag_bert":
        for name in ("acc2", "f1"):
            result[name]["nn_n"] = result[name]["p_n"]
    return result


def flat(metrics):
    for name, value in metrics.items():
        for inner, number in value.items() if isinstance(value, dict) else [("", value)]:
            yield name + inner, number


@pytest.mark.parametrize("protocol", ["mmsa", "mag_bert"])
@given(scored())
def test_regression_metrics_are_those_of_the_definition(protocol, sample):
    p, y = sample
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        metrics = regression_metrics(np.array(p), np.array(y), protocol=protocol)
    expected = dict(flat(oracle(p, y, protocol)))
    found = dict(flat(metrics))
    assert found == pytest.approx(expected, abs=1e-9, nan_ok=True)
    assert all(type(number) is float for number in found.values())
    # A warning, always ours, exactly where something is not defined.
    assert {w.category for w in caught} <= {RuntimeWarning}
    assert bool(caught) == any(math.isnan(number) for number in found.values())


def test_halves_round_to_the_even_class():
    p = np.array([0.5, 1.5, 2.5, -0.5, -1.5, -2.5])
    assert regression_metrics(p, np.array([0.0, 2, 2, 0, -2, -2]))["acc7"] == 1
    assert regression_metrics(p, np.array([1.0, 1, 3, -1, -1, -3]))["acc7"] == 0


def test_float32_predictions_are_taken_as_they_are():
    p = np.array([0.5, -1.25, 2.0], dtype=np.float32)
    y = np.array([1.0, -1.0, 3.0], dtype=np.float32)
    expected = dict(flat(oracle(p.tolist(), y.tolist(), "mmsa")))
    assert dict(flat(regression_metrics(p, y))) == pytest.approx(expected)


def test_f1_weighs_by_the_true_classes():
    truth, chosen = [True, True, True, False], [True, True, False, False]
    p, y = (np.where(x, 1.0, -1.0) for x in (chosen, truth))
    assert weighted_f1(truth, chosen) != pytest.approx(weighted_f1(chosen, truth))
    assert regression_metrics(p, y)["f1"]["nn_n"] == pytest.approx(weighted_f1(truth, chosen))


@pytest.mark.parametrize("protocol", ["mmsa", "mag_bert"])
@pytest.mark.parametrize("broken", [math.nan, math.inf, -math.inf])
def test_a_prediction_that_is_not_finite_makes_all_nan(protocol, broken):
    with pytest.warns(RuntimeWarning, match="a prediction is NaN or infinite"):
        metrics = regression_metrics([0.1, broken, 1.0], [0.0, 1.0, 2.0], protocol=protocol)
    assert all(math.isnan(number) for _, number in flat(metrics))
    assert set(dict(flat(metrics))) == set(dict(flat(oracle([0.1], [0.2], protocol))))


@pytest.mark.parametrize("swapped", [False, True])
def test_a_constant_that_is_no_binary_fraction_has_no_correlation(swapped):
    # Its mean is rounded, so its deviations are not quite zero.
    p, y = [0.1] * 7, [0.3, 1, 2, 3, -1, -2, -3]
    with pytest.warns(RuntimeWarning, match="constant"):
        metrics = regression_metrics(*((y, p) if swapped else (p, y)))
    assert math.isnan(metrics["corr"])


@pytest.mark.parametrize(
    ("p", "y", "protocol", "message"),
    [
        ([], [], "mmsa", r"predictions: expected shape \(N,\), N >= 1, got \(0,\)"),
        ([[1.0]], [[1.0]], "mmsa", r"predictions: expected shape \(N,\).*got \(1, 1\)"),
        ([1.0], [1.0, 2.0], "mmsa", r"labels: expected shape \(1,\), got \(2,\)"),
        ([1.0], [math.nan], "mmsa", "labels: expected finite"),
        ([1.0], [1.0], "mult", "protocol: expected one of .*mag_bert.*, got 'mult'"),
    ],
)
def test_regression_metrics_refuses(p, y, protocol, message):
    with pytest.raises(ValueError, match=message):
        regression_metrics(np.array(p), np.array(y), protocol=protocol)


tenths = st.integers(-15, 15).map(lambda k: k / 10)


# Labels of CH-SIMS, their halves and thirds, the edges of all classes, and scores outside [-1, 1].
sims_scores = st.sampled_from([fifths, tenths, halves, thirds, fine, zeros])


@st.composite
def sims_scored(draw):
    size = draw(st.integers(1, 12))
    kinds = [draw(sims_scores), draw(sims_scores)]
    for place, kind in enumerate(kinds):
        if draw(st.booleans()):
            kinds[place] = st.just(draw(kind))
    return [draw(st.lists(kind, min_size=size, max_size=size)) for kind in kinds]


def sims_class(score, edges):
    """Its place among the bins (e[0], e[1]], (e[1], e[2]], ..."""
    for place, (low, high) in enumerate(pairwise(edges)):
        if score > low and score <= high:
            return place
    raise AssertionError(score)


SIMS_BINS = {
    "acc2": (-1.01, 0.0, 1.01),
    "acc3": (-1.01, -0.1, 0.1, 1.01),
    "acc5": (-1.01, -0.7, -0.1, 0.1, 0.7, 1.01),
}


def sims_oracle(p, y):
    p, y = ([min(max(v, -1.0), 1.0) for v in x] for x in (p, y))
    result = {"mae": mae(p, y), "corr": correlation(p, y)}
    for name, edges in SIMS_BINS.items():
        result[name] = share_equal(*([sims_class(v, edges) for v in x] for x in (p, y)))
    result["f1"] = weighted_f1([v > 0 for v in y], [v > 0 for v in p])
    return result


@given(sims_scored())
def test_sims_metrics_are_those_of_the_definition(sample):
    p, y = sample
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        metrics = sims_metrics(np.array(p), np.array(y))
    assert metrics == pytest.approx(sims_oracle(p, y), abs=1e-9, nan_ok=True)
    assert list(metrics) == ["mae", "corr", "acc2", "acc3", "acc5", "f1"]
    assert all(type(number) is float for number in metrics.values())
    assert {w.category for w in caught} <= {RuntimeWarning}
    assert bool(caught) == math.isnan(metrics["corr"])


@given(sims_scored())
def test_a_score_is_in_the_class_of_its_decimal_number_in_single_precision_too(sample):
    p, y = sample
    single = [np.array(x, dtype=np.float32) for x in sample]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        metrics, expected = sims_metrics(*single), sims_metrics(np.array(p), np.array(y))
    assert metrics == pytest.approx(expected, abs=1e-6, nan_ok=True)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("edge", [-0.7, -0.1, 0.0, 0.1, 0.7])
def test_an_edge_belongs_to_the_class_below(edge, dtype):
    scores = np.array([edge, 0.9], dtype=dtype)
    below = np.array([edge - 0.05, 0.95], dtype=dtype)
    above = np.array([edge + 0.05, 0.95], dtype=dtype)
    for name, edges in SIMS_BINS.items():
        assert sims_metrics(scores, below)[name] == 1
        assert sims_metrics(scores, above)[name] == (0.5 if edge in edges else 1)


def test_sims_scores_are_clipped_before_everything():
    metrics = sims_metrics([5.0, -1.5, 0.4], [1.0, -1.0, 0.4])
    assert metrics == pytest.approx(
        dict.fromkeys(("corr", "acc2", "acc3", "acc5", "f1"), 1) | {"mae": 0}
    )


def test_no_score_of_0_is_positive():
    with pytest.warns(RuntimeWarning, match="constant"):
        metrics = sims_metrics([0.0, 0.0], [-0.2, 0.2])
    assert metrics["acc2"] == 0.5


def test_whole_numbers_are_scores():
    assert sims_metrics([1, 0, -1], [1, 1, -1])["acc2"] == pytest.approx(2 / 3)


@pytest.mark.parametrize("broken", [math.nan, math.inf])
def test_sims_metrics_of_what_is_not_finite_are_nan(broken):
    with pytest.warns(RuntimeWarning, match="a prediction is NaN or infinite"):
        metrics = sims_metrics([0.1, broken], [0.0, 1.0])
    assert list(metrics) == list(sims_oracle([0.1], [0.2]))
    assert all(math.isnan(number) for number in metrics.values())


@pytest.mark.parametrize(
    ("p", "y", "message"),
    [
        ([], [], r"predictions: expected shape \(N,\), N >= 1, got \(0,\)"),
        ([[1.0]], [[1.0]], r"predictions: expected shape \(N,\).*got \(1, 1\)"),
        ([1.0], [1.0, 2.0], r"labels: expected shape \(1,\), got \(2,\)"),
        ([1.0], [math.inf], "labels: expected finite"),
    ],
)
def test_sims_metrics_refuses(p, y, message):
    with pytest.raises(ValueError, match=message):
        sims_metrics(np.array(p), np.array(y))
