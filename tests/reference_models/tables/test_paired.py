"""Paired differences: the intervals cover, and what cannot be told is not told."""

import json

import numpy as np
import pytest

from reference_models.tables.finished import Run
from reference_models.tables.paired import (
    difference,
    paired_differences,
    resampled,
    runs_by_seed,
)
from reference_models.tables.statistics import summaries
from tests.reference_models.tables.test_figures import run_folder

TRUE = 0.3


def simulated(random, seeds, samples, spread_of):
    """(S, N) differences of single samples: of a seed, of a sample, and of both together."""
    seed, sample, both = spread_of
    parts = (
        random.normal(0, seed, (seeds, 1)),
        random.normal(0, sample, (1, samples)),
        random.normal(0, both, (seeds, samples)),
    )
    return TRUE + sum(parts)


@pytest.mark.parametrize("seeds", [2, 3, 5])
@pytest.mark.parametrize("spread_of", [(0.0, 1.0, 1.0), (0.05, 0.5, 0.5), (0.3, 0.1, 0.1)])
def test_the_interval_covers_a_known_difference(seeds, spread_of):
    """95 % of 200 are 190, with a deviation of 3.1; the interval may be wider, not narrower."""
    random, samples = np.random.default_rng(seeds), 120
    counts = resampled(samples)[1:301] / samples
    covered, told = 0, 0
    for _ in range(200):
        each = simulated(random, seeds, samples, spread_of)
        found = difference(each.mean(1), each @ counts.T, lower_is_better=True)
        covered += found.low <= TRUE <= found.high
        told += found.word == "hurts"
        assert found.word != "helps" or found.high < 0
    assert covered >= 181
    if spread_of[0] < 0.3 and seeds > 2:
        assert told > 100  # the same intervals find a difference that is there


def test_words_and_signs():
    none = np.zeros((3, 50))
    better = difference(np.array([-0.1, -0.11, -0.12]), none, lower_is_better=True)
    assert (better.word, better.same_sign, better.seeds) == ("helps", 3, 3)
    assert better.value == pytest.approx(-0.11)
    assert better.low < better.value < better.high < 0
    assert difference(np.array([1.0, 1.1]), none[:2], lower_is_better=True).word == "hurts"
    assert difference(np.array([5.0, 5.1, 5.2]), none, lower_is_better=False).word == "helps"
    mixed = difference(np.array([-1.0, 1.0, 0.5]), none, lower_is_better=True)
    assert (mixed.word, mixed.same_sign) == ("cannot tell", 2)
    same = difference(np.zeros(3), none, lower_is_better=True)
    assert (same.word, same.low, same.high, same.same_sign) == ("cannot tell", 0, 0, 0)


def test_one_seed_has_the_interval_of_the_samples_and_cannot_tell():
    drawn = np.random.default_rng(0).normal(0.5, 0.1, (1, 4000))
    found = difference(np.array([0.5]), drawn, lower_is_better=True)
    assert found.high - found.value == pytest.approx(1.96 * 0.1, rel=0.05)
    assert found.low > 0
    assert (found.word, found.seeds) == ("cannot tell", 1)


def test_resampled_splits_where_a_metric_is_not_defined_are_left_out():
    drawn = np.array([[0.1, np.nan, 0.3, 0.2], [0.2, 0.2, 0.1, 0.3]])
    with_nan = difference(np.array([0.1, 0.2]), drawn, lower_is_better=True)
    without = difference(np.array([0.1, 0.2]), drawn[:, [0, 2, 3]], lower_is_better=True)
    assert with_nan == without


def test_nothing_is_told_of_samples_of_which_nothing_is_known():
    for drawn in (np.full((2, 9), np.nan), np.ones((2, 1))):
        found = difference(np.array([5.0, 5.0]), drawn, lower_is_better=True)
        assert (found.word, found.value) == ("cannot tell", 5.0)


def row(folder, seeds, *, shift=0.0, task="sentiment", samples=40):
    """Runs whose predictions lie ``shift`` farther from the labels."""
    runs = []
    for seed in seeds:
        place = run_folder(folder / f"seed-{seed}", task, samples=samples, config={"seed": seed})
        if task == "sentiment":
            moved(place, np.random.default_rng(seed).normal(shift, 0.01, samples))
        runs.append(Run(place))
    return runs_by_seed(runs)


def moved(place, by):
    """Move the predictions on the test split away from the labels, in both files that have them."""
    from reference_models.running.metrics import task_metrics

    lines = (place / "predictions.csv").read_text().splitlines()
    labels, predictions = [], []
    for at, line in enumerate(lines[2:]):
        split, name, label, prediction = line.split(",")
        moved_to = float(prediction) + by[at] * np.sign(float(prediction) - float(label))
        lines[at + 2] = f"{split},{name},{label},{moved_to}"
        labels.append(float(label))
        predictions.append(moved_to)
    (place / "predictions.csv").write_text("\n".join(lines) + "\n")
    results = json.loads((place / "metrics.json").read_text())
    results["test"] = task_metrics("sentiment", predictions, labels)
    (place / "metrics.json").write_text(json.dumps(results))


def test_differences_are_those_of_the_tables(tmp_path):
    ours, theirs = row(tmp_path / "a", (1, 2, 3), shift=0.5), row(tmp_path / "b", (3, 2, 4))
    found = paired_differences(ours, theirs)
    both = [summaries([runs[s].metrics["test"] for s in (2, 3)]) for runs in (ours, theirs)]
    assert found.keys() == both[0].keys()
    for name, got in found.items():
        assert got.value == pytest.approx(both[0][name].mean - both[1][name].mean, abs=1e-9)
        assert got.seeds == 2
    assert found["mae"].word == "hurts"
    assert found["mae"].low == pytest.approx(0.5, abs=0.02)  # each sample's is 0.5 away
    back = paired_differences(theirs, ours)["mae"]
    assert (back.word, back.value) == ("helps", -found["mae"].value)
    assert paired_differences(ours, {}) == {}


@pytest.mark.filterwarnings("ignore:the correlation of a constant")
def test_one_test_sample_tells_nothing(tmp_path):
    """It is alike on all splits that are drawn from it, which is no certainty."""
    ours, theirs = (
        row(tmp_path / "a", [1, 2], shift=0.5, samples=1),
        row(tmp_path / "b", [1, 2], samples=1),
    )
    found = paired_differences(ours, theirs)["mae"]
    assert found.word == "cannot tell"
    assert found.value == pytest.approx(0.5, abs=0.05)


@pytest.mark.parametrize("task", ["sims", "humor", "iemocap"])
def test_runs_of_every_task_are_compared(task, tmp_path):
    runs = row(tmp_path, (1, 2), task=task)
    found = paired_differences(runs, runs)
    assert found.keys() == summaries([runs[1].metrics["test"]]).keys()
    assert all((d.value, d.word) == (0, "cannot tell") for d in found.values())


def test_other_samples_and_tasks_are_refused(tmp_path):
    ours = row(tmp_path / "a", (1,))
    with pytest.raises(ValueError, match="the same test samples, got 39"):
        paired_differences(ours, row(tmp_path / "b", (1,), samples=39))
    with pytest.raises(ValueError, match="the same test samples"):
        paired_differences(ours, row(tmp_path / "c", (1,), task="humor"))
