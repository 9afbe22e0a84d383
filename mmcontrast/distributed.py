"""One batch over all ranks: rows gathered and numbers summed, with gradients.

Every function here is linear, and its backward pass is its transpose, taken over the ranks too: a
gradient is that of the sum of the ranks' losses. Their mean, which DistributedDataParallel takes of
the parameters' gradients, is then that of one process on the whole batch.
"""

from typing import TYPE_CHECKING, Any, Literal

import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn import functional as F

from mmcontrast.eager import apply

if TYPE_CHECKING:
    Group = dist.ProcessGroup | Literal["world"]
else:
    Group = Any  # a torch built without torch.distributed has no such class
"""A process group, or "world": the default one, looked up at the call."""

DTYPES = sorted({str(x) for x in vars(torch).values() if isinstance(x, torch.dtype)})


def gather(x: Tensor, group: Group | None = None) -> Tensor:
    """The rows of every rank, in the order of the ranks: in-batch losses then see the whole batch.

    Every rank may compute the loss of the whole batch from what it gets; the losses' own ``group=``
    shares that work among the ranks. The gradient that a rank's own rows receive is the sum over
    the ranks' losses, so that after the mean over ranks, which DistributedDataParallel takes,
    parameters have the gradient of one process on the whole batch.

    Args:
        x: (B, ...) the rows of this rank; B may differ by rank, the other sizes may not. Bool and
            integer tensors pass as well, without a gradient.
        group: the process group; None: the default one.

    Returns:
        (sum of all B, ...); ``x`` itself with one rank, or without a process group.

    Raises:
        ValueError: a 0-d tensor; ranks whose rows differ in shape or dtype.

    Example:
        >>> gather(torch.eye(2))  # no process group
        tensor([[1., 0.],
                [0., 1.]])

    Note:
        It waits for every rank, and reads the ranks' sizes on the host.
    """
    return joined(x, "world" if group is None else group)[0]


def active(group: Group | None) -> Any | None:
    """The process group to talk to; None where there is nobody else, or nobody else is asked."""
    if group is None:
        return None
    if not (group == "world" or (dist.is_available() and isinstance(group, dist.ProcessGroup))):
        expected = '"world" or a process group that this rank is in'
        raise ValueError(f"group: expected {expected}, got {group!r}")
    if not dist.is_available() or not dist.is_initialized():
        return None
    found = dist.group.WORLD if group == "world" else group
    return found if dist.get_world_size(found) > 1 else None


def rank_sizes(x: Tensor, group: Group | None) -> list[int]:
    """How many rows each rank has; every rank finds out alike where they do not fit together."""
    there = active(group)
    if there is None:
        return [len(x)]
    described = [len(x), DTYPES.index(str(x.dtype)), x.ndim, *x.shape[1:]][:16]
    mine = torch.tensor(described + [0] * (16 - len(described)), device=x.device)
    every = [torch.empty_like(mine) for _ in range(dist.get_world_size(there))]
    dist.all_gather(every, mine, group=there)
    rows = [row.tolist() for row in every]
    if any(row[1:] != rows[0][1:] for row in rows):
        found = [f"{DTYPES[row[1]]} of shape {(row[0], *row[3 : row[2] + 2])}" for row in rows]
        raise ValueError(f"x: expected rows of one shape and dtype on every rank, got {found}")
    return [row[0] for row in rows]


def joined(x: Tensor, group: Group | None, counts: list[int] | None = None) -> tuple[Tensor, slice]:
    """The rows of every rank, with gradients, and which of them are this rank's.

    ``counts`` are the :func:`rank_sizes`, where somebody knows them.
    """
    if x.ndim == 0:
        raise ValueError("x: expected rows, shape (B, ...), got a 0-d tensor")
    there = active(group)
    if there is None:
        return x, slice(0, len(x))
    counts = rank_sizes(x, there) if counts is None else counts
    start = sum(counts[: dist.get_rank(there)])
    return apply(_Gather, x, counts, there), slice(start, start + len(x))


def total(x: Tensor, group: Group | None) -> Tensor:
    """The sum over ranks, with gradients; the same on every rank."""
    there = active(group)
    return x if there is None else apply(_Total, x, there)


def _padded(x: Tensor, size: int) -> Tensor:
    return F.pad(x, (0, 0) * (x.ndim - 1) + (0, size - len(x)))


class _Gather(torch.autograd.Function):
    """All ranks' rows."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, sizes: list[int], group: Any) -> Tensor:
        ctx.sizes, ctx.group = sizes, group
        # Not every backend sends bool.
        sent = x.detach().to(torch.uint8) if x.dtype == torch.bool else x.detach()
        sent = _padded(sent, max(sizes)).contiguous()
        every = [torch.empty_like(sent) for _ in sizes]
        dist.all_gather(every, sent, group=group)
        rows = [part[:size] for part, size in zip(every, sizes, strict=True)]
        return torch.cat(rows).to(x.dtype)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        return apply(_SumOfOwn, gradient, ctx.sizes, ctx.group), None, None


class _SumOfOwn(torch.autograd.Function):
    """The transpose of that: the sum over ranks of what they have for this rank's rows."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, sizes: list[int], group: Any) -> Tensor:
        ctx.sizes, ctx.group = sizes, group
        most, rank = max(sizes), dist.get_rank(group)
        sent = torch.cat([_padded(part, most) for part in torch.split(x, sizes)])
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
        # A copy of its own: the sum is made in place.
        summed = x.detach().clone(memory_format=torch.contiguous_format)
        dist.all_reduce(summed, group=group)
        return summed

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return apply(_Total, gradient, ctx.group), None
