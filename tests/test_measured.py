"""The table of finished runs: what is kept of them, and what is shown."""

import json
from itertools import chain

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score

from reference_models.tables.finished import Run
from tests.readme import measured, measuring
from tests.readme.tables import table
from tests.reference_models.tables.test_figures import run_folder

LABELS = np.array([-2.0, -0.6, 0.0, 0.4, 1.8, 3.0])


def keep(runs, labels=LABELS, setting=None):
    """Files of predictions by (encoder, row, seed), and no others."""
    for path in measuring.FOLDER.glob("*"):
        path.unlink()
    settings = {encoder: setting or {} for encoder, *_ in runs}
    predictions = {measuring.Key(*key): np.array(values) for key, values in runs.items()}
    measuring.store(np.array(labels), settings, predictions)
    forget()


def forget():
    """What was read of another file."""
    measuring.kept.cache_clear()
    measured.metrics_by_seed.cache_clear()


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(measuring, "FOLDER", tmp_path / "kept")
    forget()
    yield tmp_path / "kept"
    forget()


def cells(shown, row):
    """Title -> text of the row with that name."""
    head, _, *rows = ([cell.strip() for cell in x.split("|")[1:-1]] for x in shown.splitlines())
    (found,) = [dict(zip(head, cells, strict=True)) for cells in rows if cells[0] == row]
    return {title: text.replace("\u00a0", " ") for title, text in found.items()}


def of_tiny(model=None):
    return table(measured.HEAD, measured.lines_of("Tiny", model))


def test_a_row_has_its_metrics_and_differences(folder):
    rng = np.random.default_rng(0)
    labels = rng.choice(np.arange(-30, 31) / 10, 300)
    near = {s: labels + rng.normal(0, 0.5, 300) for s in (1, 2, 3)}
    far = {s: labels + rng.normal(0, 1.0, 300) for s in (1, 2, 3)}
    runs = {("Tiny", measured.BASE, s): x for s, x in near.items()}
    runs |= {("Tiny", "tecafn/full", s): x for s, x in far.items()}
    runs |= {("Tiny", "tecafn/wo_contrast", s): x for s, x in far.items() if s < 3}
    keep(runs, labels)
    shown = of_tiny()
    row = cells(shown, "TeCaFN")
    errors = [np.abs(x - labels).mean() for x in far.values()]
    assert row["MAE"] == f"{np.mean(errors):.3f} ± {np.std(errors):.3f}".replace("0.", ".")
    shares = [100 * accuracy_score(labels >= 0, x >= 0) for x in far.values()]
    assert row["Acc-2 nn/n"] == f"{np.mean(shares):.1f} ± {np.std(shares):.1f}"
    apart = np.mean(errors) - np.mean([np.abs(x - labels).mean() for x in near.values()])
    assert row["MAE minus text alone's"].startswith(f"+{apart:.3f} (+".replace("0.", "."))
    assert row["MAE minus text alone's"].endswith("): hurts")
    assert row["minus that without contrast"] == "+.000 (+.000 to +.000): cannot tell"
    assert row["paper's MAE"] == ".684"
    assert cells(shown, "**Tiny: text alone**")["MAE minus text alone's"] == ""
    assert cells(shown, "without contrast, gate and pairs")


def test_a_papers_table_has_text_alone_and_its_own_rows(folder):
    rows = [*measured.ROWS]
    keep({("Tiny", row, 1): LABELS + 0.1 * at for at, row in enumerate(rows)})
    whole = of_tiny().splitlines()
    assert len(whole) == 2 + len(rows)
    models = {measured.model_of(row) for row in rows} - {"text-only"}
    own = (of_tiny(model).splitlines()[3:] for model in models)
    assert sorted(chain.from_iterable(own)) == sorted(whole[3:])
    assert "±" not in "".join(whole)  # of one seed
    assert cells("\n".join(whole), "HyCon-v2")["paper's MAE"].startswith(".705 without")


def test_rows_without_a_run_are_left_out(folder):
    keep({("Tiny", measured.BASE, 1): LABELS})
    assert len(of_tiny().splitlines()) == 3


def names(shown):
    return [line.split(" | ")[0].removeprefix("| ") for line in shown.splitlines()[2:]]


def test_rows_are_shown_as_measured_once_an_encoder_has_all(folder):
    runs = {("Tiny", row, s): LABELS + 0.1 * s for row in measured.ROWS for s in (1, 2, 3)}
    last = runs.popitem()
    keep(runs)
    assert names(measured.measured()) == []
    assert measured.left("Tiny") == 1
    whole = dict([*runs.items(), last])
    keep(whole | {("Other", *key[1:]): x for key, x in whole.items()})
    first, second = np.array_split(names(measured.measured()), 2)
    assert (first[0], second[0]) == ("**Other: text alone**", "**Tiny: text alone**")
    assert [*first[1:]] == [*second[1:]]


