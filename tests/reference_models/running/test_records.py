"""What a finished run wrote comes back as it was, or not at all."""

import csv
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reference_models.running import records, storage
from tests.reference_models.tables.test_figures import run_folder


@given(st.text())
def test_a_quoted_id_comes_back(name):
    assert records.plain_id(records.quoted_id(name)) == name


FORMULAS = [
    *("=cmd|' /C calc'!A0", "+1+1", "-1+1", "-2+3+cmd|' /C calc'!A0", "@SUM(1,1)"),
    *("\t=1", "\r=1", "\n=1", " =1", "'=1", "-A1|B", "-(1)", "-a\n=1", "\uff1d1", "\xa0=1"),
]


@pytest.mark.parametrize("name", FORMULAS)
def test_no_spreadsheet_takes_an_id_for_a_formula(name):
    assert records.quoted_id(name) == f"'{name}"


@pytest.mark.parametrize(
    "name",
    ["-3g5yACwYnA$_$12", "-571d8cVauQ_3", "_dI--eQ6qVU$_$1", "a=b", "v+1", "\u4e2d", "1.5", ""],
)
def test_names_as_the_data_sets_have_them_stay(name):
    assert records.quoted_id(name) == name


def test_predictions_are_the_test_split_with_the_ids_of_the_data(tmp_path):
    folder = run_folder(tmp_path / "a")
    names = ["=1+1", "'", "a\rb", "a,b\n", *(f"t{row}" for row in range(36))]
    with (folder / "predictions.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    test = [row for row in rows if row["split"] == "test"]
    for row, name in zip(test, names, strict=True):
        row["id"] = records.quoted_id(name)
    storage.write(folder / "predictions.csv", storage.csv_text(rows))
    read = records.run_predictions(folder)
    assert [row["id"] for row in read] == names
    assert [row["label"] for row in read] == [row["label"] for row in test]


@pytest.mark.parametrize(
    "change",
    [
        lambda text: "",
        lambda text: text[:-1],
        lambda text: text[:-10],
        lambda text: text.replace("split", "part"),
        lambda text: text.replace("prediction", "guess"),
        lambda text: text + "test,t99,nan,0.5\n",
        lambda text: text + "test,t99,0.5\n",
        lambda text: text + "test,t99,0.5,0.5,0.5\n",
        lambda text: text + "test,t99,five,0.5\n",
        lambda text: text + '"test',
        lambda text: text + "\xff\n",
    ],
)
def test_predictions_that_are_cut_or_of_another_kind(change, tmp_path):
    """Of a folder without checksums, as it may come from elsewhere."""
    path = run_folder(tmp_path / "a") / "predictions.csv"
    path.write_bytes(change(path.read_bytes().decode()).encode("latin1"))
    with pytest.raises(
        ValueError, match=r"predictions\.csv: expected split, id and finite num"
    ) as e:
        records.run_predictions(tmp_path / "a")
    assert "\n" not in str(e.value)


def test_every_file_of_a_run_is_compared_with_what_it_wrote(tmp_path):
    folder = run_folder(tmp_path / "a")
    (folder / "tokenizer").mkdir()
    (folder / "tokenizer" / "tokenizer.json").write_text("{}")
    (folder / "notes.txt").write_text("mine")
    sums = records.checksums(folder)
    known = {"config.json", "history.json", "predictions.csv", "fused.safetensors"}
    assert sums.keys() == known | {"tokenizer/tokenizer.json"}
    metrics = storage.read_json(folder / "metrics.json")
    storage.write(folder / "metrics.json", storage.json_text(metrics | {"sha256": sums}))
    for name in (*known, "tokenizer"):
        assert records.written(folder, name) == folder / name
    for name in sums:
        path = folder / name
        content = path.read_bytes()
        path.write_bytes(content + b" ")
        with pytest.raises(ValueError, match="expected the file that the run wrote, got one that"):
            records.written(folder, name.partition("/")[0])
        path.unlink()
        with pytest.raises(FileNotFoundError):
            records.written(folder, name.partition("/")[0])
        path.write_bytes(content)


NO_CONFIGS = {
    "a list": [],
    "nothing": {},
    "text for a seed": {"seed": "1"},
    "true for a seed": {"seed": True},
    "a number for data": {"data": 3},
    "no data": {"data": {}},
    "a text for modalities": {"modalities": "text"},
    "numbers for modalities": {"modalities": [1]},
    "a list for settings": {"model_config": []},
    "null for the training": {"training": None},
}


@pytest.mark.parametrize("change", NO_CONFIGS.values(), ids=NO_CONFIGS)
def test_a_config_of_another_kind(change, tmp_path):
    folder = run_folder(tmp_path / "a")
    config = storage.read_json(folder / "config.json")
    content = config | change if change else change
    (folder / "config.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match=r"config\.json: expected .*, got .*; put the file back"):
        records.run_config(folder)


@pytest.mark.parametrize("content", [[], {}, {"test": 3}, {"test": {"a": "b"}}, {"test": {"$": 1}}])
def test_metrics_of_another_kind(content, tmp_path):
    (tmp_path / "metrics.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match=r"metrics\.json: expected "):
        records.run_metrics(tmp_path)


@pytest.mark.parametrize(
    "content",
    [[], {}, [3], [{}], [{"epoch": 1}, {"loss": 1}], [{"epoch": "1"}], [{"epoch": 1, "$a": 1}]],
)
def test_a_history_of_another_kind(content, tmp_path):
    folder = run_folder(tmp_path / "a")
    (folder / "history.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match=r"history\.json: expected numbers by name for each epoch"):
        records.run_history(folder)
