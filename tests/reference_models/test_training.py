"""Training: what is valid, what is logged, who learns at which rate; a kill costs nothing."""

import math
import shutil

import numpy as np
import pytest
import torch
from torch import nn

from mmcontrast import LossTerms
from reference_models.data.batch import Batch, collate
from reference_models.engine import (
    Trainee,
    flat_metrics,
    history_rows,
    parameter_groups,
)
from reference_models.folders import last_checkpoint
from reference_models.output import Output
from reference_models.text_encoder import scratch_text_encoder
from reference_models.training import TrainingConfig, fit, predict

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


def run(folder, model, on_epoch=lambda rows: None, *, seed=5, data=TRAIN, **settings):
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
    )


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("learning_rate", 0.0),
        ("learning_rate", math.nan),
        ("learning_rate", "fast"),
        ("head_learning_rate", -1.0),
        ("head_learning_rate", True),
        ("weight_decay", -0.1),
        ("batch_size", 0),
        ("batch_size", 2.0),
        ("gradient_accumulation", 0),
        ("epochs", 0),
        ("epochs", True),
        ("patience", -1),
        ("schedule", "cosine"),
        ("warmup_ratio", 1.0),
        ("max_grad_norm", -1.0),
        ("max_grad_norm", math.inf),
        ("max_text_length", 2),
        ("standardize", 1),
        ("precision", "fp8"),
        ("selection", "best"),
    ],
)
def test_an_impossible_value_names_the_field(name, value):
    with pytest.raises(ValueError, match=f"^{name}: expected .*, got {value!r}$"):
        TrainingConfig(**{name: value})


@pytest.mark.parametrize("pretrained", [True, False])
def test_every_parameter_is_in_one_group_with_its_rate_and_decay(pretrained):
    model = nn.ModuleDict(
        {
            "encoder": scratch_text_encoder(9, hidden_size=4, layers=1, heads=1, max_length=5),
            "head": nn.Linear(4, 1),
            "norm": nn.LayerNorm(4),
        }
    )
    model["head"].bias.requires_grad_(False)
    groups = parameter_groups(
        model, learning_rate=1e-5, head_learning_rate=1e-3, weight_decay=0.1, pretrained=pretrained
    )
    place = {id(p): (g["lr"], g["weight_decay"]) for g in groups for p in g["params"]}
    assert sum(len(group["params"]) for group in groups) == len(place)
    assert place.keys() == {id(p) for p in model.parameters() if p.requires_grad}
    encoder_rate = 1e-5 if pretrained else 1e-3
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            rate = encoder_rate if name.startswith("encoder") else 1e-3
            decays = "bias" not in name and "norm" not in name.lower()
            assert place[id(parameter)] == (rate, 0.1 if decays else 0.0), name


def test_the_log_holds_every_term_times_its_weight_averaged_over_the_epoch(tmp_path):
    model = toy()
    _, history = run(tmp_path, model, learning_rate=1e-12, epochs=1)  # it stands still
    output = model(Batch(**collate(TRAIN)))
    expected = {"loss_task": output.terms["task"], "loss_square": output.terms["square"] / 2}
    for name, value in expected.items():
        assert history[0][name] == pytest.approx(value.item(), rel=1e-5)
    assert history[0]["loss_off"] == 0.0  # weight 0: not even its NaN
    names = [name for name in history[0] if name.startswith("loss_")]
    assert sum(history[0][n] for n in names) == pytest.approx(history[0]["loss"], rel=1e-6)
    assert names == ["loss_task", "loss_off", "loss_square"]


def test_the_terms_add_up_where_the_last_step_accumulates_fewer_batches(tmp_path):
    _, history = run(tmp_path, toy(), batch_size=4, gradient_accumulation=4, epochs=2)
    for row in history:  # 6 batches in steps of 4 and 2
        terms = [value for name, value in row.items() if name.startswith("loss_")]
        assert sum(terms) == pytest.approx(row["loss"], rel=1e-5)


def test_accumulated_batches_give_the_loss_and_the_step_of_one_large_batch(tmp_path):
    results = []
    for name, batch_size, accumulation in (("one", 8, 1), ("two", 4, 2)):
        model = toy()
        # The norm is what clipping sees, and Adam alone would hide a wrong scale.
        settings = {"batch_size": batch_size, "gradient_accumulation": accumulation}
        _, history = run(tmp_path / name, model, max_grad_norm=0.05, epochs=2, **settings)
        state = (tmp_path / name).glob("checkpoint-6/trainer_state.json")
        results.append((history, model.state_dict(), next(state).read_text()))
    (one, weights, log), (two, other, other_log) = results
    for a, b in zip(one, two, strict=True):
        assert a == pytest.approx(b, rel=1e-4)
    torch.testing.assert_close(weights, other, rtol=1e-4, atol=1e-6)
    norms = [
        [float(x.split(",")[0]) for x in text.split('"grad_norm": ')[1:]]
        for text in (log, other_log)
    ]
    assert norms[0] == pytest.approx(norms[1], rel=1e-4)


