"""Training: what is valid, what is logged, who learns at which rate; a kill costs nothing."""

import copy
import os
import pickle
import shutil
from itertools import product

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import nn

from mmcontrast import LearnableTemperature, LossTerms
from reference_models.data.batch import Batch, collate
from reference_models.layers.output import Output
from reference_models.running import checkpoints, storage
from reference_models.running.checkpoints import CHECKSUMS
from reference_models.running.trainer import NotFinite
from reference_models.running.training import fit, predict
from reference_models.training_config import TrainingConfig

FEATURES = 4


class Toy(nn.Module):
    """The mean frame, dropout, one layer; a weighted second term, and one that is switched off."""

    def __init__(self, *, dropout=0.0, off=float("nan"), bad=0.0):
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.layer = nn.Linear(FEATURES, 1)
        self.off = off
        self.bad = bad

    def forward(self, batch):
        fused = self.dropout(batch.features["audio"].mean(1))
        prediction = self.layer(fused).squeeze(1)
        error = prediction - batch.labels
        terms = {
            "task": error.abs().mean() + self.bad,
            "square": error.square().mean(),
            "off": error.mean() * self.off,
        }
        weights = {"task": 1.0, "square": 0.5, "off": 0.0}
        return Output(prediction, LossTerms(terms, weights), fused)


def samples(count, seed):
    source = torch.Generator().manual_seed(seed)
    x = torch.randn(count, 3, FEATURES, generator=source)
    labels = x.mean(1) @ torch.tensor([1.0, -2.0, 0.5, 1.5])
    labels = labels + 0.1 * torch.randn(count, generator=source)
    return [{"features": {"audio": x[i]}, "label": labels[i], "index": i} for i in range(count)]


TRAIN, VALID = samples(24, 0), samples(10, 1)


def toy(**options):
    torch.manual_seed(3)
    return Toy(**options)


class Killed(Exception):
    """What stands for a kill, in the middle of an epoch's end."""


def kill_at(epoch):
    def kill(rows):
        if len(rows) == epoch:
            raise Killed

    return kill


def run(folder, model, on_epoch=lambda rows: None, *, seed=5, data=TRAIN, change=None, **settings):
    settings = {"learning_rate": 0.05, "batch_size": 8, "epochs": 4, "patience": 0, **settings}
    config = TrainingConfig(**settings)
    return fit(
        model,
        data,
        VALID,
        config,
        checkpoints=folder,
        seed=seed,
        pretrained=False,
        on_epoch=on_epoch,
        change=change,
    )


