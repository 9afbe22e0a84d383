"""Distances of paired rows against float64 loops, and their laws."""

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

import mmcontrast as mm
from mmcontrast.distance_matrix import pairwise
from mmcontrast.distances import (
    chebyshev,
    cosine_distance,
    euclidean,
    manhattan,
    squared_euclidean,
    within,
)
from mmcontrast.mahalanobis import Mahalanobis
from mmcontrast.rows import l2_normalize
from tests import oracles
from tests.mmcontrast.distance_inputs import covariance, paired
from tests.mmcontrast.strategies import close, embeddings, gradients, leaf, normal, numpy, seeds

NAMED = [euclidean, squared_euclidean, manhattan, chebyshev, cosine_distance]
METRICS = [euclidean, manhattan, chebyshev]
DTYPES = [torch.float64, torch.float32, torch.bfloat16, torch.float16]
every_distance = pytest.mark.parametrize("distance", NAMED)


@every_distance
@given(
    seed=seeds, n=st.integers(1, 4), d=st.integers(1, 5), kind=st.sampled_from(["gauss", "tiny"])
)
def test_distance_agrees_with_the_oracle(distance, seed, n, d, kind):
    x, y = embeddings(seed, n, d, kind), embeddings(seed + 1, n, d, kind)
    expected = paired(oracles.DISTANCES[distance.__name__], x, y)
    close(distance(x, y), expected)


@given(seed=seeds, d=st.integers(1, 5))
def test_law_33_metrics(seed, d):
    x, y, z = (normal(seed + k, 6, d) for k in range(3))
    for distance in [*METRICS, Mahalanobis(covariance(seed, d))]:
        close(distance(x, y), distance(y, x), atol=0)
        assert (distance(x, x.clone()) == 0).all()
        assert (distance(x, y) > 0).all()
        assert (distance(x, z) <= distance(x, y) + distance(y, z) + 1e-12).all()


def test_law_34_one_minus_cosine_is_no_metric():
    """The documented counter-example: the way round by 45 degrees is shorter."""
    x, y, z = torch.tensor([[1.0, 0.0], [1.0, 1.0], [0.0, 1.0]], dtype=torch.float64)
    close(cosine_distance(x, y), 1 - math.sqrt(0.5))
    assert cosine_distance(x, z) > cosine_distance(x, y) + cosine_distance(y, z) + 0.4
    assert cosine_distance(x, 5 * x) == 0  # different rows at distance 0


@given(seed=seeds, d=st.integers(1, 5))
def test_law_34_squared_distance_on_the_sphere(seed, d):
    x, y = l2_normalize(normal(seed, 4, d)), l2_normalize(normal(seed + 1, 4, d))
    close(2 * cosine_distance(x, y), squared_euclidean(x, y), atol=1e-14)


@given(seed=seeds, kind=st.sampled_from(["gauss", "aligned", "tiny", "huge", "one_direction"]))
def test_cosine_distance_is_torchs_and_stays_between_its_bounds(seed, kind):
    x, y = embeddings(seed, 4, 3, kind), embeddings(seed + 1, 4, 3, kind)
    close(cosine_distance(x, y), 1 - F.cosine_similarity(x, y, dim=-1), atol=1e-12)
    for a, b in [(x, y), (x, x), (x, -x), (x, -3 * x)]:
        for value in (cosine_distance(a.float(), b.float()), cosine_distance(a, b)):
            assert (value >= 0).all()
            assert (value <= 2).all()
    assert (cosine_distance(x, x) == 0).all()
    close(cosine_distance(x, -x), torch.full((4,), 2.0), atol=1e-14)
    close(cosine_distance(3 * x, y), cosine_distance(x, y), atol=1e-14)


def test_cosine_distance_of_close_rows_keeps_its_digits():
    """1 - cos in float32 would be a multiple of 6e-8, or 0."""
    x = normal(1, 5, 8).float()
    y = x + 1e-5 * normal(2, 5, 8).float()
    exact = cosine_distance(x.double(), y.double())
    assert (exact < 1e-9).all()
    close(cosine_distance(x, y), exact, atol=0, rtol=0.02)


@pytest.mark.parametrize("dtype", DTYPES)
def test_law_23_a_zero_row_has_no_direction(dtype):
    x = torch.tensor([[0.0, 0.0], [3.0, 4.0], [0.0, 0.0]], dtype=dtype)
    y = torch.tensor([[1.0, 2.0], [0.0, 0.0], [0.0, 0.0]], dtype=dtype)
    for call in (cosine_distance, lambda x, y: pairwise(cosine_distance, x, y).diagonal()):
        value, found = gradients(lambda x, y, call=call: call(x, y).sum(), x, y)
        close(call(x, y), torch.ones(3), atol=1e-7)
        close(value, 3.0, atol=1e-6)
        for gradient in found:
            assert (gradient == 0).all()


