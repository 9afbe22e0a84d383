"""The mode PyTorch runs the code in: eager or traced, readable values, autocast."""

import math
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch._C._functorch import (
    TransformType,
    get_interpreter_stack,
    is_batchedtensor,
    is_legacy_batchedtensor,
    peek_interpreter_stack,
)
from torch.autograd import forward_ad
from torch.compiler import is_compiling

TAGS = [x for x in [getattr(torch.Tag, "cudagraph_unsafe", None)] if x is not None]
"""Of operators: CUDA graphs leave them out, as they read labels and the sizes of ranks' batches."""


def is_eager(*tensors: Tensor) -> bool:
    """Whether the code runs eagerly: not compiled, under no functional transform or forward mode.

    With tensors: also whether all of them have values that can be read.
    """
    return (
        not is_compiling()
        and peek_interpreter_stack() is None
        and forward_ad._current_level < 0
        and all(map(_has_values, tensors))
    )


def calls_operators() -> bool:
    """Whether losses are operators of PyTorch here: under a compiler, and no functional transform.

    Operators have neither batching rules nor tangents, so transforms take the plain path.
    """
    return is_compiling() and not _in_a_functional_transform() and forward_ad._current_level < 0


def _in_a_functional_transform() -> bool:
    active: bool = torch._C._are_functorch_transforms_active()
    return active


# What torch.compiler.assume_constant_result sets: a compiler calls it, and puts no call into its
# graph. That function would import torch._dynamo, which takes longer than all of this package.
_in_a_functional_transform._dynamo_marked_constant = True  # type: ignore[attr-defined]  # torch's private mark


def takes_ways() -> bool:
    """Whether gradients that are written out can be taken: in eager mode, or by an operator."""
    return is_eager() or calls_operators()


def in_nested_forward_mode() -> bool:
    """Whether the code runs in a forward mode of a forward mode, like ``jacfwd(jacfwd(f))``."""
    stack = get_interpreter_stack() or []
    return sum(level.key() == TransformType.Jvp for level in stack) > 1


def known(condition: Tensor) -> bool:
    """Whether a 0-d bool tensor is on the CPU and True.

    On other devices the answer is False, because reading the value would wait for the device.
    """
    return condition.is_cpu and _has_values(condition) and bool(condition)


def known_finite(x: Tensor) -> bool:
    """Whether a tensor is on the CPU in eager mode, and all its numbers are finite."""
    if not (x.is_cpu and is_eager(x)):
        return False
    # One sum is faster than a mask; where it is not finite, it may have overflowed.
    total = x.detach().sum() if x.ndim else x
    return math.isfinite(total.item()) or (x.ndim > 0 and bool(x.detach().isfinite().all()))


def _has_values(x: Tensor) -> bool:
    """Whether it is a plain tensor, not a fake or other subclass, and not on the meta device."""
    return type(x) in (Tensor, nn.Parameter) and not x.is_meta


def is_batched(x: Tensor) -> bool:
    """Whether it is many tensors at once, by ``vmap`` or ``is_grads_batched=True``."""
    return not is_compiling() and (is_batchedtensor(x) or is_legacy_batchedtensor(x))


def in_cuda_graph(x: Tensor) -> bool:
    """Whether a CUDA graph records the work on the tensor's device, which it may repeat."""
    return x.is_cuda and torch.cuda.is_current_stream_capturing()


def under_autocast(x: Tensor) -> bool:
    """Whether autocast is on for the tensor's device."""
    kind = x.device.type
    # The meta device has no autocast, and asking for it is an error.
    return kind != "meta" and torch.is_autocast_enabled(kind)


def full_precision(x: Tensor) -> AbstractContextManager[Any]:
    """A context without autocast: matrix products of float32 tensors stay in float32."""
    return torch.autocast(x.device.type, enabled=False) if under_autocast(x) else nullcontext()


def apply(function: type[torch.autograd.Function], *inputs: Any) -> Tensor:
    """``function.apply``, typed, where the forward returns one tensor."""
    value: Tensor = function.apply(*inputs)  # type: ignore[no-untyped-call]  # torch's has no types
    return value


def apply_to_several(function: type[torch.autograd.Function], *inputs: Any) -> tuple[Tensor, ...]:
    """``function.apply``, typed, where the forward returns a tuple of tensors."""
    values: tuple[Tensor, ...] = function.apply(*inputs)  # type: ignore[no-untyped-call]  # nor here
    return values
