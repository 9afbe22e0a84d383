"""Distances of all pairs of rows against loops, broadcasting and torch."""

import copy
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mmcontrast.distance_matrix import pairwise
from mmcontrast.distances import chebyshev, cosine_distance, euclidean, manhattan, squared_euclidean
from mmcontrast.mahalanobis import Mahalanobis
from mmcontrast.rows import l2_normalize
from tests import oracles
from tests.mmcontrast.distance_inputs import covariance
from tests.mmcontrast.memory import Made
from tests.mmcontrast.strategies import close, embeddings, gradients, leaf, normal, numpy, seeds

NAMED = [euclidean, squared_euclidean, manhattan, chebyshev, cosine_distance]


def all_distances(d):
    return [*NAMED, Mahalanobis(covariance(1, d)), Mahalanobis(covariance(1, d), trainable=True)]


def oracle_of(distance, d):
    if isinstance(distance, Mahalanobis):
        return oracles.mahalanobis(numpy(covariance(1, d)))
    return oracles.DISTANCES[distance.__name__]


@given(seed=seeds, n=st.integers(1, 4), m=st.integers(1, 4), d=st.integers(1, 4))
def test_pairwise_agrees_with_the_oracle_and_with_broadcasting(seed, n, m, d):
    x, y = normal(seed, n, d), normal(seed + 1, m, d)
    for distance in all_distances(d):
        found = pairwise(distance, x, y)
        close(found, oracles.pairwise(oracle_of(distance, d), numpy(x), numpy(y)))
        close(found, pairwise(lambda a, b, distance=distance: distance(a, b), x, y))


@pytest.mark.parametrize(
    ("distance", "p"), [(euclidean, 2.0), (manhattan, 1.0), (chebyshev, math.inf)]
)
def test_pairwise_is_torchs_cdist(distance, p):
    x, y = normal(1, 4, 3), normal(2, 5, 3)
    close(pairwise(distance, x, y), torch.cdist(x, y, p=p))


def test_law_50_equal_rows_are_at_distance_zero_far_from_the_origin():
    """More than 25 rows: from there on, torch.cdist's default is the matrix product."""
    x = 1e4 * (1 + normal(1, 40, 3)).float()
    assert (torch.cdist(x, x).diagonal() > 0).any()
    for distance in (euclidean, squared_euclidean, manhattan, chebyshev):
        assert (pairwise(distance, x, x.clone()).diagonal() == 0).all()
    for distance in (Mahalanobis(covariance(1, 3)), Mahalanobis(1e-3 * covariance(1, 3).float())):
        found = pairwise(distance, x, x.flip(0)).fliplr().diagonal()
        assert (found <= 1e-5 * distance.whiten(x).abs().max()).all()


def test_mahalanobis_distances_far_from_the_origin_keep_their_digits():
    x, y = (1e4 + normal(k, 30, 3).float() for k in (1, 2))
    distance = Mahalanobis(covariance(1, 3))
    exact = pairwise(distance, x.double(), y.double())
    close(pairwise(distance, x, y), exact, rtol=1e-4, atol=1e-5)


@given(seed=seeds, kind=st.sampled_from(["one_direction", "aligned", "duplicate"]))
def test_cosine_pairs_stay_between_their_bounds_and_keep_their_gradient(seed, kind):
    x, y = embeddings(seed, 5, 3, kind).float(), embeddings(seed, 5, 3, kind).float() * 3
    for other in (y, -y):
        found = pairwise(cosine_distance, x, other)
        assert (found >= 0).all()
        assert (found <= 2).all()
        _, (gradient, _) = gradients(lambda x, y: pairwise(cosine_distance, x, y).sum(), x, other)
        _, (exact, _) = gradients(
            lambda x, y: (1 - l2_normalize(x) @ l2_normalize(y).T).sum(), x.double(), other.double()
        )
        scale = 1 / x.norm(dim=1, keepdim=True)
        close(gradient / scale, exact / scale, atol=1e-5)


@pytest.mark.parametrize("distance", all_distances(4)[:-1])
def test_pairwise_gradients(distance):
    x, y = leaf(normal(3, 3, 4)), leaf(normal(4, 5, 4))
    assert torch.autograd.gradcheck(lambda x, y: pairwise(distance, x, y), (x, y))
    value, found = gradients(lambda x, y: (pairwise(distance, x, y) * normal(9, 3, 5)).sum(), x, y)
    other, expected = gradients(
        lambda x, y: (pairwise(lambda a, b: distance(a, b), x, y) * normal(9, 3, 5)).sum(), x, y
    )
    close(value, other)
    for gradient, reference in zip(found, expected, strict=True):
        close(gradient, reference)
    _, at_zero = gradients(lambda x, y: pairwise(distance, x, y).diagonal().sum(), x, x.clone())
    assert all(gradient.abs().max() < 1e-12 for gradient in at_zero)


