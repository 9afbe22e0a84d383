"""Calls of autograd functions, typed: torch says nothing of what ``apply`` takes and gives."""

from typing import Any

import torch
from torch import Tensor


def apply(function: type[torch.autograd.Function], *inputs: Any) -> Tensor:
    """The one tensor that the function's forward returns."""
    value: Tensor = function.apply(*inputs)  # type: ignore[no-untyped-call]  # torch's has no types
    return value


def apply_to_several(function: type[torch.autograd.Function], *inputs: Any) -> tuple[Tensor, ...]:
    """The tensors that the function's forward returns, where it returns a tuple."""
    values: tuple[Tensor, ...] = function.apply(*inputs)  # type: ignore[no-untyped-call]  # nor here
    return values
