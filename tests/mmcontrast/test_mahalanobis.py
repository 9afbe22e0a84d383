"""The Mahalanobis distance: given, estimated and learned covariances."""

import copy
import math
import pickle

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mmcontrast.distance_matrix import pairwise
from mmcontrast.distances import euclidean
from mmcontrast.mahalanobis import Mahalanobis
from tests import oracles
from tests.mmcontrast.distance_inputs import covariance, paired
from tests.mmcontrast.strategies import close, gradients, leaf, normal, numpy, orthogonal, seeds

DTYPES = [torch.float64, torch.float32, torch.bfloat16, torch.float16]


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
        outside = gradients(lambda x, y, one=one: one(x, y).sum(), x, y)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            inside = gradients(lambda x, y, one=one: one(x, y).sum(), x, y)
        assert torch.equal(inside[0], outside[0])
        assert all(map(torch.equal, inside[1], outside[1]))
    single = Mahalanobis.estimate(normal(1, 30, 3).to(dtype))
    assert single.whitening.dtype == single(x, y).dtype == found.dtype


def test_in_a_bfloat16_model_it_is_the_distance_of_its_parameters():
    x, y = normal(2, 6, 4).float(), normal(3, 6, 4).float()
    low = Mahalanobis.learned(4)
    with torch.no_grad():
        low.factor.copy_(normal(4, 4, 4))
    low = low.bfloat16()
    close(low(x, y), copy.deepcopy(low).double()(x.double(), y.double()), rtol=1e-5)


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


@pytest.mark.parametrize("size", [1e-30, 1e20, 1e37])
def test_every_size_of_number_has_its_distance_and_gradient(size):
    distance = Mahalanobis(covariance(1, 3))
    x, y = (normal(1, 4, 3) * size).float(), (normal(2, 4, 3) * size).float()
    value, found = gradients(lambda x, y: distance(x, y).mean(), x, y)
    wide, exact = gradients(lambda x, y: distance(x, y).mean(), x.double(), y.double())
    close(value, wide, rtol=1e-6, atol=0)
    for gradient, reference in zip(found, exact, strict=True):
        close(gradient, reference, rtol=1e-5, atol=1e-6)


# --- wrong calls ---------------------------------------------------------------------------------

X, EYE = torch.ones(3, 2), torch.eye(2)


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
        (lambda: Mahalanobis.estimate(X, shrinkage="auto"), "shrinkage: expected .*got 'auto'"),
        (lambda: Mahalanobis.learned(0), "size: expected .*got 0"),
        (lambda: Mahalanobis.learned(2.0), "size: expected .*got 2.0"),
        (
            lambda: Mahalanobis(EYE)(torch.ones(3, 4), torch.ones(3, 4)),
            r"x: expected .*2.*got \(3, 4\)",
        ),
        (lambda: Mahalanobis(EYE)(X, X[:2]), r"y: expected .*got \(2, 2\)"),
    ],
)
def test_wrong_calls(call, message):
    with pytest.raises(ValueError, match=message):
        call()
