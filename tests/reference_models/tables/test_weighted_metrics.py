"""Metrics under weights: a count for each sample is that sample repeated."""

import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reference_models.running.metrics import flat_metrics, task_metrics
from reference_models.tables.statistics import in_percent
from reference_models.tables.weighted_metrics import weighted_metrics

EMOTIONS = ("neutral", "happy", "sad", "angry")


def split(task, samples, seed):
    """Predictions as a corpus has them, labels, and both as ``predictions.csv`` has them."""
    random = np.random.default_rng(seed)
    if task in ("sentiment", "sims"):
        bound = 1 if task == "sims" else 3
        labels = np.round(random.uniform(-bound, bound, samples), 1)
        labels[::5] = 0.0
        outputs = np.round(labels + random.normal(size=samples), 1)
        return outputs, labels, {"": outputs}, {"": labels}
    shape = (samples,) if task == "humor" else (samples, 4)
    labels, outputs = random.integers(0, 2, shape), random.normal(size=(*shape, 2))
    chosen = (outputs[..., 1] > outputs[..., 0]).astype(float)
    if task == "humor":
        return outputs, labels, {"": chosen}, {"": labels}
    columns = ({e: x[:, at] for at, e in enumerate(EMOTIONS)} for x in (chosen, labels))
    return (outputs, labels, *columns)


@given(
    st.sampled_from(["sentiment", "sims", "humor", "iemocap"]),
    st.integers(2, 25),
    st.integers(0, 2**20),
)
def test_counts_are_repetitions(task, samples, seed):
    outputs, labels, predictions, truths = split(task, samples, seed)
    counts = np.random.default_rng(seed).integers(0, 4, (3, samples))
    counts[0] = 1
    counts[1:, 0] += 1  # none of the splits is empty
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of metrics that are not defined
        oracle = [
            flat_metrics(task_metrics(task, outputs.repeat(n, 0), labels.repeat(n, 0)))
            for n in counts
        ]
    found = weighted_metrics(oracle[0], predictions, truths, counts.astype(float))
    assert found.keys() == oracle[0].keys()
    for name, values in found.items():
        factor = 100 if in_percent(name) else 1
        expected = np.array([factor * metrics[name] for metrics in oracle])
        defined = ~np.isnan(expected)
        if name.endswith("corr"):  # of a constant in a resampled split: 0 / 0, by rounding
            defined &= np.abs(values) <= 1
        np.testing.assert_allclose(values[defined], expected[defined], atol=1e-6, err_msg=name)


def test_what_is_not_defined_is_nan():
    labels = {"": np.zeros(4)}
    names = {"mae": 0.0, "acc7": 0.0}
    found = weighted_metrics(names, {"": np.arange(4.0)}, labels, np.ones((1, 4)))
    assert np.isnan(found["corr"])
    assert np.isnan(found["acc2_p_n"])
    assert np.isnan(found["mag_bert_mae"])
    assert found["mae"] == pytest.approx(1.5)
