"""Where the kernels run in tests: on a GPU where there is one, else in Triton's interpreter."""

import importlib.util
import os
import sys

import pytest
import torch

from mmcontrast.exact.kernels.blocks import generation

TRITON = importlib.util.find_spec("triton") is not None
GPU = torch.cuda.is_available() and generation(torch.cuda.get_device_capability()) is not None
if TRITON and not GPU and "triton" not in sys.modules:
    os.environ.setdefault("TRITON_INTERPRET", "1")  # read when triton is imported
INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"


@pytest.fixture(params=["cuda" if GPU and not INTERPRETED else "interpreter"])
def device(request, monkeypatch) -> torch.device:
    if not TRITON:
        pytest.skip("the kernels are NOT tested: no Triton here; PYTHONPATH=.venv/peers has it")
    if request.param == "cuda":
        return torch.device("cuda")
    if not INTERPRETED:
        pytest.skip("the kernels are NOT tested: triton was imported without TRITON_INTERPRET=1")
    monkeypatch.setattr("mmcontrast.exact.choose.INTERPRETED", True)
    monkeypatch.setattr("mmcontrast.exact.sizes.KERNELS", 1)
    return torch.device("cpu")
