"""Rows that are DTensors: computed as in one process, or refused.

A DTensor is one tensor of all ranks in its mesh. Where each of them holds all of it, Replicate() on
every dimension of the mesh, each computes the whole result by itself. Where each holds its own part
of the rows, Shard(0) on a mesh of one dimension, they compute it together, as with the mesh's group
for ``group=``. Anything else is a ValueError, and so are sharded rows where there is no ``group=``:
a result of one rank's rows would be silently wrong.

Results are plain tensors, as with ``group=``: a mean or sum is the same on every rank, and what has
a row for each anchor has those of this rank. Row maps, distances of rows and masks are not
concerned: they compute with a DTensor as with any tensor, and return one.

Gradients are those of one process. With ``group=``, all ranks' backward passes together make the
gradient of the sum of their losses, each of them the loss of the whole batch; the mean over ranks
that DistributedDataParallel takes makes it that of one. Nothing takes a mean of a DTensor's. So the
gradient of a mean or sum is divided by the number of ranks where it comes in, and what the ranks
share, such as a temperature, gets the sum of what each of them found.
"""

import functools
import inspect
import sys
from collections.abc import Callable, Iterable, Mapping
from types import FunctionType
from typing import Any, ParamSpec, TypeVar, cast, get_args

import torch.distributed as dist
from torch import Tensor, nn

from mmcontrast.distributed import with_gradient
from mmcontrast.placements import (
    Takes,
    check_beside,
    check_group_apart,
    check_placement,
    group_of_mesh,
    is_dtensor,
    is_sharded,
    tensors_of,
)
from mmcontrast.replay import map_leaves

USUAL = frozenset({Tensor, nn.Parameter, type(None), float, int, bool, str, FunctionType})
"""Types of most arguments: no DTensors, and nothing that contains one."""

P = ParamSpec("P")
R = TypeVar("R")


def local_rows(function: Callable[P, R]) -> Callable[P, R]:
    """A function of rows that takes DTensors as well, or refuses them: see the top of this file.

    It is the outermost decorator, so that all beneath it see plain tensors. Where nothing is a
    DTensor it costs less than a microsecond.
    """
    parameters = inspect.signature(function).parameters
    takes = Takes(
        function.__name__,
        tuple(parameters),
        "group" in parameters,
        frozenset(
            k for k, p in parameters.items() if float in (p.annotation, *get_args(p.annotation))
        ),
        any(
            k in ("labels", "scores", "ids") and p.default is p.empty for k, p in parameters.items()
        ),
    )

    @functools.wraps(function)
    def call(*args: P.args, **options: P.kwargs) -> R:
        module = sys.modules.get("torch.distributed.tensor")
        if module is None or not _holds_a(module.DTensor, (*args, *options.values())):
            return function(*args, **options)
        return cast(R, _of_dtensors(function, takes, args, options))

    return call


def _holds_a(kind: type, values: Iterable[Any]) -> bool:
    """Whether any of the values is of a type, or contains what is."""
    for x in values:
        if type(x) in USUAL:
            continue
        if isinstance(x, kind):
            return True
        if isinstance(x, Mapping):
            x = x.values()
        elif not isinstance(x, tuple | list):
            continue
        if _holds_a(kind, x):
            return True
    return False


def _of_dtensors(
    function: Callable[..., Any], takes: Takes, args: tuple[Any, ...], options: dict[str, Any]
) -> Any:
    """The function of arguments with DTensors among them."""
    given = {**dict(zip(takes.names, args, strict=False)), **options}
    found = [leaf for name, value in given.items() for leaf in tensors_of(name, name, value)]
    placed = [leaf for leaf in found if is_dtensor(leaf.x)]
    for leaf in placed:
        check_placement(leaf, placed[0], takes)
    rows = [leaf for leaf in placed if is_sharded(leaf.x)]
    if not rows:
        check_group_apart(given.get("group"), placed[0])
        return function(*map_leaves(_local, args), **map_leaves(_local, options))
    check_beside(found, rows[0], takes, given)
    group = group_of_mesh(rows[0], given.get("group"))

    def own(x: Any) -> Any:
        if is_dtensor(x) and is_sharded(x):
            return _local(x)
        x = _local(x)
        return with_gradient(x, summed=group) if isinstance(x, Tensor) and x.requires_grad else x

    own_options = {**map_leaves(own, options), "group": group}
    return _with_divided_gradient(
        function(*map_leaves(own, args), **own_options), dist.get_world_size(group)
    )


def _local(x: Any) -> Any:
    """A DTensor's part on this rank, with a gradient placed as itself; anything else as it is."""
    if not is_dtensor(x):
        return x
    found = x.to_local(grad_placements=x.placements)
    # While it is still being received it is of another class; computing with it waits for it.
    return found if type(found) in USUAL else found.clone()


def _with_divided_gradient(found: Any, number: int) -> Any:
    """A mean or sum, also inside terms, with its gradient divided by the number of ranks."""
    if isinstance(found, Mapping):
        terms: Any = type(found)
        return terms({name: _with_divided_gradient(value, number) for name, value in found.items()})
    if isinstance(found, Tensor) and found.ndim == 0 and found.requires_grad:
        return with_gradient(found, divided=number)
    return found
