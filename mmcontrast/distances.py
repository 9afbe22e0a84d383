"""Distances between rows; any callable (..., D), (..., D) -> (...) can take their place.

They are accurate from the smallest to the largest float, whatever the squares of the entries do. A
distance beyond the largest float is the largest float; its gradient stays right.
"""

import math
from collections.abc import Callable
from contextlib import nullcontext

import torch
from torch import Tensor

from mmcontrast import arguments
from mmcontrast.eager import full_precision, is_eager, known_finite
from mmcontrast.rows import SHORTEST, capped, l2_normalize, ordinary_scale, summable_scale, upcast

Distance = Callable[[Tensor, Tensor], Tensor]

MEASURES = "a function of rows, (..., D), (..., D) -> (...), such as cosine_distance"
"""What a distance is, as errors say it."""


def euclidean(x: Tensor, y: Tensor) -> Tensor:
    r"""Euclidean distance :math:`\|x - y\|_2`; its gradient at distance 0 is 0.

    Args:
        x: (..., D).
        y: (..., D).

    Returns:
        (...) in float32, or float64 for float64 input.

    Raises:
        ValueError: on shapes or dtypes that disagree, as in every distance here.

    Example:
        >>> euclidean(torch.tensor([3.0, 0.0]), torch.tensor([0.0, 4.0]))
        tensor(5.)

    References: CorMulT, arXiv:2407.07046, section 4.3, as the other distances of this file.
    """
    return of_difference(length, x, y)


def squared_euclidean(x: Tensor, y: Tensor) -> Tensor:
    r"""Squared Euclidean distance :math:`\|x - y\|_2^2`.

    Args:
        x: (..., D).
        y: (..., D).

    Returns:
        (...) in float32, or float64 for float64 input.

    Example:
        >>> squared_euclidean(torch.tensor([3.0, 0.0]), torch.tensor([0.0, 4.0]))
        tensor(25.)
    """
    x, y = _checked_rows(x, y)
    apart = x - y
    found = apart.square().sum(-1)
    if known_finite(found):
        return found
    # Where the sum overflows, it is the largest float and a 0 that has its gradient, 2 (x - y).
    most = torch.finfo(x.dtype).max
    beyond = found.detach() == math.inf
    ordinary = torch.where(beyond[..., None], 0, apart).square().sum(-1)
    zero = (x - x.detach()) - (y - y.detach())
    eighth = x / 8 - y / 8  # which cannot overflow
    return torch.where(beyond, most + (8 * zero * (eighth + eighth.detach())).sum(-1), ordinary)


def manhattan(x: Tensor, y: Tensor) -> Tensor:
    r"""Manhattan distance :math:`\sum_k |x_k - y_k|`; its gradient at distance 0 is 0.

    Args:
        x: (..., D).
        y: (..., D).

    Returns:
        (...) in float32, or float64 for float64 input.

    Example:
        >>> manhattan(torch.tensor([3.0, 0.0]), torch.tensor([0.0, 4.0]))
        tensor(7.)
    """
    return of_difference(lambda apart: apart.abs().sum(-1), x, y)


def chebyshev(x: Tensor, y: Tensor) -> Tensor:
    r"""Chebyshev distance :math:`\max_k |x_k - y_k|`; its gradient at distance 0 is 0.

    Args:
        x: (..., D).
        y: (..., D).

    Returns:
        (...) in float32, or float64 for float64 input.

    Example:
        >>> chebyshev(torch.tensor([3.0, 0.0]), torch.tensor([0.0, 4.0]))
        tensor(4.)
    """
    return of_difference(lambda apart: apart.abs().amax(-1), x, y)


