"""Curves as files: what is drawn and written is what was measured."""

import csv
import json

import numpy as np
import pytest
from matplotlib.figure import Figure

from reference_models.tables import paired
from reference_models.tables.missing_curves import measured, place_of
from reference_models.tables.missing_pages import draw_curves, write_curves
from tests.reference_models.tables.test_missing_curves import results
from tests.reference_models.tables.test_report import check_whole


@pytest.fixture(autouse=True)
def fewer_resampled(monkeypatch):
    monkeypatch.setattr(paired, "RESAMPLED", 100)


ROWS = {
    "full": [results(seed=1, noise=0.2), results(seed=2, noise=0.2)],
    "wo_contrast": [results(seed=1, noise=1.5), results(seed=2, noise=1.5)],
}
ABOUT = {"model": "hycon", "data": "x.pkl, SHA-256 abc"}


def write(out, rows=ROWS, **options):
    return write_curves(out, "frames", "HyCon: frames missing", rows, about=ABOUT, **options)


def test_the_files_hold_what_was_measured(tmp_path):
    page = write(tmp_path, against="wo_contrast")
    assert sorted(path.name for path in tmp_path.glob("frames*")) == [
        f"frames.{kind}" for kind in ("csv", "html", "json", "md")
    ]
    found = measured(ROWS["full"])
    with (tmp_path / "frames.csv").open(newline="") as lines:
        rows = {(r["row"], r["metric"], r["place"]): r for r in csv.DictReader(lines)}
    half = rows["full", "mae", "0.5"]
    assert float(half["mean"]) == found.points["mae"]["0.5"].mean
    assert (half["rate"], half["n"]) == ("0.5", "4")
    area = rows["full", "mae", "area"]
    assert (float(area["mean"]), area["rate"]) == (found.areas["mae"].mean, "")
    content = json.loads((tmp_path / "frames.json").read_text())
    assert content["rows"]["full"]["areas"]["mae"]["mean"] == found.areas["mae"].mean
    assert (content["mode"], content["mask_seeds"]) == ("frames", [1, 2])
    paired = {(r["row"], r["metric"]): r["word"] for r in content["paired"]}
    assert paired["full", "mae"] == "helps"
    text = (tmp_path / "frames.md").read_text(encoding="utf-8")
    for words in ("TFR-Net", "SHA-256 abc", "Differences from wo_contrast", "## Area", "| 0.5 |"):
        assert words in text
    html = page.read_text(encoding="utf-8")
    check_whole(html)
    # MAE, Corr, Acc-7 and both sides of Acc-2: a figure of curves and one of intervals for each.
    assert html.count("<svg") == 10


@pytest.mark.usefixtures("blank_figures")
def test_a_single_row_is_one_table_and_compares_nothing(tmp_path):
    write(tmp_path, {"hycon, seed 1": ROWS["full"][:1]})
    text = (tmp_path / "frames.md").read_text(encoding="utf-8")
    assert "| Missing | MAE | Corr |" in text
    assert "Differences" not in text
    assert json.loads((tmp_path / "frames.json").read_text())["paired"] == []


@pytest.mark.usefixtures("blank_figures")
def test_rows_with_fewer_modalities_leave_places_empty(tmp_path):
    every, fewer = (results("fixed-modalities", seed=1) for _ in range(2))
    for condition in list(fewer.predictions):
        if "vision" in condition.kept:
            del fewer.predictions[condition]
    kept = tuple(fewer.predictions)
    fewer = type(fewer)(**{**vars(fewer), "conditions": kept})
    write(tmp_path, {"all": [every], "two": [fewer]}, against="all")
    text = (tmp_path / "frames.md").read_text(encoding="utf-8")
    [line] = [x for x in text.split("## MAE")[1].split("##")[0].splitlines() if "| vision " in x]
    assert [cell.strip() for cell in line.strip("|").split("|")][2] == ""
    assert "Differences" not in text


@pytest.mark.parametrize("mode", ["frames", "fixed-modalities"])
def test_the_curve_goes_through_the_means_and_the_band_is_the_deviation(mode):
    runs = [results(mode, seed=1), results(mode, seed=2)]
    points = measured(runs).points["mae"]
    places = {place_of(c): c for c in runs[0].conditions}
    axes = Figure().add_subplot()
    draw_curves("mae", {"full": points}, places)(axes, None)
    line = axes.lines[0] if mode == "frames" else axes.containers[0].lines[0]
    assert line.get_ydata().tolist() == [points[place].mean for place in places]
    if mode == "frames":
        assert line.get_xdata().tolist() == [c.rate for c in dict.fromkeys(places.values())]
        corners = axes.collections[0].get_paths()[0].vertices
        at_half = corners[np.isclose(corners[:, 0], 0.5), 1]
        mean, std = points["0.5"].mean, points["0.5"].std
        assert (at_half.min(), at_half.max()) == pytest.approx((mean - std, mean + std))
