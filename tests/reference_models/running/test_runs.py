"""Runs end to end on small synthetic files: what the folder holds, and that it is the truth."""

import csv
import json
import pickle
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from reference_models import keys
from reference_models.data.mmsa import load_mmsa
from reference_models.data.synthetic import generate
from reference_models.data.text import train_word_tokenizer
from reference_models.hycon.settings import HyConConfig
from reference_models.layers.text_encoder import scratch_text_encoder
from reference_models.running import checkpoints, folders, records, runs
from reference_models.running.description import describe
from reference_models.running.parts import build
from reference_models.running.score_metrics import regression_metrics
from reference_models.training_config import TrainingConfig

SMALL = HyConConfig(hidden_size=10, heads=2, layers=1, supervised_loss="hycon_v2", semi_weight=0.5)


SHORT = TrainingConfig(learning_rate=1e-3, batch_size=16, epochs=2, patience=0, max_text_length=12)


def corpus_file(path, change=lambda columns: None):
    content = generate(sizes=(40, 12, 14), seed=4)
    for columns in content.values():
        change(columns)
    path.write_bytes(pickle.dumps(content))
    return path


def drop(*names):
    def change(columns):
        for name in names:
            del columns[name]

    return change


def stored_tokens(columns):
    """Token ids of a BERT vocabulary in the place of the sentences."""
    count = len(columns.pop("raw_text"))
    table = np.zeros((count, 3, 15), dtype=np.int64)
    table[:, 0, :5] = [101, 2003, 30_000, 2009, 102]
    table[:, 1, :5] = 1
    columns["text_bert"] = table


def text_features(columns):
    count = len(columns.pop("raw_text"))
    columns["text"] = np.random.default_rng(0).normal(size=(count, 6, 7)).astype(np.float32)


def train(file, folder, *, model_config=SMALL, training=SHORT, seed=1, **options):
    corpus = load_mmsa(file)
    parts = build("hycon-v2", model_config, training, corpus, seed=seed, **options)
    return runs.train(parts, corpus, folder)


def read_csv(path):
    with path.open(newline="") as lines:
        return list(csv.DictReader(lines))


def pretrained_folder(folder, texts, **options):
    tokenizer = train_word_tokenizer(texts)
    torch.manual_seed(0)
    sizes = {"hidden_size": 12, "layers": 1, "heads": 2, "max_length": 40, **options}
    scratch_text_encoder(len(tokenizer), **sizes).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


def test_the_folder_holds_all_of_the_run_and_nothing_else(finished):
    folder, _ = finished
    assert sorted(path.name for path in folder.iterdir()) == [
        "config.json",
        "fused.safetensors",
        "history.csv",
        "history.json",
        "metrics.json",
        "model.safetensors",
        "predictions.csv",
        "standardizer.json",
        "text_encoder",
        "tokenizer",
    ]


def test_the_config_says_what_ran_on_what(finished, file):
    config = json.loads((finished[0] / "config.json").read_text())
    assert config["model"] == "hycon-v2"
    assert keys.rebuild(HyConConfig, config["model_config"]) == SMALL
    assert keys.rebuild(TrainingConfig, config["training"]) == SHORT
    assert config["data"]["sha256"] == load_mmsa(file).sha256
    assert config["data"]["samples"] == {"train": 40, "valid": 12, "test": 14}
    assert config["sizes"] == {"text": 128, "audio": 16, "vision": 20}
    assert config["text"] == {"column": "raw_text", "encoder": "scratch"}
    assert (config["seed"], config["left_out"]) == (1, [])
    assert config["versions"]["torch"] == torch.__version__
    assert {"python", "transformers", "mmcontrast"} <= config["versions"].keys()


def test_the_metrics_are_those_of_the_written_predictions(finished, file):
    folder, results = finished
    written = json.loads((folder / "metrics.json").read_text())
    assert written == results
    rows = read_csv(folder / "predictions.csv")
    corpus = load_mmsa(file)
    for split in ("valid", "test"):
        own = [row for row in rows if row["split"] == split]
        assert [row["id"] for row in own] == corpus.splits[split].ids
        labels = [float(row["label"]) for row in own]
        np.testing.assert_array_equal(np.float32(labels), corpus.splits[split].labels)
        predictions = [float(row["prediction"]) for row in own]
        expected = regression_metrics(predictions, labels)
        assert {k: v for k, v in written[split].items() if k != "mag_bert"} == expected
        own_protocol = regression_metrics(predictions, labels, protocol="mag_bert")
        assert written[split]["mag_bert"] == own_protocol


