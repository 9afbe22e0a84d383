"""Each command: what it prints, and what it leaves behind."""

import json
import pickle
import re
from dataclasses import fields
from itertools import chain

import pytest

from reference_models.__main__ import main
from reference_models.commands import shown
from reference_models.data.synthetic import generate, synthesize
from reference_models.keys import spell
from reference_models.registry import MODELS
from tests.reference_models.test_main import SMALL


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    return str(synthesize(tmp_path_factory.mktemp("data") / "corpus.pkl", sizes=(32, 10, 12)))


def test_list_has_a_line_for_every_model(capsys):
    assert main(["list"]) == 0
    *lines, empty, rest = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == list(MODELS)
    assert all(lines[at].endswith(p.summary) for at, p in enumerate(MODELS.values()))
    assert (empty, rest.split(":")[0]) == ("", "python -m reference_models list MODEL")


@pytest.mark.parametrize("name", MODELS)
def test_list_of_a_model_explains_every_key(name, capsys):
    assert main(["list", name]) == 0
    out, entry = capsys.readouterr().out, MODELS[name]
    assert out.startswith(f"{name}: {entry.summary}\npaper: {entry.citation}\n")
    assert all(len(line) <= 90 for line in out.splitlines()[2:])
    for changes in (*entry.presets.values(), *chain(*(t.values() for t in entry.tables.values()))):
        for key, value in changes.items():
            assert f"{key}={spell(value)}" in "".join(out.split("\n      ")), key
    for names in (entry.presets, entry.tables):
        assert all(re.search(rf"^  {name}: ", out, re.MULTILINE) for name in names)
    for config in (entry.config, entry.training):
        for field in fields(config):
            assert re.search(rf"^  {field.name}=.*\n      \S", out, re.MULTILINE), field.name


def test_list_of_a_model_that_is_not_there(refused):
    assert "model: expected one of hycon" in refused("list", "nothing")


