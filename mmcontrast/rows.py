"""Row maps: a similarity is a row map followed by a dot product."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.compiler import is_compiling

from mmcontrast import arguments
from mmcontrast.eager import (
    apply,
    apply_to_several,
    full_precision,
    in_nested_forward_mode,
    is_eager,
    under_autocast,
)

MAPS = "a function of rows, (B, D) -> (B, E), or None for rows as they are"
"""What a row map is, as errors say it."""

RowMap = Callable[[Tensor], Tensor]

SHORTEST = 1e-12
"""Above this length of a row, the sum of its squares is accurate in float32: no underflow."""


def upcast(x: Tensor) -> Tensor:
    """Cast to the precision of all computations: float64 stays, all else becomes float32."""
    return x if x.dtype == torch.float64 else x.float()


def in_wider_dtype(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Both in the wider of their dtypes."""
    dtype = torch.promote_types(x.dtype, y.dtype)
    return x.to(dtype), y.to(dtype)


def exact_number(value: float | Tensor) -> float | Tensor:
    """A tensor in float32 at least: its reciprocal is exact, and its gradients add up in that."""
    return upcast(value) if isinstance(value, Tensor) else value


def l2_normalize(x: Tensor) -> Tensor:
    r"""Scale each row to length one; a zero row stays zero, with zero gradient, in every dtype.

    .. math:: x / \|x\|_2

    Accurate from the smallest to the largest float: where the squares of short or long rows could
    under- or overflow, rows are divided by their largest entry first. The gradient grows with
    1 / length; where no entry is above 2^-110 (2^-1000 in float64) it grows no further, so that it
    is finite.

    Args:
        x: (..., D), any floating dtype.

    Returns:
        (..., D) in float32, or float64 for float64 input.

    Example:
        >>> l2_normalize(torch.tensor([[3.0, 4.0], [0.0, 0.0]]))
        tensor([[0.6000, 0.8000],
                [0.0000, 0.0000]])
    """
    arguments.floating_rows("x", x)
    x = upcast(x)
    # Fast path, one autograd function without scaling, where all lengths turn out to be safe.
    # Only on the CPU: on other devices, reading the lengths would wait for the device.
    if x.device.type == "cpu" and x.numel() > 0 and is_eager(x):
        unit, length = apply_to_several(_Unit, x)
        shortest, longest = torch.aminmax(length.detach())
        if float(shortest) > SHORTEST and float(longest) < math.inf:
            return unit
        # Only the others are scaled: a row is the same, to the last digit, whatever is beside it.
        safe = (length.detach() > SHORTEST) & (length.detach() < math.inf)  # (..., 1)
        unit, _ = apply_to_several(_Unit, torch.where(safe, x, 1))
        others, flat = (~safe).flatten().nonzero()[:, 0], (-1, x.shape[-1])
        scaled = _scaled_unit(x.reshape(flat)[others])
        return unit.reshape(flat).index_copy(0, others, scaled).view(x.shape)
    return _scaled_unit(x)


def _scaled_unit(x: Tensor) -> Tensor:
    """:func:`l2_normalize` of rows of any length."""
    # Divided by their largest entry, rows have squares of at most 1 and a sum from 1 to D. The
    # result does not depend on this scale, so its derivatives are right with the scale detached.
    # Zero rows divide by 1 instead, and the factor nonzero makes their gradient zero.
    largest = x.detach().abs().amax(-1, keepdim=True)  # (..., 1)
    nonzero = largest > 0
    largest = torch.where(nonzero, largest, 1)
    # Rows without a larger entry have the gradient of rows with this one: their own may overflow.
    floor = largest.clamp_min(2.0**-110 if x.dtype == torch.float32 else 2.0**-1000)
    x = x / floor
    x = torch.addcmul(x, x.detach(), floor / largest - 1)  # the value is x / largest, if below too
    squares = x.square().sum(-1, keepdim=True)  # (..., 1)
    return x * torch.where(nonzero, squares, 1).rsqrt() * nonzero


