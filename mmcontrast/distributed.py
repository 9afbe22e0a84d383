"""One batch over all ranks: gathering rows and summing numbers, with gradients.

The gradient of a rank's rows is that of the sum of all ranks' losses. Where every rank's loss is
that of the whole batch, DistributedDataParallel's mean over ranks then gives the parameters the
gradient of one process on the whole batch.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

import torch
import torch.distributed as dist
from torch import Tensor
from torch.compiler import is_compiling

from mmcontrast import arguments
from mmcontrast.collectives import (
    agree_by_name,
    all_rows,
    exchange_names,
    exchange_sizes,
    gather_by_name,
    sum_over_ranks,
    total_by_name,
)
from mmcontrast.eager import apply, calls_operators
from mmcontrast.rows import upcast

if TYPE_CHECKING:
    Group = dist.ProcessGroup | Literal["world"]
else:
    Group = Any  # a torch built without torch.distributed has no such class
"""A process group, or "world": the default one, looked up at the call."""

Places = tuple[int, slice, list[int] | None]
"""How many rows all ranks have, which are this rank's, and each rank's number if it can be read."""


def gather(x: Tensor, group: Group | None = None) -> Tensor:
    """The rows of every rank, in the order of the ranks: in-batch losses then see the whole batch.

    Every rank can compute the loss of the whole batch from the result; the losses' own ``group=``
    splits that work among the ranks instead. A rank's rows receive the sum of the gradients of all
    ranks' losses, so that after DistributedDataParallel's mean over ranks, parameters have the
    gradient of one process on the whole batch.

    Args:
        x: (B, ...) the rows of this rank; B may differ by rank, the other sizes may not. Bool and
            integer tensors are gathered without gradient.
        group: the process group; None: the default one.

    Returns:
        (sum of all B, ...); ``x`` itself with one rank, or without a process group.

    Raises:
        ValueError: a 0-d tensor; rows that differ in shape or dtype between ranks; a DTensor.

    Example:
        >>> gather(torch.eye(2))  # no process group
        tensor([[1., 0.],
                [0., 1.]])

    Note:
        A collective: every rank must call it. It copies the ranks' sizes to the host.
    """
    if hasattr(arguments.tensor("x", x), "full_tensor"):
        arguments.fail("x", "this rank's rows", "a DTensor (x.full_tensor() has those of all)")
    return joined(x, "world" if group is None else group)[0]


def checked_group(group: object) -> None:
    """A process group, "world" or None."""
    if group is None or (isinstance(group, str) and group == "world"):
        return
    if not (dist.is_available() and isinstance(group, dist.ProcessGroup)):
        expected = '"world" or a process group that this rank is in'
        arguments.fail("group", expected, arguments.shown(group))


def active(group: Group | None) -> Any | None:
    """The process group; None without a group, without torch.distributed, or with one rank."""
    if group is None:
        return None
    checked_group(group)
    if not dist.is_available() or not dist.is_initialized():
        return None
    found = dist.group.WORLD if group == "world" else group
    return found if dist.get_world_size(found) > 1 else None


def name_of(group: Group | None) -> str:
    """The name of an :func:`active` group, as operators take it; empty without one."""
    found = active(group)
    return "" if found is None else str(found.group_name)


def rank_sizes(x: Tensor, group: Group | None) -> list[int]:
    """The number of rows of each rank: see :func:`exchange_sizes`. Not for compilers to trace."""
    active_group = active(group)
    return [x.shape[0]] if active_group is None else exchange_sizes(x, active_group)


def own_rows(group: Group | None, counts: list[int]) -> slice:
    """Which of all ranks' rows are this rank's; ``counts`` are the :func:`rank_sizes`."""
    active_group = active(group)
    rank = 0 if active_group is None else dist.get_rank(active_group)
    start = sum(counts[:rank])
    return slice(start, start + counts[rank])


def rows_of_ranks(x: Tensor, group: Group | None, *, size: int | None = None) -> Places:
    """The rows of all ranks, before these are gathered; ``size`` as for :func:`joined`."""
    if active(group) is not None and calls_operators():
        every, own = joined(x.detach().flatten(1)[:, :1], group, size=size)
        return every.shape[0], own, None
    counts = rank_sizes(x, group)
    return sum(counts), own_rows(group, counts), counts


def numbers_of(rows: Tensor, group: Group | None) -> tuple[int, int]:
    """The first of this rank's rows among those of all ranks, and how many there are."""
    number, own, _ = rows_of_ranks(rows, group)
    return own.start, number


def check_names(argument: str, given: object, group: Group | None) -> None:
    """Refuse a mapping with other names, or names in another order, than on another rank.

    Modalities are compared in the order of the mapping, so ranks that disagree would mix them. All
    ranks raise the same error; so this comes before any other check, which one rank alone might
    fail. What is no mapping counts by its type. One number of each rank is exchanged.
    """
    active_group = active(group)
    if active_group is None:
        return
    kinds = [str(name) for name in given] if isinstance(given, Mapping) else type(given).__name__
    names = str(kinds)
    if calls_operators():
        agree_by_name(argument, names, name_of(group))
    else:
        exchange_names(argument, names, active_group)


def joined(
    x: Tensor, group: Group | None, counts: list[int] | None = None, *, size: int | None = None
) -> tuple[Tensor, slice]:
    """The rows of every rank, with gradients, and the slice of them that is this rank's.

    Args:
        x: (B, ...) of this rank.
        group: the ranks; None: this one alone.
        counts: the result of :func:`rank_sizes`, to save a second exchange of sizes.
        size: the number of rows of all ranks, where a mask tells, so that a compiler knows it, too.
    """
    if x.ndim == 0:
        raise ValueError("x: expected rows, shape (B, ...), got a 0-d tensor")
    active_group = active(group)
    if active_group is None:
        return x, slice(0, x.shape[0])
    if calls_operators():
        every, start, _ = gather_by_name(x, name_of(group), size)
        return every, slice(start, start + x.shape[0])
    counts = rank_sizes(x, active_group) if counts is None else counts
    return all_rows(x, counts, active_group), own_rows(active_group, counts)


def part(x: Tensor, rows: slice, axis: int = 0) -> Tensor:
    """x[rows], of all ranks' rows; a compiler then knows the size, wherever the rows begin."""
    if not is_compiling() or rows.start is None:
        return x[(slice(None),) * axis + (rows,)]
    return x.index_select(axis, torch.arange(rows.start, rows.stop, device=x.device))


def total(x: Tensor, group: Group | None) -> Tensor:
    """The sum over ranks, with gradients; the same on every rank."""
    active_group = active(group)
    if active_group is None:
        return x
    if calls_operators():
        summed: Tensor = total_by_name(x, name_of(group))
        return summed
    return sum_over_ranks(x, active_group)


def with_gradient(x: Tensor, *, summed: Any | None = None, divided: int = 1) -> Tensor:
    """x, with its gradient summed over a group's ranks, and then divided by a number."""
    return apply(_Identity, x, summed, divided)


class _Identity(torch.autograd.Function):
    """:func:`with_gradient`."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, group: Any, number: int) -> Tensor:
        ctx.group, ctx.number = group, number
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        # In float32 at least: in half precision the sum over many ranks would lose digits.
        found = total(upcast(gradient), ctx.group) / ctx.number
        return found.to(gradient.dtype), None, None