def test_any_wrapped_distance_has_second_derivatives():
    x, y = leaf(normal(3, 3, 2)), leaf(normal(4, 2, 2))
    for distance in NAMED:
        assert torch.autograd.gradgradcheck(
            lambda x, y, distance=distance: pairwise(lambda a, b: distance(a, b), x, y), (x, y)
        )
    assert torch.autograd.gradgradcheck(lambda x, y: pairwise(cosine_distance, x, y), (x, y))


@pytest.mark.parametrize("distance", all_distances(20))
def test_pairwise_makes_no_copy_of_all_differences(distance):
    x, y = leaf(normal(1, 30, 20)), leaf(normal(2, 31, 20))
    with Made() as made:
        pairwise(distance, x, y).sum().backward()
    assert made.largest == 30 * 31
    with Made() as made:  # what the test is there to catch
        pairwise(lambda a, b: distance(a, b), x, y)
    assert made.largest == 30 * 31 * 20


@pytest.mark.parametrize("distance", [*all_distances(3), lambda a, b: (a - b).abs().sum(-1)])
@pytest.mark.parametrize(("n", "m"), [(0, 2), (2, 0), (0, 0)])
def test_pairwise_of_nothing_is_nothing_with_a_graph(distance, n, m):
    found, (gx, gy) = gradients(
        lambda x, y: pairwise(distance, x, y).sum(), normal(1, n, 3), normal(2, m, 3)
    )
    assert pairwise(distance, normal(1, n, 3), normal(2, m, 3)).shape == (n, m)
    assert found == 0
    assert (gx == 0).all()
    assert (gy == 0).all()


@pytest.mark.parametrize("distance", all_distances(3))
def test_pairwise_runs_elsewhere_compiled_and_under_transforms(distance):
    x, y = normal(1, 2, 4, 3), normal(2, 2, 5, 3)
    torch._dynamo.reset()
    compiled = torch.compile(
        lambda x, y: pairwise(distance, x, y), fullgraph=True, backend="aot_eager"
    )
    _, found = gradients(lambda x: compiled(x, y[0]).sum(), x[0])
    _, expected = gradients(lambda x: pairwise(distance, x, y[0]).sum(), x[0])
    close(found[0], expected[0])
    close(torch.func.grad(lambda x: pairwise(distance, x, y[0]).sum())(x[0]), expected[0])
    together = torch.vmap(lambda x, y: pairwise(distance, x, y))(x, y)
    close(together[1], pairwise(distance, x[1], y[1]))
    close(pairwise(distance, x[0].T.contiguous().T, y[0]), pairwise(distance, x[0], y[0]))
    away = copy.deepcopy(distance).to("meta") if isinstance(distance, Mahalanobis) else distance
    moved = leaf(x[0].to("meta"))
    pairwise(away, moved, y[0].to("meta")).sum().backward()
    assert moved.grad.device.type == "meta"


def test_nothing_is_written_to():
    x, y = normal(1, 4, 3), normal(2, 5, 3)
    before = x.clone(), y.clone()
    for distance in all_distances(3):
        distance(x, y[:4])
        pairwise(distance, x, y)
    assert torch.equal(x, before[0])
    assert torch.equal(y, before[1])


@pytest.mark.parametrize("size", [1e-30, 1e20, 1e38])
def test_every_size_of_number(size):
    """cdist squares in float32: rows that this would lose take the distances themselves."""
    x, y = normal(1, 4, 3).float() * size, normal(2, 5, 3).float() * size
    x[0] = y[0]
    most = torch.finfo(torch.float32).max
    for distance in [euclidean, squared_euclidean, manhattan, chebyshev, Mahalanobis.learned(3)]:
        exact = pairwise(distance, x.double(), y.double()).clamp(max=most)
        close(pairwise(distance, x, y), exact, rtol=1e-5, atol=3e-45)
        _, found = gradients(lambda *z, d=distance: (pairwise(d, *z) / 99).sum(), x, y)
        for gradient in found:
            assert gradient.isfinite().all()


# --- wrong calls ---------------------------------------------------------------------------------

X, EYE = torch.ones(3, 2), torch.eye(2)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: pairwise(euclidean, X[0], X), r"x: expected .*got \(2,\)"),
        (lambda: pairwise(euclidean, X, torch.ones(3, 4)), r"y: expected .*2.*got \(3, 4\)"),
        (lambda: pairwise(euclidean, X, X.long()), "y: expected .*float.*got torch.int64"),
        (
            lambda: pairwise(lambda a, b: a - b, X, X),
            r"distance: expected .*\(3, 3\), got \(3, 3, 2\)",
        ),
        (lambda: pairwise(Mahalanobis.learned(4), X, X), r"x: expected .*4.*got \(3, 2\)"),
    ],
)
def test_wrong_calls(call, message):
    with pytest.raises(ValueError, match=message):
        call()
