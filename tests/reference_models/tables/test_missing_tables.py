"""From the command to the page: one run, and the rows of a table."""

import json
import shutil

import pytest

from reference_models.__main__ import main
from reference_models.tables import paired
from reference_models.tables.about import facts
from reference_models.tables.finished import Run
from tests.reference_models.tables.reproduced import ROWS, SEEDS, leave_blank, run, set_entry
from tests.reference_models.tables.test_report import check_whole


@pytest.fixture(autouse=True)
def fewer_resampled(monkeypatch):
    monkeypatch.setattr(paired, "RESAMPLED", 100)


def test_reproduce_draws_the_rows_on_the_same_axes(finished, file, no_training, monkeypatch):
    said = []
    run(file, finished, missing="random-modalities", mask_seeds=2, say=said.append)
    page = finished / "missing" / "random-modalities.html"
    assert said[-1].endswith(f"page: {page}")
    check_whole(page.read_text(encoding="utf-8"))
    link = '<a href="missing/random-modalities.html">random-modalities</a>'
    assert link in (finished / "index.html").read_text(encoding="utf-8")
    content = json.loads((finished / "missing" / "random-modalities.json").read_text())
    assert list(content["rows"]) == list(ROWS)
    assert content["seeds"] == ", ".join(map(str, SEEDS))
    for each in content["rows"].values():
        assert len(each["areas"]["mae"]["values"]) == len(SEEDS) * 2
        assert len(each["points"]["mae"]["0"]["values"]) == len(SEEDS)
    assert {record["row"] for record in content["paired"]} == {ROWS[1]}
    masks = sorted(path.name for path in (finished / "missing" / "masks").glob("*.safetensors"))
    assert [name.rsplit("-", 1)[1] for name in masks] == ["seed1.safetensors", "seed2.safetensors"]
    # Every run has read those, and none has masks of its own.
    assert not list(finished.glob("*/seed-*/missing/masks"))
    assert len(list(finished.glob("*/seed-*/missing/*.safetensors"))) == len(ROWS) * len(SEEDS)
    said.clear()
    leave_blank(monkeypatch)
    run(file, finished, missing="random-modalities", mask_seeds=2, say=said.append)
    assert not any("evaluations" in line for line in said)


@pytest.mark.usefixtures("blank_figures", "no_training")
def test_a_row_that_is_the_same_run_as_another_can_be_compared_with(
    finished, file, tmp_path, monkeypatch
):
    margins = {"0.5": 0.5, "0.9": 0.9, "same": 0.9}
    set_entry(monkeypatch, tables={"alpha": {k: {"margin": x} for k, x in margins.items()}})
    out = shutil.copytree(finished, tmp_path / "out")
    run(file, out, rows=None, against="same", missing="fixed-modalities")
    for path in (out / "table.json", out / "missing" / "fixed-modalities.json"):
        content = json.loads(path.read_text())
        assert content["against"] == "same"
        assert {record["row"] for record in content["paired"]} == {"0.5", "0.9"}


def test_evaluate_writes_into_the_run_folder(finished, capsys):
    place = finished / ROWS[0] / f"seed-{SEEDS[0]}"
    assert main(["evaluate", str(place), "--missing", "blocks", "--mask-seeds", "1"]) == 0
    out = capsys.readouterr().out
    page = place / "missing" / "blocks-test.html"
    assert out.endswith(f"page: {page}\n")
    assert "# hycon, seed 1111: blocks missing" in out
    check_whole(page.read_text(encoding="utf-8"))
    content, told = json.loads(page.with_suffix(".json").read_text()), dict(facts([Run(place)]))
    name, _, digest = told.pop("Data").split(", ")  # in between are the sizes of all splits
    assert {topic: content[topic.lower()] for topic in told} == told  # as on the run's own page
    assert content["data"] == f"{name}, {digest}"
    assert main(["evaluate", str(place)]) == 0  # the run is as it was
    assert "MAE" in capsys.readouterr().out


@pytest.mark.usefixtures("blank_figures")
def test_on_other_data_it_stands_beside(finished, file, tmp_path, capsys):
    place = finished / ROWS[0] / f"seed-{SEEDS[0]}"
    other = tmp_path / "other.pkl"
    other.write_bytes(file.read_bytes() + b" ")
    arguments = ["evaluate", str(place), "--missing", "fixed-modalities", "--data", str(other)]
    assert main([*arguments, "--split", "valid"]) == 0
    [page] = (place / "missing").glob("fixed-modalities-valid-*.html")
    assert capsys.readouterr().out.endswith(f"page: {page}\n")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--missing", "noise"], "--missing: expected one of fixed-modalities, random-"),
        (["--mask-seeds", "2"], "--mask-seeds: expected --missing MODE beside it, got 2 alone"),
    ],
)
def test_mistakes_are_named_by_their_flags(options, message, finished, file, refused, tmp_path):
    place = finished / ROWS[0] / f"seed-{SEEDS[0]}"
    assert refused("evaluate", place, *options).startswith(message)
    call = ["reproduce", "hycon", "--table", "contrast", "--data", file, "--seeds", "1"]
    assert refused(*call, "--out", tmp_path / "new", *options).startswith(message)
    assert not (tmp_path / "new").exists()
