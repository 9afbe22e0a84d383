"""What ranks exchange: rows, with gradients, and descriptions of them, which have to agree.

Each exchange with gradients is linear in the inputs of all ranks together, and its backward pass is
the transpose of that linear map:

    gather rows          <->  sum over ranks, each rank keeping its own rows (reduce-scatter)
    sum over all ranks   <->  itself

A compiler's graph would end at a collective in place, and at the sizes of other ranks' rows, which
only a run can tell. So there each exchange is an operator that takes the group by name. How many
rows come back is a size that the compiler leaves open.
"""

import hashlib
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch._library.effects import EffectType
from torch.nn import functional as F

from mmcontrast.eager import TAGS, apply

# The name of torch 2.13, and the one before; a torch built without torch.distributed has neither.
_reduce_scatter: Any = getattr(
    dist, "reduce_scatter_single", getattr(dist, "reduce_scatter_tensor", None)
)

DTYPES = sorted({str(x) for x in vars(torch).values() if isinstance(x, torch.dtype)})


def named(name: str) -> Any | None:
    """The process group of that name; None for the empty one."""
    c10d: Any = dist.distributed_c10d
    return c10d._resolve_process_group(name) if name else None


def exchange_sizes(x: Tensor, group: Any) -> list[int]:
    """The number of rows of each rank.

    Every rank gets every other's dtype and shape, so where these disagree all ranks raise the same
    error, and none is left waiting in a collective.
    """
    # Rows, dtype, ndim and sizes as a vector of one length, because all_gather takes equal shapes.
    described = [x.shape[0], DTYPES.index(str(x.dtype)), x.ndim, *x.shape[1:]][:16]
    mine = torch.tensor(described + [0] * (16 - len(described)), device=x.device)
    every = [torch.empty_like(mine) for _ in range(dist.get_world_size(group))]
    dist.all_gather(every, mine, group=group)
    rows = [row.tolist() for row in every]
    if any(row[1:] != rows[0][1:] for row in rows):
        found = [f"{DTYPES[row[1]]} of shape {(row[0], *row[3 : row[2] + 2])}" for row in rows]
        raise ValueError(f"x: expected rows of one shape and dtype on every rank, got {found}")
    return [row[0] for row in rows]


def exchange_names(argument: str, names: str, group: Any) -> None:
    """Refuse what is called otherwise on another rank. One number of each rank is exchanged."""
    # There may be no tensor to take the device from, so it is one that the backend sends.
    kind = str(dist.get_backend(group))
    on_host = "gloo" in kind or kind in ("mpi", "undefined")
    device = "cpu" if on_host else torch.accelerator.current_accelerator(check_available=True)
    # Python's own hash differs from process to process.
    digest = hashlib.sha256(names.encode()).digest()[:8]
    mine = torch.tensor([int.from_bytes(digest, "big", signed=True)], device=device)
    every = [torch.empty_like(mine) for _ in range(dist.get_world_size(group))]
    dist.all_gather(every, mine, group=group)
    if len(set(torch.cat(every).tolist())) == 1:
        return
    texts: list[Any] = [None] * len(every)
    dist.all_gather_object(texts, names, group=group)
    firsts = [f"{text} on rank {k}" for k, text in enumerate(texts) if text not in texts[:k]]
    expected = "the same names in the same order on every rank"
    raise ValueError(f"{argument}: expected {expected}, got {', '.join(firsts)}")


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
        # reduce_scatter needs equal shares: each rank's part is padded as in _Gather.
        sent = torch.cat([_padded(part, most) for part in torch.split(x, sizes)])  # (W most, ...)
        own = sent.new_empty(most, *x.shape[1:])
        _reduce_scatter(own, sent, group=group)
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


def all_rows(x: Tensor, sizes: list[int], group: Any) -> Tensor:
    """The rows of every rank, which are so many each, with gradients."""
    return apply(_Gather, x, sizes, group)


def sum_over_ranks(x: Tensor, group: Any) -> Tensor:
    """With gradients; the same on every rank."""
    return apply(_Total, x, group)


def first_ranks_orders(number: int, size: int, group: Any, device: Any, generator: Any) -> Tensor:
    """(number, size) int64, so many random orders of 0, ..., size - 1: the first rank's, on all.

    Every rank draws, so that its random numbers go on as the first one's do.
    """
    drawn = [torch.randperm(size, generator=generator, device=device) for _ in range(number)]
    orders = torch.stack(drawn)
    if group is not None:
        dist.broadcast(orders, group_src=0, group=group)
    return orders


