"""Paired differences as tables and plots: what is shown is what was found."""

import csv
import json
import re
import shutil

import pytest
from matplotlib.figure import Figure

from reference_models.tables.figures import intervals
from reference_models.tables.finished import Run
from reference_models.tables.paired import paired_differences, runs_by_seed
from reference_models.tables.paired_rows import ABOUT, HEAD, ONE_SEED, base_row, paired_rows
from tests.reference_models.tables.reproduced import ROWS, SEEDS, markdown_cells, run
from tests.reference_models.tables.test_paired import row
from tests.reference_models.tables.test_report import check_whole


def rows_of(folder):
    return {
        "far <off>": row(folder / "far", (1, 2), shift=0.5),
        "base": row(folder / "base", (1, 2)),
        "alone": row(folder / "alone", (7,)),
    }


def test_lines_records_and_parts_of_a_page(tmp_path):
    rows = rows_of(tmp_path)
    found = paired_rows(rows, "base")
    assert list(found.found) == ["far <off>"]
    assert "Without a seed of base: alone." in found.about()
    mae = paired_differences(rows["far <off>"], rows["base"])["mae"]
    (line,) = [line for line in found.lines() if line[1] == "MAE"]
    assert line == [
        "far <off>",
        "MAE",
        f"{mae.value:+.3f}",
        f"{mae.low:+.3f} to {mae.high:+.3f}",
        "2 of 2",
        "hurts",
    ]
    assert all(len(line) == len(HEAD) for line in found.lines())
    assert {record["metric"] for record in found.records()} > {"mae", "mag_bert_mae", "acc5"}
    page = "".join(found.html())
    check_whole(f"<p>{page}</p>")
    assert "far &lt;off&gt;" in page
    assert page.count("<svg") == 5  # MAE, Corr, Acc-7, Acc-2 twice
    assert "## Differences from base" in found.markdown()


def test_where_there_is_one_seed_it_is_said(tmp_path):
    first, second = row(tmp_path / "a", (1, 2), shift=0.5), row(tmp_path / "b", (2, 3))
    found = paired_rows({"a": first, "b": second}, "b")
    assert found.about() == ABOUT + ONE_SEED
    assert found.about() in found.markdown()
    assert ONE_SEED in "".join(found.html())
    assert {line[-1] for line in found.lines()} == {"cannot tell"}
    assert paired_rows({"a": first, "b": first}, "b").about() == ABOUT


def test_plots_of_more_rows_are_higher(tmp_path):
    base, other = row(tmp_path / "base", (1, 2)), row(tmp_path / "other", (1, 2), shift=0.5)

    def height(rows):
        page = "".join(paired_rows({"base": base, **dict.fromkeys(rows, other)}, "base").html())
        return float(re.search(r'<svg [^>]*viewBox="0 0 [\d.]+ ([\d.]+)"', page)[1])

    assert height("abcdef") > 1.5 * height("ab")


def test_nothing_to_compare_is_nothing_to_show(tmp_path):
    found = paired_rows({"one": row(tmp_path, (1,))}, "one")
    assert (found.markdown(), found.html(), found.records()) == ([], [], [])


def test_a_plot_has_each_interval_at_its_place(tmp_path):
    rows = rows_of(tmp_path)
    differences = {
        "far": paired_differences(rows["far <off>"], rows["base"])["mae"],
        "same": paired_differences(rows["base"], rows["base"])["mae"],
    }
    axes = Figure().add_subplot()
    intervals("mae", differences)(axes, None)
    lines = {tuple(line.get_ydata()): line for line in axes.lines[1:] if len(line.get_xdata()) == 2}
    for at, each in enumerate(differences.values()):
        assert list(lines[at, at].get_xdata()) == [each.low, each.high]
    labels = [label.get_text() for label in axes.get_yticklabels()]
    assert labels == ["far\nhurts", "same\ncannot tell"]
    assert axes.get_xlabel() == "difference in MAE"


def test_which_row_the_others_are_compared_with():
    assert base_row({"full": {}, "wo_contrast": {"weight": 0}}) == "wo_contrast"
    assert base_row({"a": {"x": 1}, "b": {}, "c": {"x": 2}}) == "b"
    assert base_row({"a": {"x": 1}, "b": {"x": 2}}) == "a"


def test_a_reproduced_table_has_them(finished):
    content = json.loads((finished / "table.json").read_text())
    assert content["against"] == ROWS[0]
    with (finished / "paired.csv").open(newline="") as lines:
        records = {record["metric"]: record for record in csv.DictReader(lines)}
    runs = {
        name: runs_by_seed([Run(finished / name / f"seed-{seed}") for seed in SEEDS])
        for name in ROWS
    }
    expected = paired_differences(runs[ROWS[1]], runs[ROWS[0]])
    assert records.keys() == expected.keys()
    for name, each in expected.items():
        assert (records[name]["row"], records[name]["against"]) == (ROWS[1], ROWS[0])
        assert float(records[name]["low"]) == pytest.approx(each.low)
        assert records[name]["word"] == each.word
    shown = markdown_cells(finished / "table.md", "| Row | Metric |")
    assert shown[0]["Seeds of its sign"] == f"{expected['mae'].same_sign} of 2"
    assert f"Differences from {ROWS[0]}" in (finished / "index.html").read_text(encoding="utf-8")


@pytest.mark.usefixtures("blank_figures")
def test_any_row_can_be_the_one_to_compare_with(finished, file, no_training, tmp_path):
    out = shutil.copytree(finished, tmp_path / "out")
    run(file, out, against=ROWS[1])
    content = json.loads((out / "table.json").read_text())
    assert (content["against"], content["paired"][0]["row"]) == (ROWS[1], ROWS[0])
    with pytest.raises(ValueError, match=r"--against: expected one of 0.5, 0.9, got '0.7'"):
        run(file, out, against="0.7")
