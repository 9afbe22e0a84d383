"""Euclidean distances of float32 rows by matrix products in float64, and their gradients.

Squared, a distance is |a|^2 + |b|^2 - 2 a b: one product of (a, |a|^2, 1) and (-2 b, 1, |b|^2). Of
close rows its digits cancel: where d^2 is 1e-7 of |a|^2, seven of float64's sixteen. Closer ones
are measured by their difference.
"""

import torch
from torch import Tensor

CLOSE = 1e-7  # squared distance by squared length
FEW = 8  # close pairs a row, up to which they are measured one by one
NOTHING = 1e-300  # stands for a squared distance of 0: the square root has no derivative there


class EuclideanProducts:
    """Distances of blocks of (B, D) rows from (C, D) candidates, without autograd."""

    def __init__(self, x: Tensor, y: Tensor):
        self.x, self.y = x, y
        # Distances do not depend on the origin; near the rows, fewer digits cancel.
        origin = y.double().mean(0)
        a, b = x - origin, y - origin
        a2, b2 = a.square().sum(1, keepdim=True), b.square().sum(1, keepdim=True)
        self.a = torch.cat([a, a2, torch.ones_like(a2)], 1)  # (B, D + 2)
        self.b = torch.cat([-2 * b, torch.ones_like(b2), b2], 1)
        self.by_a, self.by_b = torch.zeros_like(self.a), torch.zeros_like(self.b)
        self.limits = CLOSE * (a2 + b2.amax())  # (B, 1)

    def distances(self, i: slice) -> Tensor | None:
        """(R, C) float64; None where so many pairs are close that measuring each takes too long."""
        squares = self.a[i] @ self.b.T
        self.pairs = (squares <= self.limits[i]).nonzero()
        if len(self.pairs) > FEW * len(squares):
            return None
        j, k = self.pairs.unbind(1)
        # Of the rows as they came: the origin would round a small difference.
        self.apart = self.x[i][j].double() - self.y[k]
        squares[j, k] = self.apart.square().sum(1).clamp_min_(NOTHING)
        return squares.sqrt_()

    def add_gradient(self, i: slice, distances: Tensor, slopes: Tensor) -> None:
        """Add that of the last block from ``slopes``, by its distances, which it changes."""
        slopes.div_(distances)
        j, k = self.pairs.unbind(1)
        along = slopes[j, k][:, None] * self.apart  # of the close rows, one by one
        slopes[j, k] = 0
        d = self.apart.shape[1]
        # By the squares, but for half of it, which `gradients` puts in.
        torch.mm(slopes, self.b, out=self.by_a[i])
        self.by_b.addmm_(slopes.T, self.a[i])
        self.by_a[i, :d].index_add_(0, j, along, alpha=2)
        self.by_b[:, :d].index_add_(0, k, along)

    def gradients(self) -> tuple[Tensor, Tensor]:
        """(B, D) and (C, D): of all blocks."""
        d = self.x.shape[1]
        by_x = self.by_a[:, :d] / 2 + self.a[:, :d] * self.by_a[:, d : d + 1]
        by_y = self.b[:, :d] / -2 * self.by_b[:, d + 1 :] - self.by_b[:, :d]
        return by_x, by_y
