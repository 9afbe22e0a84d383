"""A loss by one of its arguments."""

import torch

import mmcontrast as mm
from mmcontrast.testing import Vary


def test_vary_makes_functions_and_modules():
    x = torch.eye(3)
    assert torch.equal(
        Vary(mm.info_nce, "temperature")(0.5)(x, x), mm.info_nce(x, x, temperature=0.5)
    )
    module = Vary(mm.InfoNCE, "temperature", {"reduction": "sum"})(0.5)
    assert (module.temperature, module.reduction) == (0.5, "sum")
