"""Volumes spanned by one row of each modality: of parallelotopes, and of simplices.

A volume is that of all rows but the last, times the distance of the last from the space that they
span: Gram-Schmidt. So the anchors' volumes with many tuples need only dot products with what a
tuple brings along (:class:`Bases`), and no determinant. Where rows are nearly dependent, as those
of one sample become in training, a determinant of their dot products has lost all digits; what
Gram-Schmidt leaves of a row keeps them.

Derivatives are bounded, since a volume's by one row is at most the volume of the others. Where rows
are dependent up to rounding a volume is 0, and the one that a root would give there, infinity times
zero, is 0 as well.
"""

import functools
import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from mmcontrast.rows import dot

ROUNDINGS = 8
"""Roundings below which what is left of a row is nothing."""


class Bases(NamedTuple):
    """What each of B tuples of rows brings to a volume with any anchor a, which is

    .. math:: w \\sqrt{|a|^2 + n - 2 a b - \\sum_k (a q_k)^2}
    """

    rows: Tensor  # (B, L, D): b, where there is one, and the q_k
    size: Tensor  # (B,) w, the volume that the tuple itself spans
    offset: Tensor | None  # (B,) n = |b|^2; None where there is no b


def parallelotopes(anchors: Tensor, others: Sequence[Tensor]) -> tuple[Bases, Tensor]:
    """Tuples, one row of each other modality, and (B,) volumes of each with its own anchor.

    GRAM's volume is the root of the determinant of the dot products, arXiv:2412.11959, section 3.
    """
    basis, size = _orthonormal(others)
    if len(others) >= anchors.shape[1]:
        size = size * 0  # more rows than features: exactly nothing, not what rounding leaves
    _, distance = _beyond(anchors, basis)
    return Bases(torch.stack(basis, 1), size, None), size * distance


def simplices(anchors: Tensor, others: Sequence[Tensor]) -> tuple[Bases, Tensor]:
    """The same for the simplex with these corners: a distance, an area, a volume, ...

    TRIANGLE's area, of two others, is that of the parallelogram of two sides, halved.
    """
    first, *rest = others
    basis, size = _orthonormal([x - first for x in rest], like=first)
    size = size / math.factorial(len(others))
    if len(others) > anchors.shape[1]:
        size = size * 0
    _, distance = _beyond(anchors - first, basis)
    # The sides' space is that of the first corner plus theirs, so the anchor's distance from it is
    # that between what lies beyond their own span in both.
    corner, _ = _beyond(first, basis)
    return Bases(torch.stack([corner, *basis], 1), size, corner.square().sum(1)), size * distance


def volumes(anchors: Tensor, bases: Bases) -> Tensor:
    """(A, C) volumes of (A, D) anchors with (C,) tuples, in operations that autograd knows."""
    rows, size, offset = bases
    dots = torch.stack([dot(anchors, x) for x in rows.unbind(1)])  # (L, A, C)
    largest = anchors.square().sum(1)[:, None]
    if offset is None:
        squares = largest - dots.square().sum(0)
    else:
        largest = largest + offset
        squares = largest - 2 * dots[0] - dots[1:].square().sum(0)
    return size * squares.clamp_min(0) * torch.maximum(squares, least_square(largest)).rsqrt()


def least_square(largest: Tensor) -> Tensor:
    """Below this a squared distance is rounding; ``largest``: the squares of which it is the rest.

    Its root becomes linear there, so that no slope is infinite.
    """
    limits = torch.finfo(largest.dtype)
    # The lower bound is for rows of zeros: in its power of -3/2, a second derivative is finite.
    return (largest.detach() * (ROUNDINGS * limits.eps)).clamp_min(limits.tiny ** (2 / 3))


def _orthonormal(
    vectors: Sequence[Tensor], like: Tensor | None = None
) -> tuple[list[Tensor], Tensor]:
    """Gram-Schmidt: (B, D) orthonormal rows, 0 for a dependent one, and the (B,) volumes."""
    basis: list[Tensor] = []
    lengths = [torch.ones_like((vectors[0] if like is None else like)[:, 0])]
    for x in vectors:
        rest, length = _beyond(x, basis)
        basis.append(rest / torch.where(length > 0, length, 1)[:, None])
        lengths.append(length)
    return basis, functools.reduce(torch.mul, lengths)


def _beyond(x: Tensor, basis: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """What of (B, D) rows lies outside the span of orthonormal ones, and its (B,) lengths."""
    rest = x
    # Twice: what rounding left along the basis is gone after the second time.
    for q in [*basis, *basis]:
        rest = rest - (rest * q).sum(1, keepdim=True) * q
    squares = rest.square().sum(1)
    rounding = (ROUNDINGS * torch.finfo(x.dtype).eps) ** 2
    apart = squares > rounding * x.detach().square().sum(1)
    return torch.where(apart[:, None], rest, 0), torch.where(apart, squares, 1).sqrt() * apart
