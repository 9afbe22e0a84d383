"""A damaged run folder: each command gives the right result, or one line and an exit code."""

import json
import os
import random
import shutil

import pytest

from reference_models.__main__ import main
from reference_models.data.synthetic import synthesize
from reference_models.running import folders
from tests.examples import as_many

SETTINGS = ["hidden_size=10", "heads=2", "layers=1", "learning_rate=1e-3", "batch_size=16"]
TABLE = ["--table", "alpha", "--rows", "0.5", "--seeds", "1"]
COMMON = ["--epochs", "3", "--set", *SETTINGS]
SOME = as_many(15)  # of all combinations of files and damages, for each command


def remake(path, make):
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    make(path)


def cut_at(share):
    return lambda path: path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])


DAMAGES = {
    "deleted": lambda path: remake(path, lambda path: None),
    "emptied": cut_at(0),
    "cut in front": cut_at(0.1),
    "cut in the middle": cut_at(0.5),
    "cut at the end": lambda path: path.write_bytes(path.read_bytes()[:-3]),
    "garbage": lambda path: path.write_bytes(random.Random(0).randbytes(200)),
    "other JSON": lambda path: path.write_text('[{"a": null}]'),
    "a folder": lambda path: remake(path, os.mkdir),
    "a pipe": lambda path: remake(path, os.mkfifo),
    "a broken link": lambda path: remake(path, lambda path: path.symlink_to("nowhere")),
}


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    return synthesize(tmp_path_factory.mktemp("data") / "corpus.pkl", sizes=(32, 10, 12))


def train(file, folder):
    return ["train", "hycon", "--data", str(file), "--out", str(folder), *COMMON]


@pytest.fixture(scope="module")
def finished(file, tmp_path_factory):
    folder = tmp_path_factory.mktemp("finished") / "run"
    assert main(train(file, folder)) == 0
    return folder


@pytest.fixture(scope="module")
def interrupted(file, tmp_path_factory):
    """A run that was interrupted at the end of its last epoch but one."""
    folder, write_history = tmp_path_factory.mktemp("interrupted") / "run", folders.write_history

    def interrupt(place, rows, stage):
        write_history(place, rows, stage)
        if len(rows) == 3:
            raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(folders, "write_history", interrupt)
        assert main(train(file, folder)) == 130
    return folder


def damaged_copies(folder, place, names=("",)):
    """Copies of a folder with one file damaged, some of all; the file's name and the damage.

    Something is damaged in each of the folder's files and folders.
    """
    files = [path.relative_to(folder) for path in folder.rglob("*") if path.is_file()]
    files = [name for name in files if str(name).startswith(names) and name.name != "lock"]
    every = [(name, damage) for name in sorted(files) for damage in DAMAGES]
    random.Random(1).shuffle(every)
    in_each = {name.parts[0]: (name, damage) for name, damage in every}
    for name, damage in list(dict.fromkeys([*in_each.values(), *every]))[:SOME]:
        shutil.rmtree(place, ignore_errors=True)
        shutil.copytree(folder, place)
        DAMAGES[damage](place / name)
        yield name, damage


def outcome(arguments, capsys):
    """Run a command: None if it ends well, or its one line."""
    return printed(arguments, capsys)[0]


def printed(arguments, capsys):
    """The same, and what else it prints."""
    capsys.readouterr()
    code = main([str(argument) for argument in arguments])
    out, said = capsys.readouterr()
    if code == 0:
        return None, out
    assert code == 2
    line = said.splitlines()[-1]
    assert line.startswith("python -m reference_models: ")
    assert "Traceback" not in said
    assert "is the disk full" not in line or "could not be written" in line
    return line, out


def test_evaluation_of_a_damaged_run(finished, tmp_path, capsys):
    expected = printed(["evaluate", finished], capsys)
    assert expected[0] is None
    refused = set()
    for name, damage in damaged_copies(finished, tmp_path / "run"):
        found = printed(["evaluate", tmp_path / "run"], capsys)
        if found[0] is None:
            assert found == expected, (name, damage)
        else:
            refused.add(name.parts[0])
    assert refused >= {"config.json", "model.safetensors", "standardizer.json", "tokenizer"}
    assert not refused & {"predictions.csv", "history.csv", "fused.safetensors"}  # not read


