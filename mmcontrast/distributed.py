"""One batch over all ranks: gathering rows and summing numbers, with gradients.

Each operation is linear in the inputs of all ranks together, and its backward pass is the transpose
of that linear map:

    gather rows          <->  sum over ranks, each rank keeping its own rows (reduce-scatter)
    sum over all ranks   <->  itself

So the gradient of a rank's rows is that of the sum of all ranks' losses. Where every rank's loss is
that of the whole batch, DistributedDataParallel's mean over ranks then gives the parameters the
gradient of one process on the whole batch.
"""

import hashlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn import functional as F

from mmcontrast import arguments
from mmcontrast.eager import apply, calls_operators
from mmcontrast.rows import upcast

if TYPE_CHECKING:
    Group = dist.ProcessGroup | Literal["world"]
else:
    Group = Any  # a torch built without torch.distributed has no such class
"""A process group, or "world": the default one, looked up at the call."""

DTYPES = sorted({str(x) for x in vars(torch).values() if isinstance(x, torch.dtype)})


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


def named(name: str) -> Any | None:
    """The process group of that name; None for the empty one."""
    c10d: Any = dist.distributed_c10d
    return c10d._resolve_process_group(name) if name else None


def rank_sizes(x: Tensor, group: Group | None) -> list[int]:
    """The number of rows of each rank.

    Every rank gets every other's dtype and shape, so where these disagree all ranks raise the same
    error, and none is left waiting in a collective.
    """
    active_group = active(group)
    if active_group is None:
        return [x.shape[0]]
    # Rows, dtype, ndim and sizes as a vector of one length, because all_gather takes equal shapes.
    described = [x.shape[0], DTYPES.index(str(x.dtype)), x.ndim, *x.shape[1:]][:16]
    mine = torch.tensor(described + [0] * (16 - len(described)), device=x.device)
    every = [torch.empty_like(mine) for _ in range(dist.get_world_size(active_group))]
    dist.all_gather(every, mine, group=active_group)
    rows = [row.tolist() for row in every]
    if any(row[1:] != rows[0][1:] for row in rows):
        found = [f"{DTYPES[row[1]]} of shape {(row[0], *row[3 : row[2] + 2])}" for row in rows]
        raise ValueError(f"x: expected rows of one shape and dtype on every rank, got {found}")
    return [row[0] for row in rows]


def own_rows(group: Group | None, counts: list[int]) -> slice:
    """Which of all ranks' rows are this rank's; ``counts`` are the :func:`rank_sizes`."""
    active_group = active(group)
    rank = 0 if active_group is None else dist.get_rank(active_group)
    start = sum(counts[:rank])
    return slice(start, start + counts[rank])


def check_names(argument: str, given: object, group: Group | None) -> None:
    """Refuse a mapping with other names, or names in another order, than on another rank.

    Modalities are compared in the order of the mapping, so ranks that disagree would mix them. All
    ranks raise the same error; so this comes before any other check, which one rank alone might
    fail. What is no mapping counts by its type. One number of each rank is exchanged.
    """
    active_group = active(group)
    if active_group is None:
        return
    names = [str(name) for name in given] if isinstance(given, Mapping) else type(given).__name__
    # There may be no tensor to take the device from, so it is one that the backend sends.
    kind = str(dist.get_backend(active_group))
    on_host = "gloo" in kind or kind in ("mpi", "undefined")
    device = "cpu" if on_host else torch.accelerator.current_accelerator(check_available=True)
    # Python's own hash differs from process to process.
    digest = hashlib.sha256(repr(names).encode()).digest()[:8]
    mine = torch.tensor([int.from_bytes(digest, "big", signed=True)], device=device)
    every = [torch.empty_like(mine) for _ in range(dist.get_world_size(active_group))]
    dist.all_gather(every, mine, group=active_group)
    if len(set(torch.cat(every).tolist())) == 1:
        return
    texts: list[Any] = [None] * len(every)
    dist.all_gather_object(texts, str(names), group=active_group)
    firsts = [f"{text} on rank {k}" for k, text in enumerate(texts) if text not in texts[:k]]
    expected = "the same names in the same order on every rank"
    raise ValueError(f"{argument}: expected {expected}, got {', '.join(firsts)}")


