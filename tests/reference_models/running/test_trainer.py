"""The Trainer of networks with several terms: what it logs, which rate each parameter has."""

import numpy as np
import pytest
import torch
from torch import nn

from reference_models.data.batch import Batch, collate
from reference_models.layers.text_encoder import scratch_text_encoder
from reference_models.running.trainer import (
    Trainee,
    parameter_groups,
)
from reference_models.running.training import predict
from tests.reference_models.running.test_training import TRAIN, VALID, run, toy


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


@pytest.mark.parametrize("batch_size", [3, 4, 8, 10])
def test_the_validation_loss_is_a_mean_over_samples_whatever_the_batches(tmp_path, batch_size):
    model = toy()
    _, history = run(tmp_path, model, batch_size=batch_size, epochs=1)  # of 10 samples
    predictions, _ = predict(model, VALID, batch_size=10)
    errors = predictions - np.array([float(sample["label"]) for sample in VALID])
    expected = np.abs(errors).mean() + 0.5 * np.square(errors).mean()
    assert history[0]["valid_loss"] == pytest.approx(expected, rel=1e-5)


def test_the_head_has_its_own_rate(tmp_path):
    still = toy()
    before = still.layer.weight.detach().clone()
    run(tmp_path, still, learning_rate=0.05, head_learning_rate=1e-12, epochs=1)
    torch.testing.assert_close(still.layer.weight, before, rtol=0, atol=1e-9)


def test_the_trainee_is_the_network_on_the_batch():
    model = toy()
    collated = collate(VALID)
    assert torch.equal(Trainee(model)(**collated).prediction, model(Batch(**collated)).prediction)
