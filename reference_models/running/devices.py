"""The device of this process, and the other processes of its launcher."""

import torch
from accelerate import PartialState


def device() -> torch.device:
    """The device on which the Trainer puts a network."""
    # The build alone may name one that this machine does not have.
    return torch.device(torch.accelerator.current_accelerator(check_available=True) or "cpu")


def ranks() -> PartialState:
    """The processes of a launcher (torchrun, accelerate launch); without one, just this one."""
    return PartialState(cpu=device().type == "cpu")
