"""Distances, paired and pairwise, against float64 loops and an explicit inverse."""

import copy
import math
import pickle

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

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
from tests.mmcontrast.memory import Made
from tests.mmcontrast.strategies import (
    close,
    embeddings,
    gradients,
    leaf,
    normal,
    numpy,
    orthogonal,
    seeds,
)

NAMED = [euclidean, squared_euclidean, manhattan, chebyshev, cosine_distance]
METRICS = [euclidean, manhattan, chebyshev]
DTYPES = [torch.float64, torch.float32, torch.bfloat16, torch.float16]
every_distance = pytest.mark.parametrize("distance", NAMED)


def covariance(seed, d):
    """Symmetric, its eigenvalues from 0.5 to 2.5."""
    q = orthogonal(seed, d)
    spread = torch.linspace(0.5, 2.5, d, dtype=torch.float64)
    return q * spread @ q.T


def paired(distance, x, y):
    return [distance(a, b) for a, b in zip(numpy(x), numpy(y), strict=True)]


# --- paired --------------------------------------------------------------------------------------


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


# --- Mahalanobis ---------------------------------------------------------------------------------


@given(seed=seeds, n=st.integers(1, 4), d=st.integers(1, 5))
def test_mahalanobis_agrees_with_the_explicit_inverse(seed, n, d):
    x, y, c = normal(seed, n, d), normal(seed + 1, n, d), covariance(seed, d)
    for trainable in (False, True):
        distance = Mahalanobis(c, trainable=trainable)
        close(distance(x, y), paired(oracles.mahalanobis(numpy(c)), x, y))
        close(distance(x, y), euclidean(distance.whiten(x), distance.whiten(y)))


@given(seed=seeds, d=st.integers(1, 4), shrinkage=st.sampled_from([0.0, 0.1, 0.5, 1.0]))
def test_estimate_agrees_with_the_oracle(seed, d, shrinkage):
    samples, x, y = normal(seed, d + 6, d) + 3, normal(seed + 1, 3, d), normal(seed + 2, 3, d)
    c = oracles.covariance_of(numpy(samples), shrinkage)
    distance = Mahalanobis.estimate(samples, shrinkage=shrinkage)
    close(distance(x, y), paired(oracles.mahalanobis(c), x, y), rtol=1e-8)
    if shrinkage == 0:
        plain = Mahalanobis(torch.from_numpy(np.cov(numpy(samples), rowvar=False).reshape(d, d)))
        close(distance(x, y), plain(x, y), rtol=1e-8)


def test_shrinkage_of_one_is_a_scaled_euclidean_distance():
    samples, x, y = normal(1, 9, 3), normal(2, 4, 3), normal(3, 4, 3)
    spread = samples.var(0).mean().sqrt()
    close(Mahalanobis.estimate(samples, shrinkage=1.0)(x, y), euclidean(x, y) / spread)


@given(seed=seeds)
def test_estimated_distances_do_not_depend_on_the_coordinates(seed):
    """What Mahalanobis is for: any invertible linear map and shift of the data changes nothing."""
    samples, map_ = normal(seed, 12, 3), orthogonal(seed, 3) * torch.tensor([1e-3, 1.0, 1e3])
    moved = samples @ map_ + 5
    before, after = Mahalanobis.estimate(samples), Mahalanobis.estimate(moved)
    close(before(samples[:6], samples[6:]), after(moved[:6], moved[6:]), rtol=1e-5)


def test_units_are_no_reason_to_call_a_covariance_singular():
    units = torch.tensor([1e-9, 1.0, 1e9], dtype=torch.float64)
    samples = normal(1, 20, 3)
    c = covariance(1, 3) * units * units[:, None]
    close(
        Mahalanobis(c)(samples * units, 0 * samples),
        Mahalanobis(covariance(1, 3))(samples, 0 * samples),
    )
    close(
        Mahalanobis.estimate(samples * units)(samples * units, 0 * samples),
        Mahalanobis.estimate(samples)(samples, 0 * samples),
    )


def dependent(dtype):
    """Three features, the third the sum of the others as far as the dtype can say."""
    x = normal(1, 40, 2).to(dtype)
    return torch.cat([x, x.sum(1, keepdim=True)], dim=1)


@pytest.mark.parametrize(
    ("samples", "rank"),
    [
        (normal(1, 4, 4), 3),
        (normal(1, 2, 4), 1),
        (normal(1, 4, 4).float(), 3),
        (torch.cat([normal(1, 9, 2), torch.full((9, 1), 0.1)], dim=1), 2),
        (torch.cat([normal(1, 9, 2), normal(1, 9, 2)], dim=1), 2),
        (dependent(torch.float64), 2),
        (dependent(torch.float32), 2),
        (torch.full((5, 2), 0.1), 0),
    ],
)
def test_a_singular_estimate_is_refused_unless_shrunk(samples, rank):
    message = rf"samples: expected .*{samples.shape[1]} directions.*shrinkage.*got .*rank {rank} "
    with pytest.raises(ValueError, match=message):
        Mahalanobis.estimate(samples)
    if rank:
        shrunk = Mahalanobis.estimate(samples, shrinkage=0.01)
        assert (shrunk(samples[:1], samples[1:]) > 0).all()
    else:  # nothing varies: there is no scale to shrink towards
        with pytest.raises(ValueError, match="samples: expected"):
            Mahalanobis.estimate(samples, shrinkage=0.5)


