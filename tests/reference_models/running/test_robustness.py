"""A run where something is missing: its own weights, the stored masks, one evaluation each."""

import shutil
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest

from reference_models.data.loading import load_corpus
from reference_models.data.missing import MODES, WHOLE
from reference_models.layers import text_encoder
from reference_models.running import robustness, runs
from reference_models.running.robustness import Condition, conditions, evaluate_missing
from reference_models.running.sealed import read_sealed, write_sealed
from reference_models.running.training import predict
from reference_models.tables.missing_curves import measured
from tests.reference_models.running.test_runs import SHORT, train

THREE = ("text", "audio", "vision")


@pytest.fixture(scope="module")
def run(finished, tmp_path_factory):
    return shutil.copytree(finished[0], tmp_path_factory.mktemp("runs") / "run")


def counted_predictions(monkeypatch, then=lambda: None):
    """Lists the calls that predict; ``then`` is called in each."""
    calls = []

    def counted(*arguments, **options):
        calls.append(arguments)
        then()
        return predict(*arguments, **options)

    monkeypatch.setattr(robustness, "predict", counted)
    return calls


def test_conditions_are_each_rate_and_seed_but_equal_masks_once():
    found = conditions("frames", THREE, THREE, (1, 2))
    assert len(found) == 2 + 2 * 9
    assert [c.name for c in found[:3]] == ["0", "0.1, masks 1", "0.1, masks 2"]
    assert found[-1] == Condition(rate=1.0)
    found = conditions("random-modalities", THREE, THREE, (1, 2))
    assert [c.name for c in found[-2:]] == ["0.6667, masks 1", "0.6667, masks 2"]
    found = conditions("fixed-modalities", THREE, THREE[:2], ())
    assert [c.name for c in found] == ["text", "audio", "text + audio"]


@pytest.mark.parametrize("mode", MODES)
def test_texts_that_are_there_or_not_are_read_once(mode, file, run, tmp_path, monkeypatch):
    """Of as much padding. Where nothing is missing they are read as the plain evaluation does."""
    shutil.copytree(run, tmp_path / "run", ignore=shutil.ignore_patterns("missing"))
    states, anew, remembered = text_encoder._states, Counter(), Counter()

    def counted(encoder, ids, mask, padding):
        found = anew if text_encoder._MEMORY.get() is None else remembered
        found.update(x.numpy().tobytes() for x in ids[mask.any(1)])
        return states(encoder, ids, mask, padding)

    monkeypatch.setattr(text_encoder, "_states", counted)
    corpus = load_corpus(file)
    evaluate_missing(tmp_path / "run", mode, corpus, mask_seeds=1)
    if mode in WHOLE:
        assert max(remembered.values()) == 1
        assert sum(anew.values()) == len(corpus.splits["test"])
    else:
        assert not remembered
        assert max(anew.values()) > 1


@pytest.mark.parametrize("mode", MODES)
def test_nothing_missing_is_the_plain_evaluation_exactly(mode, file, run):
    result = evaluate_missing(run, mode, load_corpus(file), mask_seeds=1)
    whole = Condition(kept=THREE) if mode == "fixed-modalities" else Condition(rate=0.0)
    metrics, plain = measured([result]), runs.evaluate(run)
    assert metrics.points["mae"][whole.name].values == (plain["mae"],)
    assert metrics.points["corr"][whole.name].values == (plain["corr"],)
    assert metrics.points["acc7"][whole.name].values == (100 * plain["acc7"],)
    for outputs in result.predictions.values():
        assert np.isfinite(outputs).all()
    others = [x for c, x in result.predictions.items() if c != whole]
    assert any(not np.array_equal(x, result.predictions[whole]) for x in others)


def test_the_predictions_are_kept_while_run_and_masks_are_the_same(file, run, monkeypatch):
    corpus = load_corpus(file)
    first = evaluate_missing(run, "blocks", corpus, mask_seeds=2)
    calls = counted_predictions(monkeypatch)
    again = evaluate_missing(run, "blocks", corpus, mask_seeds=2)
    assert not calls
    for condition, outputs in first.predictions.items():
        assert np.array_equal(outputs, again.predictions[condition])
    evaluate_missing(run, "blocks", corpus, mask_seeds=1)
    assert len(calls) == 11


def test_a_damaged_file_of_predictions_is_refused(file, run):
    corpus = load_corpus(file)
    evaluate_missing(run, "shared-frames", corpus, mask_seeds=1)
    [path] = (run / "missing").glob("shared-frames*")
    content = path.read_bytes()
    path.write_bytes(content[:-1])
    with pytest.raises(ValueError, match="cut or changed"):
        evaluate_missing(run, "shared-frames", corpus, mask_seeds=1)
    path.write_bytes(content)


def test_two_at_once_predict_once(file, run, tmp_path, monkeypatch):
    """The second waits for the first, and reads what that has written."""
    corpus, others = load_corpus(file), []
    shutil.copytree(run, tmp_path / "run", ignore=shutil.ignore_patterns("missing"))

    def evaluated():
        return evaluate_missing(tmp_path / "run", "fixed-modalities", corpus)

    with ThreadPoolExecutor(1) as pool:
        calls = counted_predictions(
            monkeypatch, lambda: others or others.append(pool.submit(evaluated))
        )
        one, [other] = evaluated(), others
        for condition, outputs in other.result().predictions.items():
            assert np.array_equal(outputs, one.predictions[condition])
    assert len(calls) == 7


@pytest.mark.parametrize(
    "change",
    [
        lambda outputs: {name: x[:3] for name, x in outputs.items()},
        lambda outputs: {"text": outputs["text"]},
    ],
)
def test_predictions_of_other_samples_or_conditions_are_made_again(file, run, monkeypatch, change):
    corpus = load_corpus(file)
    first = evaluate_missing(run, "fixed-modalities", corpus)
    [path] = (run / "missing").glob("fixed*.safetensors")
    outputs, about, _ = read_sealed(path)
    write_sealed(path, change(outputs), about)
    calls = counted_predictions(monkeypatch)
    again = evaluate_missing(run, "fixed-modalities", corpus)
    assert len(calls) == 7
    for condition, outputs in first.predictions.items():
        assert np.array_equal(outputs, again.predictions[condition])


def test_two_runs_see_the_same_masks(file, run, tmp_path):
    """Whatever their seed, modalities and folders are."""
    corpus = load_corpus(file)
    one_epoch, two = replace(SHORT, epochs=1), ("text", "audio")
    train(file, tmp_path / "run", training=one_epoch, seed=2, modalities=two)
    one, other = (
        evaluate_missing(place, "frames", corpus, mask_seeds=2) for place in (run, tmp_path / "run")
    )
    assert one.masks == other.masks
    assert (one.seed, other.seed) == (1, 2)
    shared = tmp_path / "shared"
    third = evaluate_missing(run, "frames", corpus, mask_seeds=2, masks=shared)
    assert third.masks == one.masks
    assert len(list(shared.glob("*.safetensors"))) == 2


def test_an_unknown_mode_is_refused(file, run):
    with pytest.raises(
        ValueError, match=r"^--missing: expected one of fixed-modalities, .* 'noise'"
    ):
        evaluate_missing(run, "noise", load_corpus(file))
