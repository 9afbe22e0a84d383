"""Float64 in place of float32 where numbers on the way to a loss leave the range of a float32.

Products of raw rows, squares, and ratios of tiny sums may over- or underflow although the loss and
its gradient do not. Where values can be read, on the CPU in eager mode, a loss that this happened
to is computed once more in float64, which holds any product of eight numbers of a float32.
"""

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any, ParamSpec, TypeVar, cast

import torch
from torch import Tensor

from mmcontrast.distances import WITHOUT_PARAMETERS, Distance
from mmcontrast.distributed import Group, active
from mmcontrast.eager import apply, is_batched, is_eager, known_finite
from mmcontrast.mahalanobis import Mahalanobis
from mmcontrast.rows import ROW_MAPS, RowMap, are_ordinary, capped

LABELS = ("labels", "scores")
"""Endings of the names of arguments that stay as they are."""

P = ParamSpec("P")
R = TypeVar("R")


def may_widen(
    *tensors: Tensor,
    normalize: RowMap | None = None,
    distance: Distance | None = None,
    group: Group | None = None,
) -> bool:
    """Whether these are computed in float32, and float64 can take its place.

    It can not in a row map or distance of the caller's own, which may have float32 parameters, nor
    with other ranks, which would have to agree.
    """
    return (
        is_eager(*tensors)
        and all(x.is_cpu and x.dtype != torch.float64 for x in tensors)
        and (normalize is None or normalize in ROW_MAPS)
        and (distance in (None, *WITHOUT_PARAMETERS) or isinstance(distance, Mahalanobis))
        and active(group) is None
    )


def widen(x: Any) -> Any:
    """Floating tensors, also inside containers, in float64; gradients are cast back.

    They are capped in eager mode alone: transforms and compilers need operations that they know.
    """
    return _mapped(x, torch.float64)


def narrow(x: Any) -> Any:
    """Floating tensors, also inside containers, in float32, capped; gradients go through."""
    return _mapped(x, torch.float32)


def widen_products(
    x: Tensor, y: Tensor, *, distance: Distance | None = None, group: Group | None = None
) -> tuple[Tensor, Tensor]:
    """Rows, in float64 where their dot products or a distance could leave a float32's range."""
    beyond = out_of_range({"x": x, "y": y}, group, distance=distance)
    return widen((x, y)) if beyond else (x, y)


def out_of_range(
    rows: Mapping[str, Tensor], group: Group | None, *, distance: Distance | None = None
) -> bool:
    """Whether products of rows could leave a float32's range, and float64 can take its place."""
    each = rows.values()
    if any(x.numel() == 0 for x in each) or not may_widen(*each, distance=distance, group=group):
        return False
    return not all(are_ordinary(x) for x in each)


def retry_in_float64(function: Callable[P, R]) -> Callable[P, R]:
    """A loss that is computed once more, in float64, where it is not finite in float32."""
    signature = inspect.signature(function)

    @functools.wraps(function)
    def call(*args: P.args, **options: P.kwargs) -> R:
        found = function(*args, **options)
        if isinstance(found, Tensor) and known_finite(found):
            return found
        choices: Any = {name: options.get(name) for name in ("normalize", "distance", "group")}
        numbers = _floating(found)
        if may_widen(*numbers, **choices) and not all(x.isfinite().all() for x in numbers):
            wide = signature.bind(*args, **options)
            for name, value in wide.arguments.items():
                # Labels and scores are compared to the precision of their dtype.
                wide.arguments[name] = value if name.endswith(LABELS) else widen(value)
            return cast(R, narrow(function(*wide.args, **wide.kwargs)))
        return found

    return call


class _Cast(torch.autograd.Function):
    """To another dtype and back, with the largest number of that in place of any larger one."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, dtype: torch.dtype) -> Tensor:
        ctx.dtype = x.dtype
        return _cast(x, dtype)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        if is_batched(gradient):  # batched gradients have no rule for what caps them
            return gradient.to(ctx.dtype), None
        # A function again, so that second derivatives are cast and capped too.
        return apply(_Cast, gradient, ctx.dtype), None


def _cast(x: Tensor, dtype: torch.dtype) -> Tensor:
    return (
        capped(x, torch.finfo(dtype).max).to(dtype) if dtype.itemsize < x.itemsize else x.to(dtype)
    )


def _floating(found: Any) -> list[Tensor]:
    """The floating tensors of a result, a tensor or a tuple of them."""
    each = found if isinstance(found, tuple) else (found,)
    return [x.detach() for x in each if isinstance(x, Tensor) and x.is_floating_point()]


def _mapped(x: Any, dtype: torch.dtype) -> Any:
    if isinstance(x, Tensor):
        if not x.is_floating_point() or x.dtype == dtype:
            return x
        return apply(_Cast, x, dtype) if is_eager() else _cast(x, dtype)
    if isinstance(x, Mapping):
        return {name: _mapped(value, dtype) for name, value in x.items()}
    if isinstance(x, tuple):
        values = [_mapped(value, dtype) for value in x]
        return x._make(values) if hasattr(x, "_make") else tuple(values)
    return x