@given(seed=seeds, d=st.integers(1, 6), missing=st.integers(0, 3))
def test_too_few_samples_are_always_noticed(seed, d, missing):
    samples = normal(seed, max(d - missing, 2) if d > 1 else 2, d)
    if len(samples) > d:
        Mahalanobis.estimate(samples)
    else:
        with pytest.raises(ValueError, match="samples: expected"):
            Mahalanobis.estimate(samples)


@pytest.mark.parametrize("dtype", DTYPES)
def test_mahalanobis_keeps_double_precision_and_lowers_none(dtype):
    x, y = normal(2, 4, 3).to(dtype), normal(3, 4, 3).to(dtype)
    exact = paired(oracles.mahalanobis(numpy(covariance(1, 3))), x.double(), y.double())
    distance = Mahalanobis(covariance(1, 3))
    assert distance.whitening.dtype == torch.float64
    for found in (distance(x, y), pairwise(distance, x, y).diagonal()):
        assert found.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
        close(found, exact, rtol=1e-12 if dtype == torch.float64 else 2e-6)
    learned = Mahalanobis(covariance(1, 3).to(found.dtype), trainable=True)
    with torch.no_grad():
        learned.factor.copy_(normal(4, 3, 3))
    for one in (distance, learned):
        outside = one(x, y)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert torch.equal(one(x, y), outside)
    single = Mahalanobis.estimate(normal(1, 30, 3).to(dtype))
    assert single.whitening.dtype == single(x, y).dtype == found.dtype


def test_a_float32_covariance_is_factored_in_double():
    q, x, y = orthogonal(1, 4), normal(2, 6, 4).float(), normal(3, 6, 4).float()
    c = (q * torch.tensor([1e-4, 1.0, 1.0, 2.0]) @ q.T).float()
    close(Mahalanobis(c)(x, y), Mahalanobis(c.double())(x, y), rtol=2e-6)


def test_neither_covariance_nor_samples_get_a_gradient():
    c, samples = leaf(covariance(1, 3)), leaf(normal(1, 9, 3))
    for distance in (Mahalanobis(c), Mahalanobis.estimate(samples)):
        assert not distance.whitening.requires_grad
        assert list(distance.parameters()) == []
        assert not distance(normal(1, 2, 3), normal(2, 2, 3)).requires_grad


def test_a_learned_distance_starts_euclidean():
    distance, x, y = Mahalanobis.learned(3), normal(1, 4, 3), normal(2, 4, 3)
    assert [p.shape for p in distance.parameters()] == [(3, 3)]
    close(distance(x, y), euclidean(x, y), atol=1e-15)


@given(seed=seeds, d=st.integers(1, 4), size=st.sampled_from([0.1, 1.0, 2.0]))
def test_a_learned_distance_is_always_positive_definite(seed, d, size):
    distance = Mahalanobis(covariance(seed, d), trainable=True)
    with torch.no_grad():
        distance.factor.copy_(size * normal(seed, d, d))
    whitening = distance.whiten(torch.eye(d, dtype=torch.float64)).T.detach()
    assert (whitening.triu(1) == 0).all()
    assert (whitening.diagonal() > 0).all()
    x, y = normal(seed + 1, 4, d), normal(seed + 2, 4, d)
    gap, inverse = x - y, whitening.T @ whitening
    close(distance(x, y), ((gap @ inverse) * gap).sum(-1).sqrt(), rtol=1e-6)


def test_every_covariance_can_be_learned():
    """Its factor, written down: T with T T' = C^-1, by log of the diagonal."""
    c, distance = covariance(5, 3), Mahalanobis.learned(3).double()
    target = Mahalanobis(c)
    with torch.no_grad():
        distance.factor.copy_(
            target.whitening.tril(-1) + target.whitening.diagonal().log().diag_embed()
        )
    x, y = normal(1, 4, 3), normal(2, 4, 3)
    close(distance(x, y), target(x, y))


def test_a_learned_distance_passes_gradcheck_and_learns():
    distance = Mahalanobis(covariance(2, 3), trainable=True)
    x, y, factor = leaf(normal(1, 4, 3)), leaf(normal(2, 4, 3)), leaf(0.3 * normal(3, 3, 3))

    def call(factor, x, y):
        return torch.func.functional_call(distance, {"factor": factor}, (x, y))

    assert torch.autograd.gradcheck(call, (factor, x, y))
    assert torch.autograd.gradgradcheck(call, (factor, x, y))
    (gradient,) = torch.autograd.grad(call(factor, x, y).sum(), factor)
    assert (gradient.tril() != 0).sum() == 6
    assert (gradient.triu(1) == 0).all()
    optimizer = torch.optim.SGD(distance.parameters(), lr=0.05)
    before = distance(x, y).sum()
    before.backward()
    optimizer.step()
    assert distance(x, y).sum() < before


