"""Loggers of the Trainer: what reaches them, under which names, and what else is written."""

import importlib.machinery
import sys
from types import ModuleType, SimpleNamespace

import pytest
import torch.utils

from reference_models import __main__ as command_line
from reference_models.data.mmsa import load_mmsa
from reference_models.running import runs
from reference_models.running.loggers import LOGGERS, check_logger, reporting
from reference_models.running.parts import build
from tests.reference_models.running.test_runs import SHORT, SMALL
from tests.reference_models.tables.reproduced import run as reproduced

EXPECTED = {"loss", "loss_task", "loss_intra", "loss_inter", "loss_semi", "learning_rate"}


class Recorder:
    """Stands for the three packages, as far as the Trainer's callbacks call them."""

    def __init__(self):
        self.runs, self.values, self.run = [], {}, None

    def begin(self, name):
        assert self.run is None, "the run before has not been closed"
        self.run = SimpleNamespace(summary={}, info=SimpleNamespace(run_id=name), _label=print)
        self.run._label = lambda **words: None
        self.runs.append(name)

    def take(self, values):
        assert self.run is not None
        for name, value in values.items():
            self.values.setdefault(name, []).append(value)

    def end(self):
        self.run = None


def module(name, **content):
    made = ModuleType(name)
    made.__spec__ = importlib.machinery.ModuleSpec(name, None, origin=name)
    made.__dict__.update(content)
    return made


def writer_of(recorder):
    class SummaryWriter:
        def __init__(self, log_dir):
            recorder.begin(log_dir)

        def add_text(self, tag, text):
            pass

        def add_scalar(self, tag, value, step):
            recorder.take({tag: value})

        def flush(self):
            pass

        def close(self):
            recorder.end()

    return SummaryWriter


@pytest.fixture
def recorder(request, monkeypatch):
    """The package of the logger that the test is parametrized with, replaced."""
    logger, found = request.param, Recorder()
    if logger == "tensorboard":
        modules = [module("tensorboard")]
        modules.append(module("torch.utils.tensorboard", SummaryWriter=writer_of(found)))
        monkeypatch.setattr(torch.utils, "tensorboard", modules[-1], raising=False)
    elif logger == "wandb":
        wandb = module("wandb", run=None, termwarn=print, define_metric=lambda *a, **k: None)
        wandb.config = type("Config", (dict,), {"update": lambda self, values, **_: None})()

        def init(project, name):
            found.begin(name)
            wandb.run = found.run

        def finish():
            found.end()
            wandb.run = None

        wandb.init, wandb.finish, wandb.log = init, finish, found.take
        modules = [wandb, module("wandb.sdk"), module("wandb.sdk.lib")]
        modules.append(module("wandb.sdk.lib.config_util", ConfigError=KeyError))
    else:
        limits = SimpleNamespace(MAX_PARAM_VAL_LENGTH=500, MAX_PARAMS_TAGS_PER_BATCH=100)
        modules = [
            module(
                "mlflow",
                __version__="3.0.0",
                utils=SimpleNamespace(validation=limits),
                is_tracking_uri_set=lambda: True,
                get_tracking_uri=lambda: "here",
                active_run=lambda: found.run,
                start_run=lambda run_name, nested: found.begin(run_name),
                log_params=lambda values, synchronous: None,
                log_metrics=lambda metrics, step, synchronous: found.take(metrics),
                end_run=found.end,
            )
        ]
    for one in modules:
        monkeypatch.setitem(sys.modules, one.__name__, one)
    return found


EACH = pytest.mark.parametrize(
    ("logger", "recorder"), [(name, name) for name in LOGGERS], indirect=["recorder"]
)


@EACH
def test_losses_and_metrics_of_every_epoch_reach_the_logger(
    logger, recorder, finished, file, tmp_path
):
    corpus, folder = load_mmsa(file), tmp_path / logger
    parts = build("hycon-v2", SMALL, SHORT, corpus, seed=1)
    results = runs.train(parts, corpus, folder, log_to=logger)
    train, watched = ("", "eval_") if logger == "mlflow" else ("train/", "eval/")
    assert {train + name for name in EXPECTED} <= recorder.values.keys()
    for name in ("loss", "mae", "corr", "acc2_nn_n"):
        assert len(recorder.values[watched + name]) == SHORT.epochs
    assert len(recorder.values[f"{train}loss_semi"]) == SHORT.epochs
    place = str(folder / "tensorboard")
    assert recorder.runs == [place if logger == "tensorboard" else logger]
    assert recorder.run is None
    # The run is the same as without, and nothing else is in its folder.
    assert results == finished[1]
    assert {path.name for path in folder.iterdir()} == {path.name for path in finished[0].iterdir()}


