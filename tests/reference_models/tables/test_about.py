"""What a page is about, from the runs that it shows."""

import os
from datetime import datetime

from reference_models.tables.about import data_name, facts, facts_table, model_name
from reference_models.tables.finished import Run
from tests.reference_models.tables.test_figures import run_folder


def run(folder, seed=1, *, path="/data/a.pkl", encoder="/models/minilm", model="hycon"):
    config = {
        "seed": seed,
        "model": model,
        "data": {"path": path, "sha256": "0123", "samples": {"train": 3, "valid": 2, "test": 1}},
        "text": {"encoder": encoder, "column": "raw_text"},
    }
    place = run_folder(folder, samples=12, config=config)
    day = datetime(2026, 3, seed, 12).timestamp()
    os.utime(place / "metrics.json", (day, day))
    return Run(place)


def test_all_that_tells_what_was_run(tmp_path):
    runs = [run(tmp_path / "a", 2), run(tmp_path / "b", 1)]
    assert facts(runs) == [
        ("Model", "hycon"),
        ("Data", "a.pkl, 3/2/1 samples, SHA-256 0123"),
        ("Modalities", "text, audio"),
        ("Text encoder", "minilm"),
        ("Epochs", "at most 3; kept: 2"),
        ("Seeds", "1, 2"),
        ("Date", "2026-03-02, of the last run"),
    ]
    assert (model_name(runs), data_name(runs)) == ("hycon", "a.pkl")
    (table,) = facts_table(runs)
    assert "<td>Seeds</td><td>1, 2</td>" in table
    assert facts([]) == facts_table([]) == []


def test_versions_and_what_differs_between_runs(tmp_path):
    runs = [run(tmp_path / "a"), run(tmp_path / "b", path="b.pkl", encoder=None, model="mfon")]
    runs[0].config["versions"] = {"torch": "2.13.0", "numpy": "2.0", "python": "3.11"}
    runs[1].metrics["best_epoch"] = 9
    told = dict(facts(runs))
    assert told["Model"] == "hycon; mfon"
    assert told["Text encoder"] == "minilm; none"
    assert told["Epochs"] == "at most 3; kept: 2 to 9"
    assert told["Versions"] == "python 3.11, torch 2.13.0"
    assert data_name(runs) == "a.pkl; b.pkl"


def test_known_data_hub_names_and_features_of_a_file(tmp_path):
    hub, features = run(tmp_path / "a", encoder="org/bert"), run(tmp_path / "b", encoder=None)
    hub.config["data"]["known_as"] = "MMSA's MOSI"
    features.config["text"]["column"] = "features"
    told = dict(facts([hub, features]))
    assert told["Text encoder"] == "org/bert; precomputed features"
    known, unknown = told["Data"].split("; ")
    assert known == "a.pkl, MMSA's MOSI, 3/2/1 samples, SHA-256 0123"
    assert unknown == "a.pkl, 3/2/1 samples, SHA-256 0123"