def test_the_epoch_with_the_lowest_validation_error_is_kept_beside_the_last(tmp_path):
    model = toy()
    # So large a step that the last epoch is not the best.
    best, history = run(tmp_path, model, learning_rate=0.4, epochs=6)
    kept = {int(path.name.rpartition("-")[2]) // 3 for path in tmp_path.glob("checkpoint-*")}
    assert kept == {best, 6}
    errors = [row["valid_loss"] for row in history]
    assert [row["epoch"] for row in history] == [1, 2, 3, 4, 5, 6]
    assert best == 1 + int(np.argmin(errors))
    assert best != 6
    predictions, _ = predict(model, VALID, batch_size=3)
    labels = np.array([float(sample["label"]) for sample in VALID])
    error = np.abs(predictions - labels).mean() + 0.5 * np.square(predictions - labels).mean()
    assert error == pytest.approx(min(errors), rel=1e-5)
    assert np.abs(predictions - labels).mean() == pytest.approx(history[best - 1]["valid_mae"])


def test_another_split_is_watched_where_that_is_asked_for(tmp_path):
    model = toy()
    best, history = run(tmp_path, model, learning_rate=0.4, epochs=6, selection="test_loss")
    losses = [row["test_loss"] for row in history]
    assert best == 1 + int(np.argmin(losses))
    assert not any(name.startswith("valid") for name in history[0])


def test_the_same_seed_is_the_same_run_and_another_is_another(tmp_path):
    runs = []
    for name, seed in (("a", 5), ("b", 5), ("c", 6)):
        model = toy(dropout=0.5)
        settings = {"schedule": "linear", "warmup_ratio": 0.3, "epochs": 2}
        history = run(tmp_path / name, model, seed=seed, **settings)[1]
        runs.append((history, model.layer.weight.detach()))
    assert runs[0][0] == runs[1][0]
    assert torch.equal(runs[0][1], runs[1][1])
    assert not torch.equal(runs[0][1], runs[2][1])


def test_the_seed_orders_the_batches_and_drops_the_features(tmp_path):
    plain, dropped = [], []
    for seed in (5, 6):
        model = toy()
        run(tmp_path / f"order{seed}", model, seed=seed, epochs=1)
        plain.append(model.layer.weight.detach())
        model = toy(dropout=0.5)
        run(tmp_path / f"drop{seed}", model, seed=seed, epochs=1, data=TRAIN[:1] * 24)
        dropped.append(model.layer.weight.detach())
    assert not torch.allclose(*plain, rtol=1e-3)
    assert not torch.allclose(*dropped, rtol=1e-3)


def test_clipping_and_decay_reach_the_weights(tmp_path):
    weights = []
    for settings in ({}, {"max_grad_norm": 0.05}, {"weight_decay": 0.9}):
        model = toy()
        run(tmp_path / str(settings), model, epochs=1, **settings)
        weights.append(model.layer.weight.detach())
    plain, *others = weights
    assert not any(torch.allclose(plain, other, rtol=1e-3) for other in others)


def test_the_schedule_reaches_the_log(tmp_path):
    rates = [
        row["learning_rate"]
        for row in run(tmp_path, toy(), schedule="linear", warmup_ratio=0.25, epochs=4)[1]
    ]
    # 12 steps, 3 of them warm-up; the log has the rate of each epoch's last step.
    assert rates == pytest.approx([0.05 * share for share in (2 / 3, 7 / 9, 4 / 9, 1 / 9)])


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A training without a kill: its folder, what it returned, and the weights."""
    return done(tmp_path_factory.mktemp("training"), toy(dropout=0.5))


PATIENT = {"learning_rate": 0.4, "epochs": 40, "patience": 2}


@pytest.fixture(scope="module")
def stopped(tmp_path_factory):
    """One that ended because nothing improved any more."""
    return done(tmp_path_factory.mktemp("training"), toy(), **PATIENT)


def done(folder, model, **settings):
    return folder, run(folder, model, **settings), model.layer.weight.detach()


@pytest.fixture(scope="module")
def cut(tmp_path_factory):
    """The checkpoints of the same training, interrupted at the end of its third epoch."""
    folder = tmp_path_factory.mktemp("training") / "cut"
    with pytest.raises(Killed):
        run(folder, toy(dropout=0.5), kill_at(3))
    return folder


@pytest.mark.parametrize("at", [1, 2, 3, 4])
def test_a_killed_run_goes_on_to_the_same_end(whole, tmp_path, at):
    _, expected, weight = whole
    with pytest.raises(Killed):
        run(tmp_path, toy(dropout=0.5), kill_at(at))
    seen = []
    model = toy(dropout=0.5)
    assert run(tmp_path, model, lambda rows: seen.append(len(rows))) == expected
    assert seen == list(range(at, 5))  # only what was missing is done again
    assert torch.equal(model.layer.weight, weight)


def test_training_stops_when_nothing_improves_and_a_killed_run_has_not_lost_its_patience(
    stopped, tmp_path
):
    _, (best, history), _ = stopped
    assert len(history) == best + 2
    with pytest.raises(Killed):
        run(tmp_path, toy(), kill_at(len(history)), **PATIENT)
    assert run(tmp_path, toy(), **PATIENT) == (best, history)


def test_a_run_that_had_ended_trains_no_more(whole, stopped):
    for (folder, expected, weight), settings in ((whole, {}), (stopped, PATIENT)):
        again = toy(dropout=0.5)
        assert run(folder, again, lambda rows: pytest.fail("trained"), **settings) == expected
        assert torch.equal(again.layer.weight, weight)


def test_a_checkpoint_that_a_kill_left_incomplete_is_passed_over(whole, cut, tmp_path):
    shutil.copytree(cut, tmp_path / "cut")
    shutil.copytree(cut / "checkpoint-6", tmp_path / "cut" / "checkpoint-9")
    broken = tmp_path / "cut" / "checkpoint-9" / "trainer_state.json"
    broken.write_text(broken.read_text()[:50])
    (broken.parent / CHECKSUMS).unlink()
    shutil.copytree(tmp_path / "cut" / "checkpoint-9", tmp_path / "cut" / "checkpoint-12")
    (tmp_path / "cut" / "checkpoint-12" / "trainer_state.json").unlink()
    there = []
    again = run(tmp_path / "cut", toy(dropout=0.5), lambda _: there.append(broken.exists()))
    assert again == whole[1]
    assert there[0] is False  # the next checkpoint is not written over it


RESUMED = ("model.safetensors", "optimizer.pt", "scheduler.pt", "rng_state.pth")


@pytest.mark.parametrize("name", RESUMED)
@pytest.mark.parametrize("end", [None, 0, 100])
def test_a_training_without_all_of_its_state_is_refused(name, end, cut, tmp_path):
    """Before, without one of these files the Trainer went on, silently, to another result."""
    shutil.copytree(cut, tmp_path / "cut")
    path = tmp_path / "cut" / "checkpoint-6" / name
    content = path.read_bytes()
    path.unlink()
    if end is not None:
        path.write_bytes(content[:end])
    with pytest.raises(ValueError, match="expected what the training wrote there") as caught:
        run(tmp_path / "cut", toy(dropout=0.5))
    assert str(path) in str(caught.value)
    assert f"to start over, delete {tmp_path / 'cut'} and" in str(caught.value)


def test_a_training_that_was_refused_starts_over_as_if_nothing_had_been(whole, cut, tmp_path):
    shutil.copytree(cut, tmp_path / "cut")
    (tmp_path / "cut" / "checkpoint-6" / "optimizer.pt").unlink()
    with pytest.raises(ValueError, match="to start over, delete"):
        run(tmp_path / "cut", toy(dropout=0.5))
    shutil.rmtree(tmp_path / "cut")
    assert run(tmp_path / "cut", toy(dropout=0.5)) == whole[1]


class Learning(Toy):
    """With a learned temperature of its error."""

    def __init__(self):
        super().__init__(dropout=0.5)
        self.temperature = LearnableTemperature(0.3)

    def forward(self, batch):
        found = super().forward(batch)
        terms = LossTerms({"task": found.terms.total / self.temperature()})
        return Output(found.prediction, terms, found.fused)


def without_dimension(checkpoint):
    """The checkpoint as it was when learned temperatures were 0-d."""
    weights = storage.read_tensors(checkpoint / "model.safetensors")
    (theta,) = (name for name in weights if name.endswith("theta"))
    weights[theta] = weights[theta].reshape(())
    safetensors.torch.save_file(weights, checkpoint / "model.safetensors", {"format": "pt"})
    state = torch.load(checkpoint / "optimizer.pt", weights_only=True)
    averages = state["state"][max(state["state"])]  # the temperature is the last parameter
    averages |= {name: averages[name].reshape(()) for name in ("exp_avg", "exp_avg_sq")}
    torch.save(state, checkpoint / "optimizer.pt")
    checkpoints.complete(checkpoint)


def test_a_checkpoint_of_a_temperature_without_a_dimension_goes_on(tmp_path):
    torch.manual_seed(3)
    begun = Learning()
    whole = copy.deepcopy(begun)
    expected = run(tmp_path / "whole", whole, epochs=2)
    with pytest.raises(Killed):
        run(tmp_path / "cut", copy.deepcopy(begun), kill_at(2), epochs=2)
    for checkpoint in (tmp_path / "cut").glob("checkpoint-*"):
        without_dimension(checkpoint)
    assert run(tmp_path / "cut", begun, epochs=2) == expected
    assert torch.equal(begun.temperature.theta, whole.temperature.theta)
    last = checkpoints.last_checkpoint(tmp_path / "cut")
    averages = torch.load(last / "optimizer.pt", weights_only=True)["state"]
    assert averages[max(averages)]["exp_avg"].shape == (1,)


class Mark:
    """A pickle of it makes a folder where it is loaded."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


# The file of weights is no pickle, and one that torch did not write fails at its beginning: there,
# what is in it makes no difference.
FORGED = [(name, True, None) for name in RESUMED] + [("optimizer.pt", True, {"state": 3})]
FORGED += [(name, False, None) for name in RESUMED]
FORGED += product(RESUMED[1:], [False], [{"state": 3}, [1, 2], {"python": None}])


@pytest.mark.parametrize(("name", "bare", "content"), FORGED)
def test_a_forged_checkpoint_runs_nothing_and_is_one_line(name, bare, content, cut, tmp_path):
    """Its checksums are right; the content is a pickle that runs, or of another kind."""
    content = content or Mark(tmp_path / "mark")
    folder = shutil.copytree(cut, tmp_path / "cut")
    if bare:
        (folder / "checkpoint-6" / name).write_bytes(pickle.dumps(content))
    else:
        torch.save(content, folder / "checkpoint-6" / name)
    checkpoints.complete(folder / "checkpoint-6")
    with pytest.raises(ValueError, match=r"checkpoint-6/.*: expected what the tr") as caught:
        run(folder, toy(dropout=0.5))
    assert name in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "weights_only" not in str(caught.value)
    assert not (tmp_path / "mark").exists()


def test_a_kill_between_a_checkpoint_and_its_checksums_keeps_the_one_before(
    whole, tmp_path, monkeypatch
):
    done, complete = [], checkpoints.complete

    def killed(checkpoint):
        done.append(checkpoint.name)
        if len(done) == 3:
            raise KeyboardInterrupt
        complete(checkpoint)

    monkeypatch.setattr("reference_models.running.trainer.complete", killed)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, toy(dropout=0.5))
    assert checkpoints.last_checkpoint(tmp_path) == tmp_path / "checkpoint-6"
    assert run(tmp_path, toy(dropout=0.5)) == whole[1]


def test_a_loss_that_is_not_finite_ends_the_run_and_says_what_to_do(tmp_path):
    with pytest.raises(NotFinite, match=r"^loss: .* got nan in epoch 1; lower learning_rate"):
        run(tmp_path, toy(bad=float("nan")))


def test_weights_that_are_not_finite_after_the_only_epoch(tmp_path):
    with (
        pytest.warns(RuntimeWarning, match="NaN or infinite"),
        pytest.raises(NotFinite, match=r"^valid loss: expected a finite number .* got none;"),
    ):
        run(tmp_path, toy(), learning_rate=3e38, batch_size=24, epochs=1)


def test_predictions_come_in_order_whatever_the_batches(tmp_path):
    model = toy(dropout=0.9)
    predictions, fused = predict(model, VALID, batch_size=3)
    whole = model.eval()(Batch(**collate(VALID)))
    np.testing.assert_allclose(predictions, whole.prediction.detach().numpy(), rtol=1e-5)
    np.testing.assert_allclose(fused, whole.fused.detach().numpy(), rtol=1e-5)
    assert (predictions.shape, fused.shape) == ((10,), (10, FEATURES))
