"""What PyTorch is doing with the code at work: eager mode or not, values to read, autocast."""

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch._C._functorch import peek_interpreter_stack
from torch.autograd import forward_ad
from torch.compiler import is_compiling


def is_eager(*tensors: Tensor) -> bool:
    """Whether nothing traces, transforms or forward-differentiates the code at work.

    With tensors: and whether these have values, which may be read.
    """
    return (
        not is_compiling()
        and peek_interpreter_stack() is None
        and forward_ad._current_level < 0
        and all(map(_has_values, tensors))
    )


def known(condition: Tensor) -> bool:
    """Whether a 0-d condition is known to hold: it is read on the CPU only.

    Elsewhere, reading it would wait for the device.
    """
    return condition.is_cpu and _has_values(condition) and bool(condition)


def _has_values(x: Tensor) -> bool:
    """A plain tensor, not a fake or a wrapped one, and not on the device that has no memory."""
    return type(x) in (Tensor, nn.Parameter) and not x.is_meta


def full_precision(x: Tensor) -> AbstractContextManager[Any]:
    """Autocast off: matrix products of what is in float32 stay there."""
    kind = x.device.type
    # torch.amp.is_autocast_available is not asked: Dynamo cannot trace it in torch 2.10.
    if kind == "meta" or not torch.is_autocast_enabled(kind):
        return nullcontext()
    return torch.autocast(kind, enabled=False)


def apply(function: type[torch.autograd.Function], *inputs: Any) -> Tensor:
    """The one tensor that the function's forward returns."""
    value: Tensor = function.apply(*inputs)  # type: ignore[no-untyped-call]  # torch's has no types
    return value


def apply_to_several(function: type[torch.autograd.Function], *inputs: Any) -> tuple[Tensor, ...]:
    """The tensors that the function's forward returns, where it returns a tuple."""
    values: tuple[Tensor, ...] = function.apply(*inputs)  # type: ignore[no-untyped-call]  # nor here
    return values
