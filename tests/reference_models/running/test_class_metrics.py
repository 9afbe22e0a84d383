"""Metrics of classes, against their definitions; what is not defined is NaN."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reference_models.data.corpus import EMOTIONS
from reference_models.running.class_metrics import humor_metrics, iemocap_metrics
from tests.reference_models.running.test_score_metrics import fine, flat, share_equal, weighted_f1


@given(st.integers(1, 10), st.integers(0, 2**32 - 1))
def test_iemocap_metrics_are_those_of_the_definition(size, seed):
    source = np.random.default_rng(seed)
    logits, labels = source.normal(size=(size, 4, 2)), source.integers(0, 2, size=(size, 4))
    metrics = iemocap_metrics(logits, labels)
    assert list(metrics) == ["accuracy", "f1"]
    for metric, measure in (("accuracy", share_equal), ("f1", weighted_f1)):
        values = []
        for emotion, name in enumerate(EMOTIONS):
            truth = [bool(v) for v in labels[:, emotion]]
            chosen = [bool(pair[1] > pair[0]) for pair in logits[:, emotion]]
            values.append(measure(truth, chosen))
            assert metrics[metric][name] == pytest.approx(values[-1])
        assert metrics[metric]["mean"] == pytest.approx(sum(values) / 4)
        assert list(metrics[metric]) == ["neutral", "happy", "sad", "angry", "mean"]
        assert all(type(number) is float for number in metrics[metric].values())


def test_iemocap_metrics_of_nan_are_nan():
    logits = np.zeros((2, 4, 2))
    logits[1, 2, 0] = math.nan
    with pytest.warns(RuntimeWarning, match="a logit is NaN"):
        metrics = iemocap_metrics(logits, np.zeros((2, 4), dtype=int))
    assert all(math.isnan(number) for _, number in flat(metrics))


@pytest.mark.parametrize(
    ("logits", "labels", "message"),
    [
        ((0, 4, 2), (0, 4), r"logits: expected shape \(N, 4, 2\), N >= 1, got \(0, 4, 2\)"),
        ((3, 4), (3, 4), r"logits: expected shape \(N, 4, 2\).*got \(3, 4\)"),
        ((3, 2, 4), (3, 4), r"logits: expected shape \(N, 4, 2\).*got \(3, 2, 4\)"),
        ((3, 4, 2), (3,), r"labels: expected shape \(3, 4\), got \(3,\)"),
    ],
)
def test_iemocap_metrics_refuses(logits, labels, message):
    with pytest.raises(ValueError, match=message):
        iemocap_metrics(np.zeros(logits), np.zeros(labels))


def test_iemocap_metrics_refuses_other_labels():
    with pytest.raises(ValueError, match=r"labels: expected 0 and 1, got \[0, 2\]"):
        iemocap_metrics(np.zeros((1, 4, 2)), np.array([[0, 2, 0, 0]]))


@given(st.lists(st.tuples(fine, fine, st.booleans()), min_size=1, max_size=12))
def test_humor_metrics_are_those_of_the_definition(rows):
    logits = [[a, b] for a, b, _ in rows]
    truth = [label for *_, label in rows]
    chosen = [b > a for a, b, _ in rows]
    metrics = humor_metrics(np.array(logits), np.array(truth, dtype=np.int64))
    expected = {"accuracy": share_equal(truth, chosen), "f1": weighted_f1(truth, chosen)}
    assert metrics == pytest.approx(expected)
    assert all(type(number) is float for number in metrics.values())


def test_humor_metrics_of_nan_are_nan():
    with pytest.warns(RuntimeWarning, match="a logit is NaN"):
        metrics = humor_metrics([[0.0, math.nan], [1.0, 0.0]], [0, 1])
    assert list(metrics) == ["accuracy", "f1"]
    assert all(math.isnan(number) for number in metrics.values())


@pytest.mark.parametrize(
    ("logits", "labels", "message"),
    [
        (np.zeros((0, 2)), [], r"logits: expected shape \(N, 2\), N >= 1, got \(0, 2\)"),
        (np.zeros((3, 3)), [0] * 3, r"logits: expected shape \(N, 2\).*got \(3, 3\)"),
        (np.zeros(()), 0, r"logits: expected shape \(N, 2\).*got \(\)"),
        (np.zeros((3, 2)), [0] * 2, r"labels: expected shape \(3,\), got \(2,\)"),
        (np.zeros((2, 2)), [0, -1], r"labels: expected 0 and 1, got \[-1, 0\]"),
    ],
)
def test_humor_metrics_refuses(logits, labels, message):
    with pytest.raises(ValueError, match=message):
        humor_metrics(logits, np.array(labels))
