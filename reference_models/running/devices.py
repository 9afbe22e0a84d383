"""Where a network runs: the device of this process, and the processes beside it."""

import torch
from accelerate import PartialState


def device() -> torch.device:
    """Where the Trainer puts a network."""
    return torch.device(torch.accelerator.current_accelerator() or "cpu")


def ranks() -> PartialState:
    """The processes of a launcher (torchrun, accelerate launch); without one, this one alone."""
    return PartialState(cpu=device().type == "cpu")
