"""Running an encoder twice on the same inputs: random states, buffers, nested inputs."""

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
    """The encoder as a module, or the module that it is a method of; None for other callables."""
    owner = getattr(encoder, "__self__", encoder)
    return owner if isinstance(owner, nn.Module) else None


def frozen(encoder: Encoder, inputs: Any) -> bool:
    """Whether the encoder has no parameter to train; False where it is no module and may have."""
    module = _module(encoder)
    if module is None or any(x.requires_grad for x in tensors(inputs)):
        return False
    parameters = list(module.parameters())
    return bool(parameters) and not any(x.requires_grad for x in parameters)


def synchronised(encoder: Any) -> list[Any]:
    """The modules that synchronise gradients over ranks: the encoder itself, or inside it."""
    if hasattr(encoder, "no_sync"):
        return [encoder]
    module = _module(encoder)
    inside = () if module is None else module.children()
    return [found for child in inside for found in synchronised(child)]


@contextmanager
def unchanged_buffers(encoders: Iterable[Encoder]) -> Iterator[None]:
    """Restore the modules' buffers afterwards."""
    modules = {module for module in map(_module, encoders) if module is not None}
    before = {(m, name): x.clone() for m in modules for name, x in m.named_buffers()}
    try:
        yield
    finally:
        for module in modules:
            for name, x in module.named_buffers():
                # By .data, so that autograd does not count this as a modification of the buffer.
                x.data.copy_(before[module, name])


def random_states() -> States:
    """The states of the CPU's generator, and of the accelerators' if they are in use."""
    states: States = [(torch.set_rng_state, torch.get_rng_state())]
    device: Any = torch.get_device_module()
    if getattr(device, "is_initialized", lambda: True)():
        if hasattr(device, "get_rng_state_all"):
            states.append((device.set_rng_state_all, device.get_rng_state_all()))
        elif hasattr(device, "get_rng_state"):
            states.append((device.set_rng_state, device.get_rng_state()))
    return states


def restore(states: States) -> None:
    """Set the generators to these states."""
    for put, state in states:
        put(state)


@contextmanager
def unchanged_random_states() -> Iterator[None]:
    """Restore the generators' states afterwards."""
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


def map_leaves(function: Callable[..., Any], *trees: Any) -> Any:
    """The first tree, each leaf replaced by the function of that leaf in all trees."""
    first = trees[0]
    if isinstance(first, Mapping):
        # A copy, so that a BatchEncoding or a ModelOutput keeps its class; of a dict without
        # copy.copy, which the compiler cannot trace.
        plain = type(first) is dict or not isinstance(first, MutableMapping)
        made: Any = dict(first) if plain else copy.copy(first)
        for key in first:
            made[key] = map_leaves(function, *(tree[key] for tree in trees))
        return made
    if isinstance(first, tuple | list):
        parts = [map_leaves(function, *part) for part in zip(*trees, strict=True)]
        return type(first)(*parts) if hasattr(first, "_fields") else type(first)(parts)
    return function(*trees)
