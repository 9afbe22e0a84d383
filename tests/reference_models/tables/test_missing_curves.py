"""Areas and their differences, against the same by hand."""

import math
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from reference_models.running.metrics import task_metrics
from reference_models.running.robustness import Condition, MissingResults, conditions
from reference_models.tables import paired
from reference_models.tables.missing_curves import measured, paired_areas, place_of


@pytest.fixture(autouse=True)
def fewer_resampled(monkeypatch):
    monkeypatch.setattr(paired, "RESAMPLED", 100)


THREE = ("text", "audio", "vision")
N = 60
LABELS = np.random.default_rng(0).uniform(-3, 3, N).astype(np.float32)


def results(mode="frames", *, seed=1, mask_seeds=2, noise=0.5, shift=0.0, task="sentiment"):
    """Predictions that get worse with the rate."""
    labels = LABELS if task == "sentiment" else (LABELS > 0).astype(np.int64)
    source = np.random.default_rng(seed)
    seeds = () if mode == "fixed-modalities" else tuple(range(1, mask_seeds + 1))
    found = conditions(mode, THREE, THREE, seeds)
    predictions = {}
    for condition in found:
        rate = condition.rate if condition.rate is not None else 1 - len(condition.kept) / 3
        outputs = (1 - rate) * LABELS + noise * source.normal(size=N) + shift
        if task == "humor":
            outputs = np.stack([-outputs, outputs], 1)
        predictions[condition] = outputs.astype(np.float32)
    return MissingResults(mode, "test", seeds, seed, task, found, predictions, labels, {})


def mae(result, condition):
    return float(np.abs(result.predictions[condition].astype(np.float64) - result.labels).mean())


def area_by_hand(result, mask_seed):
    """The mean height of the trapezoids, which are all equally wide from 0 to 1."""
    heights = [
        mae(result, next(c for c in result.conditions if c.rate == r and c.mask_seed in (None, s)))
        for r in [tenth / 10 for tenth in range(11)]
        for s in [mask_seed]
    ]
    return float(np.mean([(a + b) / 2 for a, b in pairwise(heights)]))


def test_a_network_of_one_modality_has_no_mean_over_incomplete_subsets():
    whole = results("fixed-modalities")
    (text,) = (c for c in whole.conditions if c.kept == ("text",))
    alone = replace(whole, conditions=(text,), predictions={text: whole.predictions[text]})
    found = measured([alone])
    assert found.points["mae"]["text"].values == (pytest.approx(mae(alone, text)),)
    assert found.areas["mae"].values == ()


def test_classes_that_the_labels_do_not_have_have_no_curve():
    found = measured([replace(results(), classes=(5,))])
    assert "acc7" in measured([results()]).areas
    assert not any("acc7" in name for name in (*found.points, *found.areas))
    assert "acc5" in found.areas


def test_the_area_is_the_mean_of_the_trapezoids_for_each_seed_and_mask():
    runs = [results(seed=1), results(seed=2)]
    found = measured(runs)
    by_hand = [area_by_hand(run, mask_seed) for run in runs for mask_seed in (1, 2)]
    assert found.areas["mae"].values == pytest.approx(by_hand, rel=1e-6)
    assert found.areas["mae"].std == pytest.approx(np.std(by_hand), rel=1e-5)
    middle = found.points["mae"]["0.5"]
    expected = [mae(run, Condition(0.5, mask_seed)) for run in runs for mask_seed in (1, 2)]
    assert middle.values == pytest.approx(expected, rel=1e-6)
    assert len(found.points["mae"]["0"].values) == len(found.points["mae"]["1"].values) == 2


def test_the_area_of_unequal_steps_is_over_their_range():
    run = results("random-modalities", mask_seeds=1)
    rates = [c.rate for c in run.conditions]
    heights = [mae(run, c) for c in run.conditions]
    total = sum(
        (b - a) * (x + y) / 2
        for a, b, x, y in zip(rates, rates[1:], heights, heights[1:], strict=False)
    )
    assert measured([run]).areas["mae"].values == pytest.approx([total / (2 / 3)], rel=1e-6)


def test_of_subsets_it_is_the_mean_over_the_incomplete_ones():
    run = results("fixed-modalities")
    incomplete = [mae(run, c) for c in run.conditions if len(c.kept) < 3]
    assert len(incomplete) == 6
    found = measured([run])
    assert found.areas["mae"].values == pytest.approx([np.mean(incomplete)], rel=1e-6)
    assert list(found.points["mae"])[-1] == "text + audio + vision"


def test_an_undefined_correlation_is_no_point_and_counts_as_0_in_the_area():
    run = results(mask_seeds=1)
    last = run.conditions[-1]
    run.predictions[last] = np.full(N, 0.5, dtype=np.float32)
    found = measured([run])
    assert math.isnan(found.points["corr"]["1"].mean)
    defined = run.conditions[:-1]
    values = [task_metrics("sentiment", run.predictions[c], LABELS)["corr"] for c in defined] + [
        0.0
    ]
    expected = np.mean([(a + b) / 2 for a, b in pairwise(values)])
    assert found.areas["corr"].values == pytest.approx([expected], rel=1e-6)
    worse = results(mask_seeds=1, noise=0.9)
    assert paired_areas({1: run}, {1: worse})["corr"].value > 0


def test_paired_differences_are_those_of_the_areas():
    ours = {s: results(seed=s, noise=0.2) for s in (1, 2)}
    theirs = {s: results(seed=s, noise=1.5) for s in (1, 2, 3)}
    found = paired_areas(ours, theirs)
    by_hand = [
        np.mean([area_by_hand(ours[s], m) - area_by_hand(theirs[s], m) for m in (1, 2)])
        for s in (1, 2)
    ]
    assert found["mae"].value == pytest.approx(np.mean(by_hand), rel=1e-6)
    assert (found["mae"].seeds, found["mae"].same_sign, found["mae"].word) == (2, 2, "helps")
    assert found["mae"].low < found["mae"].value < found["mae"].high < 0
    assert found["acc2_nn_n"].value > 0


def test_equal_rows_cannot_be_told_apart():
    same = {1: results(seed=1), 2: results(seed=2)}
    for each in paired_areas(same, same).values():
        assert (each.value, each.low, each.high, each.word) == (0, 0, 0, "cannot tell")


def of_one_sample(result):
    predictions = {condition: x[:1] for condition, x in result.predictions.items()}
    return replace(result, predictions=predictions, labels=result.labels[:1])


def test_one_sample_tells_nothing():
    """It is alike on all splits that are drawn from it, which is no certainty."""
    ours, theirs = of_one_sample(results(shift=0.1)), of_one_sample(results(shift=9.0))
    found = paired_areas({1: ours}, {1: theirs})["mae"]
    assert found.word == "cannot tell"
    assert found.value < -5


def test_classes_have_areas_too():
    ours, theirs = results(task="humor", noise=0.2), results(task="humor", noise=2)
    assert set(measured([ours]).areas) == {"accuracy", "f1"}
    assert paired_areas({1: ours}, {1: theirs})["accuracy"].value > 0


def test_rows_without_a_common_seed_or_condition_are_not_compared():
    assert paired_areas({1: results()}, {2: results()}) == {}
    assert paired_areas({1: results()}, {1: results("fixed-modalities")}) == {}


def test_a_place_is_the_rate_or_the_subset():
    assert place_of(Condition(0.3, 2)) == "0.3"
    assert place_of(Condition(kept=("text", "vision"))) == "text + vision"
