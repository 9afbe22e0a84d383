"""The figures: what is drawn is what the run folder holds, and nothing that makes no sense."""

import csv
import json
from collections import Counter

import numpy as np
import pytest
from matplotlib.figure import Figure
from safetensors.numpy import save_file
from sklearn.manifold import trustworthiness

from reference_models.running.metrics import task_metrics
from reference_models.tables import figures
from reference_models.tables.figures import FigureKind, figures_of, terms_of
from reference_models.tables.finished import Run
from reference_models.tables.rendering import render
from reference_models.tables.statistics import Summary

EMOTIONS = ("neutral", "happy", "sad", "angry")


def run_folder(
    folder, task="sentiment", *, samples=40, contrast=True, config=None, stage=False, reach=3
):
    """A finished run as far as a page reads it, with random content; scores from -reach to it."""
    random = np.random.default_rng(0)
    folder.mkdir(parents=True)
    bound = 1 if task == "sims" else reach
    labels, outputs = random.uniform(-bound, bound, samples), random.normal(size=samples)
    columns = {"label": labels, "prediction": labels + outputs}
    outputs = columns["prediction"]
    if task in ("humor", "iemocap"):
        shape = (samples,) if task == "humor" else (samples, 4)
        labels, outputs = random.integers(0, 2, shape), random.normal(size=(*shape, 2))
        columns = {"label": labels, "prediction": outputs.argmax(-1)}
        if task == "iemocap":
            columns = {
                f"{name}_{emotion}": values[:, at]
                for at, emotion in enumerate(EMOTIONS)
                for name, values in columns.items()
            }
    with (folder / "predictions.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["split", "id", *columns])
        writer.writerow(["valid", "v", *(1.0 for _ in columns)])  # not of the test split
        for row in range(samples):
            writer.writerow(["test", f"t{row}", *(values[row] for values in columns.values())])
    fused = {"test": random.normal(size=(samples, 5)).astype(np.float32)}
    save_file(fused, folder / "fused.safetensors")
    history = [
        {"epoch": n, "loss": 2.0 / n, "loss_task": 1.5 / n, "loss_semi": 0.5 * contrast / n}
        | {"valid_loss": 1.0 / n}
        | ({"valid_mae": 0.9 / n} if task in ("sentiment", "sims") else {})
        for n in (1, 2, 3)
    ]
    (folder / "history.json").write_text(json.dumps(history))
    if stage:
        (folder / "history-teacher.json").write_text(json.dumps(history[:2]))
    settings = {
        "format": 1,
        "model": "hycon",
        "seed": 1,
        "data": {"sha256": "0123456789abcdef"},
        "modalities": ["text", "audio"],
        "text": {"column": "raw_text", "encoder": "scratch"},
        "model_config": {"margin": 0.8, "refine": True},
        "training": {"epochs": 3},
    }
    for section, values in (config or {}).items():
        settings[section] = values if section in ("seed", "model") else settings[section] | values
    (folder / "config.json").write_text(json.dumps(settings))
    classes = [n for n in (7, 5) if reach >= n // 2]
    measured = task_metrics(task, outputs, labels, classes=classes)
    results = {"test": measured, "best_epoch": 2, "epochs": 3}
    (folder / "metrics.json").write_text(json.dumps(results))
    return folder


def drawn(draw, run):
    axes = Figure().add_subplot()
    draw(axes, run)
    return axes


def rows_of(folder):
    lines = (folder / "predictions.csv").read_text().splitlines()
    return [row for row in csv.DictReader(lines) if row["split"] == "test"]


def headings(run):
    return [kind.heading for kind in figures_of(run)[0]]


@pytest.mark.parametrize(
    ("task", "expected", "left_out"),
    [
        (
            "sentiment",
            [
                "Predicted against true scores",
                "Confusion of the seven classes",
                "Confusion of the two classes",
            ],
            [],
        ),
        (
            "sims",
            ["Predicted against true scores", "Confusion of the two classes"],
            ["seven classes"],
        ),
        ("humor", ["Confusion of the two classes"], ["predicted against true", "seven classes"]),
        (
            "iemocap",
            [f"Confusion: {name}" for name in EMOTIONS],
            ["predicted against true", "seven classes"],
        ),
    ],
)
def test_each_task_has_the_figures_that_make_sense(tmp_path, task, expected, left_out):
    run = Run(run_folder(tmp_path / "a", task, samples=12))
    assert headings(run) == ["Loss terms over time", *expected, "Fused features"]
    missing = figures_of(run)[1]
    assert len(missing) == len(left_out)
    assert all(words in line for words, line in zip(left_out, missing, strict=True))
    for kind in figures_of(run)[0]:
        assert isinstance(kind, FigureKind)
        assert render(kind.draw, run, "svg").startswith(b"<?xml")


def lines(axes):
    return {line.get_label(): list(zip(*line.get_data(), strict=True)) for line in axes.lines}


def test_loss_terms_are_those_of_the_history(tmp_path):
    run = Run(run_folder(tmp_path / "a"))
    axes = drawn(figures.draw_terms, run)
    curves = lines(axes)
    assert curves["task"] == [(n, 1.5 / n) for n in (1, 2, 3)]
    assert curves["semi"] == [(n, 0.5 / n) for n in (1, 2, 3)]
    assert curves["validation MAE"] == [(n, 0.9 / n) for n in (1, 2, 3)]
    assert list(axes.lines[-1].get_xdata()) == [2, 2]  # the epoch that was kept
    assert len(curves) == 4


def test_a_term_that_is_switched_off_is_not_drawn(tmp_path):
    run = Run(run_folder(tmp_path / "a", contrast=False))
    assert set(lines(drawn(figures.draw_terms, run))) == {"task", "validation MAE", "_child2"}
    assert terms_of(run, "Loss terms over time") == ["task"]


def test_a_stage_and_a_task_without_errors_show_the_watched_loss(tmp_path):
    run = Run(run_folder(tmp_path / "a", "humor", stage=True))
    assert "validation loss" in lines(drawn(figures.draw_terms, run))
    curves = lines(drawn(figures.draw_stage("teacher"), run))
    assert curves["validation loss"] == [(1, 1.0), (2, 0.5)]
    assert "Loss terms over time: teacher" in headings(run)
    assert terms_of(run, "Loss terms over time: teacher") == ["task", "semi"]
    assert terms_of(run, "Fused features") == []


def test_what_was_watched_may_be_the_test_split(tmp_path):
    run = Run(run_folder(tmp_path / "a"))
    run.history = [{"epoch": 1, "loss": 1.0, "loss_task": 1.0, "test_loss": 2.0, "test_mae": 3.0}]
    axes = drawn(figures.draw_terms, run)
    assert lines(axes)["test MAE"] == [(1, 3.0)]
    assert all(line.get_marker() == "." for line in axes.lines[:2])  # else one epoch is not seen


def test_the_scatter_has_every_sample_inside(tmp_path):
    run = Run(run_folder(tmp_path / "a"))
    axes = drawn(figures.draw_scatter, run)
    points = axes.collections[0].get_offsets()
    np.testing.assert_array_equal(points[:, 0], run.labels[""])
    np.testing.assert_array_equal(points[:, 1], run.predictions[""])
    assert np.abs(points).max() < axes.get_xlim()[1] == axes.get_ylim()[1]
    run.labels[""][0] = 50.0
    assert drawn(figures.draw_scatter, run).get_xlim()[1] > 50


def counts(axes):
    """The numbers in the cells of a confusion matrix, by their row and column."""
    cells = {text.get_position(): int(text.get_text()) for text in axes.texts}
    size = round(len(cells) ** 0.5)
    return np.array([[cells[column, row] for column in range(size)] for row in range(size)])


def test_the_seven_classes_are_clipped_and_rounded_scores(tmp_path):
    folder = run_folder(tmp_path / "a")
    axes = drawn(figures.draw_seven, Run(folder))
    expected = np.zeros((7, 7), dtype=int)
    for row in rows_of(folder):
        true, predicted = (
            round(min(3.0, max(-3.0, float(row[key])))) for key in ("label", "prediction")
        )
        expected[true + 3, predicted + 3] += 1
    np.testing.assert_array_equal(counts(axes), expected)
    totals = expected.sum(1, keepdims=True)
    np.testing.assert_allclose(axes.images[0].get_array(), expected / np.maximum(totals, 1))
    assert axes.images[0].get_clim() == (0, 1)


@pytest.mark.parametrize(("task", "zero"), [("sentiment", True), ("sims", False)])
def test_the_two_classes_of_scores(tmp_path, task, zero):
    """A score of 0 is non-negative; on the scale of CH-SIMS it counts as negative."""
    run = Run(run_folder(tmp_path / "a", task))
    run.labels[""][:3] = 0
    run.predictions[""][1] = 0
    axes = drawn(figures.draw_two, run)

    def upper(score):
        return int(score >= 0 if zero else score > 0)

    pairs = zip(run.labels[""], run.predictions[""], strict=True)
    expected = Counter((upper(true), upper(predicted)) for true, predicted in pairs)
    got = counts(axes)
    assert {place: got[place] for place in expected} == expected
    names = [tick.get_text() for tick in axes.get_yticklabels()]
    assert names == (["negative", "non-negative"] if zero else ["non-positive", "positive"])


def test_the_classes_of_one_emotion(tmp_path):
    folder = run_folder(tmp_path / "a", "iemocap")
    got = counts(drawn(figures.draw_output("sad"), Run(folder)))
    rows = [(int(row["label_sad"]), int(row["prediction_sad"])) for row in rows_of(folder)]
    assert {place: got[place] for place in set(rows)} == Counter(rows)
    assert got.sum() == 40


def test_the_map_is_of_the_fused_features_coloured_by_the_score(tmp_path):
    run = Run(run_folder(tmp_path / "a", samples=60))
    # Two far groups in the features must be two groups in the map.
    far = run.labels[""] > 0
    run.fused = run.fused * 0.1 + np.where(far, 50, -50)[:, None].astype(np.float32)
    points = drawn(figures.draw_features, run).collections[0]
    places = np.asarray(points.get_offsets())
    order = np.random.default_rng(0).permutation(60)
    np.testing.assert_array_equal(points.get_array(), run.labels[""][order])
    assert trustworthiness(run.fused[order], places, n_neighbors=5) > 0.9
    assert (points.norm.vmin, points.norm.vmax) == (-3, 3)


def test_scores_of_a_smaller_range_have_their_own_scale_and_no_seven_classes(tmp_path):
    run = Run(run_folder(tmp_path / "a", reach=2))
    assert "Confusion of the seven classes" not in headings(run)
    norm = drawn(figures.draw_features, run).collections[0].norm
    assert norm.vmax == -norm.vmin == np.abs(run.labels[""]).max()
    names = [tick.get_text() for tick in drawn(figures.draw_two, run).get_yticklabels()]
    assert names == ["negative", "non-negative"]


@pytest.mark.parametrize(("task", "limits"), [("sims", (-1, 1)), ("humor", (0, 1))])
def test_the_colours_have_the_scale_of_the_task(tmp_path, task, limits):
    points = drawn(figures.draw_features, Run(run_folder(tmp_path / "a", task))).collections[0]
    assert (points.norm.vmin, points.norm.vmax) == limits


def test_the_map_takes_some_of_many_samples(tmp_path, monkeypatch):
    monkeypatch.setattr(figures, "TSNE_POINTS", 10)
    run = Run(run_folder(tmp_path / "a"))
    assert len(drawn(figures.draw_features, run).collections[0].get_offsets()) == 10


@pytest.mark.filterwarnings("ignore:the correlation of a constant")
@pytest.mark.parametrize("samples", [1, 3])
def test_too_few_samples_for_a_map_are_said_so(tmp_path, samples):
    axes = drawn(figures.draw_features, Run(run_folder(tmp_path / "a", samples=samples)))
    assert [text.get_text() for text in axes.texts] == ["too few samples for a map"]


def test_a_sweep_goes_through_the_means_with_their_deviations():
    points = {0.9: Summary(1.0, 0.25, (0.75, 1.25)), 0.5: Summary(2.0, 0.5, (1.5, 2.5))}
    axes = drawn(figures.sweep("acc2_nn_n", "margin", points), None)
    line = axes.lines[0]
    assert list(zip(*line.get_data(), strict=True)) == [(0.5, 2.0), (0.9, 1.0)]
    (bars,) = [c for c in axes.collections if len(c.get_segments()) == 2]
    ends = [segment[:, 1].tolist() for segment in bars.get_segments()]
    assert ends == [[1.5, 2.5], [0.75, 1.25]]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("margin", "Acc-2 nn/n")