@every_distance
@pytest.mark.parametrize("dtype", DTYPES)
def test_law_24_dtypes(distance, dtype):
    x, y = normal(1, 5, 4).to(dtype), normal(2, 5, 4).to(dtype)
    for call in (distance, lambda x, y: pairwise(distance, x, y)):
        value, exact = call(x, y), call(x.double(), y.double())
        assert value.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
        close(value, exact, rtol=2e-6, atol=1e-6)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert torch.equal(call(x, y), value)
    close(distance(x.float(), y.double()), distance(x.double(), y.double()), rtol=1e-2)
    assert distance(x.float(), y.double()).dtype == torch.float64


@every_distance
def test_distances_broadcast(distance):
    x, y = normal(1, 2, 3, 4), normal(2, 3, 4)
    close(distance(x, y)[1], distance(x[1], y))
    close(distance(x[:, :, None], y)[1, 2], distance(x[1, 2].expand(3, 4), y))
    close(distance(x[0, 0], y[0]), distance(x[0], y)[0])


@pytest.mark.parametrize("trainable", [False, True])
def test_distance_zero_has_derivatives_of_zero(trainable):
    weighted = Mahalanobis(covariance(1, 3), trainable=trainable)
    for distance in [*NAMED, weighted]:
        x, y = leaf(normal(1, 4, 3)), leaf(normal(1, 4, 3))
        (first,) = torch.autograd.grad(distance(x, y).sum(), x, create_graph=True)
        assert (first == 0).all()
        if first.requires_grad:
            (second,) = torch.autograd.grad(first.sum(), x)
            assert second.isfinite().all()


@every_distance
def test_law_44_gradients(distance):
    x, y = leaf(normal(3, 3, 4)), leaf(normal(4, 3, 4))
    assert torch.autograd.gradcheck(distance, (x, y))
    assert torch.autograd.gradgradcheck(distance, (x, y))


# --- every size of number ------------------------------------------------------------------------

SIZES = [1e-45, 1e-40, 1e-30, 1e-20, 1e-10, 1e10, 1e18, 1e20, 1e30, 2e37]


def nearly(found, expected, size):
    """Equal to float32's precision, in units of `size`, and where that is no float32, the most."""
    limits = torch.finfo(torch.float32)
    expected = torch.as_tensor(expected, dtype=torch.float64).clamp(-limits.max, limits.max)
    step = limits.smallest_normal * limits.eps
    assert found.isfinite().all()
    assert ((found.double() - expected).abs() <= 2e-6 * size + 2 * step).all()


@every_distance
@pytest.mark.parametrize("size", SIZES)
def test_every_size_of_number_has_its_distance_and_gradient(distance, size):
    """One such row among ordinary ones, against the loops in float64."""
    x, y = normal(1, 4, 5).float(), normal(2, 4, 5).float()
    x[1], y[1] = x[1] * size, y[1] * size
    expected = paired(oracles.DISTANCES[distance.__name__], x, y)
    nearly(distance(x, y), expected, torch.tensor(expected, dtype=torch.float64))
    _, found = gradients(lambda x, y: distance(x, y).sum(), x, y)
    _, exact = gradients(lambda x, y: distance(x, y).sum(), x.double(), y.double())
    rows = [0, 1, 2, 3] if size > 1e-30 or distance is not cosine_distance else [0, 2, 3]
    for gradient, reference in zip(found, exact, strict=True):
        nearly(gradient[rows], reference[rows], reference[rows].abs().amax(1, keepdim=True))


@pytest.mark.parametrize("distance", [euclidean, manhattan, chebyshev, squared_euclidean])
def test_distances_beyond_the_largest_float_are_it(distance):
    """Their gradients are what they are, if these are floats."""
    most = torch.finfo(torch.float32).max
    x = torch.tensor([[3e38, 3e38, -1e38], [1.0, 2.0, 3.0]])
    y = torch.tensor([[-3e38, -2e38, 1e38], [3.0, 2.0, 0.0]])
    found = distance(x, y)
    assert found[0] == most
    close(found[1], distance(x[1].double(), y[1].double()), atol=1e-6)
    _, found = gradients(lambda x, y: (distance(x, y) / 8).sum(), x, y)
    _, exact = gradients(lambda x, y: (distance(x, y) / 8).sum(), x.double(), y.double())
    for gradient, reference in zip(found, exact, strict=True):
        nearly(gradient, reference, reference.abs())


@every_distance
@pytest.mark.parametrize("size", [1e-25, 1e25])
def test_extreme_sizes_under_transforms_compilers_and_twice(distance, size):
    """There, no value is read: the same numbers by other operations."""
    x, y = normal(1, 3, 4).float() * size, normal(2, 3, 4).float() * size
    values, (first, _) = distance(x, y), gradients(lambda x, y: distance(x, y).sum(), x, y)[1]
    torch._dynamo.reset()
    compiled = torch.compile(distance, fullgraph=True, backend="eager")
    for found in (torch.vmap(distance)(x, y), compiled(x, y)):
        close(found, values, atol=0, rtol=1e-6)
    close(torch.func.grad(lambda x: distance(x, y).sum())(x), first, atol=0, rtol=1e-5)
    leaves = leaf(x.double()), leaf(y.double())
    (slope,) = torch.autograd.grad(distance(*leaves).sum(), leaves[0], create_graph=True)
    (second,) = torch.autograd.grad((slope / slope.detach().abs().max()).sum(), leaves[0])
    assert second.isfinite().all()


