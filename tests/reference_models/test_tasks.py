"""Every model on every kind of data: it trains, is evaluated, and says what it predicts."""

import csv
from dataclasses import replace

import numpy as np
import pytest

from reference_models import registry
from reference_models.data.converted import save_corpus
from reference_models.data.loading import load_corpus
from reference_models.running import runs
from reference_models.running.metrics import flat_metrics, task_metrics
from reference_models.running.parts import build
from reference_models.training_config import TrainingConfig
from tests.reference_models import files
from tests.reference_models.test_models import TESTS, config_of

SHORT = TrainingConfig(learning_rate=1e-3, batch_size=4, epochs=1, max_text_length=8)
STAGES = {"mfon": {"teacher_epochs": 1}, "cormult": {"pretrain_epochs": 1}}
TASKS = {
    "mmsa": ("sentiment", "regression"),
    "sims": ("sims", "regression"),
    "mult": ("sentiment", "regression"),
    "iemocap": ("iemocap", "iemocap"),
    "mag-bert": ("sentiment", "regression"),
    "ur-funny": ("humor", "humor"),
}


@pytest.fixture(scope="module")
def layouts(tmp_path_factory):
    return files.write_every_layout(tmp_path_factory.mktemp("layouts"))


def read_csv(path):
    with path.open(newline="") as lines:
        return list(csv.DictReader(lines))


def as_predicted(task, rows):
    """What the metrics take, out of the rows of ``predictions.csv``."""

    def column(name):
        return np.array([float(row[name]) for row in rows])

    if task in ("sentiment", "sims"):
        return column("prediction"), column("label")
    if task == "humor":
        chosen = column("prediction")
        return np.stack([1 - chosen, chosen], -1), column("label").astype(int)
    emotions = ("neutral", "happy", "sad", "angry")
    chosen = np.stack([column(f"prediction_{e}") for e in emotions], 1)
    labels = np.stack([column(f"label_{e}") for e in emotions], 1).astype(int)
    return np.stack([1 - chosen, chosen], -1), labels


# Every model with text of its own encoder and with features, and with every head; and each of the
# layouts that are read into the same as one of these three, with two of the models.
EVERY = [n for n in TESTS if n != "hycon-v2"]
PAIRS = [(layout, name) for layout in ("mmsa", "iemocap", "ur-funny") for name in EVERY]
PAIRS += [("sims", "mfon"), ("sims", "cormult"), ("mult", "hycon"), ("mult", "tecafn")]
PAIRS += [("mag-bert", "mcl-mcf"), ("mag-bert", "text-only")]


@pytest.mark.slow
@pytest.mark.parametrize(("layout", "name"), PAIRS)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # splits of two samples
def test_every_model_on_every_layout(layout, name, layouts, tmp_path):
    task, head = TASKS[layout]
    corpus = load_corpus(layouts[layout])
    assert corpus.task == task
    config = config_of(name, **STAGES.get(name, {}))
    parts = build(name, config, SHORT, corpus, seed=1)
    assert parts.config["model_config"]["head"] == head
    results = runs.train(parts, corpus, tmp_path / "run")
    rows = [r for r in read_csv(tmp_path / "run" / "predictions.csv") if r["split"] == "test"]
    assert [row["id"] for row in rows] == corpus.splits["test"].ids
    predictions, labels = as_predicted(task, rows)
    np.testing.assert_allclose(labels, corpus.splits["test"].labels, rtol=1e-6)
    converted = tmp_path / "converted.safetensors"
    save_corpus(corpus, converted)
    expected = pytest.approx(flat_metrics(results["test"]), nan_ok=True)
    again = task_metrics(task, predictions, labels, classes=corpus.classes)
    assert flat_metrics(again) == expected
    assert flat_metrics(runs.evaluate(tmp_path / "run")) == expected
    assert flat_metrics(runs.evaluate(tmp_path / "run", data=str(converted))) == expected


def test_own_labels_teach_the_teachers_of_ch_sims(layouts, tmp_path):
    corpus = load_corpus(layouts["sims"])
    results = []
    for label in ("joint", "own"):
        config = config_of("mfon", teacher_epochs=1, teacher_label=label)
        parts = build("mfon", config, SHORT, corpus, seed=1)
        runs.train(parts, corpus, tmp_path / label)
        results.append((tmp_path / label / "history-teacher_audio.csv").read_text())
        assert not any(p.requires_grad for p in parts.model.teachers.parameters())
    assert results[0] != results[1]


def test_a_head_that_the_labels_do_not_fit(layouts):
    corpus = load_corpus(layouts["ur-funny"])
    entry = registry.find("cormult")
    with pytest.raises(ValueError, match=r"head: expected humor .*task humor.*'classes7'"):
        build("cormult", replace(entry.config, head="classes7"), SHORT, corpus, seed=1)


def test_evaluation_on_the_data_of_another_task(layouts, tmp_path):
    corpus = load_corpus(layouts["mmsa"])
    parts = build("text-only", config_of("text-only"), SHORT, corpus, seed=1)
    runs.train(parts, corpus, tmp_path / "run")
    with pytest.raises(ValueError, match=r"expected the task sentiment, .* got sims"):
        runs.evaluate(tmp_path / "run", data=str(layouts["sims"]))