def test_train_then_evaluate(file, tmp_path, capsys):
    run = tmp_path / "run"
    arguments = ["train", "hycon-v2", "--data", file, "--out", str(run), "--epochs", "2", *SMALL]
    assert main([*arguments, "--seed", "7", "--modalities", "text,audio"]) == 0
    out, err = capsys.readouterr()
    assert err.count("epoch ") == 2
    for line in (
        "hycon-v2, ",
        ", seed 7",
        "32 train, 10 valid, 12 test",
        "text (raw_text, text encoder scratch) 128, audio 16",
        "vision is left out",
        "up to epoch 2, batches of 16, learning rate 0.001",
        str(run),
        "of 2: the epoch with the lowest validation loss",
    ):
        assert line in out
    config = json.loads((run / "config.json").read_text())
    assert (config["seed"], config["training"]["epochs"]) == (7, 2)
    assert config["model_config"]["layers"] == 1
    metrics = json.loads((run / "metrics.json").read_text())["test"]
    table = out.splitlines()[-3:]
    titles = ["MAE", "Corr", "Acc-7", "Acc-2 nn/n, p/n", "F1 nn/n, p/n"]
    assert re.split("  +", table[0].strip()) == titles
    assert table[2].split()[:2] == ["test", f"{metrics['mae']:.3f}"]

    assert main(["evaluate", str(run)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].split()[1:] == table[2].split()[1:]
    assert lines[2].startswith("test, MAG-BERT protocol")
    assert main(["evaluate", str(run), "--split", "valid", "--data", file]) == 0
    assert capsys.readouterr().out.splitlines()[1].split()[1:] == table[1].split()[1:]


def test_without_out_the_folder_is_named_and_counted(file, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    arguments = ["train", "hycon", "--data", file, "--epochs", "1", *SMALL]
    for _ in range(2):
        assert main([*arguments, "--modalities", "audio,vision"]) == 0
    names = sorted(path.name for path in (tmp_path / "runs").iterdir())
    assert names == ["hycon-seed1-1", "hycon-seed1-2"]
    assert "run folder  runs/hycon-seed1-2" in capsys.readouterr().out
    tables = [(tmp_path / "runs" / name / "metrics.json").read_bytes() for name in names]
    assert tables[0] == tables[1]


def test_an_encoder_that_is_not_there_points_to_scratch(file, refused):
    line = refused("train", "hycon", "--data", file, "--text-encoder", "no/such-encoder")
    assert "'no/such-encoder'" in line
    assert '"scratch" is a small encoder' in line


def test_a_file_of_one_modality(tmp_path, refused):
    content = generate(sizes=(4, 2, 2))
    for columns in content.values():
        for name in ("raw_text", "vision", "vision_lengths"):
            del columns[name]
    (tmp_path / "one.pkl").write_bytes(pickle.dumps(content))
    line = refused("train", "hycon", "--data", tmp_path / "one.pkl", "--out", tmp_path / "run")
    assert line.startswith("--modalities: expected two or more for hycon, got audio")
    assert not (tmp_path / "run").exists()


def test_out_folders_that_are_taken(file, tmp_path, refused):
    arguments = ["train", "hycon", "--data", file, "--epochs", "1", *SMALL]
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").write_text("mine")
    line = refused(*arguments, "--out", tmp_path / "full")
    assert line.endswith("got a folder that holds something else; name another folder")
    assert main([*arguments, "--out", str(tmp_path / "run")]) == 0


def test_what_is_no_finished_run_is_not_evaluated(file, tmp_path, refused, capsys):
    arguments = ["train", "hycon", "--data", file, "--epochs", "1", *SMALL]
    run = tmp_path / "runs" / "full" / "seed-1"
    assert main([*arguments, "--out", str(run)]) == 0
    capsys.readouterr()
    for missing in ((), ("--missing", "frames")):
        line = refused("evaluate", tmp_path / "runs", *missing)
        assert line.endswith(f"got a folder that holds something else; {run} is one")
        assert refused("evaluate", file, *missing).endswith("expected a finished run, got a file")
    (run / "metrics.json").unlink()
    line = refused("evaluate", run, "--missing", "frames")
    assert "got a run that did not finish" in line


def test_an_encoder_without_a_name_is_refused(file, tmp_path, refused):
    line = refused("train", "hycon", "--data", file, "--text-encoder", "", "--out", tmp_path / "x")
    assert line.startswith("--text-encoder: expected a name, a folder, scratch or features")
    assert not (tmp_path / "x").exists()


def test_flags_are_named_and_not_arguments_of_functions(file, refused):
    line = refused("train", "hycon", "--data", file, "--labels", "x.csv")
    assert line.startswith("--labels: expected None for")
    line = refused("train", "hycon", "--data", file, "--text-encoder", "features")
    assert line.endswith("; use --text-encoder scratch or the name of a pretrained encoder")


def test_a_finished_run_and_an_unfinished_one_with_other_settings(file, tmp_path, refused, capsys):
    run = tmp_path / "run"
    arguments = ["train", "hycon", "--data", file, "--epochs", "1", *SMALL, "--out", str(run)]
    assert main(arguments) == 0
    capsys.readouterr()
    assert "got a finished run; name another folder" in refused(*arguments)
    (run / "metrics.json").unlink()
    assert main([*arguments, "--set", "margin=0.5", "--seed", "2"]) == 2
    line = capsys.readouterr().err
    assert "(seed: 1 there, 2 now; model_config.margin: 0.8 there, 0.5 now)" in line
    assert main(arguments) == 0


def test_data_files_are_written_and_looked_at(tmp_path, capsys):
    path = tmp_path / "folder" / "corpus.pkl"
    assert main(["data", "synthesize", str(path), "--sizes", "5,3,4", "--seed", "2"]) == 0
    assert f"wrote {path}" in capsys.readouterr().out
    assert path.read_bytes() == synthesize(tmp_path / "b", sizes=(5, 3, 4), seed=2).read_bytes()
    assert main(["data", "inspect", str(path)]) == 0
    out = capsys.readouterr().out
    for word in ("train", "valid", "test", "raw_text", "audio", "vision", "regression_labels"):
        assert word in out


@pytest.mark.parametrize(
    "text", ["plain", "two\nlines", "\u00fcber \u4e2d\u6587 \u00b1 \U0001f600"]
)
def test_text_stays(text):
    assert shown(text) == text


@pytest.mark.parametrize(
    "text",
    [
        "\x1b[2J",
        "\x1b]0;title\x07",
        "\x9b31m",
        "\r",
        "\x08",
        "\x7f",
        "\x00",
        "\udc80",
        "\u202e",
        "\u2028",
    ],
)
def test_what_a_terminal_would_obey_is_an_escape(text):
    out = shown(f"a{text}b")
    assert out.isprintable()
    assert out == f"a{text}b".encode("unicode_escape").decode()
    assert out.encode()  # half a character could not be printed


HOSTILE = "\x1b[2J\u202e"


def test_no_name_reaches_the_terminal_as_an_escape_sequence(file, tmp_path, capsys):
    """Neither in what is printed nor in an error."""
    run, absent = tmp_path / f"run{HOSTILE}", tmp_path / f"absent{HOSTILE}"
    training = ["train", "hycon", "--data", file, "--epochs", "1", *SMALL, "--out", str(run)]
    evaluation = ["evaluate", str(run), "--split", "valid"]
    page = ["report", str(tmp_path), "--out", str(tmp_path / "page\x1b[2J.html")]
    wrong = (["evaluate", str(absent)], ["train", "hycon", "--data", str(absent)], training)
    for code, calls in ((0, (training, evaluation, page)), (2, wrong)):
        for arguments in calls:
            assert main(arguments) == code
            out, err = capsys.readouterr()
            printed = out if code == 0 else err
            assert printed.replace("\n", "").isprintable()
            if arguments is not evaluation:
                assert "\\x1b[2J" in printed


def test_half_a_character_in_a_path_is_said_as_what_it_is(file, tmp_path, refused):
    training = ["train", "hycon", "--data", file, "--epochs", "1", *SMALL]
    line = refused(*training, "--out", tmp_path / "run\udc80")
    assert line.endswith("cannot be written; name another folder")
    assert "run\\udc80: expected a path that UTF-8 can hold" in line
    assert "\\udc80" in refused("train", "hycon", "--data", tmp_path / "absent\udc80")
