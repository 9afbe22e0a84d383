"""The metrics against the definitions, counted by hand, and on everything that has no value."""

import numpy as np
import pytest

from reference_models.data.corpus import TASKS
from reference_models.running.class_metrics import humor_metrics, iemocap_metrics
from reference_models.running.metrics import flat_metrics, task_metrics
from reference_models.running.score_metrics import regression_metrics, sims_metrics


def test_every_task_has_its_metrics():
    source = np.random.default_rng(0)
    p, y = source.normal(size=(2, 20))
    y[:5] = 0
    pair, kind = source.normal(size=(20, 2)), source.integers(0, 2, 20)
    emotions = source.normal(size=(20, 4, 2)), source.integers(0, 2, (20, 4))
    own = regression_metrics(p, y, protocol="mag_bert")
    expected = {
        "sentiment": ((p, y), regression_metrics(p, y) | {"mag_bert": own}),
        "sims": ((p, y), sims_metrics(p, y)),
        "iemocap": (emotions, iemocap_metrics(*emotions)),
        "humor": ((pair, kind), humor_metrics(pair, kind)),
    }
    assert list(expected) == list(TASKS)
    for task, (arguments, metrics) in expected.items():
        assert task_metrics(task, *arguments) == metrics
    assert own != regression_metrics(p, y)
    with pytest.raises(ValueError, match=r"task: expected one of .*'humor'.*, got 'sarcasm'"):
        task_metrics("sarcasm", p, y)


def test_classes_that_the_labels_do_not_have_are_left_out():
    p, y = np.random.default_rng(0).normal(size=(2, 20))
    full = task_metrics("sentiment", p, y)
    for classes, absent in (((5,), {"acc7"}), ((), {"acc7", "acc5"})):
        found = task_metrics("sentiment", p, y, classes=classes)
        assert full.keys() - found.keys() == absent
        assert full["mag_bert"].keys() - found["mag_bert"].keys() == absent
        assert all(found[name] == full[name] for name in found.keys() - {"mag_bert"})


def test_metrics_are_flattened():
    metrics = {"mae": 1.0, "acc2": {"nn_n": 0.5, "p_n": 0.25}}
    assert flat_metrics(metrics) == {"mae": 1.0, "acc2_nn_n": 0.5, "acc2_p_n": 0.25}
    assert flat_metrics({}) == {}
