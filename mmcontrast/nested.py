"""Tensors in nested mappings, tuples and lists, as a model takes and returns them."""

import copy
from collections.abc import Callable, Mapping, MutableMapping
from typing import Any

from torch import Tensor


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
