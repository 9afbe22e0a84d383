"""Runs of any kind, compared: groups by seed, and what cannot be compared is said."""

import csv
import json

import pytest

from reference_models import __main__ as command_line
from reference_models.tables.compared import compare
from tests.reference_models.tables.reproduced import markdown_cells
from tests.reference_models.tables.test_figures import run_folder
from tests.reference_models.tables.test_report import check_whole


def groups_in(folder, margins=(0.5, 0.9), seeds=(1, 2)):
    for margin in margins:
        for seed in seeds:
            config = {"seed": seed, "model_config": {"margin": margin}}
            run_folder(folder / f"{margin}" / f"seed-{seed}", config=config, samples=12)
    return folder


def test_groups_are_compared_with_the_first_or_with_one_by_name(tmp_path, capsys):
    runs, out = groups_in(tmp_path / "runs"), tmp_path / "out"
    assert command_line.main(["compare", str(runs), "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith((out / "compared.md").read_text(encoding="utf-8"))
    means = markdown_cells(out / "compared.md", "| Runs |")
    assert [(line["Runs"], line["Seeds"]) for line in means] == [("0.5", "2"), ("0.9", "2")]
    (first, *_) = markdown_cells(out / "compared.md", "| Row |")
    assert (first["Row"], first["Difference"]) == ("0.9", "+0.000")  # the same predictions
    with (out / "compared.csv").open(newline="") as lines:
        assert {record["word"] for record in csv.DictReader(lines)} == {"cannot tell"}
    check_whole((out / "index.html").read_text(encoding="utf-8"))
    compare([runs], out, against="0.9")
    content = json.loads((out / "compared.json").read_text())
    assert (content["against"], content["paired"][0]["row"]) == ("0.9", "0.5")
    assert [len(places) for places in content["runs"].values()] == [2, 2]


def test_names_of_folders_are_no_formulas_and_no_mathematics(tmp_path):
    names = ["=1+A1", r"lr$\bad$"]
    for name, margin in zip(names, (0.5, 0.9), strict=True):
        config = {"seed": 1, "model_config": {"margin": margin}}
        run_folder(tmp_path / "runs" / name, config=config, samples=12)
    found = compare([tmp_path / "runs" / name for name in names], tmp_path / "out")
    assert (found.against, *found.found) == tuple(names)
    with (tmp_path / "out" / "compared.csv").open(newline="") as lines:
        records = list(csv.DictReader(lines))
    assert {(each["against"], each["row"]) for each in records} == {("'=1+A1", names[1])}
    content = json.loads((tmp_path / "out" / "compared.json").read_text())
    assert content["paired"][0]["against"] == names[0]
    assert names[1] in (tmp_path / "out" / "index.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("margins", "seeds", "options", "words"),
    [
        ((0.5,), (1, 2), {}, "differ in more than the seed"),
        ((0.5, 0.9), (1,), {"against": "0.7"}, r"--against: expected one of 0.5, 0.9, got '0.7'"),
    ],
)
def test_what_cannot_be_compared(margins, seeds, options, words, tmp_path):
    runs = groups_in(tmp_path / "runs", margins, seeds)
    with pytest.raises(ValueError, match=words):
        compare([runs], tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()


def test_two_runs_of_one_seed_are_named(tmp_path):
    runs = groups_in(tmp_path / "runs", seeds=(1,))
    again = run_folder(
        runs / "again", config={"seed": 1, "model_config": {"margin": 0.9}}, samples=12
    )
    with pytest.raises(ValueError, match="expected one run of seed 1 with") as error:
        compare([runs], tmp_path / "out")
    for place in (again, runs / "0.9" / "seed-1"):
        assert str(place) in str(error.value)
    compare([runs / "0.5", again], tmp_path / "out")


def test_groups_without_a_common_seed(tmp_path):
    runs = groups_in(tmp_path / "runs", (0.5,), (1,))
    groups_in(runs, (0.9,), (2,))
    with pytest.raises(ValueError, match=r"a seed that 0.5 has too, got none"):
        compare([runs], tmp_path / "out")
