"""What a loss learns itself, over several ranks: a temperature, a bias, a margin, a distance.

With a group, rows get the gradient of the sum of all ranks' losses (:mod:`mmcontrast.distributed`),
of which a wrapper's mean over the ranks makes that of one process. What every rank has meets a
rank's own part of the batch only, so outside a wrapper each rank would learn from its own part, and
they would drift apart. Therefore that mean is taken here; a wrapper's mean of equal gradients
changes nothing.
"""

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.func import functional_call

from mmcontrast.distributed import Group, active, with_gradient
from mmcontrast.rows import upcast


def replicated(value: float | Tensor, group: Group | None, rows: Tensor) -> float | Tensor:
    """A number that every rank has, with the gradient of one process on the whole batch.

    Every rank must reach its backward pass. What needs no gradient comes back as it is.

    Args:
        value: the same on every rank.
        group: the ranks; None: this rank alone.
        rows: of the loss, on the device on which the ranks exchange gradients.
    """
    if group is None or not isinstance(value, Tensor) or not _learned(value, group):
        return value
    return _mean_over_ranks(upcast(value).to(rows.device), group)


def replicated_module(function: Any, group: Group | None) -> Any:
    """The same for a distance or a row map: it is called with its parameters replicated.

    Any function comes back as it is, and so does a Module in a wrapper of its own (DDP, FSDP).
    """
    if group is None or not isinstance(function, nn.Module) or _synchronised(function):
        return function
    parameters = {
        name: _mean_over_ranks(value, group)
        for name, value in function.named_parameters()
        if _learned(value, group)
    }

    def called(*inputs: Tensor) -> Any:
        return functional_call(function, parameters, inputs)

    return called if parameters else function


def _mean_over_ranks(value: Tensor, group: Group) -> Tensor:
    """The value; its gradient is the mean of the ranks'."""
    ranks = active(group)
    return with_gradient(value, summed=ranks, divided=dist.get_world_size(ranks))


def _learned(value: Tensor, group: Group) -> bool:
    """Whether there will be a gradient, of several ranks."""
    return value.requires_grad and torch.is_grad_enabled() and active(group) is not None


def _synchronised(module: nn.Module) -> bool:
    """Whether a wrapper of DDP's or FSDP's kind is in it."""
    marks = ("no_sync", "set_requires_gradient_sync")
    return any(hasattr(part, mark) for part in module.modules() for mark in marks)
