"""Checks of what is neither a tensor nor a number: choices, names, functions, devices."""

import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mmcontrast.arguments.messages import fail, shown

REDUCTIONS = ("mean", "sum", "none")


def one_of(name: str, value: object, choices: Iterable[object]) -> None:
    """One of the named choices."""
    known = list(choices)
    # Arrays compare entry by entry, and have no answer.
    if isinstance(value, Tensor | np.ndarray) or value not in known:
        fail(name, f"one of {', '.join(repr(c) for c in known)}", shown(value))


def reduction(value: str) -> None:
    """One of the three reductions."""
    one_of("reduction", value, REDUCTIONS)


def word(name: str, value: object) -> None:
    """A str."""
    if not isinstance(value, str):
        fail(name, "a str", shown(value))


def flag(name: str, value: object) -> bool:
    """True or False, as Python's."""
    if not isinstance(value, bool | np.bool_):
        fail(name, "True or False", shown(value))
    return bool(value)


def mapping(name: str, value: object, of: str) -> Mapping[str, Any]:
    """A mapping, of names to what ``of`` says."""
    if not isinstance(value, Mapping):
        fail(name, f"a mapping of {of}", shown(value))
    return value


def device(value: object) -> torch.device:
    """A device by its name; a number is another device, or an error of its own, in each build."""
    try:
        if isinstance(value, str):
            return torch.device(value)
    except RuntimeError:
        pass
    return fail("device", "a torch.device or its name", shown(value))


def floating_dtype(name: str, value: object, *, also: str = "") -> None:
    """A floating dtype; ``also`` says what else would do."""
    if not isinstance(value, torch.dtype) or not value.is_floating_point:
        fail(name, "a floating dtype" + (f" or {also}" if also else ""), shown(value))


def generator(value: object) -> None:
    """A ``torch.Generator``, or None."""
    if value is not None and not isinstance(value, torch.Generator):
        fail("generator", "a torch.Generator or None", shown(value))


def function(name: str, value: object, expected: str) -> None:
    """A callable; a class is none, because calling it makes an object."""
    if not callable(value) or isinstance(value, type):
        fail(name, expected, shown(value))


def called(name: str, value: Callable[..., Any], expected: str, *inputs: Tensor) -> Any:
    """What a caller's function returns; an error of ours where it takes another number of inputs.

    Errors inside the function are the caller's, and pass.
    """
    function(name, value, expected)
    try:
        return value(*inputs)
    except TypeError:
        if takes(value, len(inputs)):
            raise
    return fail(name, expected, f"{shown(value)}, which takes another number of arguments")


def accepting(name: str, value: Any, expected: str, number: int) -> None:
    """A callable of so many arguments."""
    function(name, value, expected)
    if not takes(value, number):
        fail(name, expected, shown(value))


def takes(value: Callable[..., Any], number: int) -> bool:
    """Whether a callable can be called with so many arguments, as far as its signature tells."""
    if torch.compiler.is_compiling():  # which cannot trace a signature
        return True
    try:
        called = value.forward if isinstance(value, nn.Module) else value
        inspect.signature(called).bind(*[None] * number)
    except TypeError:
        return False
    except ValueError:  # builtin functions without a signature
        return True
    return True
