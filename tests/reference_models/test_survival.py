"""A run that is killed, or has no room, loses nothing; two runs do not share a folder."""

import os
import subprocess
import sys

import pytest

from reference_models.__main__ import main
from reference_models.running import folders, storage
from tests.processes import ROOT, python


def program(*arguments):
    return python("-m", "tests.reference_models.survival_program", *arguments, timeout=600)


@pytest.mark.slow
def test_a_run_killed_at_any_moment_ends_as_one_that_was_not(tmp_path):
    """Killed before one of its changes of files, here and there from the first to the last."""
    models = ("hycon-v2", "mfon")
    done = program(tmp_path, "kills", 4, *models)
    assert done.returncode == 0, done.stderr[-3000:]
    for model in models:
        assert (tmp_path / model / "kills").read_text().startswith("4 of ")


@pytest.mark.slow
def test_a_full_disk_is_one_clear_line_and_the_run_goes_on_when_there_is_room(tmp_path):
    done = program(tmp_path, "limits")
    assert done.returncode == 0, done.stderr[-3000:]


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


def test_two_runs_into_one_folder_are_refused(tmp_path):
    folder = tmp_path / "run"
    waiting = (
        "import sys; from pathlib import Path; from reference_models.running import folders\n"
        "with folders.locked(Path(sys.argv[1])):\n"
        "    print('locked', flush=True); sys.stdin.read()"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", waiting, str(folder)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        assert holder.stdout.readline().strip() == b"locked"
        with (
            pytest.raises(ValueError, match="expected a folder that no other process trains into"),
            folders.locked(folder),
        ):
            pytest.fail("two of them")
    finally:
        holder.kill()
        holder.communicate()
    with folders.locked(folder):  # a kill sets it free
        assert folders.state(folder) == "empty"
