"""Volumes by Gram-Schmidt: of parallelotopes and simplices, against singular values."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mmcontrast.exact.simplices import least_square, parallelotopes, simplices, volumes
from tests import oracles
from tests.mmcontrast.strategies import close, leaf, normal, numpy, seeds

SPANS = {"volume": parallelotopes, "area": simplices}
every_span = pytest.mark.parametrize("score", SPANS)


@given(
    seed=seeds,
    n=st.integers(1, 4),
    d=st.integers(1, 6),
    number=st.integers(1, 4),
    score=st.sampled_from(list(SPANS)),
)
def test_volumes_of_all_anchors_with_all_tuples(seed, n, d, number, score):
    anchors, others = normal(seed, n, d), [normal(seed + k, n, d) for k in range(1, number + 1)]
    bases, positive = SPANS[score](anchors, others)
    expected = [
        [
            -oracles.joint_score(score, a, [x[j] for x in numpy(dict(enumerate(others))).values()])
            for j in range(n)
        ]
        for a in numpy(anchors)
    ]
    expected = torch.tensor(expected, dtype=torch.float64)
    assert bases.rows.shape == (n, number, d)
    # Half of the digits, where a square is the rest of what cancels.
    close(volumes(anchors, bases), expected, atol=1e-5)
    close(positive, expected.diagonal(), atol=1e-12 * (1 + expected.max()), rtol=1e-8)


@every_span
def test_what_is_left_of_nearly_equal_rows_keeps_its_digits(score):
    """A determinant of float32 dot products would be off by eps / apart^2, in the end by all."""
    base, apart = normal(1, 1, 8), 1e-4
    exact = [base + apart * normal(k, 5, 8) for k in (2, 3, 4)]
    first, *rest = [x.float() for x in exact]
    _, found = SPANS[score](first, rest)
    _, expected = SPANS[score](first.double(), [x.double() for x in rest])
    error = 4 * torch.finfo(torch.float32).eps / apart
    torch.testing.assert_close(found.double(), expected, rtol=error, atol=0)


def test_bases_are_orthonormal_though_their_rows_are_nearly_equal():
    """What rounding leaves of one row along another is gone after a second time."""
    base = normal(1, 1, 8)
    a, *rest = ((base + 1e-4 * normal(k, 5, 8)).float() for k in (2, 3, 4, 5))
    rows = parallelotopes(a, rest)[0].rows
    identity = torch.eye(3).expand(5, 3, 3)
    torch.testing.assert_close(rows @ rows.mT, identity, atol=1e-5, rtol=0)


@every_span
def test_slopes_are_bounded_by_the_volume_of_the_others(score):
    """However near the rows are to each other: a side moves a volume by the others' volume."""
    for apart in (1.0, 1e-3, 1e-6, 0.0):
        base = normal(1, 1, 5)
        a, x, y = (leaf(base + apart * normal(k, 7, 5)) for k in (2, 3, 4))
        _, positive = SPANS[score](a, [x, y])
        found = torch.autograd.grad(positive.sum(), (a, x, y))
        sides = (x, y), (a, y), (a, x)
        for slope, pair in zip(found, sides, strict=True):
            assert slope.isfinite().all()
            u, v = pair if score == "volume" else (pair[0] - pair[1], torch.ones(1, 5) / 5**0.5)
            if score == "volume":
                most = (u.square().sum(1) * v.square().sum(1) - (u * v).sum(1).square()).sqrt()
            else:
                most = u.norm(dim=1) / 2
            assert (slope.norm(dim=1) <= most * (1 + 1e-4) + 1e-6).all()


@every_span
@pytest.mark.parametrize("rows", ["equal", "opposite", "zero"])
def test_dependent_rows_span_nothing_and_pull_nowhere(rows, score):
    a = leaf(normal(1, 3, 4))
    b = {"equal": 1.0, "opposite": -1.0, "zero": 0.0}[rows] * a
    _, positive = SPANS[score](a, [b, b])
    assert (positive.abs() < 1e-12).all()
    (slope,) = torch.autograd.grad(positive.sum(), a, create_graph=True)
    assert (slope.abs() < 1e-6).all()
    (bent,) = torch.autograd.grad(slope.sum(), a, allow_unused=True, materialize_grads=True)
    assert bent.isfinite().all()


def test_a_distance_is_the_simplex_of_two_corners():
    x, y = normal(1, 5, 3), normal(2, 5, 3)
    bases, positive = simplices(x, [y])
    close(positive, (x - y).norm(dim=1))
    close(volumes(x, bases), torch.cdist(x, y), atol=1e-7)


def test_a_square_of_rounding_has_a_finite_slope():
    for dtype in (torch.float32, torch.float64):
        least = least_square(torch.tensor([0.0, 1.0], dtype=dtype))
        assert (least > 0).all()
        assert least[1] < 1e-5
        assert least.pow(-1.5).isfinite().all()
        assert math.isfinite(least[0])


def test_what_rounding_leaves_of_rows_in_the_span_is_below_the_least_square():
    sides = normal(1, 32, 3).float()
    basis = torch.linalg.qr(sides.double())[0].float()
    anchors = normal(2, 1000, 3).float() @ sides.mT
    largest = anchors.square().sum(1)
    left = largest - (anchors @ basis).square().sum(1)
    assert (left.abs() < least_square(largest)).all()
