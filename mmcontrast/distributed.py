"""The rows of all ranks as one batch, with gradients."""

from typing import Any, cast

import torch
import torch.distributed as dist
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F


def gather(x: Tensor, group: Any = None) -> Tensor:
    """The rows of every rank, in the order of the ranks: in-batch losses then see the whole batch.

    Every rank computes the loss of the whole batch from what it gets. The gradient that a rank's
    own rows receive is the sum over the ranks' losses, so that after the mean over ranks, which
    DistributedDataParallel takes, parameters have the gradient of one process on the whole batch.

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
        It waits for every rank, and reads the ranks' sizes on the host. There is no second
        derivative through it.
    """
    if x.ndim == 0:
        raise ValueError("x: expected rows, shape (B, ...), got a 0-d tensor")
    if not dist.is_available() or not dist.is_initialized() or dist.get_world_size(group) == 1:
        return x
    return cast(Tensor, _Gather.apply(x, _sizes(x, group), group))  # type: ignore[no-untyped-call]


def _sizes(x: Tensor, group: Any) -> list[int]:
    """How many rows each rank has; every rank finds out alike where they do not fit together."""
    kinds = sorted(str(dtype) for dtype in torch.__dict__.values() if type(dtype) is torch.dtype)
    described = [len(x), kinds.index(str(x.dtype)), x.ndim, *x.shape[1:]][:16]
    mine = torch.tensor(described + [0] * (16 - len(described)), device=x.device)
    every = [torch.empty_like(mine) for _ in range(dist.get_world_size(group))]
    dist.all_gather(every, mine, group=group)
    rows = [row.tolist() for row in every]
    if any(row[1:] != rows[0][1:] for row in rows):
        found = [f"{kinds[row[1]]} of shape {(row[0], *row[3 : row[2] + 2])}" for row in rows]
        raise ValueError(f"x: expected rows of one shape and dtype on every rank, got {found}")
    return [row[0] for row in rows]


class _Gather(torch.autograd.Function):
    """All ranks' rows; backward, the sum over ranks of what these rows received."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, sizes: list[int], group: Any) -> Tensor:
        ctx.sizes, ctx.group = sizes, group
        most = max(sizes)
        # Not every backend sends bool.
        sent = x.detach().to(torch.uint8) if x.dtype == torch.bool else x.detach()
        padded = F.pad(sent, (0, 0) * (x.ndim - 1) + (0, most - len(x))).contiguous()
        every = [torch.empty_like(padded) for _ in sizes]
        dist.all_gather(every, padded, group=group)
        rows = [part[:size] for part, size in zip(every, sizes, strict=True)]
        return torch.cat(rows).to(x.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        total = grad.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total, group=ctx.group)
        rank = dist.get_rank(ctx.group)
        start = sum(ctx.sizes[:rank])
        return total[start : start + ctx.sizes[rank]], None, None
