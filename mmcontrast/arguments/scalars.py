"""Checks of numbers: Python's and NumPy's values, and the shape and dtype of learned ones."""

import math
import sys
from collections.abc import Iterable
from numbers import Integral
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mmcontrast.arguments.messages import LONGEST, fail, shown

SCALAR = "a floating tensor of shape () or (1,)"
"""A learned number, as errors say it."""

_LARGEST = sys.float_info.max


def is_number(value: object) -> bool:
    """A finite number of Python's or NumPy's; no bool and no tensor."""
    if type(value) is float or type(value) is int:  # first, as it is quick and the usual case
        return -_LARGEST <= value <= _LARGEST
    if isinstance(value, bool) or not isinstance(value, int | float | np.integer | np.floating):
        return False  # a Fraction, too, which torch takes nowhere
    return math.isfinite(value)


def number(name: str, value: object, expected: str = "a number") -> None:
    """A finite number of Python's or NumPy's."""
    if not is_number(value):
        fail(name, expected, _no_number(name, value))


def _no_number(name: str, value: object) -> str:
    """What came in the place of a number; of a Module, how to get its number."""
    call = f" (call it: {name}=module())" if isinstance(value, nn.Module) else ""
    return shown(value) + call


def positive(name: str, value: float) -> None:
    """A number above zero."""
    if not is_number(value) or not value > 0:
        fail(name, "a number above 0", _no_number(name, value))


def probability(value: float) -> None:
    """A number from 0 to 1."""
    if not is_number(value) or not 0 <= value <= 1:
        fail("probability", "a number in [0, 1]", _no_number("probability", value))


def below_one(name: str, value: float) -> None:
    """A number from 0 to below 1."""
    if not is_number(value) or not 0 <= value < 1:
        fail(name, "a number in [0, 1)", _no_number(name, value))


def whole(name: str, value: int, *, least: int = 1) -> int:
    """An int of at least one, or of ``least``; NumPy's become Python's."""
    if type(value) is not int:
        if isinstance(value, bool) or not isinstance(value, Integral):
            fail(name, f"an int of at least {least}", shown(value))
        value = int(value)
    if not least <= value <= LONGEST:
        fail(name, f"an int of at least {least}", shown(value))
    return value


def chunk(value: int | None) -> int | None:
    """A chunk_size: an int of at least one, or None."""
    return None if value is None else whole("chunk_size", value)


def fits(name: str, value: int, dtype: torch.dtype) -> None:
    """An int that an integer dtype can hold."""
    limits = torch.iinfo(dtype)
    if isinstance(value, bool) or not isinstance(value, Integral):
        fail(name, "an int", shown(value))
    if not limits.min <= value <= limits.max:
        fail(name, f"{limits.min} to {limits.max}, what {dtype} holds", shown(value))


def number_or_scalar(name: str, value: float | Tensor) -> float | Tensor:
    """A number, or a learned one: :func:`zero_dimensional`."""
    if isinstance(value, Tensor):
        return zero_dimensional(name, value, "a number")
    number(name, value, f"a number or {SCALAR}")
    return value


def temperature(value: float | Tensor) -> float | Tensor:
    """A number above zero, or a learned one: :func:`zero_dimensional`."""
    if isinstance(value, Tensor):
        return zero_dimensional("temperature", value, "a number above 0")
    positive("temperature", value)
    return value


def constant(name: str, value: float | Tensor) -> float | Tensor:
    """A number, or a floating tensor of shape () or (1,) that no gradient is asked for."""
    value = number_or_scalar(name, value)
    if isinstance(value, Tensor) and value.requires_grad:
        fail(name, "a number, as no gradient by it is made", "a tensor that requires one")
    return value


def zero_dimensional(name: str, x: Tensor, otherwise: str) -> Tensor:
    """A floating tensor of shape () or (1,) as one of shape (); its value is not read.

    Parameters have shape (1,), because FSDP2 takes none without a dimension to shard.
    """
    if x.ndim > 1 or x.numel() != 1 or not x.is_floating_point():
        fail(name, f"{otherwise} or {SCALAR}", shown(x))
    on_every_rank(name, x)
    return x.reshape(()) if x.ndim else x


def on_every_rank(name: str, x: Tensor) -> None:
    """A number that, if it is a DTensor, every rank holds."""
    places: Iterable[Any] = getattr(x, "placements", ())
    if not all(place.is_replicate() for place in places):
        advice = "FSDP's are whole in the forward of the module that it wraps; else x.full_tensor()"
        fail(name, "a number that every rank holds", f"a DTensor placed {places} ({advice})")
