"""How close rows are: exactly for some pairs, and quickly for all, to within a known rounding.

A dot product is a closeness, and so is minus a distance. Exactly means one row of candidates like
the other, wherever it lies: in sums over the features of each pair, in float64. Quickly means by a
matrix product in the rows' own dtype. It rounds equal rows differently at different places, so it
cannot settle ties, but how far it is off at most is known. The cosine and the Euclidean distances
are products too, of rows with one or two features more:

    -|x - y|^2 = (2 x, -1, -|x|^2) . (y, |y|^2, 1)
    cos(x, y) - 1 = (u, -1) . (v, 1)                      with u and v of length one
"""

from typing import NamedTuple

import torch
from torch import Tensor

from mmcontrast.distance_matrix import ORDERS, pairwise
from mmcontrast.distances import (
    WITHOUT_PARAMETERS,
    Distance,
    cosine_distance,
    euclidean,
    measured,
    squared_euclidean,
)
from mmcontrast.eager import full_precision
from mmcontrast.exact.ties import first_equal, share_scores, tied_dot
from mmcontrast.rows import are_ordinary, l2_normalize, upcast

MEASURES = (None, *WITHOUT_PARAMETERS)
"""What an operator can measure with, by its place; None is the dot product."""

PRODUCTS = (None, euclidean, squared_euclidean, cosine_distance)
"""Those that a matrix product gives; None is the dot product."""


def widest(x: Tensor) -> Tensor:
    """In float64; on MPS, which has none, in float32."""
    return upcast(x) if x.device.type == "mps" else x.double()


def of_pairs(distance: Distance | None, x: Tensor, y: Tensor) -> Tensor:
    """(R, D), (R, K, D) or (1, K, D) -> (R, K) closeness in float64, the same for equal rows."""
    if distance in MEASURES:
        x, y = widest(x), widest(y)
    y = y.expand(len(x), -1, -1)
    if distance is None:
        return (x[:, None] * y).sum(-1)
    return -widest(measured(distance, x[:, None].expand_as(y), y))


def all_closeness(distance: Distance | None, x: Tensor, y: Tensor) -> Tensor:
    """(B, C) dot products, or minus a distance, in operations that a compiler can trace."""
    if distance is None:
        return tied_dot(x, y)
    return share_scores(-pairwise(distance, x, y), first_equal(y))


class Side(NamedTuple):
    """Rows, or columns, ready to be compared quickly."""

    rows: Tensor  # (N, E)
    lengths: Tensor  # (N,)

    def of(self, which: slice) -> "Side":
        """Some of them."""
        return Side(self.rows[which], self.lengths[which])


def side(distance: Distance | None, x: Tensor, centre: Tensor, columns: bool) -> Side | None:
    """Rows or columns for :func:`of_all`; None where nothing quick is known, or out of range.

    Args:
        x: (N, D), finite.
        centre: (D,) of the rows: near it, fewer digits of a Euclidean distance cancel.
        columns: whether these are the columns.
    """
    if distance not in (*PRODUCTS, *ORDERS) or not x.numel():
        return None
    if not are_ordinary(x):  # squares would over- or underflow
        return None
    if distance in ORDERS:
        return Side(x, x.new_zeros(len(x)))
    if distance is None:
        return Side(x, x.square().sum(1).sqrt())
    if distance is cosine_distance:
        x = l2_normalize(x)
        last = x.new_full((len(x), 1), 1 if columns else -1)
        return Side(torch.cat([x, last], 1), last[:, 0].abs())
    x = x - centre
    squares = x.square().sum(1, keepdim=True)
    one = torch.ones_like(squares)
    lifted = [x, squares, one] if columns else [2 * x, -one, -squares]
    return Side(torch.cat(lifted, 1), squares[:, 0].sqrt())


def of_all(distance: Distance | None, x: Side, y: Side) -> tuple[Tensor, Tensor]:
    """(R, C) quick values, and (R,) how far at most :func:`quick_value` of the exact ones is."""
    size = x.rows.shape[1] + 16
    if distance in ORDERS:
        found = -torch.cdist(x.rows, y.rows, p=ORDERS[distance])
        return found, -found.amin(1) * size * torch.finfo(found.dtype).eps
    with full_precision(x.rows):
        found = x.rows @ y.rows.mT
    longest = y.lengths.amax()
    bound = x.lengths * longest if distance is None else (x.lengths + longest).square()
    # A sum of D products is off by D / 2 eps of the products' own sizes at most.
    return found, bound * size * _product_eps(found) + size * torch.finfo(found.dtype).tiny


def quick_value(distance: Distance | None, closeness: Tensor) -> Tensor:
    """Exact values in the unit of the quick ones, which of Euclidean distances are squares."""
    return closeness * closeness.abs() if distance is euclidean else closeness


def _product_eps(x: Tensor) -> float:
    """The rounding of a matrix product; torch may be told to take 8 or 11 bits for float32."""
    low = x.dtype == torch.float32 and torch.get_float32_matmul_precision() != "highest"
    return 2.0**-7 if low else torch.finfo(x.dtype).eps
