"""The command line on two ranks, under torchrun and accelerate launch, against one process."""

import csv
import json
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file

from reference_models.__main__ import main
from reference_models.data.synthetic import synthesize
from reference_models.running import training
from tests.processes import python
from tests.ranks import launch
from tests.ranks import training as program

LAUNCHERS = {
    "torchrun": ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"],
    "accelerate launch": [
        "-m",
        "accelerate.commands.launch",
        "--cpu",
        "--num_processes=2",
        "--num_machines=1",
        "--mixed_precision=no",
        "--dynamo_backend=no",
        "--main_process_port=0",
    ],
}


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    """Splits that no batch size divides, but for the training's: its batches are then the same."""
    path = tmp_path_factory.mktemp("ranks") / "corpus.pkl"
    synthesize(path, sizes=(48, 11, 13), seed=1)
    return path


@pytest.fixture(scope="module")
def programs(file):
    """Where the programs of two ranks have left their results."""
    launch(2, program.__name__, file.parent, "parameters", "draws")
    return file.parent


def rows(path):
    with path.open(newline="") as lines:
        return list(csv.DictReader(lines))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("launcher", "model"), [("torchrun", "hycon-v2"), ("accelerate launch", "tecafn")]
)
def test_two_ranks_end_as_one_process(launcher, model, file, tmp_path):
    assert main(program.command(model, file, tmp_path / "alone")) == 0
    arguments = program.command(model, file, tmp_path / "run")
    done = python(*LAUNCHERS[launcher], "-m", "reference_models", *arguments)
    assert done.returncode == 0, done.stderr[-3000:]
    # One voice, that of the first rank.
    assert done.stdout.count("run folder") == 1
    assert done.stdout.count("the epoch with the lowest validation loss") == 2
    same_runs(tmp_path / "alone", tmp_path / "run")


def same_runs(one, two):
    assert {p.name for p in one.iterdir()} == {p.name for p in two.iterdir()}
    losses = [json.loads((folder / "history.json").read_text()) for folder in (one, two)]
    for alone, shared in zip(*losses, strict=True):
        # Every term is the whole batch's, and so the loss.
        assert shared == pytest.approx(alone, rel=1e-3, abs=1e-4)
    weights = [load_file(folder / "model.safetensors") for folder in (one, two)]
    for name, value in weights[0].items():
        torch.testing.assert_close(weights[1][name], value, rtol=1e-2, atol=1e-3)
    for alone, shared in zip(*(rows(f / "predictions.csv") for f in (one, two)), strict=True):
        assert (alone["split"], alone["id"]) == (shared["split"], shared["id"])
        assert float(shared["prediction"]) == pytest.approx(float(alone["prediction"]), abs=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("label", program.ALIKE)
def test_ddp_on_two_ranks_ends_with_the_parameters_of_one_process(label, programs):
    got = load_file(programs / f"{label}.safetensors")
    expected = program.trained(label)
    assert got.keys() == expected.keys()
    for key, value in expected.items():
        torch.testing.assert_close(got[key], value, rtol=1e-9, atol=1e-11)


@pytest.mark.slow
def test_ranks_draw_apart_from_the_same_weights_and_a_killed_run_draws_on(programs):
    first, second = (load_file(programs / f"draws-{rank}.safetensors") for rank in range(2))
    assert torch.equal(first["begun"], second["begun"])
    assert not torch.isin(first["whole"], second["whole"]).any()
    for drawn in (first, second):
        assert torch.equal(drawn["whole"], drawn["killed"])


def test_a_batch_that_the_ranks_cannot_share_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(training, "ranks", lambda: SimpleNamespace(num_processes=3))
    with pytest.raises(ValueError, match="batch_size: expected a multiple of 3, the number of ra"):
        training._arguments(training.TrainingConfig(batch_size=16), tmp_path, 1, None)
