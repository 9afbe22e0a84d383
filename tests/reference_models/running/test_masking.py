"""Training where something is missing: other masks in each step, the same after a kill."""

import json
from dataclasses import replace

import pytest

from reference_models.data.missing import BERT_BLANKS, BlankTokens
from reference_models.data.missing_batches import lacking_batch
from reference_models.data.mmsa import load_mmsa
from reference_models.running import folders, runs
from reference_models.running.description import describe
from reference_models.running.masking import batch_change, blanks_of
from reference_models.running.parts import build
from tests.reference_models.running.test_runs import SHORT, SMALL, train
from tests.reference_models.running.test_training import Killed, kill_at, toy
from tests.reference_models.running.test_training import run as fit_toy

HALF = replace(SHORT, missing_rate=0.5)


def half(fields, step):
    return lacking_batch(fields, "frames", 0.5, seed=5, step=step, blanks=BERT_BLANKS)


def test_a_killed_training_goes_on_with_the_same_masks(tmp_path):
    whole = fit_toy(tmp_path / "whole", toy(dropout=0.5), change=half, epochs=2)
    assert whole != fit_toy(tmp_path / "plain", toy(dropout=0.5), epochs=2)
    with pytest.raises(Killed):
        fit_toy(tmp_path / "cut", toy(dropout=0.5), kill_at(2), change=half, epochs=2)
    assert fit_toy(tmp_path / "cut", toy(dropout=0.5), change=half, epochs=2) == whole


def test_each_batch_is_changed_once_in_its_step(tmp_path):
    """24 samples in batches of 4, two of them a step, for two epochs."""
    seen = []

    def watched(fields, step):
        seen.append((step, *fields["index"].tolist()))
        return fields

    settings = {"batch_size": 4, "gradient_accumulation": 2, "epochs": 2}
    changed = fit_toy(tmp_path / "a", toy(dropout=0.5), change=watched, **settings)
    assert [step for step, *_ in seen] == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5]
    assert sorted(index for _, *rows in seen[:6] for index in rows) == list(range(24))
    assert changed == fit_toy(tmp_path / "b", toy(dropout=0.5), **settings)


def test_a_run_trains_on_what_is_left_and_is_validated_on_the_whole(finished, file, tmp_path):
    results = train(file, tmp_path / "half", training=HALF)
    config = json.loads((tmp_path / "half" / "config.json").read_text())
    assert config["training"]["missing_rate"] == 0.5
    assert config["training"]["missing_mode"] == "frames"
    assert results["test"] != finished[1]["test"]
    assert runs.evaluate(tmp_path / "half")["mae"] == results["test"]["mae"]


def test_a_rate_of_0_changes_nothing_whatever_the_mode(file):
    corpus = load_mmsa(file)
    training = replace(SHORT, missing_mode="blocks")
    assert batch_change(build("hycon-v2", SMALL, training, corpus, seed=1)) is None


def test_the_tokens_are_those_of_the_run_s_own_tokenizer(file, tmp_path):
    corpus = load_mmsa(file)
    parts = build("hycon-v2", SMALL, HALF, corpus, seed=1)
    assert blanks_of(parts, "frames") == BlankTokens(1, frozenset((0, 2, 3)))
    assert "missing     0.5 of each training batch, frames" in describe(parts, tmp_path / "run")
    two = build("hycon-v2", SMALL, HALF, corpus, seed=1, modalities=["audio", "vision"])
    assert blanks_of(two, "frames") == BERT_BLANKS  # it reads no tokens, and asks for none


def test_whole_modalities_ask_for_no_token(file):
    parts = build("hycon-v2", SMALL, SHORT, load_mmsa(file), seed=1)
    parts.tokenizer.unk_token = parts.tokenizer.sep_token
    with pytest.raises(ValueError, match=r"^--text-encoder: expected a tokenizer with an unknown"):
        blanks_of(parts, "blocks")
    blanks_of(parts, "random-modalities")


def test_a_rate_that_leaves_a_sample_nothing_is_refused(file):
    corpus = load_mmsa(file)
    training = replace(SHORT, missing_rate=0.7, missing_mode="random-modalities")
    message = r"^missing_rate: expected at most 0.666667 for random-modalities, .* vision, got 0.7$"
    with pytest.raises(ValueError, match=message):
        build("hycon-v2", SMALL, training, corpus, seed=1)
    assert batch_change(
        build("hycon-v2", SMALL, replace(training, missing_rate=0.6), corpus, seed=1)
    )


def test_a_run_of_an_older_release_goes_on_with_nothing_missing(file, tmp_path):
    config = build("hycon-v2", SMALL, SHORT, load_mmsa(file), seed=1).config
    older = json.loads(json.dumps(config))
    del older["training"]["missing_rate"], older["training"]["missing_mode"]
    folders.open_run(tmp_path / "run", older)
    folders.check_same(tmp_path / "run", config)
    other = config | {"training": config["training"] | {"missing_rate": 0.5}}
    with pytest.raises(ValueError, match=r"training\.missing_rate: 0\.0 there, 0\.5 now"):
        folders.check_same(tmp_path / "run", other)
