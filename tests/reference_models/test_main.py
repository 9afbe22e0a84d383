"""The command line end to end: what it prints, what it leaves behind, how it refuses."""

import argparse
import sys

import pytest

from reference_models import commands
from reference_models.__main__ import _parser, main
from reference_models.data.synthetic import synthesize
from tests.processes import ROOT, python

SMALL = [
    *("--set", "layers=1", "--set", "hidden_size=10", "--set", "heads=2"),
    *("--set", "batch_size=16", "learning_rate=1e-3", "max_text_length=12"),
]


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    return str(synthesize(tmp_path_factory.mktemp("data") / "corpus.pkl", sizes=(32, 10, 12)))


def test_without_the_extra_it_says_what_to_install(refused, monkeypatch):
    monkeypatch.setitem(sys.modules, "tqdm", None)
    assert refused("list") == "needs tqdm: pip install 'mmcontrast[reference]'"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "bert", "--data", "{file}"], "model: expected one of hycon, hycon-v2"),
        (["train", "hycon", "--data", "absent.pkl"], "absent.pkl: expected a pickle file"),
        (["train", "hycon", "--data", "{file}", "--set", "depth=3"], "--set: expected one of the"),
        (["train", "hycon", "--data", "{file}", "--set", "depth"], "--set: expected key=value"),
        (["train", "hycon", "--data", "{file}", "--set", "margin=3"], "margin: expected a number"),
        (
            ["train", "hycon", "--data", "{file}", "--epochs", "0"],
            "epochs: expected a whole number",
        ),
        (
            ["train", "hycon", "--data", "{file}", "--epochs", "x"],
            "epochs: expected a whole number",
        ),
        (
            ["train", "hycon", "--data", "{file}", "--modalities", "text"],
            "--modalities: expected two",
        ),
        (
            ["train", "hycon", "--data", "{file}", "--modalities", "text,x"],
            "--modalities: expected some",
        ),
        (["train", "hycon", "--data", "{file}", "--modalities", ""], "--modalities: expected some"),
        (
            ["train", "hycon", "--data", "{file}", "--text-encoder", "no/such"],
            "--text-encoder: expected",
        ),
        (
            ["train", "hycon", "--data", "{file}", "--text-encoder", "features"],
            "{file}: expected the",
        ),
        (["evaluate", "{file}"], "{file}: expected a finished run"),
        (["evaluate", "absent"], "absent: expected a finished run, got an empty or absent folder"),
        (["data", "inspect", "absent.pkl"], "absent.pkl: expected a"),
        (["data", "synthesize", "{file}"], "{file}: expected a new file"),
        (["data", "synthesize", "{file}/a.pkl"], "{file}: expected a folder, got a file"),
        (["data", "synthesize", "{file}/a/b.pkl"], "{file}/a: expected a folder, got a file"),
        (["data", "synthesize", "new.pkl", "--sizes", "0,1,1"], "sizes: expected three numbers"),
    ],
)
def test_what_cannot_be_is_one_line(arguments, message, file, refused, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    line = refused(*(argument.format(file=file) for argument in arguments))
    assert line.startswith(message.format(file=file))
    assert not list(tmp_path.iterdir())


def test_an_interrupt_says_how_to_go_on(file, tmp_path, capsys, monkeypatch):
    from reference_models.running import runs

    def interrupted(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(runs, "fit", interrupted)
    out = ["--out", str(tmp_path / "run")]
    assert main(["train", "hycon", "--data", file, *SMALL, *out]) == 130
    assert "the same command with the same --out goes on" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["train", "hycon"],
        ["train", "hycon", "--data", "x", "--seed", "-1"],
        ["train", "hycon", "--data", "x", "--seed", "4294967296"],
        ["data"],
        ["data", "synthesize", "x", "--sizes", "1,2"],
        ["evaluate", "run", "--split", "dev"],
    ],
)
def test_calls_that_are_incomplete_show_the_usage(arguments, capsys):
    with pytest.raises(SystemExit) as error:
        main(arguments)
    assert error.value.code == 2
    assert "usage: python -m reference_models" in capsys.readouterr().err


def commands_of(parser):
    """Every parser below this one, and the help of each by its name."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            said = {choice.dest: choice.help for choice in action._choices_actions}
            for name, command in action.choices.items():
                yield said.get(name), command
                yield from commands_of(command)


def test_every_command_and_all_that_it_takes_is_explained():
    found = list(commands_of(_parser()))
    assert len(found) >= 10
    for words, command in found:
        assert words, command.prog
        for action in command._actions:
            named = isinstance(action, argparse._SubParsersAction)
            assert named or action.help, (command.prog, action.dest)


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (FileExistsError("what is there"), "what is there"),
        (FileExistsError(17, "File exists", "x"), "x: expected a folder, got a file"),
    ],
)
def test_a_file_in_the_place_of_a_folder_is_named_where_it_is_known(
    error, line, refused, monkeypatch
):
    def fails(options):
        raise error

    monkeypatch.setattr(commands, "list_command", fails)
    assert refused("list").startswith(line)


@pytest.mark.slow
def test_it_is_a_program_that_warns_of_nothing(file, tmp_path):
    arguments = ["train", "hycon", "--data", file, "--epochs", "1", *SMALL, "--out", "run"]
    program = "-W", "error", "-m", "reference_models"
    done = python(*program, *arguments, cwd=tmp_path, PYTHONPATH=str(ROOT))
    assert done.returncode == 0, done.stderr
    assert [line.split()[0] for line in done.stderr.splitlines()] == ["epoch"]
    assert (tmp_path / "run" / "metrics.json").is_file()