def test_the_epoch_with_the_lowest_validation_error_is_kept(tmp_path):
    model = toy()
    # So large a step that the last epoch is not the best.
    best, history = run(tmp_path, model, learning_rate=0.4, epochs=6)
    errors = [row["valid_loss"] for row in history]
    assert [row["epoch"] for row in history] == [1, 2, 3, 4, 5, 6]
    assert best == 1 + int(np.argmin(errors))
    assert best != 6
    predictions, _ = predict(model, VALID, batch_size=3)
    labels = np.array([float(sample["label"]) for sample in VALID])
    error = np.abs(predictions - labels).mean() + 0.5 * np.square(predictions - labels).mean()
    assert error == pytest.approx(min(errors), rel=1e-5)
    assert np.abs(predictions - labels).mean() == pytest.approx(history[best - 1]["valid_mae"])


@pytest.mark.parametrize("batch_size", [3, 4, 8, 10])
def test_the_validation_loss_is_a_mean_over_samples_whatever_the_batches(tmp_path, batch_size):
    model = toy()
    _, history = run(tmp_path, model, batch_size=batch_size, epochs=1)  # of 10 samples
    predictions, _ = predict(model, VALID, batch_size=10)
    errors = predictions - np.array([float(sample["label"]) for sample in VALID])
    expected = np.abs(errors).mean() + 0.5 * np.square(errors).mean()
    assert history[0]["valid_loss"] == pytest.approx(expected, rel=1e-5)


def test_another_split_is_watched_where_that_is_asked_for(tmp_path):
    model = toy()
    best, history = run(tmp_path, model, learning_rate=0.4, epochs=6, selection="test_loss")
    losses = [row["test_loss"] for row in history]
    assert best == 1 + int(np.argmin(losses))
    assert not any(name.startswith("valid") for name in history[0])


def test_training_stops_when_nothing_improves_any_more(tmp_path):
    best, history = run(tmp_path, toy(), learning_rate=0.4, epochs=40, patience=2)
    assert len(history) == best + 2


@pytest.mark.parametrize("settings", [{}, {"schedule": "linear", "warmup_ratio": 0.3}])
def test_the_same_seed_is_the_same_run_and_another_is_another(tmp_path, settings):
    runs = []
    for name, seed in (("a", 5), ("b", 5), ("c", 6)):
        model = toy(dropout=0.5)
        history = run(tmp_path / name, model, seed=seed, **settings)[1]
        runs.append((history, model.layer.weight.detach()))
    assert runs[0][0] == runs[1][0]
    assert torch.equal(runs[0][1], runs[1][1])
    assert not torch.equal(runs[0][1], runs[2][1])


def test_the_seed_orders_the_batches_and_drops_the_features(tmp_path):
    plain, dropped = [], []
    for seed in (5, 6):
        model = toy()
        run(tmp_path / f"order{seed}", model, seed=seed)
        plain.append(model.layer.weight.detach())
        model = toy(dropout=0.5)
        run(tmp_path / f"drop{seed}", model, seed=seed, data=TRAIN[:1] * 24)
        dropped.append(model.layer.weight.detach())
    assert not torch.allclose(*plain, rtol=1e-3)
    assert not torch.allclose(*dropped, rtol=1e-3)


@pytest.mark.parametrize("setting", [{"max_grad_norm": 0.05}, {"weight_decay": 0.9}])
def test_clipping_and_decay_reach_the_weights(tmp_path, setting):
    weights = []
    for name, settings in (("plain", {}), ("other", setting)):
        model = toy()
        run(tmp_path / name, model, **settings)
        weights.append(model.layer.weight.detach())
    assert not torch.allclose(*weights, rtol=1e-3)


def test_the_schedule_reaches_the_log(tmp_path):
    rates = [
        row["learning_rate"]
        for row in run(tmp_path, toy(), schedule="linear", warmup_ratio=0.25, epochs=4)[1]
    ]
    # 12 steps, 3 of them warm-up; the log has the rate of each epoch's last step.
    assert rates == pytest.approx([0.05 * share for share in (2 / 3, 7 / 9, 4 / 9, 1 / 9)])


@pytest.mark.parametrize("at", [1, 2, 3, 4])
def test_a_killed_run_goes_on_to_the_same_end(tmp_path, at):
    whole = toy(dropout=0.5)
    expected = run(tmp_path / "whole", whole)

    with pytest.raises(Killed):
        run(tmp_path / "cut", toy(dropout=0.5), kill_at(at))
    seen = []
    model = toy(dropout=0.5)
    assert run(tmp_path / "cut", model, lambda rows: seen.append(len(rows))) == expected
    assert seen == list(range(at, 5))  # only what was missing is done again
    assert torch.equal(model.layer.weight, whole.layer.weight)


def test_a_killed_run_has_not_lost_its_patience(tmp_path):
    settings = {"learning_rate": 0.4, "epochs": 40, "patience": 2}
    best, history = run(tmp_path / "whole", toy(), **settings)
    assert len(history) == best + 2
    with pytest.raises(Killed):
        run(tmp_path / "cut", toy(), kill_at(len(history)), **settings)
    assert run(tmp_path / "cut", toy(), **settings) == (best, history)