def test_acc7_is_measured_only_where_the_labels_have_seven_classes(tmp_path):
    def narrow(columns):
        columns["regression_labels"] = columns["regression_labels"] / 3

    folder = tmp_path / "run"
    file = corpus_file(tmp_path / "x.pkl", narrow)
    results = train(file, folder, training=replace(SHORT, epochs=1))
    found = [results["test"], results["valid"], runs.evaluate(folder, split="train")]
    found += [metrics["mag_bert"] for metrics in found]
    assert not any("acc7" in metrics or "acc5" in metrics for metrics in found)
    assert all("mae" in metrics for metrics in found)
    assert "valid_acc7" not in read_csv(folder / "history.csv")[0]


def test_the_history_has_every_term_and_they_add_up(finished):
    folder, results = finished
    history = json.loads((folder / "history.json").read_text())
    assert [row["epoch"] for row in history] == [1, 2] == list(range(1, results["epochs"] + 1))
    for row, line in zip(history, read_csv(folder / "history.csv"), strict=True):
        terms = [row[f"loss_{name}"] for name in ("task", "intra", "inter", "semi")]
        assert sum(terms) == pytest.approx(row["loss"], rel=1e-5)
        assert all(value != 0 for value in terms)
        assert {name: float(text) for name, text in line.items()} == row
    best = min(history, key=lambda row: row["valid_loss"])
    assert results["best_epoch"] == best["epoch"]
    assert results["valid"]["mae"] == pytest.approx(best["valid_mae"], rel=1e-6)
    assert results["selection"] == "the epoch with the lowest validation loss"


def test_evaluation_gives_the_numbers_of_the_run(finished, tmp_path):
    folder, results = finished
    assert runs.evaluate(folder) == results["test"]
    assert runs.evaluate(folder, split="valid") == results["valid"]
    other = corpus_file(tmp_path / "other.pkl", lambda columns: columns["raw_text"].reverse())
    assert runs.evaluate(folder, data=str(other)) != results["test"]


def test_the_fused_features_give_the_predictions(finished):
    folder, _ = finished
    fused = load_file(folder / "fused.safetensors")
    assert {split: x.shape for split, x in fused.items()} == {"valid": (12, 10), "test": (14, 10)}
    head = load_file(folder / "model.safetensors")
    predictions = fused["test"] @ head["head.weight"][0] + head["head.bias"]
    rows = [row for row in read_csv(folder / "predictions.csv") if row["split"] == "test"]
    np.testing.assert_allclose(predictions, [float(r["prediction"]) for r in rows], rtol=1e-4)


def test_the_same_seed_gives_the_same_files_and_another_seed_others(finished, file, tmp_path):
    folder, _ = finished
    train(file, tmp_path / "same")
    train(file, tmp_path / "other", seed=2)
    for name in ("predictions.csv", "history.csv", "model.safetensors", "config.json"):
        assert (tmp_path / "same" / name).read_bytes() == (folder / name).read_bytes(), name
        assert (tmp_path / "other" / name).read_bytes() != (folder / name).read_bytes(), name


def test_a_finished_run_is_left_alone(finished, file):
    folder, results = finished
    with pytest.raises(ValueError, match="got a finished run"):
        train(file, folder)
    assert json.loads((folder / "metrics.json").read_text()) == results


def test_a_stopped_run_goes_on_to_the_result_of_one_that_was_not(
    finished, file, tmp_path, monkeypatch
):
    """After the second epoch, before its checkpoint is written; test_survival.py kills outright."""

    def stopped(folder, rows, stage):
        if len(rows) == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(folders, "write_history", stopped)
        with pytest.raises(KeyboardInterrupt):
            train(file, tmp_path / "stopped")
    assert folders.state(tmp_path / "stopped") == "unfinished"
    assert checkpoints.epochs_done(tmp_path / "stopped") == 1
    with pytest.raises(ValueError, match=r"training\.epochs: 2 there, 3 now"):
        train(file, tmp_path / "stopped", training=replace(SHORT, epochs=3))
    corpus = load_mmsa(file)
    parts = build("hycon-v2", SMALL, SHORT, corpus, seed=1)
    assert "goes on after epoch 1" in describe(parts, tmp_path / "stopped")
    runs.train(parts, corpus, tmp_path / "stopped")
    for name in ("metrics.json", "predictions.csv", "history.csv", "model.safetensors"):
        whole, resumed = (run / name for run in (finished[0], tmp_path / "stopped"))
        assert whole.read_bytes() == resumed.read_bytes(), name
    assert not (tmp_path / "stopped" / folders.CHECKPOINTS).exists()