# --- wrong calls ---------------------------------------------------------------------------------

X, EYE = torch.ones(3, 2), torch.eye(2)


@every_distance
@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        (X, torch.ones(3, 1), r"y: expected .*\(3, 2\), got \(3, 1\)"),
        (X, torch.ones(2, 2), r"y: expected .*\(3, 2\), got \(2, 2\)"),
        (X.long(), X, "x: expected a floating dtype, got torch.int64"),
        (X, X.bool(), "y: expected a floating dtype, got torch.bool"),
        (X[0, 0], X, r"x: expected .*got \(\)"),
        (X[:, :0], X, r"x: expected .*one feature, got \(3, 0\)"),
        (X, [1.0, 2.0], "y: expected a tensor, got list"),
    ],
)
def test_wrong_calls(distance, x, y, message):
    with pytest.raises(ValueError, match=message):
        distance(x, y)


def test_a_bound_takes_the_excess_off_and_leaves_the_gradient():
    x = leaf(torch.tensor([-0.5, 0.3, 2.5]))
    found = within(x, 0, 2)
    assert torch.equal(found.detach(), torch.tensor([0.0, 0.3, 2.0]))
    found.sum().backward()
    assert torch.equal(x.grad, torch.ones(3))


def test_a_zero_row_among_others_has_finite_second_derivatives():
    """One pair of equal rows is enough for the plain norm's to be NaN."""
    x = normal(1, 3, 2)
    y = torch.cat([x[:1], normal(2, 2, 2)])
    leaf = x.clone().requires_grad_()
    (slope,) = torch.autograd.grad(euclidean(leaf, y).sum(), leaf, create_graph=True)
    (second,) = torch.autograd.grad(slope.square().sum() + slope.sum(), leaf)
    assert (slope[0] == 0).all()
    assert second.isfinite().all()
    assert (second[1:] != 0).any()


EUCLIDEAN = {mm.euclidean: oracles.euclidean, mm.squared_euclidean: oracles.squared_euclidean}
every_euclidean = pytest.mark.parametrize("distance", EUCLIDEAN)


def triple(seed, n=4, d=3):
    return [normal(seed + k, n, d) for k in range(3)]


# --- Euclidean distances -------------------------------------------------------------------------


@every_euclidean
@given(seed=seeds, n=st.integers(1, 4), d=st.integers(1, 4))
def test_euclidean_distances_agree_with_the_oracle(distance, seed, n, d):
    x, y = normal(seed, n, d), normal(seed + 1, n, d)
    expected = [EUCLIDEAN[distance](a, b) for a, b in zip(numpy(x), numpy(y), strict=True)]
    close(distance(x, y), torch.tensor(expected, dtype=torch.float64))


@given(seed=seeds)
def test_law_33_euclidean_is_a_metric(seed):
    x, y, z = triple(seed)
    close(mm.euclidean(x, y), mm.euclidean(y, x), atol=0)
    assert (mm.euclidean(x, x) == 0).all()
    assert (mm.euclidean(x, z) <= mm.euclidean(x, y) + mm.euclidean(y, z) + 1e-12).all()


@every_euclidean
def test_law_50_identity_holds_far_from_the_origin(distance):
    x = 1e4 * normal(1, 4, 3).float()
    assert (distance(x, x.clone()) == 0).all()


def test_euclidean_is_the_root_of_the_squared_one():
    x, y, _ = triple(2)
    close(mm.euclidean(x, y).square(), mm.squared_euclidean(x, y))


@given(seed=seeds)
def test_law_34_squared_distance_of_unit_rows(seed):
    x, y, _ = (mm.l2_normalize(v) for v in triple(seed))
    close(mm.squared_euclidean(x, y), 2 * (1 - (x * y).sum(dim=-1)), atol=1e-12)


@every_euclidean
def test_distances_broadcast_and_keep_leading_axes(distance):
    x, y = normal(1, 2, 3, 4), normal(2, 3, 4)
    close(distance(x, y)[1], distance(x[1], y))
    close(distance(x[:, :, None], y)[1, 2], distance(x[1, 2].expand(3, 4), y))


@every_euclidean
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
def test_law_23_and_24_dtypes_and_distance_zero(distance, dtype):
    x, y = normal(1, 3, 4).to(dtype), normal(2, 3, 4).to(dtype)
    y[1] = x[1]
    value, found = gradients(lambda x, y: distance(x, y).sum(), x, y)
    assert value.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    close(value, distance(x.double(), y.double()).sum(), atol=1e-5)
    for gradient in found:
        assert gradient.dtype == dtype
        assert gradient.isfinite().all()
        assert (gradient[1] == 0).all()


@every_euclidean
def test_distances_pass_gradcheck_away_from_zero(distance):
    x, y, _ = triple(3)
    assert torch.autograd.gradcheck(distance, (leaf(x), leaf(y)))
    assert torch.autograd.gradgradcheck(distance, (leaf(x), leaf(y)))