class _Unit(torch.autograd.Function):
    r"""Rows divided by their lengths, and the lengths, where no square under- or overflows.

    With :math:`u = x / \|x\|`, the gradient of u is :math:`(g - (g \cdot u) u) / \|x\|`, the part
    of g across u, and that of the length is u. Both use the outputs only: the input is not saved,
    and the backward pass can be differentiated in turn.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> tuple[Tensor, Tensor]:
        # sum adds pairwise, which rounds less than vector_norm.
        length = x.square().sum(-1, keepdim=True).sqrt_()  # (..., 1)
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
        along = (upstream * unit).sum(-1, keepdim=True)  # (..., 1)
        across: Tensor = torch.addcmul(upstream, unit, along, value=-1) / length
        return across if gradient is None else across + gradient


def softmax_normalize(x: Tensor) -> Tensor:
    """HyCon's row map: a softmax over the features, so that dot products lie in (0, 1].

    In floats they may round to 0, between rows that are one-hot in different features.

    Args:
        x: (..., D), any floating dtype.

    Returns:
        (..., D) positive rows that sum to one, in float32, or float64 for float64 input.

    Example:
        >>> softmax_normalize(torch.zeros(1, 4))
        tensor([[0.2500, 0.2500, 0.2500, 0.2500]])

    References: HyCon, IEEE TAFFC 14(3), section 3.3.1.
    """
    arguments.floating_rows("x", x)
    return upcast(x).softmax(-1)


def shifted_cosine_normalize(x: Tensor) -> Tensor:
    """The row map with dot product ``(1 + cos) / 2``, a cosine shifted to [0, 1].

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
    """Softplus, then unit length: positive rows, so that cosines lie in (0, 1], up to rounding.

    Args:
        x: (..., D), any floating dtype.

    Returns:
        (..., D) in float32, or float64 for float64 input.

    Example:
        >>> softplus_normalize(torch.zeros(1, 4))
        tensor([[0.5000, 0.5000, 0.5000, 0.5000]])
    """
    arguments.floating_rows("x", x)
    x = upcast(x)
    # Where all of a row lies below -64, softplus(x) = e^x to the last digit even of a float64, and
    # the row's length does not matter: so its exponentials are divided by the largest one, without
    # which they and their derivatives would underflow; detached, as in l2_normalize.
    highest = x.detach().amax(-1, keepdim=True)  # (..., 1)
    low = (x - highest).exp()
    # torch's softplus rounds an entry by its place in the tensor, so that equal rows would differ;
    # exp and log1p do not. Above 40 it is x to the last digit of a float64.
    plain = torch.where(x > 40, x, x.clamp(max=40).exp().log1p())
    return l2_normalize(torch.where(highest < -64, low, plain))


ROW_MAPS = (l2_normalize, softmax_normalize, shifted_cosine_normalize, softplus_normalize)

POSITIVE_MAPS = (softmax_normalize, shifted_cosine_normalize, softplus_normalize)
"""Those whose dot products are at least 0, but for rounding."""


def ordinary_scale(largest: Tensor) -> Tensor:
    """Powers of two that make numbers of these sizes ordinary: their squares are in range.

    1 where they are ordinary already, so that results keep every bit; and no gradient, because a
    power of two is multiplied and divided by without rounding.

    Args:
        largest: of the absolute values of some numbers.

    Example:
        >>> ordinary_scale(torch.tensor([3e38, 1.0, 1e-45])).log2()
        tensor([-90.,   0.,  90.])
    """
    limit, factor = _ordinary_bounds(largest.dtype)
    small, large = largest < 1 / limit, largest > limit
    return torch.ones_like(largest).masked_fill(small, factor).masked_fill(large, 1 / factor)


def are_ordinary(x: Tensor) -> bool:
    """Whether the :func:`ordinary_scale` of the largest of some numbers is 1; reads the device."""
    largest, (limit, _) = float(x.detach().abs().amax()), _ordinary_bounds(x.dtype)
    return not (largest < 1 / limit or largest > limit)