@pytest.mark.parametrize(  # mlflow gets its names as wandb does
    ("logger", "recorder"), [(name, name) for name in LOGGERS[:2]], indirect=["recorder"]
)
@pytest.mark.usefixtures("blank_figures")
def test_every_seed_of_a_table_is_a_run_with_a_name_of_its_own(logger, recorder, file, tmp_path):
    out = tmp_path / "table"
    reproduced(file, out, rows=("0.5",), log_to=logger)
    places = [f"table/0.5/seed-{seed}" for seed in (1111, 1112)]
    if logger == "tensorboard":  # which names its runs by their folders
        places = [str(tmp_path / place / "tensorboard") for place in places]
    assert recorder.runs == places
    assert recorder.run is None


@EACH
def test_a_training_that_fails_closes_its_logger(logger, recorder, tmp_path):
    state = SimpleNamespace(
        is_world_process_zero=True, is_hyper_param_search=False, trial_name=None
    )
    arguments = SimpleNamespace(
        run_name="a", output_dir="b", to_dict=dict, to_json_string=lambda: "{}"
    )

    def fail():
        with reporting(logger, tmp_path, "teacher") as (callback,):
            kept.append(callback)
            callback.on_train_begin(arguments, state, None, model=None)
            raise KeyError

    kept = []
    with pytest.raises(KeyError):
        fail()
    name = str(tmp_path / "tensorboard" / "teacher") if logger == "tensorboard" else "a"
    assert recorder.runs == [name]
    assert recorder.run is None


@pytest.mark.parametrize(
    ("logger", "recorder", "begin"),
    [
        ("wandb", "wandb", lambda package: package.init(None, "of the caller")),
        ("mlflow", "mlflow", lambda package: package.start_run("of the caller", nested=False)),
    ],
    indirect=["recorder"],
)
def test_a_run_that_the_caller_has_begun_goes_on(logger, recorder, begin, tmp_path):
    begin(sys.modules[logger])
    with reporting(logger, tmp_path):
        pass
    assert recorder.run is not None


@pytest.mark.parametrize("recorder", ["tensorboard"], indirect=True)
def test_the_first_of_several_ranks_alone_writes_for_tensorboard(recorder, tmp_path, monkeypatch):
    other = SimpleNamespace(is_main_process=False)
    monkeypatch.setattr("reference_models.running.loggers.ranks", lambda: other)
    with reporting("tensorboard", tmp_path) as (callback,):
        callback.on_train_begin(None, SimpleNamespace(is_world_process_zero=False), None)
    assert recorder.runs == []


@pytest.mark.parametrize("command", ["train", "reproduce"])
def test_a_logger_whose_package_is_not_there_is_said_before_anything_is_read(
    command, capsys, monkeypatch
):
    monkeypatch.setattr("importlib.util.find_spec", absent(importlib.util.find_spec, "wandb"))
    table = ["--table", "contrast", "--seeds", "1"] if command == "reproduce" else []
    arguments = [command, "hycon", *table, "--data", "no-such-file", "--log-to", "wandb"]
    assert command_line.main(arguments) == 2
    line = capsys.readouterr().err
    assert "--log-to wandb: expected its package to be installed, got none" in line
    assert line.endswith("pip install wandb\n")


@pytest.mark.parametrize("logger", LOGGERS)
def test_a_folder_of_the_packages_name_is_no_package(logger, tmp_path, monkeypatch):
    """wandb writes into one where a run was started."""
    (tmp_path / logger).mkdir()
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    monkeypatch.delitem(sys.modules, logger, raising=False)
    with pytest.raises(ValueError, match=f"--log-to {logger}: expected its package"):
        check_logger(logger)


def absent(find, missing):
    return lambda name, *arguments: None if name == missing else find(name, *arguments)


def test_a_logger_that_is_not_known_is_an_error():
    check_logger(None)
    with pytest.raises(ValueError, match=r"--log-to: expected one of tensorboard, .*, got 'x'"):
        check_logger("x")
    with pytest.raises(ValueError, match="--log-to: expected one of"), reporting("x", None):
        pass
    with reporting(None, None) as callbacks:
        assert callbacks == []
