"""The tables of runs where modalities are missing: what is kept, and what is shown."""

import json
import shutil

import numpy as np
import pytest

from reference_models.tables import paired
from reference_models.tables.missing_pages import write_curves
from tests.readme import missing
from tests.reference_models.tables.reproduced import leave_blank
from tests.reference_models.tables.test_missing_curves import LABELS, results
from tests.test_measured import cells

SEEDS = (1, 2, 3)
NOISE = {"full": 0.5, "wo_contrast": 0.9}


@pytest.fixture(autouse=True)
def kept(tmp_path, monkeypatch):
    """No file but those of a test."""
    monkeypatch.setattr(missing, "FILE", tmp_path / "missing.json")
    missing.kept.cache_clear()
    yield
    missing.kept.cache_clear()


def change(path, **values):
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def curves(mode):
    return {row: [results(mode, seed=s, noise=x) for s in SEEDS] for row, x in NOISE.items()}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The files of one model."""
    place = tmp_path_factory.mktemp("made")
    difference = {"value": -0.1234, "low": -0.2, "high": 0.01, "same_sign": 3, "seeds": 3}
    table = {
        "rows": [
            {"name": "wo_contrast", "measured": {"mae": {"values": [0.9, 0.9, 0.9]}}},
            {"name": "full", "measured": {"mae": {"values": [0.7, 0.8, 0.9]}}},
        ],
        "paired": [
            {"row": "full", "metric": "corr", **difference, "word": "helps"},
            {"row": "full", "metric": "mae", **difference, "word": "cannot tell"},
        ],
    }
    (place / "table.json").write_text(json.dumps(table))
    with pytest.MonkeyPatch.context() as patch:
        leave_blank(patch)
        patch.setattr(paired, "RESAMPLED", 100)
        for mode in missing.MODES:
            rows = curves(mode)
            write_curves(place / "missing", mode, mode, rows, about={}, against="wo_contrast")
    return place


@pytest.fixture
def folder(made, tmp_path, monkeypatch):
    monkeypatch.setattr(missing, "MODELS", ("tecafn", "mfon"))
    for model in missing.MODELS:
        own = shutil.copytree(made, tmp_path / "made" / model)
        change(own / "table.json", model=model, against="wo_contrast", seeds=[*SEEDS])
    return tmp_path / "made"


def error(row, place):
    """Of one subset, over the seeds."""
    found = curves(missing.FIXED)[row]
    of = [next(c for c in each.conditions if c.name == place) for each in found]
    given = zip(found, of, strict=True)
    return np.mean([np.abs(x.predictions[c].astype(np.float64) - LABELS).mean() for x, c in given])


def test_every_model_has_its_error_and_its_difference(folder):
    assert missing.add(folder) == ["tecafn", "mfon"]
    row = cells(missing.worth(), "MFON")
    assert row["nothing missing"] == ".800 ± .082; -.123 (-.200 to +.010): cannot tell"
    for title, mode in zip(missing.HEAD[2:], missing.MODES, strict=True):
        content = json.loads((folder / "mfon" / "missing" / f"{mode}.json").read_text())
        with_, without = (content["rows"][row]["areas"]["mae"]["mean"] for row in NOISE)
        shown, difference = row[title].split("; ")
        assert shown.startswith(f"{with_:.3f} ± ".replace("0.", "."))
        assert difference.startswith(f"{with_ - without:+.3f} (".replace("0.", "."))
        assert difference.endswith(": helps")


def test_every_subset_has_the_errors_of_all_models(folder):
    missing.add(folder)
    table = missing.by_subset()
    assert len(table.splitlines()) == 2 + 7
    found = cells(table, "text + vision")
    expected = " / ".join(f"{error(row, 'text + vision'):.3f}".lstrip("0") for row in NOISE)
    assert found == {"": "text + vision", "TeCaFN": expected, "MFON": expected}


def test_a_model_without_both_modes_is_not_yet_kept(folder):
    (folder / "mfon" / "missing" / "fixed-modalities.json").rename(folder / "later")
    assert missing.add(folder) == list(missing.kept()) == ["tecafn"]
    shutil.rmtree(folder / "tecafn")
    (folder / "later").rename(folder / "mfon" / "missing" / "fixed-modalities.json")
    assert missing.add(folder) == ["mfon"]
    assert list(missing.kept()) == ["tecafn", "mfon"]


@pytest.mark.parametrize(
    ("file", "changes"),
    [
        ("missing/random-modalities.json", {"mode": "blocks"}),
        ("missing/random-modalities.json", {"split": "valid"}),
        ("missing/fixed-modalities.json", {"against": "full"}),
        ("missing/fixed-modalities.json", {"model": "hycon"}),
        ("missing/fixed-modalities.json", {"seeds": "1, 2"}),
        ("table.json", {"against": "full"}),
        ("table.json", {"model": "tecafn"}),
    ],
)
def test_files_of_something_else_are_refused(file, changes, folder):
    change(folder / "mfon" / file, **changes)
    with pytest.raises(ValueError, match=r"mfon.*: expected "):
        missing.add(folder)
    assert not missing.FILE.exists()


def test_where_a_file_lacks_a_row_nothing_is_kept(folder):
    missing.add(folder)
    before = missing.FILE.read_bytes()
    page = folder / "mfon" / "missing" / "fixed-modalities.json"
    content = json.loads(page.read_text())
    del content["rows"]["wo_contrast"]
    page.write_text(json.dumps(content))
    with pytest.raises(KeyError, match="wo_contrast"):
        missing.add(folder)
    assert missing.FILE.read_bytes() == before


def test_without_a_file_the_tables_are_empty():
    assert missing.worth().count("\n") == missing.by_subset().count("\n") == 1