def _ordinary_bounds(dtype: torch.dtype) -> tuple[float, float]:
    """The largest ordinary number, one over the smallest; and what makes others ordinary."""
    # Half of the exponents, less some room for sums: 2^-40 to 2^40 in float32.
    exponents = round(math.log2(torch.finfo(dtype).max))
    return 2.0 ** (exponents * 5 // 16), 2.0 ** (exponents * 45 // 64)


def summable_scale(largest: Tensor) -> Tensor:
    """2^-30 where numbers of these sizes could overflow when some are added, else 1; no gradient.

    Args:
        largest: of the absolute values of some numbers.
    """
    limit = torch.finfo(largest.dtype).max ** 0.75
    return torch.ones_like(largest).masked_fill(largest > limit, 2.0**-30)


def capped(x: Tensor, most: float | Tensor) -> Tensor:
    """x with finite absolute values of at most ``most``; the gradient is the identity.

    Infinity stays: numbers that only leave the range of a dtype come here while they are finite.
    """
    beyond = (x.abs() > most) & x.isfinite()
    return torch.where(beyond, (x.sign() * most).detach() + (x - x.detach()), x)


def checked_map(normalize: object) -> None:
    """A row map, or None."""
    if normalize is not None:
        arguments.function("normalize", normalize, MAPS)


def map_rows(x: Tensor, normalize: RowMap | None) -> Tensor:
    """Apply a row map at full precision; None leaves the rows as they are.

    Autocast is off in it. In the backward pass, autocast reaches the products of a map that is not
    one of the above.
    """
    x = upcast(x)
    if normalize is None:
        return x
    with full_precision(x):
        found = arguments.called("normalize", normalize, MAPS, x)
    if not isinstance(found, Tensor) or found.shape[:-1] != x.shape[:-1]:
        arguments.fail("normalize", f"{MAPS}, one row for each", arguments.shown(found))
    return upcast(found)


def dot(x: Tensor, y: Tensor) -> Tensor:
    """Dot products of all rows, (..., B, D), (..., C, D) -> (..., B, C), untouched by autocast.

    Autocast would round the rows to 8 or 11 bits, and at a temperature of 0.01 an error of 0.002 in
    a cosine changes a logit by 0.2. Derivatives of any order are untouched by it as well.
    """
    if x.dtype != y.dtype:
        x, y = in_wider_dtype(x, y)
    if not torch.is_grad_enabled():
        return _product(x, y)
    eager, compiled = is_eager(), is_compiling()
    # Eager tensors may meet autocast later, in `backward()`. Compiled ones know it already: their
    # backward pass is made together with the forward one, under the same autocast.
    wanted = x.requires_grad or y.requires_grad if eager or compiled else True
    if not wanted or (compiled and not under_autocast(x)):
        return _product(x, y)
    if x.ndim > 2 == y.ndim:  # one matrix product, and no gradient of y for each matrix of x
        return dot(x.flatten(0, -2), y).view(*x.shape[:-1], y.shape[0])
    if eager or compiled:
        # A compiler traces no function of one tensor twice.
        return apply(_Dot, x, y.view_as(y) if compiled and y is x else y)
    # PyTorch takes no tangents of a function's own tangents.
    return _product(x, y) if in_nested_forward_mode() else apply(_TransformedDot, x, y)


def _product(x: Tensor, y: Tensor) -> Tensor:
    with full_precision(x):
        return x @ y.mT


class _Dot(torch.autograd.Function):
    """Dot products, and as their gradients dot products, so that this holds for all derivatives.

    PyTorch's own gradients are products under the autocast in which ``backward()`` is called.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, y: Tensor) -> Tensor:
        ctx.save_for_backward(x, y)
        return _product(x, y)

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, Tensor | None]:
        x, y = ctx.saved_tensors
        by_x, by_y = ctx.needs_input_grad
        return (
            dot(upstream, y.mT) if by_x else None,  # (..., B, D)
            dot(upstream.mT, x.mT) if by_y else None,  # (..., C, D)
        )


class _TransformedDot(_Dot):
    """The same for ``torch.func`` and forward mode, with more overhead."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, y: Tensor) -> Tensor:  # type: ignore[override]  # as setup_context asks
        return _product(x, y)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)
        ctx.save_for_forward(*inputs)

    @staticmethod
    def jvp(ctx: Any, x_tangent: Tensor, y_tangent: Tensor) -> Tensor:
        x, y = ctx.saved_tensors
        return dot(x_tangent, y) + dot(x, y_tangent)
