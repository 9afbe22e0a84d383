"""The parts that are trained before a network: one record for all of them."""

import pytest
import torch

from reference_models.keys import override
from reference_models.layers.stages import Stage
from reference_models.registry import MODELS
from tests.reference_models.test_models import network


def test_every_stage_has_its_own_training():
    first, second = (Stage(name, torch.nn.Identity(), {}) for name in "ab")
    first.training["epochs"] = 3
    assert second.training == {}


@pytest.mark.parametrize("name", ["mfon", "cormult"])
def test_stages_have_names_of_their_own_and_change_known_fields(name):
    stages = network(name).stages()
    assert stages
    assert len({stage.name for stage in stages}) == len(stages)
    for stage in stages:
        _, training = override(MODELS[name].config, MODELS[name].training, stage.training)
        for key, value in stage.training.items():
            assert getattr(training, key) == value