def cosine_distance(x: Tensor, y: Tensor) -> Tensor:
    r"""Cosine distance :math:`1 - \cos(x, y)`, from 0 to 2.

    A zero row has no direction: its cosine with anything is 0, its distance 1, and its gradient 0.
    It is not a metric: of rows at 0, 45 and 90 degrees, the outer ones are 1 apart, but each is
    only 0.29 from the middle one.

    Args:
        x: (..., D).
        y: (..., D).

    Returns:
        (...) in float32, or float64 for float64 input.

    Example:
        >>> cosine_distance(torch.tensor([3.0, 0.0]), torch.tensor([[1.0, 0.0], [0.0, 4.0]]))
        tensor([0., 1.])
    """
    x, y = _checked_rows(x, y)
    x, y = l2_normalize(x), l2_normalize(y)
    # Half the squared distance of unit rows equals 1 - cos, and keeps its digits for close rows.
    apart = (x - y).square().sum(-1) / 2
    undirected = (x == 0).all(-1) | (y == 0).all(-1)
    return within(torch.where(undirected, 1, apart), 0, 2)


WITHOUT_PARAMETERS = (euclidean, squared_euclidean, manhattan, chebyshev, cosine_distance)
"""The distances above: nothing but their arguments has a gradient."""


def measured(distance: Distance, x: Tensor, y: Tensor, expected: str | None = None) -> Tensor:
    """The distance of two rows of float32 or float64 outside autocast, which would round them.

    Of rows in low precision as they are: a user's distance may need autocast, to multiply them with
    its float32 parameters. ``expected`` says in the error what it should return.
    """
    with full_precision(x) if upcast(x) is x else nullcontext():
        found = arguments.called("distance", distance, MEASURES, x, y)
    if not isinstance(found, Tensor) or found.shape != x.shape[:-1]:
        expected = expected or f"shape {arguments.shape(x[..., 0])} from it"
        arguments.fail("distance", expected, arguments.shown(found))
    return found


def within(x: Tensor, low: float, high: float) -> Tensor:
    """Clamp what rounding put beyond a bound; the gradient is the identity."""
    return x - (x - x.clamp(low, high)).detach()


def _checked_rows(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Two floating (..., D) tensors with leading axes that broadcast, upcast."""
    arguments.floating_rows("x", x)
    arguments.floating_rows("y", y)
    if x.shape != y.shape:
        axes = zip(reversed(x.shape[:-1]), reversed(y.shape[:-1]), strict=False)
        if x.shape[-1] != y.shape[-1] or any(a != b and 1 not in (a, b) for a, b in axes):
            arguments.fail("y", f"a shape like x's, {arguments.shape(x)}", arguments.shape(y))
    return upcast(x), upcast(y)


def checked_distance(distance: object) -> None:
    """A callable of two arguments."""
    arguments.accepting("distance", distance, MEASURES, 2)


def of_difference(measure: Callable[[Tensor], Tensor], x: Tensor, y: Tensor) -> Tensor:
    """A measure of x - y, upcast, of two floating (..., D) with leading axes that broadcast.

    Args:
        measure: (..., D) -> (...), at least 0, which doubles where its argument does.
        x, y: (..., D).
    """
    x, y = _checked_rows(x, y)
    found = measure(x - y)
    if known_finite(found):
        return found
    # Large rows are made small before they are subtracted, and their differences ordinary after.
    largest = torch.maximum(*(z.detach().abs().amax(-1, keepdim=True) for z in (x, y)))
    first = summable_scale(largest)
    apart = x * first - y * first
    second = ordinary_scale(apart.detach().abs().amax(-1, keepdim=True))
    return _divided(measure(apart * second), (first * second)[..., 0])


def length(x: Tensor) -> Tensor:
    """Euclidean length of rows, with derivatives of 0 at zero, where a norm's second one is NaN."""
    found: Tensor = torch.linalg.vector_norm(x, dim=-1)
    if found.is_cpu and is_eager(found) and found.numel() > 0:
        shortest, longest = torch.aminmax(found.detach())
        if shortest.item() > SHORTEST and longest.item() < math.inf:
            return found
    largest = x.detach().abs().amax(-1)
    scale, nonzero = ordinary_scale(largest), largest > 0
    ordinary = torch.where(nonzero[..., None], x * scale[..., None], 1)
    found = torch.where(nonzero, torch.linalg.vector_norm(ordinary, dim=-1), 0)
    return _divided(found, scale)


def _divided(x: Tensor, scale: Tensor) -> Tensor:
    """x / scale, at most the largest float."""
    return capped(x, torch.finfo(x.dtype).max * scale) / scale
