"""All distances between two sets of rows."""

import math

import torch
from torch import Tensor

from mmcontrast import arguments
from mmcontrast.distances import (
    Distance,
    chebyshev,
    cosine_distance,
    euclidean,
    manhattan,
    measured,
    squared_euclidean,
    within,
)
from mmcontrast.eager import is_eager
from mmcontrast.mahalanobis import Mahalanobis
from mmcontrast.rows import dot, in_wider_dtype, l2_normalize, ordinary_scale, upcast
from mmcontrast.sharded import local_rows

ORDERS = {manhattan: 1.0, chebyshev: math.inf}
"""Distances that no matrix product gives: the order of their norm."""


@local_rows
def pairwise(distance: Distance, x: Tensor, y: Tensor) -> Tensor:
    """All distances between two sets of rows.

    The package's own distances are computed without an (N, M, D) copy. Equal rows have a distance
    of exactly 0; in the cosine and the Mahalanobis distance, of 0 up to rounding. Any other
    callable is called on (N, M, D) views.

    Rows so large or small that squares of their entries are out of range, as far as values can be
    read, take the views too. All but the cosine distance use ``torch.cdist``, which has no second
    derivative before torch 2.15. Wrapped in a lambda, a distance counts as any other callable, and
    has one.

    Args:
        distance: one of them, or a callable (..., D), (..., D) -> (...).
        x: (N, D).
        y: (M, D).

    Returns:
        (N, M) in float32, or float64 for float64 input.

    Raises:
        ValueError: on shapes or dtypes that disagree, or a callable that returns another shape.

    Example:
        >>> pairwise(euclidean, torch.tensor([[0.0], [3.0]]), torch.tensor([[0.0], [1.0]]))
        tensor([[0., 1.],
                [3., 2.]])
    """
    arguments.matrix("x", x)
    arguments.matrix("y", y, like=x)
    x, y = upcast(x), upcast(y)
    x, y = in_wider_dtype(x, y)
    if distance is cosine_distance:
        return within(1 - dot(l2_normalize(x), l2_normalize(y)), 0, 2)
    quick = _without_copies(distance, x, y) if _ordinary(x, y) else None
    if quick is not None:
        return quick
    size = (x.shape[0], y.shape[0])
    rows, columns = x[:, None].expand(*size, -1), y.expand(*size, -1)
    return measured(distance, rows, columns, f"(N, M, D), (N, M, D) -> {size}")


def _without_copies(distance: Distance, x: Tensor, y: Tensor) -> Tensor | None:
    """The package's own distances without an (N, M, D) copy; None for others."""
    if distance is euclidean:
        return _cdist(x, y, 2)
    if distance is squared_euclidean:
        return _cdist(x, y, 2).square()
    for norm, order in ORDERS.items():
        if distance is norm:
            return _cdist(x, y, order)
    if isinstance(distance, Mahalanobis):
        # Distances do not depend on the origin; near the rows, fewer digits cancel.
        origin = y.detach().mean(0)
        return _cdist(distance.whiten(x - origin), distance.whiten(y - origin), 2)
    return None


def _ordinary(x: Tensor, y: Tensor) -> bool:
    """Whether squares of the entries are in range, as far as they can be read."""
    if not is_eager(x, y) or not x.is_cpu or 0 in (*x.shape, *y.shape):
        return True
    largest = torch.maximum(x.detach().abs().amax(), y.detach().abs().amax())
    return bool(ordinary_scale(largest) == 1)


def _cdist(x: Tensor, y: Tensor, order: float) -> Tensor:
    """All Minkowski distances of an order, (N, D), (M, D) -> (N, M)."""
    # cdist's default uses a matrix product, which puts a row 1e-3 away from itself.
    distances: Tensor = torch.cdist(x, y, p=order, compute_mode="donot_use_mm_for_euclid_dist")
    return distances
