"""A run that is killed, or has no room, loses nothing; two runs do not share a folder."""

import multiprocessing
import os
import time

import pytest

from reference_models.__main__ import main
from reference_models.running import folders, storage
from tests.processes import python


@pytest.mark.slow
def test_a_run_that_is_killed_or_finds_the_disk_full_ends_as_one_that_was_not(tmp_path):
    """Killed before one of its changes of files, the first, one in the middle and the last.

    A full disk is one clear line, and the run goes on when there is room.
    """
    done = python("-m", "tests.reference_models.survival_program", tmp_path, 3, timeout=600)
    assert done.returncode == 0, done.stderr[-3000:]
    assert (tmp_path / "killed" / "kills").read_text().startswith("3 of ")


def test_a_folder_that_cannot_be_made_is_one_clear_line(tmp_path, capsys):
    file = tmp_path / "corpus.pkl"
    main(["data", "synthesize", str(file), "--sizes", "8,4,4"])
    # Nobody can make a folder inside of a file, not even root.
    out = file / "run"
    assert main(["train", "hycon", "--data", str(file), "--epochs", "1", "--out", str(out)]) == 2
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert str(out) in said
    assert "could not be written" in said


def test_a_file_that_cannot_be_written_is_named_and_the_old_one_stays(tmp_path, monkeypatch):
    path = tmp_path / "file.json"
    storage.write(path, "old")

    def full(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match=r"file\.json: could not be written .*No space left"):
        storage.write(path, "new")
    assert path.read_text() == "old"


def hold(folder, told):
    with folders.locked(folder):
        told.send("locked")
        time.sleep(600)


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_two_runs_into_one_folder_are_refused(tmp_path):
    folder, fork = tmp_path / "run", multiprocessing.get_context("fork")
    hears, tells = fork.Pipe(duplex=False)
    holder = fork.Process(target=hold, args=(folder, tells), daemon=True)
    holder.start()
    try:
        assert hears.recv() == "locked"
        with (
            pytest.raises(ValueError, match="expected a folder that no other process trains into"),
            folders.locked(folder),
        ):
            pytest.fail("two of them")
    finally:
        holder.kill()
        holder.join()
    with folders.locked(folder):  # a kill sets it free
        assert folders.state(folder) == "empty"