def test_a_missing_modality_is_said_and_the_rest_runs(tmp_path):
    file = corpus_file(tmp_path / "two.pkl", drop("vision", "vision_lengths"))
    train(file, tmp_path / "run", training=replace(SHORT, epochs=1))
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert config["modalities"] == ["text", "audio"]
    assert config["left_out"] == [
        "vision is not in the file: the loss terms leave out it and every pair with it"
    ]


def test_a_pretrained_encoder_is_not_needed_to_evaluate(file, tmp_path):
    corpus = load_mmsa(file)
    encoder = pretrained_folder(tmp_path / "encoder", corpus.splits["train"].raw_text)
    one = replace(SHORT, epochs=1)
    results = train(file, tmp_path / "run", training=one, text_encoder=encoder)
    shutil.rmtree(encoder)
    assert runs.evaluate(tmp_path / "run") == results["test"]
    parts = runs.load(tmp_path / "run")
    assert "0.001 in the text encoder, 0.001 elsewhere" in describe(parts, tmp_path)


def test_mixed_precision_trains_and_is_evaluated_in_full(file, tmp_path):
    results = train(file, tmp_path / "run", training=replace(SHORT, precision="bf16", epochs=1))
    history = json.loads((tmp_path / "run" / "history.json").read_text())
    assert results["valid"]["mae"] == pytest.approx(history[0]["valid_mae"], rel=0.05)
    assert results["valid"]["mae"] != history[0]["valid_mae"]
    assert runs.evaluate(tmp_path / "run") == results["test"]


def test_evaluation_on_a_file_without_what_the_network_reads(finished, tmp_path):
    folder, _ = finished
    two = corpus_file(tmp_path / "two.pkl", drop("vision", "vision_lengths"))
    with pytest.raises(ValueError, match=r"two\.pkl: expected the modalities text, audio, vision"):
        runs.evaluate(folder, data=str(two))
    tokens = corpus_file(tmp_path / "tokens.pkl", stored_tokens)
    with pytest.raises(ValueError, match=r"tokens\.pkl: expected the column raw_text"):
        runs.evaluate(folder, data=str(tokens))


def test_evaluation_of_what_is_no_finished_run(tmp_path):
    with pytest.raises(ValueError, match="expected a finished run, got an empty or absent folder"):
        runs.evaluate(tmp_path / "absent")
    folders.open_run(tmp_path / "begun", {"format": 1, "model": "hycon"})
    with pytest.raises(ValueError, match="got a run that did not finish"):
        runs.evaluate(tmp_path / "begun")


def test_an_id_that_cannot_be_written_is_found_before_the_training(file, tmp_path):
    corpus = load_mmsa(file)
    parts = build("hycon-v2", SMALL, SHORT, corpus, seed=1)
    corpus.splits["test"].ids[3] = "half\ud800"
    with pytest.raises(ValueError, match=r"expected ids that UTF-8 can hold, .* got 'half.*ud800'"):
        runs.train(parts, corpus, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_ids_that_look_like_formulas_come_back(file, tmp_path):
    """In predictions.csv with an apostrophe, which spreadsheets hide and the reader takes away."""
    corpus = load_mmsa(file)
    names = ["=1+1", "-2+3", "@SUM(1)", "'quoted", "-3g5yACwYnA$_$1"]
    corpus.splits["test"].ids[:5] = names
    parts = build("hycon-v2", SMALL, replace(SHORT, epochs=1), corpus, seed=1)
    runs.train(parts, corpus, tmp_path / "run")
    stored = [row["id"] for row in read_csv(tmp_path / "run" / "predictions.csv")]
    assert stored[12:17] == ["'=1+1", "'-2+3", "'@SUM(1)", "''quoted", "-3g5yACwYnA$_$1"]
    read = records.run_predictions(tmp_path / "run")
    assert [row["id"] for row in read] == corpus.splits["test"].ids
