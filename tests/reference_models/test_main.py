"""The command line end to end: what it prints, what it leaves behind, how it refuses."""

import json
import pickle
import sys
from dataclasses import fields

import pytest

from reference_models.__main__ import main
from reference_models.data.synthetic import generate, synthesize
from reference_models.registry import MODELS
from tests.processes import ROOT, python

SMALL = [
    *("--set", "layers=1", "--set", "hidden_size=10", "--set", "heads=2"),
    *("--set", "batch_size=16", "learning_rate=1e-3", "max_text_length=12"),
]


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    return str(synthesize(tmp_path_factory.mktemp("data") / "corpus.pkl", sizes=(32, 10, 12)))


@pytest.fixture
def refused(capsys):
    """Runs a command that is refused; returns the one line on stderr."""

    def run(*arguments):
        assert main([str(argument) for argument in arguments]) == 2
        out, err = capsys.readouterr()
        assert out == ""
        assert err.count("\n") == 1
        return err.removeprefix("python -m reference_models: ").rstrip()

    return run


def test_without_the_extra_it_says_what_to_install(refused, monkeypatch):
    monkeypatch.setitem(sys.modules, "tqdm", None)
    assert refused("list") == "needs tqdm: pip install 'mmcontrast[reference]'"


def test_list_shows_every_model_with_its_paper_and_keys(capsys):
    assert main(["list"]) == 0
    out = capsys.readouterr().out
    for name, entry in MODELS.items():
        assert f"{name}: {entry.summary}\n  paper: {entry.paper}\n" in out
        for config in (entry.config, entry.training):
            for field in fields(config):
                assert f"    {field.name}=" in out
    assert "    head_learning_rate=" in out
    assert "    refine=true\n" in out


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
    assert table[0].split() == ["MAE", "Corr", "Acc-7", "Acc-2", "F1"]
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
            "modalities: expected two",
        ),
        (
            ["train", "hycon", "--data", "{file}", "--modalities", "text,x"],
            "modalities: expected some",
        ),
        (["train", "hycon", "--data", "{file}", "--modalities", ""], "modalities: expected some"),
        (
            ["train", "hycon", "--data", "{file}", "--text-encoder", "no/such"],
            "text_encoder: expected",
        ),
        (
            ["train", "hycon", "--data", "{file}", "--text-encoder", "features"],
            "{file}: expected the",
        ),
        (["evaluate", "{file}"], "{file}: expected a finished run"),
        (["evaluate", "absent"], "absent: expected a finished run, got an empty or absent folder"),
        (["data", "inspect", "absent.pkl"], "absent.pkl: expected a"),
        (["data", "synthesize", "{file}"], "{file}: expected a new file"),
        (["data", "synthesize", "new.pkl", "--sizes", "0,1,1"], "sizes: expected three numbers"),
    ],
)
def test_what_cannot_be_is_one_line(arguments, message, file, refused, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    line = refused(*(argument.format(file=file) for argument in arguments))
    assert line.startswith(message.format(file=file))
    assert not list(tmp_path.iterdir())


def test_an_encoder_that_is_not_there_points_to_scratch(file, refused):
    line = refused("train", "hycon", "--data", file, "--text-encoder", "no/such-encoder")
    assert "'no/such-encoder'" in line
    assert '"scratch" exists' in line


def test_a_file_of_one_modality(tmp_path, refused):
    content = generate(sizes=(4, 2, 2))
    for columns in content.values():
        for name in ("raw_text", "vision", "vision_lengths"):
            del columns[name]
    (tmp_path / "one.pkl").write_bytes(pickle.dumps(content))
    line = refused("train", "hycon", "--data", tmp_path / "one.pkl", "--out", tmp_path / "run")
    assert line.startswith("modalities: expected two or more for hycon, got audio")
    assert not (tmp_path / "run").exists()


def test_out_folders_that_are_taken(file, tmp_path, refused):
    arguments = ["train", "hycon", "--data", file, "--epochs", "1", *SMALL]
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").write_text("mine")
    line = refused(*arguments, "--out", tmp_path / "full")
    assert line.endswith("got a folder that holds something else; name another folder")
    assert main([*arguments, "--out", str(tmp_path / "run")]) == 0


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


def test_an_interrupt_says_how_to_go_on(file, tmp_path, capsys, monkeypatch):
    from reference_models import runs

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


def test_data_files_are_written_and_looked_at(tmp_path, capsys):
    path = tmp_path / "folder" / "corpus.pkl"
    assert main(["data", "synthesize", str(path), "--sizes", "5,3,4", "--seed", "2"]) == 0
    assert f"wrote {path}" in capsys.readouterr().out
    assert path.read_bytes() == synthesize(tmp_path / "b", sizes=(5, 3, 4), seed=2).read_bytes()
    assert main(["data", "inspect", str(path)]) == 0
    out = capsys.readouterr().out
    for word in ("train", "valid", "test", "raw_text", "audio", "vision", "regression_labels"):
        assert word in out


@pytest.mark.slow
def test_the_demo_writes_its_page_and_runs_again(tmp_path, capsys):
    arguments = ["demo", "--out", str(tmp_path), "--fast", "--seed", "3"]
    assert main(arguments) == 0
    out = capsys.readouterr().out
    rows = [line for line in out.splitlines() if line.startswith(("HyCon-v2  ", "without con"))]
    assert "HyCon-v2: training in" in out
    assert len(rows) >= 2
    assert "synthetic" in out
    page = (tmp_path / "index.html").read_bytes()
    text = page.decode()
    assert "they are not to be put beside published ones" in text
    assert "How to go on" in text
    assert text.count("<svg") == 10
    configs = [
        json.loads((tmp_path / f"{name}-seed3-fast" / "config.json").read_text())
        for name in ("hycon-v2", "without-contrast")
    ]
    weights = ("intra_weight", "inter_weight", "semi_weight")
    differing = {
        key
        for key, value in configs[0]["model_config"].items()
        if configs[1]["model_config"][key] != value
    }
    assert differing == set(weights)
    assert all(configs[1]["model_config"][name] == 0 for name in weights)

    assert main(arguments) == 0  # what is there is taken, and nothing is trained
    out, err = capsys.readouterr()
    assert "trained before" in out
    assert "epoch" not in err
    assert (tmp_path / "index.html").read_bytes() == page


@pytest.mark.slow
def test_it_is_a_program_that_warns_of_nothing(file, tmp_path):
    arguments = ["train", "hycon", "--data", file, "--epochs", "1", *SMALL, "--out", "run"]
    program = "-W", "error", "-m", "reference_models"
    done = python(*program, *arguments, cwd=tmp_path, PYTHONPATH=str(ROOT))
    assert done.returncode == 0, done.stderr
    assert [line.split()[0] for line in done.stderr.splitlines()] == ["epoch"]
    assert (tmp_path / "run" / "metrics.json").is_file()
