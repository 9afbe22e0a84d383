"""What is looked at in a case: values and gradients, in one of several ways."""

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from functools import partial
from typing import Any
from unittest import mock

import torch
from torch import Tensor
from torch.autograd import grad

import mmcontrast as mm
from mmcontrast.exact import sizes
from tests.bits.calls import BUILDERS
from tests.bits.given import Given, Inputs, Loss


def outcome(name: str, rank: int, world: int) -> Inputs:
    """What a case gives on a rank: values, and gradients."""
    given = Given(name, rank, world)
    function = getattr(mm, given.function, None)
    inputs, loss = BUILDERS[given.function](given, function)
    with ExitStack() as stack:
        if "ring" in given:
            stack.enter_context(mock.patch.object(sizes, "RING", 1))  # however few candidates
        return MODES[given.words.get("mode", "plain")](inputs, loss, given.words.get("free"))


def _plain(inputs: Inputs, loss: Loss, free: str | None, autocast: bool = False) -> Inputs:
    """Values, and the gradients of all inputs, or of one."""
    leaves = {name: x.requires_grad_() for name, x in inputs.items() if free in (None, name)}
    with torch.autocast("cpu", enabled=autocast):
        found = loss(**inputs)
    return _flat("value", found) | _gradients("gradient", _scalar(found), leaves)


def _no_grad(inputs: Inputs, loss: Loss, free: str | None) -> Inputs:
    with torch.no_grad():
        return _flat("value", loss(**inputs))


def _twice(inputs: Inputs, loss: Loss, free: str | None) -> Inputs:
    """First derivatives, and those of a sum of them."""
    leaves = {name: x.requires_grad_() for name, x in inputs.items()}
    first = _gradients("gradient", _scalar(loss(**inputs)), leaves, create_graph=True)
    whole = [_scalar(x) for x in first.values()]
    return first | _gradients(
        "second", torch.stack([x for x in whole if x is not None]).sum(), leaves
    )


def _func(inputs: Inputs, loss: Loss, free: str | None) -> Inputs:
    first, call = _first(inputs, loss)
    return {"gradient": torch.func.grad(call)(first)}


def _vmap(inputs: Inputs, loss: Loss, free: str | None) -> Inputs:
    name, first = next(iter(inputs.items()))
    rows = torch.stack([first, first.flip(0), first / 2])
    return _flat("value", torch.func.vmap(lambda x: _total(loss(**inputs | {name: x})))(rows))


def _jvp(inputs: Inputs, loss: Loss, free: str | None) -> Inputs:
    first, call = _first(inputs, loss)
    value, slope = torch.func.jvp(call, (first,), (first.flip(0),))
    return {"value": value, "slope": slope}


def _first(inputs: Inputs, loss: Loss) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
    """The first input, and the scalar as a function of it."""
    name = next(iter(inputs))
    return inputs[name], lambda x: _weighted(loss(**inputs | {name: x}))


MODES: dict[str, Callable[[Inputs, Loss, str | None], Inputs]] = {
    "plain": _plain,
    "autocast": partial(_plain, autocast=True),
    "no_grad": _no_grad,
    "twice": _twice,
    "func": _func,
    "vmap": _vmap,
    "jvp": _jvp,
}


def _scalar(found: Any) -> Tensor | None:
    """A number to differentiate; None where a result has no graph."""
    found = _total(found)
    if isinstance(found, tuple | dict):  # a negative batch, pairs
        parts = [x for x in _flat("", found).values() if x.requires_grad]
        return torch.stack([_weighted(x) for x in parts]).sum() if parts else None
    return _weighted(found) if found.requires_grad else None


def _total(found: Any) -> Any:
    return found.total if isinstance(found, mm.LossTerms) else found


def _weighted(found: Any) -> Tensor:
    """All losses with different weights, so that no two gradients are mixed up."""
    value: Tensor = _total(found)
    if not value.ndim:
        return value
    weights = torch.linspace(-1, 2, value.numel(), dtype=torch.float64).view(value.shape)
    return (value * weights.to(value.dtype)).sum()


def _gradients(word: str, value: Tensor | None, leaves: Inputs, **how: bool) -> Inputs:
    if value is None:
        return {}
    found = grad(value, list(leaves.values()), allow_unused=True, **how)
    pairs = zip(leaves, found, strict=True)
    return {f"{word} of {name}": x for name, x in pairs if x is not None}


def _flat(place: str, found: Any) -> Inputs:
    """All tensors in a result, by where they stand in it."""
    if isinstance(found, Tensor):
        return {place: found}
    parts: Mapping[Any, Any] = {}
    if isinstance(found, Mapping):
        parts = found
    elif isinstance(found, tuple):
        parts = found._asdict() if hasattr(found, "_asdict") else dict(enumerate(found))
    whole = _flat(f"{place} total", found.total) if isinstance(found, mm.LossTerms) else {}
    for name, x in parts.items():
        whole |= _flat(f"{place} {name}", x)
    return whole
