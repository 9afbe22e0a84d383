"""Row maps against their equations, at every size of number and in every dtype."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import mmcontrast as mm
from tests import oracles
from tests.mmcontrast.strategies import close, embeddings, gradients, leaf, normal, numpy, seeds

MAPS = {
    "l2": mm.l2_normalize,
    "softmax": mm.softmax_normalize,
    "shifted_cosine": mm.shifted_cosine_normalize,
    "softplus": mm.softplus_normalize,
}
LOW = [torch.float32, torch.bfloat16, torch.float16]
every_map = pytest.mark.parametrize("name", MAPS)


@every_map
@given(seed=seeds, n=st.integers(1, 5), d=st.integers(1, 5))
def test_agrees_with_the_oracle(name, seed, n, d):
    x = normal(seed, n, d)
    close(MAPS[name](x), np.array(oracles.rows(numpy(x), name)), atol=1e-13)


@every_map
def test_leading_axes_are_kept(name):
    x = normal(3, 2, 3, 4)
    together = MAPS[name](x)
    for i in range(2):
        close(together[i], MAPS[name](x[i]), atol=1e-15)


@every_map
def test_gradcheck(name):
    x = leaf(normal(4, 3, 4))
    assert torch.autograd.gradcheck(MAPS[name], x)
    assert torch.autograd.gradgradcheck(MAPS[name], x)


@every_map
@pytest.mark.parametrize("dtype", [torch.float64, *LOW])
def test_result_is_float32_or_float64_and_as_precise(name, dtype):
    x = normal(5, 4, 6).to(dtype)
    result = MAPS[name](x)
    assert result.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    close(result, MAPS[name](x.double()), atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float64, *LOW])
def test_law_23_zero_rows_stay_zero_with_zero_gradient(dtype):
    x = normal(6, 3, 4).to(dtype)
    x[1] = 0
    coefficients = normal(7, 3, 4)
    value, (gradient,) = gradients(lambda x: (mm.l2_normalize(x) * coefficients).sum(), x)
    assert value.isfinite()
    assert (mm.l2_normalize(x)[1] == 0).all()
    assert (gradient[1] == 0).all()
    assert (gradient[[0, 2]] != 0).any(dim=1).all()
    assert gradient.dtype == dtype


@every_map
@pytest.mark.parametrize("dtype", [torch.float64, *LOW])
def test_law_23_zero_rows_have_finite_gradients_in_every_map(name, dtype):
    x = torch.zeros(2, 3, dtype=dtype)
    value, (gradient,) = gradients(lambda x: MAPS[name](x).square().cumsum(-1).sum(), x)
    assert value.isfinite()
    assert gradient.isfinite().all()


@given(seed=seeds, power=st.integers(-37, 37))
def test_law_6_length_one_at_every_size_a_float32_holds(seed, power):
    x = (embeddings(seed, 3, 4) * 10.0**power).float()
    result = mm.l2_normalize(x)
    close(result.norm(dim=-1), torch.ones(3), atol=1e-5)
    close(result, mm.l2_normalize(x.double()), atol=1e-5)


@given(seed=seeds, power=st.integers(-15, 15))
def test_law_7_gradient_is_orthogonal_to_the_row(seed, power):
    x, coefficients = normal(seed, 3, 4) * 10.0**power, normal(seed + 1, 3, 4)
    _, (gradient,) = gradients(lambda x: (mm.l2_normalize(x) * coefficients).sum(), x)
    close((gradient * x).sum(dim=-1), torch.zeros(3), atol=1e-12)


def test_float16_rows_whose_squares_overflow_or_underflow():
    x = torch.tensor([[3e4, 4e4], [3e-5, 4e-5]], dtype=torch.float16)
    close(mm.l2_normalize(x), torch.tensor([[0.6, 0.8], [0.6, 0.8]]), atol=2e-3)


@given(seed=seeds)
def test_softmax_similarities_lie_above_zero_up_to_one(seed):
    z = mm.softmax_normalize(3 * normal(seed, 5, 3))
    similarity = z @ z.T
    assert (similarity > 0).all()
    assert (similarity <= 1).all()
    close(z.sum(dim=-1), torch.ones(5))


@given(seed=seeds)
def test_shifted_cosine_is_half_of_one_plus_cosine(seed):
    x, y = normal(seed, 4, 3), normal(seed + 1, 4, 3)
    similarity = mm.shifted_cosine_normalize(x) @ mm.shifted_cosine_normalize(y).T
    close(similarity, (1 + torch.cosine_similarity(x[:, None], y[None], dim=-1)) / 2)


@given(seed=seeds)
def test_softplus_similarities_are_positive_cosines(seed):
    z = mm.softplus_normalize(10 * normal(seed, 4, 3))
    assert (z @ z.T > 0).all()
    close(z.norm(dim=-1), torch.ones(4))


@every_map
def test_autocast_does_not_lower_the_precision(name):
    x = normal(8, 4, 6).float()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = MAPS[name](x)
    assert inside.dtype == torch.float32
    close(inside, MAPS[name](x), atol=0, rtol=0)
