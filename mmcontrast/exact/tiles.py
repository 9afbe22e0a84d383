"""Exact contrast of large batches: matrices of logits in tiles, none of them ever stored whole.

A tile of logits is made, used and dropped, and made again where the gradient needs it, so that
memory is O(B D) and not O(B C). These functions exclude what needs the whole graph: compilation,
functional transforms and forward mode, for which ``is_eager`` says no and the callers take the
plain path. A second derivative is not excluded: a backward pass that is itself to be
differentiated (``create_graph=True``) differentiates the plain form, in memory of O(B C).

References: the tiles, Inf-CL, arXiv:2410.17243; gradients in the forward pass, Cut Your Losses,
arXiv:2411.09009.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from mmcontrast import arguments
from mmcontrast.eager import apply, full_precision, is_eager
from mmcontrast.rows import RowMap, map_rows

TILE = 512  # rows and columns of a tile: a megabyte of float32, which the second-level cache holds
WIDE = (2 * TILE, TILE // 2)  # a tile of that size whose products are faster than a square one's
BLOCK = 2**20  # entries of a block of whole rows: 4 MB of float32, which the third level holds
LEAST = 2**15  # entries of a whole matrix below which making it in parts does not pay
SMALL = 2**16  # entries of a matrix whose passes through memory take no longer than their calls
LOG2_E = 1 / math.log(2)  # exp2 takes a quarter of exp's time here: logits are kept in octaves

Evaluation = Callable[..., tuple[Tensor, list[Tensor | None]]]


# --- which path ----------------------------------------------------------------------------------


def step(rows: int, columns: int, chunk_size: int | None, *, side: int | None = None) -> int | None:
    """How many rows at a time, None for all at once.

    A ``chunk_size`` below the number of rows is taken as it is. Without one, small matrices are
    evaluated at once, and large ones in tiles of ``side`` or in blocks that fit the cache. What
    transforms or differentiates forwards sees all at once, and a compiler what it is told.
    """
    if chunk_size is not None:
        arguments.whole("chunk_size", chunk_size)
        split = is_eager() or torch.compiler.is_compiling()
        return chunk_size if split and chunk_size < rows and columns > 0 else None
    if rows * columns < LEAST or not is_eager():
        return None
    return side if side is not None else min(block(columns), TILE)


def small(x: Tensor, y: Tensor, chunk_size: int | None) -> bool:
    """Whether the matrix of these rows and columns may be made at once, and some copies of it."""
    rows, columns = x.shape[0], y.shape[0]
    at_a_time = step(rows, columns, chunk_size)
    at_once = at_a_time is None or at_a_time >= rows
    return at_once and 0 < rows * columns <= SMALL


def block(columns: int) -> int:
    """How many whole rows of a matrix fit the cache."""
    return max(BLOCK // max(columns, 1), 32)


def slices(size: int, step: int) -> Iterator[slice]:
    """The axis in pieces."""
    return (slice(i, min(i + step, size)) for i in range(0, size, step))


def piece(x: Tensor, i: slice) -> Tensor:
    """x[i], without an operation where that is all of x."""
    return x if i.stop - i.start == x.shape[0] else x[i]


def memory(x: Tensor, y: Tensor, sides: tuple[int, int]) -> Tensor:
    """Room for one tile of the products of the rows."""
    return x.new_empty(min(sides[0], len(x)) * min(sides[1], len(y)))


def tile(room: Tensor, rows: int, columns: int) -> Tensor:
    """A (rows, columns) part of some memory, used again and again: to allocate takes time too."""
    return room[: rows * columns].view(rows, columns)


def mapped(x: Tensor, normalize: RowMap | None, size: int) -> Tensor:
    """:func:`map_rows`, some rows at a time."""
    if normalize is None or len(x) <= size:
        return map_rows(x, normalize)
    return torch.cat([map_rows(rows, normalize) for rows in torch.split(x, size)])


def number(value: float | Tensor, like: Tensor) -> Tensor:
    """A 0-d tensor of the dtype of ``like``, with the graph that it has."""
    if isinstance(value, Tensor):
        return value.to(like.dtype)
    return torch.full((), value, dtype=like.dtype, device=like.device)


def lengths(x: Tensor) -> Tensor:
    """(B,) Euclidean lengths of the rows."""
    found: Tensor = torch.linalg.vector_norm(x, dim=1)
    return found


def by_temperature(x: Tensor, gx: Tensor, temperature: Tensor, step: int = TILE) -> Tensor:
    """The temperature's gradient: logits are x y / t, so it scales as x does, the other way."""
    parts = [x.new_zeros(()), *((x[i] * gx[i]).sum() for i in slices(len(x), step))]
    return (torch.stack(parts).sum() / -temperature).to(temperature.device)


def differentiate(
    value: Tensor, inputs: Sequence[Tensor], needed: Sequence[bool], upstream: Tensor
) -> list[Tensor | None]:
    """The gradients of the plain form, which can be differentiated again."""
    free = [x for x, wanted in zip(inputs, needed, strict=False) if wanted]
    found = iter(torch.autograd.grad(value, free, upstream, create_graph=True))
    return [next(found) if wanted else None for _, wanted in zip(inputs, needed, strict=False)]


# --- one pass ------------------------------------------------------------------------------------


def one_pass(
    evaluate: Evaluation,
    plain: Callable[..., Tensor],
    weight: Tensor | None,
    *inputs: Tensor,
) -> Tensor:
    """The losses of the anchors, summed up with weights, and their gradients in the same pass.

    Args:
        evaluate: takes the inputs, the weights or None, and for which inputs a gradient is wanted;
            gives the (B,) losses and the gradients of their weighted sum.
        plain: the differentiable form, inputs to (B,) losses.
        weight: (B,) what each loss counts for; None for the losses themselves, whose gradients
            take a second pass, when it is known what they count for.
        inputs: tensors with gradients.
    """
    return apply(_OnePass, evaluate, plain, torch.is_grad_enabled(), weight, *inputs)


class _OnePass(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        evaluate: Evaluation,
        plain: Callable[..., Tensor],
        recorded: bool,
        weight: Tensor | None,
        *inputs: Tensor,
    ) -> Tensor:
        ctx.evaluate, ctx.plain = evaluate, plain
        at_once = recorded and weight is not None
        needed = ctx.needs_input_grad[4:] if at_once else (False,) * len(inputs)
        with full_precision(inputs[0]):
            losses, found = evaluate(*inputs, weight, needed)
        weighing = weight is None or ctx.needs_input_grad[3]
        ctx.save_for_backward(weight, losses if weighing else None, *inputs, *found)
        return losses if weight is None else (losses * weight).sum()

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> Any:
        weight, losses, *rest = ctx.saved_tensors
        inputs, found = rest[: len(rest) // 2], rest[len(rest) // 2 :]
        needed = ctx.needs_input_grad[4:]
        if torch.is_grad_enabled():
            value = ctx.plain(*inputs)
            if weight is None:
                return *(None,) * 4, *differentiate(value, inputs, needed, upstream)
            value, needed = (value * weight).sum(), ctx.needs_input_grad[3:]
            return *(None,) * 3, *differentiate(value, [weight, *inputs], needed, upstream)
        if weight is None:
            with full_precision(inputs[0]):
                _, found = ctx.evaluate(*inputs, upstream, needed)
            return None, None, None, None, *found
        scaled = [None if gradient is None else gradient * upstream for gradient in found]
        by_weight = losses * upstream if ctx.needs_input_grad[3] else None
        return None, None, None, by_weight, *scaled
