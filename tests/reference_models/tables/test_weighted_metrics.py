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
        np.testing.assert_allclose(values, expected, atol=1e-6, err_msg=name)


def test_scores_on_an_edge_of_sims_are_where_the_run_has_them():
    """0.1 in float32 is more than 0.1 once it is in a CSV file."""
    labels = np.float32([0.1, 0.0, 0.7, 0.5, -0.7, 0.3])
    outputs = np.float32([0.0, 0.1, 0.5, 0.7, -0.7, 0.1])
    names = flat_metrics(task_metrics("sims", outputs, labels))
    read = ({"": x.astype(np.float64)} for x in (outputs, labels))
    found = weighted_metrics(names, *read, np.ones((1, 6)))
    for name, value in names.items():
        factor = 100 if in_percent(name) else 1
        assert found[name] == pytest.approx(factor * value), name


def test_a_constant_among_the_samples_that_count_has_no_correlation():
    """Also where rounding would give it a spread, as it does in half of these."""
    random = np.random.default_rng(0)
    for _ in range(40):
        y, p = np.where(random.random(30) < 0.5, 1.1, 0.0), random.normal(size=30)
        counts = np.stack([np.ones(30), random.integers(1, 4, 30) * (y > 0)])
        for labels, predictions in ((y, p), (p + 9, y)):
            found = weighted_metrics({"mae": 0.0}, {"": predictions}, {"": labels}, counts)
            plain, constant = found["corr"]
            assert plain == pytest.approx(np.corrcoef(p, y)[0, 1])
            assert np.isnan(constant)
        assert np.isnan(
            weighted_metrics({"mae": 0.0}, {"": p}, {"": y}, counts)["mag_bert_corr"]
        ).all()


def test_what_is_not_defined_is_nan():
    labels = {"": np.zeros(4)}
    names = {"mae": 0.0, "acc7": 0.0}
    found = weighted_metrics(names, {"": np.arange(4.0)}, labels, np.ones((1, 4)))
    assert np.isnan(found["corr"])
    assert np.isnan(found["acc2_p_n"])
    assert np.isnan(found["mag_bert_mae"])
    assert found["mae"] == pytest.approx(1.5)
