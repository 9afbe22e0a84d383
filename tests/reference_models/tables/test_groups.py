"""Finished runs, found and put together."""

import statistics

import pytest

from reference_models.tables.groups import find_runs, group, swept
from reference_models.tables.report import report
from tests.reference_models.tables.test_figures import run_folder


def test_runs_are_found_below_a_folder_each_once(sweep_folder):
    places = [sweep_folder / margin / seed for margin in ("0.5", "0.9") for seed in ("seed-1",)]
    found = find_runs([*places, sweep_folder])
    assert found[:2] == places
    assert sorted(found) == sorted(sweep_folder.glob("*/*"))


def test_a_place_without_a_finished_run_is_an_error(tmp_path, sweep_folder):
    with pytest.raises(ValueError, match=r"empty: expected finished runs in or below it, got none"):
        report([sweep_folder, tmp_path / "empty"], tmp_path / "page.html")
    begun = run_folder(tmp_path / "begun")
    (begun / "metrics.json").unlink()
    with pytest.raises(ValueError, match="begun: expected finished runs"):
        find_runs([begun])
    assert not (tmp_path / "page.html").exists()


def test_every_group_has_a_name_of_its_own(tmp_path):
    names = ("seed-1", "X", "Y")
    changes = ({"model_config": {"margin": n}} for n in range(3))
    for name, change in zip(names, changes, strict=True):
        run_folder(tmp_path / "X" / name, config=change, samples=4)
    groups = group(find_runs([tmp_path / "X"]))
    assert sorted((g.name, g.folders[0].name) for g in groups) == [
        ("X", "X"),
        ("Y", "Y"),
        ("seed-1", "seed-1"),
    ]


def test_runs_of_different_seeds_are_one_group(sweep_folder):
    groups = group(find_runs([sweep_folder]))
    assert [(g.name, g.settings) for g in groups] == [
        ("0.5", {"margin": 0.5}),
        ("0.9", {"margin": 0.9}),
    ]
    for g in groups:
        assert [place.name for place in g.folders] == ["seed-1", "seed-2"]
        values = [g.settings["margin"] + seed for seed in (1, 2)]
        assert g.metrics["mae"].values == tuple(values)
        assert g.metrics["mae"].mean == pytest.approx(statistics.fmean(values))
        assert g.metrics["mae"].std == pytest.approx(statistics.pstdev(values))


def test_runs_on_other_data_or_of_another_training_are_other_groups(tmp_path):
    changes = [{}, {"data": {"sha256": "another file"}}, {"training": {"epochs": 4}}]
    changes.append({"text": {"encoder": "bert"}})
    places = [run_folder(tmp_path / str(n), config=change) for n, change in enumerate(changes)]
    groups = group(places)
    assert [g.name for g in groups] == ["0", "1", "2", "3"]
    assert groups[0].settings == {"data": "0123456789ab", "text encoder": "scratch", "epochs": 3}
    assert [len(g.folders) for g in groups] == [1, 1, 1, 1]


def test_a_run_of_an_older_release_is_of_the_group_in_which_nothing_is_missing(tmp_path):
    changes = [{}, {"seed": 2, "training": {"missing_rate": 0.0, "missing_mode": "frames"}}]
    changes.append({"training": {"missing_rate": 0.3, "missing_mode": "frames"}})
    places = [run_folder(tmp_path / str(n), config=change) for n, change in enumerate(changes)]
    assert [len(g.folders) for g in group(places)] == [2, 1]
    assert [g.settings for g in group(places)] == [{"missing_rate": 0.0}, {"missing_rate": 0.3}]


def test_a_models_own_settings_are_compared_with_its_own_kind(tmp_path):
    changes = [
        {"model": "one", "model_config": {"margin": 0.5}},
        {"model": "one", "model_config": {"margin": 0.9}},
        {"model": "two", "model_config": {"margin": 0.5, "layers": 3}},
    ]
    places = [run_folder(tmp_path / str(n), config=change) for n, change in enumerate(changes)]
    assert [g.settings for g in group(places)] == [
        {"model": "one", "margin": 0.5},
        {"model": "one", "margin": 0.9},
        {"model": "two"},
    ]


def test_groups_beside_each_other_have_names_of_their_own(tmp_path):
    for seed, margin in ((1, 0.5), (2, 0.9), (3, 0.9)):
        config = {"seed": seed, "model_config": {"margin": margin}}
        run_folder(tmp_path / "row" / f"seed-{seed}", config=config)
    groups = group(find_runs([tmp_path]))
    assert [(g.name, len(g.folders)) for g in groups] == [("row", 1), ("seed-2", 2)]


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ([{"margin": 0.5}, {"margin": 1}], "margin"),
        ([{"margin": 0.5}, {"margin": 1, "refine": False}], None),
        ([{"refine": False}, {"refine": True}], None),
        ([{"margin": None}, {"margin": 1}], None),
        ([{"margin": 0.5}], None),
    ],
)
def test_a_sweep_is_one_number_that_differs(tmp_path, changes, field):
    runs = [
        run_folder(tmp_path / str(n), config={"model_config": change})
        for n, change in enumerate(changes)
    ]
    assert swept(group(runs)) == field