@pytest.mark.parametrize("settings", [{"epochs": 3}, {"epochs": 40, "patience": 2}])
def test_a_run_that_had_ended_trains_no_more(tmp_path, settings):
    first = toy()
    expected = run(tmp_path, first, learning_rate=0.4, **settings)
    again = toy()
    result = run(
        tmp_path, again, lambda rows: pytest.fail("trained"), learning_rate=0.4, **settings
    )
    assert result == expected
    assert torch.equal(first.layer.weight, again.layer.weight)


def test_a_checkpoint_that_a_kill_left_incomplete_is_passed_over(tmp_path):
    whole = toy(dropout=0.5)
    expected = run(tmp_path / "whole", whole)

    with pytest.raises(Killed):
        run(tmp_path / "cut", toy(dropout=0.5), kill_at(3))
    shutil.copytree(tmp_path / "cut" / "checkpoint-6", tmp_path / "cut" / "checkpoint-9")
    broken = tmp_path / "cut" / "checkpoint-9" / "trainer_state.json"
    broken.write_text(broken.read_text()[:50])
    shutil.copytree(tmp_path / "cut" / "checkpoint-9", tmp_path / "cut" / "checkpoint-12")
    (tmp_path / "cut" / "checkpoint-12" / "trainer_state.json").unlink()
    assert run(tmp_path / "cut", toy(dropout=0.5)) == expected


def test_the_last_checkpoint_is_the_highest_complete_one(tmp_path):
    assert last_checkpoint(tmp_path / "absent") is None
    for step in (8, 16, 100):
        (tmp_path / f"checkpoint-{step}").mkdir()
    for step in (8, 16):
        (tmp_path / f"checkpoint-{step}" / "trainer_state.json").write_text("{}")
    assert last_checkpoint(tmp_path) == tmp_path / "checkpoint-16"
    assert not (tmp_path / "checkpoint-100").exists()


def test_a_loss_that_is_not_finite_ends_the_run_and_says_what_to_do(tmp_path):
    with pytest.raises(ValueError, match=r"^loss: .* got nan in epoch 1; lower learning_rate"):
        run(tmp_path, toy(bad=float("nan")))


def test_weights_that_are_not_finite_after_the_only_epoch(tmp_path):
    with (
        pytest.warns(RuntimeWarning, match="NaN or infinite"),
        pytest.raises(ValueError, match=r"^valid loss: expected a finite number .* got none;"),
    ):
        run(tmp_path, toy(), learning_rate=3e38, batch_size=24, epochs=1)


def test_the_head_has_its_own_rate(tmp_path):
    still = toy()
    before = still.layer.weight.detach().clone()
    run(tmp_path, still, learning_rate=0.05, head_learning_rate=1e-12, epochs=1)
    torch.testing.assert_close(still.layer.weight, before, rtol=0, atol=1e-9)


def test_predictions_come_in_order_whatever_the_batches(tmp_path):
    model = toy(dropout=0.9)
    predictions, fused = predict(model, VALID, batch_size=3)
    whole = model.eval()(Batch(**collate(VALID)))
    np.testing.assert_allclose(predictions, whole.prediction.detach().numpy(), rtol=1e-5)
    np.testing.assert_allclose(fused, whole.fused.detach().numpy(), rtol=1e-5)
    assert (predictions.shape, fused.shape) == ((10,), (10, FEATURES))


def test_the_trainee_is_the_network_on_the_batch():
    model = toy()
    collated = collate(VALID)
    assert torch.equal(
        Trainee(model)(**collated)[0].prediction, model(Batch(**collated)).prediction
    )


def test_metrics_are_flattened():
    metrics = {"mae": 1.0, "acc2": {"nn_n": 0.5, "p_n": 0.25}}
    assert flat_metrics(metrics) == {"mae": 1.0, "acc2_nn_n": 0.5, "acc2_p_n": 0.25}
    assert flat_metrics({}) == {}


def test_the_history_is_one_row_an_epoch_of_what_does_not_change_from_run_to_run():
    log = [
        {
            "loss": 2.0,
            "loss_task": 2.0,
            "learning_rate": 0.1,
            "grad_norm": 3.0,
            "epoch": 1.0,
            "step": 3,
        },
        {
            "eval_loss": 1.25,
            "eval_mae": 1.5,
            "eval_runtime": 0.1,
            "eval_samples_per_second": 9.0,
            "epoch": 1.0,
            "step": 3,
        },
        {"train_runtime": 5.0, "train_loss": 2.0, "epoch": 1.0, "step": 3},
    ]
    row = {"epoch": 1, "loss": 2.0, "loss_task": 2.0, "learning_rate": 0.1}
    assert history_rows(log) == [{**row, "valid_loss": 1.25, "valid_mae": 1.5}]
    assert history_rows(log, "test") == [{**row, "test_loss": 1.25, "test_mae": 1.5}]
    assert history_rows([]) == []