def _padded(x: Tensor, size: int) -> Tensor:
    """(B, ...) -> (size, ...) with zero rows at the end."""
    return F.pad(x, (0, 0) * (x.ndim - 1) + (0, size - len(x)))


# --- under a compiler ----------------------------------------------------------------------------


def _exchange(schema: str, body: Any, shapes: Any) -> Any:
    """An operator that exchanges something; compilers keep all of these, in the order of the code.

    Every rank has to come to the same exchanges in the same order, also where a compiler sees no
    use for a result, or would rather have another one first.
    """
    name, _, types = schema.partition("(")
    made: Any = torch.library.custom_op(
        f"mmcontrast::{name}", body, mutates_args=(), schema=f"({types}", tags=TAGS
    )
    made.register_fake(shapes)
    made.register_effect(EffectType.ORDERED)
    return made


agree_by_name = _exchange(
    "agree(str argument, str names, str group) -> ()",
    lambda argument, names, group: exchange_names(argument, names, named(group)),
    lambda argument, names, group: None,
)
""":func:`exchange_names` in a group, by its name."""

orders_by_name = _exchange(
    "orders(int number, SymInt size, Device device, str group) -> Tensor",
    lambda number, size, device, group: first_ranks_orders(
        number, size, named(group), device, None
    ),
    lambda number, size, device, group: torch.empty(number, size, dtype=torch.int64, device=device),
)
""":func:`first_ranks_orders` of torch's own random numbers, in a group, by its name."""

total_by_name = _exchange(
    "total(Tensor x, str group) -> Tensor",
    lambda x, group: sum_over_ranks(x.detach(), named(group)),
    lambda x, group: x.new_empty(x.shape),
)
"""The sum over the ranks of a group, by its name, with gradients."""

total_by_name.register_autograd(
    lambda ctx, upstream: (total_by_name(upstream, ctx.group), None),
    setup_context=lambda ctx, inputs, output: setattr(ctx, "group", inputs[1]),
)


def _gathered(x: Tensor, group: str, size: int | None) -> tuple[Tensor, int, Tensor]:
    ranks: Any = named(group)
    counts = exchange_sizes(x, ranks)
    if size not in (None, sum(counts)):
        raise ValueError(f"x: expected {size} rows on all ranks, got {sum(counts)}")
    rows = all_rows(x.detach(), counts, ranks)
    return rows, sum(counts[: dist.get_rank(ranks)]), torch.tensor(counts)


def _gathered_shapes(x: Tensor, group: str, size: Any) -> tuple[Tensor, Any, Tensor]:
    context = torch.library.get_ctx()
    size = context.new_dynamic_size() if size is None else size
    start = context.new_dynamic_size()
    torch._check(start + x.shape[0] <= size)  # type: ignore[no-untyped-call]  # torch's has no types
    world = dist.get_world_size(named(group))
    return x.new_empty(size, *x.shape[1:]), start, torch.empty(world, dtype=torch.int64)


def _keep_sizes(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    ctx.size, ctx.group = inputs[0].shape[0], inputs[1]
    ctx.save_for_backward(output[2])


gather_by_name = _exchange(
    "gather(Tensor x, str group, SymInt? size) -> (Tensor, SymInt, Tensor)",
    _gathered,
    _gathered_shapes,
)
"""The rows of every rank; where this rank's begin; and the ranks' numbers of rows, on the host."""

_sum_of_own_by_name = _exchange(
    "sum_of_own(Tensor x, SymInt size, Tensor counts, str group) -> Tensor",
    lambda x, size, counts, group: apply(_SumOfOwn, x.detach(), counts.tolist(), named(group)),
    lambda x, size, counts, group: x.new_empty(size, *x.shape[1:]),
)

gather_by_name.register_autograd(
    lambda ctx, upstream, *_: (
        _sum_of_own_by_name(upstream, ctx.size, *ctx.saved_tensors, ctx.group),
        None,
        None,
    ),
    setup_context=_keep_sizes,
)
_sum_of_own_by_name.register_autograd(
    lambda ctx, upstream: (gather_by_name(upstream, ctx.group, None)[0], None, None, None),
    setup_context=lambda ctx, inputs, output: setattr(ctx, "group", inputs[3]),
)
