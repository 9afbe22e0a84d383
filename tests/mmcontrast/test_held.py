"""Settings that a Module may hold: refused when it is made, taken where they can be used."""

import numpy as np
import pytest
import torch
from torch import nn

import mmcontrast as mm
from mmcontrast.held import check_settings, held_map, held_temperature


class Holder(nn.Module):
    def __init__(self, **settings):
        super().__init__()
        for name, value in settings.items():
            setattr(self, name, value)
        check_settings(self)


class Temperature(nn.Module):
    def forward(self):
        return torch.tensor(0.5)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"temperature": np.float32(0.1), "margin": torch.tensor(0.5), "chunk_size": np.int64(3)},
        {"temperature": mm.LearnableTemperature(), "normalize": None, "group": "world"},
        {"temperature": Temperature(), "normalize": nn.Identity(), "group": None},
        {"temperature": nn.Parameter(torch.tensor(0.1)), "normalize": lambda x: x},
        {"distance": mm.Mahalanobis.learned(3), "hinge": False, "reduction": "none"},
    ],
)
def test_what_can_be_used_is_taken(settings):
    Holder(**settings)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"temperature": nn.Linear(2, 2)},
            "temperature: .*LearnableTemperature, got the Module Li",
        ),
        ({"temperature": 0}, "temperature: expected a number above 0, got 0"),
        ({"margin": "large"}, "margin: expected a number .*got 'large'"),
        ({"distance": nn.Identity()}, "distance: expected a function of rows.*Identity"),
        ({"normalize": mm.euclidean}, "normalize: expected a function of rows.*euclidean"),
        (
            {"normalize": False},
            "normalize: expected a function of rows, .* or None for rows as they are, got False",
        ),
        ({"reduction": None}, "reduction: expected one of 'mean', 'sum', 'none', got None"),
        ({"chunk_size": 0}, "chunk_size: expected an int of at least 1, got 0"),
        ({"group": "all"}, "group: expected .*got 'all'"),
        ({"hinge": 1}, "hinge: expected True or False, got 1"),
    ],
)
def test_the_rest_is_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        Holder(**settings)


def test_a_number_tells_how_a_module_becomes_one():
    """In a function; a Module of ours calls a learned temperature itself."""
    x = torch.eye(3)
    with pytest.raises(ValueError, match=r"temperature: .*call it: temperature=module\(\)"):
        mm.info_nce(x, x, temperature=mm.LearnableTemperature())
    with pytest.raises(ValueError, match=r"margin: .*call it: margin=module\(\)"):
        mm.triplet(x, x, x, margin=mm.LearnableTemperature())
    held_temperature("temperature", mm.LearnableTemperature())
    held_map("normalize", mm.softmax_normalize)
    assert mm.InfoNCE(temperature=Temperature())(x, x) == mm.info_nce(x, x, temperature=0.5)
