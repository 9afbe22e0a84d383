"""MCL-MCF's contrast on three levels."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from reference_models.mcl_mcf.levels import LEVELS, Levels
from reference_models.mcl_mcf.settings import CHOICES
from tests.reference_models.mcl_mcf.test_network import (
    PAIRS,
    Loops,
    assert_terms,
    batch_of,
    network,
    single,
)


@pytest.mark.parametrize("settings", [{}, {"share_tcf_mcf": False}, {"fusion": "linear"}], ids=str)
@pytest.mark.parametrize("modalities", PAIRS)
def test_two_modalities_have_one_pair_on_the_first_level_alone(modalities, settings):
    model, batch = network(modalities, **settings).double(), batch_of(modalities=modalities)
    output, loops = model.train()(batch), Loops(model, batch)
    np.testing.assert_allclose(output.prediction.detach().numpy(), loops.prediction()[:, 0])
    assert_terms(output.terms, loops, ["first"])
    assert output.terms.weights == {"task": 1.0, "first": 0.05, "second": 0.0, "third": 0.0}
    assert not model.levels.stacks
    assert not model.levels.joins


@pytest.mark.parametrize("off", [*((level,) for level in LEVELS), LEVELS])
def test_a_level_of_weight_zero_has_no_layers_and_does_not_run(off, monkeypatch):
    ran = []
    seen = Levels._seen
    monkeypatch.setattr(
        Levels, "_seen", lambda self, level, *args: ran.append(level) or seen(self, level, *args)
    )
    learned = {"learnable_temperature": True}
    model = network(**learned, **{f"{level}_weight": 0.0 for level in off}).double()
    batch = batch_of()
    terms, kept = model.train()(batch).terms, [level for level in LEVELS if level not in off]
    assert ran == kept
    assert list(model.levels.projections) == kept
    assert bool(model.levels.joins) == ("second" in kept)
    assert bool(model.levels.stacks) == ("third" in kept)
    assert bool(list(model.levels.parameters())) == bool(kept)
    assert terms.weights == {"task": 1.0, **{level: 0.05 * (level in kept) for level in LEVELS}}
    for level in off:
        assert terms[level].item() == 0
    total = terms["task"] + 0.05 * sum(terms[level] for level in kept)
    torch.testing.assert_close(terms.total, total, check_dtype=False)


def test_images_without_a_positive_value_are_no_nan():
    model, batch = network(), single(batch_of())
    for name, parameter in model.named_parameters():
        if name.startswith("maps.") and name.endswith("bias"):
            nn.init.constant_(parameter, -1000.0)
        if name.startswith(("levels.stacks.", "levels.projections.third")) and "bias" in name:
            nn.init.zeros_(parameter)
    terms = model.train()(batch).terms
    terms.total.backward()
    # Nothing tells the samples apart: of the n that have all three, each is as likely.
    everything = torch.stack(list(batch.present.values())).all(0).sum().item()
    assert terms["third"].item() == pytest.approx(3 * math.log(everything), rel=1e-6)
    assert all(p.grad.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize("design", CHOICES["pair_design"])
def test_neutral_samples_are_a_class_of_their_own(design):
    """Moving neutral scores to one of the two signs changes what reads the signs."""
    model, batch = network(pair_design=design).double().train(), batch_of(16)
    assert (batch.labels == 0).any()
    totals = [
        sum(model(replace(batch, labels=labels)).terms[level].item() for level in LEVELS)
        for labels in (batch.labels, batch.labels * 3, batch.labels + 0.1, batch.labels - 0.1)
    ]
    assert totals[0] == totals[1]
    assert (len(set(totals)) == 3) == (design != "A")


def test_the_temperature_is_learned_where_asked():
    model, batch = network(learnable_temperature=True).train(), single(batch_of())
    theta = model.levels.loss.temperature.theta
    model(batch).terms.total.backward()
    assert theta.grad != 0
    assert model.levels.loss.temperature().item() == pytest.approx(0.07)
    assert not list(network().levels.loss.parameters())