def test_a_report_on_a_damaged_run(finished, tmp_path, capsys):
    names = ("config.json", "metrics.json", "history.json", "predictions.csv", "fused.safetensors")
    for name, damage in damaged_copies(finished, tmp_path / "run", names):
        line = outcome(["report", tmp_path / "run", "--out", tmp_path / "page.html"], capsys)
        assert line is not None, (name, damage)
        assert str(tmp_path / "run") in line
        assert not (tmp_path / "page.html").exists()


def test_a_report_does_not_pass_over_a_damaged_run_beside_a_whole_one(finished, tmp_path, capsys):
    shutil.copytree(finished, tmp_path / "a")
    for damage in ("deleted", "emptied", "garbage", "a pipe"):
        shutil.rmtree(tmp_path / "b", ignore_errors=True)
        shutil.copytree(finished, tmp_path / "b")
        DAMAGES[damage](tmp_path / "b" / "config.json")
        line = outcome(["report", tmp_path, "--out", tmp_path / "page.html"], capsys)
        assert f"{tmp_path / 'b'}: " in line


def test_training_goes_on_from_a_damaged_run_to_the_same_end_or_not(
    file, finished, interrupted, tmp_path, capsys
):
    refused = set()
    for name, damage in damaged_copies(interrupted, tmp_path / "run"):
        line = outcome(train(file, tmp_path / "run"), capsys)
        if line is None:
            for end in ("metrics.json", "predictions.csv", "history.csv", "model.safetensors"):
                whole, resumed = (
                    (folder / end).read_bytes() for folder in (finished, tmp_path / "run")
                )
                assert whole == resumed, (name, damage, end)
            assert not (tmp_path / "run" / folders.CHECKPOINTS).exists()
        else:
            refused.add(name.parts[0])
            assert str(tmp_path / "run") in line
            assert folders.state(tmp_path / "run") != "finished"
    assert refused >= {"config.json", "checkpoints"}


@pytest.fixture(scope="module")
def reproduced(file, tmp_path_factory):
    out = tmp_path_factory.mktemp("reproduced") / "out"
    assert main([*reproduction(file, out)]) == 0
    return out


def reproduction(file, out):
    call = ["reproduce", "hycon", *TABLE, "--data", str(file), "--out", str(out)]
    return [*call, "--set", "epochs=1", *SETTINGS]


@pytest.mark.usefixtures("blank_figures")
def test_a_reproduction_over_damaged_runs(file, reproduced, tmp_path, capsys):
    expected = json.loads((reproduced / "table.json").read_text())["rows"]
    names = tuple(f"0.5/seed-1111/{name}" for name in ("metrics.json", "config.json"))
    tried = lines = 0
    for _ in damaged_copies(reproduced, tmp_path / "out", names):
        tried += 1
        if outcome(reproduction(file, tmp_path / "out"), capsys) is None:
            assert json.loads((tmp_path / "out" / "table.json").read_text())["rows"] == expected
        else:
            lines += 1
    assert lines > tried // 2


def test_a_kill_between_the_metrics_and_the_clean_up_is_cleaned_up(
    file, finished, tmp_path, capsys
):
    shutil.copytree(finished, tmp_path / "run")
    leftover = tmp_path / "run" / folders.CHECKPOINTS / "checkpoint-2"
    leftover.mkdir(parents=True)
    (leftover / "optimizer.pt").write_text("large")
    line = outcome(train(file, tmp_path / "run"), capsys)
    assert "got a finished run" in line
    names = {path.name for path in finished.iterdir()}
    assert {path.name for path in (tmp_path / "run").iterdir()} == names


def test_a_full_disk_under_a_report_leaves_no_half_page(finished, tmp_path, capsys, monkeypatch):
    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    line = outcome(["report", finished, "--out", tmp_path / "page.html"], capsys)
    assert f"{tmp_path / 'page.html'}: could not be written" in line
    assert list(tmp_path.iterdir()) == []