def joined(x: Tensor, group: Group | None, counts: list[int] | None = None) -> tuple[Tensor, slice]:
    """The rows of every rank, with gradients, and the slice of them that is this rank's.

    ``counts``: the result of :func:`rank_sizes`, to save a second exchange of sizes.
    """
    if x.ndim == 0:
        raise ValueError("x: expected rows, shape (B, ...), got a 0-d tensor")
    active_group = active(group)
    if active_group is None:
        return x, slice(0, x.shape[0])
    counts = rank_sizes(x, active_group) if counts is None else counts
    return apply(_Gather, x, counts, active_group), own_rows(active_group, counts)


def total(x: Tensor, group: Group | None) -> Tensor:
    """The sum over ranks, with gradients; the same on every rank."""
    active_group = active(group)
    if active_group is None:
        return x
    if calls_operators():
        summed: Tensor = _total_by_name(x, name_of(group))
        return summed
    return apply(_Total, x, active_group)


def with_gradient(x: Tensor, *, summed: Any | None = None, divided: int = 1) -> Tensor:
    """x, with its gradient summed over a group's ranks, and then divided by a number."""
    return apply(_Identity, x, summed, divided)


def _padded(x: Tensor, size: int) -> Tensor:
    """(B, ...) -> (size, ...) with zero rows at the end."""
    return F.pad(x, (0, 0) * (x.ndim - 1) + (0, size - len(x)))


class _Gather(torch.autograd.Function):
    """All ranks' rows: (B, ...) -> (sum of all B, ...)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, sizes: list[int], group: Any) -> Tensor:
        ctx.sizes, ctx.group = sizes, group
        # Bool goes as uint8, because not every backend sends bool. all_gather needs equal shapes:
        # rows are padded to the longest rank's, and the padding is cut off on arrival.
        sent = x.detach().to(torch.uint8) if x.dtype == torch.bool else x.detach()
        sent = _padded(sent, max(sizes)).contiguous()  # (most, ...)
        every = [torch.empty_like(sent) for _ in sizes]
        dist.all_gather(every, sent, group=group)
        rows = [part[:size] for part, size in zip(every, sizes, strict=True)]
        return torch.cat(rows).to(x.dtype)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        return apply(_SumOfOwn, gradient, ctx.sizes, ctx.group), None, None


class _SumOfOwn(torch.autograd.Function):
    """The transpose of :class:`_Gather`: (sum of all B, ...) -> (B, ...).

    Each rank holds gradients of all rows; a rank gets the sum over ranks of those of its own rows.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, sizes: list[int], group: Any) -> Tensor:
        ctx.sizes, ctx.group = sizes, group
        most, rank = max(sizes), dist.get_rank(group)
        # reduce_scatter_tensor needs equal shares: each rank's part is padded as in _Gather.
        sent = torch.cat([_padded(part, most) for part in torch.split(x, sizes)])  # (W most, ...)
        own = sent.new_empty(most, *x.shape[1:])
        dist.reduce_scatter_tensor(own, sent, group=group)
        return own[: sizes[rank]]

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        return apply(_Gather, gradient, ctx.sizes, ctx.group), None, None


class _Total(torch.autograd.Function):
    """The sum over ranks, which is its own transpose."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, group: Any) -> Tensor:
        ctx.group = group
        # all_reduce works in place, so on a copy.
        summed = x.detach().clone(memory_format=torch.contiguous_format)
        dist.all_reduce(summed, group=group)
        return summed

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return apply(_Total, gradient, ctx.group), None


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


def _total_of(x: Tensor, group: str) -> Tensor:
    return apply(_Total, x.detach(), named(group))


# Under a compiler, to which a collective in place would be the end of a graph.
_total_by_name: Any = torch.library.custom_op("mmcontrast::total", _total_of, mutates_args=())
_total_by_name.register_fake(lambda x, group: torch.empty_like(x))
_total_by_name.register_autograd(
    lambda ctx, upstream: (_total_by_name(upstream, ctx.group), None),
    setup_context=lambda ctx, inputs, output: setattr(ctx, "group", inputs[1]),
)