@pytest.mark.parametrize(
    "make",
    [
        lambda: Mahalanobis(covariance(1, 3)),
        lambda: Mahalanobis.estimate(normal(1, 9, 3)),
        lambda: Mahalanobis(covariance(1, 3), trainable=True),
    ],
)
def test_state_survives_copies(make):
    distance, x, y = make(), normal(1, 4, 3), normal(2, 4, 3)
    if distance.factor is not None:
        with torch.no_grad():
            distance.factor.copy_(normal(7, 3, 3))
    other = Mahalanobis(torch.eye(3).double(), trainable=distance.factor is not None)
    other.load_state_dict(distance.state_dict())
    for same in (copy.deepcopy(distance), pickle.loads(pickle.dumps(distance)), other):
        assert torch.equal(same(x, y), distance(x, y))
    assert "size=3" in repr(distance)


def test_mahalanobis_runs_elsewhere_compiled_and_under_transforms():
    x, y = normal(1, 2, 4, 3), normal(2, 2, 4, 3)
    distance = Mahalanobis(covariance(1, 3), trainable=True)
    torch._dynamo.reset()
    compiled = torch.compile(distance, fullgraph=True, backend="aot_eager")
    close(compiled(x, y), distance(x, y))
    compiled(x, y).sum().backward()
    assert distance.factor.grad.isfinite().all()
    close(torch.vmap(distance)(x, y), distance(x, y))
    grad = torch.func.grad(lambda x: distance(x, y).sum())(x)
    close(grad, gradients(lambda x: distance(x, y).sum(), x)[1][0])
    away = copy.deepcopy(distance).to("meta")
    value = away(leaf(x.to("meta")), y.to("meta"))
    value.sum().backward()
    assert value.shape == (2, 4)


# --- pairwise ------------------------------------------------------------------------------------


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


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Mahalanobis(torch.ones(2, 3)), r"covariance: expected .*\(3, 3\).*got \(2, 3\)"),
        (lambda: Mahalanobis(torch.ones(2)), r"covariance: expected .*got \(2,\)"),
        (lambda: Mahalanobis(EYE.long()), "covariance: expected .*float.*got torch.int64"),
        (lambda: Mahalanobis(EYE * math.nan), "covariance: expected finite"),
        (
            lambda: Mahalanobis(torch.tensor([[1.0, math.inf], [math.inf, 1.0]])),
            "covariance: expected finite",
        ),
        (
            lambda: Mahalanobis(torch.tensor([[2.0, 1.0], [0.5, 2.0]])),
            "covariance: expected a symm",
        ),
        (
            lambda: Mahalanobis(torch.tensor([[1.0, 2.0], [2.0, 1.0]])),
            "covariance: .*definite.*got 1 eig",
        ),
        (lambda: Mahalanobis(-EYE), "covariance: expected .*definite.*got 0 eig"),
        (lambda: Mahalanobis(torch.ones(2, 2)), "covariance: expected .*definite.*got 1 eig"),
        (lambda: Mahalanobis(0 * EYE), "covariance: expected .*definite.*got 0 eig"),
        (lambda: Mahalanobis.estimate(X[0]), r"samples: expected .*got \(2,\)"),
        (lambda: Mahalanobis.estimate(X[:1]), r"samples: expected two .*got \(1, 2\)"),
        (lambda: Mahalanobis.estimate(X / 0), "samples: expected two finite.*got NaN or inf"),
        (lambda: Mahalanobis.estimate(X.int()), "samples: expected .*float.*got torch.int32"),
        (lambda: Mahalanobis.estimate(X, shrinkage=1.5), "shrinkage: expected .*0 to 1, got 1.5"),
        (lambda: Mahalanobis.estimate(X, shrinkage=-0.1), "shrinkage: expected .*got -0.1"),
        (lambda: Mahalanobis.estimate(X, shrinkage="auto"), "shrinkage: expected .*got auto"),
        (lambda: Mahalanobis.learned(0), "size: expected .*got 0"),
        (lambda: Mahalanobis.learned(2.0), "size: expected .*got 2.0"),
        (
            lambda: Mahalanobis(EYE)(torch.ones(3, 4), torch.ones(3, 4)),
            r"x: expected .*2.*got \(3, 4\)",
        ),
        (lambda: Mahalanobis(EYE)(X, X[:2]), r"y: expected .*got \(2, 2\)"),
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
def test_wrong_calls_of_mahalanobis_and_pairwise(call, message):
    with pytest.raises(ValueError, match=message):
        call()


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
