"""Row maps: a similarity is a row map followed by a dot product."""

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from mmcontrast.eager import apply_to_several, full_precision, is_eager

RowMap = Callable[[Tensor], Tensor]

SHORTEST = 1e-12
"""The length of a row from which on the sum of its squares has all its digits in float32."""


def upcast(x: Tensor) -> Tensor:
    """The precision every value is computed in: float64 stays, all else becomes float32."""
    return x if x.dtype == torch.float64 else x.float()


def l2_normalize(x: Tensor) -> Tensor:
    r"""Scale each row to length one; a zero row stays zero, with zero gradient, in every dtype.

    .. math:: x / \|x\|_2

    Exact from the smallest to the largest float: rows of such lengths are divided by their largest
    entry first, so that no square under- or overflows.

    Args:
        x: (..., D), any floating dtype.

    Returns:
        (..., D) in float32, or float64 for float64 input.

    Example:
        >>> l2_normalize(torch.tensor([[3.0, 4.0], [0.0, 0.0]]))
        tensor([[0.6000, 0.8000],
                [0.0000, 0.0000]])
    """
    x = upcast(x)
    # Lengths may be read here and now: elsewhere that would wait for the device.
    if x.device.type == "cpu" and x.numel() > 0 and is_eager(x):
        unit, length = apply_to_several(_Unit, x)
        shortest, longest = torch.aminmax(length.detach())
        if float(shortest) > SHORTEST and float(longest) < math.inf:
            return unit
    largest = x.detach().abs().amax(-1, keepdim=True)
    nonzero = largest > 0
    # The result does not depend on the scale, so its derivatives are right with a constant scale.
    x = x / torch.where(nonzero, largest, 1)
    squares = x.square().sum(-1, keepdim=True)
    return x * torch.where(nonzero, squares, 1).rsqrt() * nonzero


class _Unit(torch.autograd.Function):
    """Rows over their lengths, and the lengths, where no square under- or overflows.

    The backward pass is made of both results, so that it can be differentiated itself.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> tuple[Tensor, Tensor]:
        length = x.square().sum(-1, keepdim=True).sqrt_()  # in pairs, unlike vector_norm
        unit = x / length
        ctx.save_for_backward(unit, length)
        ctx.set_materialize_grads(False)
        return unit, length

    @staticmethod
    def backward(ctx: Any, upstream: Tensor | None, by_length: Tensor | None) -> Tensor | None:
        unit, length = ctx.saved_tensors
        gradient: Tensor | None = None if by_length is None else unit * by_length
        if upstream is None:
            return gradient
        along = (upstream * unit).sum(-1, keepdim=True)
        across: Tensor = torch.addcmul(upstream, unit, along, value=-1) / length
        return across if gradient is None else across + gradient


def softmax_normalize(x: Tensor) -> Tensor:
    """HyCon's row map: a softmax over the features, so that dot products lie in (0, 1].

    Args:
        x: (..., D), any floating dtype.

    Returns:
        (..., D) positive rows that sum to one, in float32, or float64 for float64 input.

    Example:
        >>> softmax_normalize(torch.zeros(1, 4))
        tensor([[0.2500, 0.2500, 0.2500, 0.2500]])

    References: HyCon, IEEE TAFFC 14(3), section 3.3.1.
    """
    return upcast(x).softmax(-1)


def shifted_cosine_normalize(x: Tensor) -> Tensor:
    """The row map whose dot product is ``(1 + cos) / 2``, a cosine moved to [0, 1].

    Args:
        x: (..., D), any floating dtype.

    Returns:
        (..., D + 1) in float32, or float64 for float64 input.

    Example:
        >>> x = shifted_cosine_normalize(torch.tensor([[1.0, 0.0], [-2.0, 0.0]]))
        >>> x @ x.T
        tensor([[1.0000, 0.0000],
                [0.0000, 1.0000]])
    """
    x = l2_normalize(x)
    moved: Tensor = torch.cat([x, torch.ones_like(x[..., :1])], dim=-1) * 0.5**0.5
    return moved


def softplus_normalize(x: Tensor) -> Tensor:
    """Softplus, then length one: rows with positive entries, so that cosines lie in (0, 1].

    Args:
        x: (..., D), any floating dtype.

    Returns:
        (..., D) in float32, or float64 for float64 input.

    Example:
        >>> softplus_normalize(torch.zeros(1, 4))
        tensor([[0.5000, 0.5000, 0.5000, 0.5000]])
    """
    positive: Tensor = F.softplus(upcast(x))
    return l2_normalize(positive)


def map_rows(x: Tensor, normalize: RowMap | None) -> Tensor:
    """Apply a row map at full precision; None leaves the rows as they are."""
    x = upcast(x)
    return x if normalize is None else upcast(normalize(x))


def dot(x: Tensor, y: Tensor) -> Tensor:
    """Dot products (..., B, D), (..., C, D) -> (..., B, C) of all rows, out of autocast's reach.

    Autocast would round the rows to 8 or 11 bits here, and at a temperature of 0.01 a cosine that
    is off by 0.002 moves a logit by 0.2.
    """
    if x.dtype != y.dtype:
        dtype = torch.promote_types(x.dtype, y.dtype)
        x, y = x.to(dtype), y.to(dtype)
    with full_precision(x):
        return x @ y.mT