@given(st.floats(-5, 5))
def test_numbers_below_one_have_no_zero(x):
    text = f"{x:+.3f}"
    assert float(measured.short(text)) == float(text)
    assert "0." not in measured.short(text) or abs(x) >= 1


# --- what is kept --------------------------------------------------------------------------------


def test_what_is_kept_is_read_back(folder):
    first = {("B", measured.BASE, 2): LABELS / 2, ("A", measured.BASE, 1): LABELS}
    keep(first, setting={"epochs": 3})
    found = measuring.kept()
    assert found.settings == {"A": {"epochs": 3}, "B": {"epochs": 3}}
    assert list(found.row("B", measured.BASE)) == [2]
    assert np.array_equal(found.row("A", measured.BASE)[1], np.float32(LABELS))
    assert np.array_equal(found.labels, LABELS)
    assert found.row("C", measured.BASE) == {}


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def table_of_runs(folder, seeds, **options):
    for seed in seeds:
        options["config"] = {"seed": seed, "model": "tecafn"}
        run_folder(folder / "tecafn" / "full" / f"seed-{seed}", samples=12, **options)
    return folder


def test_finished_runs_are_added_to_those_that_are_kept(folder, tmp_path):
    first, second = table_of_runs(tmp_path / "a", [1, 2]), table_of_runs(tmp_path / "b", [3])
    begun = run_folder(first / "tecafn" / "full" / "seed-9", samples=12)
    (begun / "metrics.json").unlink()
    assert measuring.add("Tiny", first) == [("Tiny", "tecafn/full", s) for s in (1, 2)]
    assert measuring.add("Tiny", second) == [("Tiny", "tecafn/full", 3)]
    found = measuring.kept()
    row = found.row("Tiny", "tecafn/full")
    assert list(row) == [1, 2, 3]
    run = Run(second / "tecafn" / "full" / "seed-3")
    assert np.array_equal(row[3], np.float32(run.predictions[""]))  # as networks predict
    assert np.array_equal(found.labels, run.labels[""].round(4))
    before = contents(folder)
    measuring.add("Tiny", second)  # once more: in the place of the older one
    assert contents(folder) == before


def test_other_labels_or_another_training_are_refused(folder, tmp_path):
    keep({("Tiny", "tecafn/full", 1): LABELS}, setting={"epochs": 9})
    with pytest.raises(ValueError, match=r"seed-1: expected the labels of the runs that are kept"):
        measuring.add("Tiny", table_of_runs(tmp_path / "a", [1]))
    run = Run(tmp_path / "a" / "tecafn" / "full" / "seed-1")
    keep({("Tiny", "tecafn/full", 1): LABELS}, run.labels[""].round(4), setting={"epochs": 9})
    before = contents(folder)
    with pytest.raises(ValueError, match=r"seed-1: expected \{'epochs': 9\}, got \{"):
        measuring.add("Tiny", tmp_path / "a")
    assert contents(folder) == before
    measuring.add("Other", tmp_path / "a")  # an encoder has its own


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("seed-2", {"model": "hycon"}),
        ("seed-2", {"model_config": {"margin": 0.1, "refine": True}}),
        ("seed-2", {"modalities": ["text"]}),
        ("seed-2", {"text": {"column": "raw_text", "encoder": "elsewhere/another"}}),
        ("seed-1b", {"seed": 1}),
    ],
)
def test_a_run_that_is_of_another_row_is_refused(name, changes, folder, tmp_path):
    runs = table_of_runs(tmp_path / "a", [1])
    config = {"seed": 2, "model": "tecafn", **changes}
    place = run_folder(runs / "tecafn" / "full" / name, samples=12, config={"seed": config["seed"]})
    content = json.loads((place / "config.json").read_text())
    (place / "config.json").write_text(json.dumps(content | config))
    with pytest.raises(ValueError, match=f"{name}: expected "):
        measuring.add("Tiny", runs)
    assert not list(folder.glob("*"))


def test_a_row_of_another_model_than_its_tables_is_refused(folder, tmp_path):
    run_folder(tmp_path / "a" / "tecafn" / "full" / "seed-1", config={"model": "hycon"})
    with pytest.raises(ValueError, match="seed-1: expected "):
        measuring.add("Tiny", tmp_path / "a")
    assert not list(folder.glob("*"))
