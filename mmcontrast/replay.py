"""Encoders that run twice on the same inputs: what is in them, and what a run leaves behind."""

import copy
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

Encoder = Callable[[Any], Any]
States = list[tuple[Callable[[Any], None], Any]]
"""States of random generators, each with what sets it."""


def _module(encoder: Encoder) -> nn.Module | None:
    """The module that it is, or a method of; None for another callable."""
    owner = getattr(encoder, "__self__", encoder)
    return owner if isinstance(owner, nn.Module) else None


def frozen(encoder: Encoder, inputs: Any) -> bool:
    """Whether nothing in it collects a gradient; of what is no module, nobody knows."""
    module = _module(encoder)
    if module is None or any(x.requires_grad for x in tensors(inputs)):
        return False
    parameters = list(module.parameters())
    return bool(parameters) and not any(x.requires_grad for x in parameters)


def synchronised(encoder: Any) -> list[Any]:
    """What synchronises gradients over ranks: itself, or modules inside it."""
    if hasattr(encoder, "no_sync"):
        return [encoder]
    module = _module(encoder)
    inside = () if module is None else module.children()
    return [found for child in inside for found in synchronised(child)]


@contextmanager
def unchanged_buffers(encoders: Iterable[Encoder]) -> Iterator[None]:
    """Afterwards, the modules' buffers are what they were."""
    modules = {module for module in map(_module, encoders) if module is not None}
    before = {(m, name): x.clone() for m in modules for name, x in m.named_buffers()}
    try:
        yield
    finally:
        for module in modules:
            for name, x in module.named_buffers():
                # By .data: to autograd, a buffer that nobody changed has not been written to.
                x.data.copy_(before[module, name])


def random_states() -> States:
    """Those of the CPU's generator and of all devices' in use."""
    states: States = [(torch.set_rng_state, torch.get_rng_state())]
    device: Any = torch.get_device_module()
    if getattr(device, "is_initialized", lambda: True)():
        if hasattr(device, "get_rng_state_all"):
            states.append((device.set_rng_state_all, device.get_rng_state_all()))
        elif hasattr(device, "get_rng_state"):
            states.append((device.set_rng_state, device.get_rng_state()))
    return states


def restore(states: States) -> None:
    """Let the generators go on from there."""
    for put, state in states:
        put(state)


@contextmanager
def unchanged_random_states() -> Iterator[None]:
    """Afterwards, the generators' states are what they were."""
    states = random_states()
    try:
        yield
    finally:
        restore(states)


def tensors(tree: Any) -> list[Tensor]:
    """All tensors of nested mappings, tuples and lists, in order."""
    if isinstance(tree, Tensor):
        return [tree]
    if isinstance(tree, Mapping):
        tree = [tree[key] for key in tree]
    return [x for part in tree for x in tensors(part)] if isinstance(tree, tuple | list) else []


def mapped(function: Callable[..., Any], *trees: Any) -> Any:
    """The first tree with its leaves replaced by the function of the trees' leaves."""
    first = trees[0]
    if isinstance(first, Mapping):
        # A copy keeps what a BatchEncoding or a ModelOutput is beside a mapping.
        made = copy.copy(first) if isinstance(first, MutableMapping) else dict(first)
        for key in first:
            made[key] = mapped(function, *(tree[key] for tree in trees))
        return made
    if isinstance(first, tuple | list):
        parts = [mapped(function, *part) for part in zip(*trees, strict=True)]
        return type(first)(*parts) if hasattr(first, "_fields") else type(first)(parts)
    return function(*trees)
