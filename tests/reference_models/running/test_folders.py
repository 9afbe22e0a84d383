"""Run folders: what they are taken for, and files that appear whole or not at all."""

import pytest
from filelock import FileLock, Timeout

from reference_models.running import folders, storage

CONFIG = {
    "format": 1,
    "model": "hycon",
    "seed": 1,
    "data": {"path": "a.pkl", "sha256": "12", "known_as": None, "samples": {"train": 3}},
    "training": {"epochs": 3, "patience": 0},
    "left_out": ["vision is not in the file"],
    "versions": {"torch": "2"},
}


def test_what_a_folder_is(tmp_path):
    folder = tmp_path / "run"
    assert folders.state(folder) == "empty"
    folder.mkdir()
    assert folders.state(folder) == "empty"
    folders.open_run(folder, CONFIG)
    assert folders.state(folder) == "unfinished"
    storage.write(folder / "metrics.json", "{}")
    assert folders.state(folder) == "finished"


@pytest.mark.parametrize("content", ["", "[]", '{"format": 1}', '{"model": "hycon"}', "\x00"])
def test_a_folder_with_another_config_is_no_run(tmp_path, content):
    (tmp_path / "config.json").write_text(content)
    assert folders.state(tmp_path) == "other"
    with pytest.raises(
        ValueError, match=r"^--out .* got a folder that .* \(its config\.json is damaged"
    ):
        folders.open_run(tmp_path, CONFIG)


def test_other_files_and_plain_files_are_no_run(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    assert folders.state(tmp_path) == "other"
    assert folders.state(tmp_path / "notes.txt") == "other"
    with pytest.raises(ValueError, match="holds something else"):
        folders.check_free(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_a_finished_run_is_not_overwritten_and_the_error_says_what_to_do(tmp_path):
    folders.open_run(tmp_path, CONFIG)
    storage.write(tmp_path / "metrics.json", "{}")
    with pytest.raises(ValueError, match=r"got a finished run; name another folder, or .*evaluate"):
        folders.open_run(tmp_path, CONFIG)


def test_an_unfinished_run_goes_on_wherever_its_file_lies(tmp_path):
    folders.open_run(tmp_path, CONFIG)
    moved = CONFIG | {"data": CONFIG["data"] | {"path": "b.pkl", "known_as": "MOSI"}}
    folders.open_run(tmp_path, moved | {"versions": {"torch": "3"}})
    assert storage.read_json(tmp_path / "config.json") == CONFIG


def test_other_settings_are_listed_one_by_one(tmp_path):
    folders.open_run(tmp_path, CONFIG)
    other = CONFIG | {
        "seed": 2,
        "data": CONFIG["data"] | {"sha256": "34"},
        "training": {"epochs": 3, "patience": 5, "new": 1},
    }
    with pytest.raises(ValueError, match=r"^--out .*; repeat its settings, or name") as error:
        folders.open_run(tmp_path, other)
    listed = str(error.value).split("got others (")[1].split(")")[0].split("; ")
    assert listed == [
        "seed: 1 there, 2 now",
        "data.sha256: '12' there, '34' now",
        "training.patience: 0 there, 5 now",
        "training.new: None there, 1 now",
    ]


def test_new_folders_are_counted(tmp_path):
    names = [folders.new_folder(tmp_path / "runs", "hycon", 3).name for _ in range(3)]
    assert names == ["hycon-seed3-1", "hycon-seed3-2", "hycon-seed3-3"]
    assert all((tmp_path / "runs" / name).is_dir() for name in names)


def test_history_is_the_same_in_both_files(tmp_path):
    rows = [{"epoch": 1, "loss": 0.1 + 0.2}, {"epoch": 2, "loss": 0.25}]
    folders.write_history(tmp_path, rows)
    assert storage.read_json(tmp_path / "history.json") == rows
    assert (tmp_path / "history.csv").read_text() == f"epoch,loss\n1,{0.1 + 0.2}\n2,0.25\n"


def test_one_process_at_a_time_is_in_a_folder(tmp_path):
    with folders.one_at_a_time(tmp_path / "new" / "one"), pytest.raises(Timeout):
        FileLock(tmp_path / "new" / "one" / "lock", timeout=0).acquire()
    with folders.one_at_a_time(tmp_path / "new" / "one"):  # it is free again
        pass
