"""Distances by products against differences of the rows."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import mmcontrast as mm
from mmcontrast.exact.euclidean_products import EuclideanProducts
from mmcontrast.exact.tiles import slices
from tests.mmcontrast.strategies import close, leaf, normal, seeds


def by_products(x, y, slopes, step):
    """Distances and the gradient of their sum weighted by slopes, in blocks."""
    way, found = EuclideanProducts(x, y), []
    for i in slices(len(x), step):
        found.append(way.distances(i))
        way.add_gradient(i, found[-1], slopes[i].clone())
    return torch.cat(found), *way.gradients()


def by_differences(x, y, slopes):
    x, y = leaf(x.double()), leaf(y.double())
    apart = mm.euclidean(x[:, None], y)
    return apart.detach(), *torch.autograd.grad(apart, (x, y), slopes)


@given(
    seed=seeds,
    n=st.integers(1, 6),
    m=st.integers(1, 6),
    offset=st.sampled_from([0.0, 1.0, 1e3]),
    scale=st.sampled_from([1e-38, 1e-10, 1.0, 1e34]),
    step=st.integers(1, 4),
)
def test_distances_and_gradients_keep_the_digits_of_float32(seed, n, m, offset, scale, step):
    """Of equal rows, and of rows that differ in their last digit, too."""
    x, y = (((normal(seed + k, size, 3) + offset) * scale).float() for k, size in ((0, n), (1, m)))
    y[0] = x[0]
    y[-1] = x[-1]
    y[-1, 0] = torch.nextafter(x[-1, 0], x.new_tensor(torch.inf))
    slopes = normal(seed + 2, n, m)
    found, expected = by_products(x, y, slopes, step), by_differences(x, y, slopes)
    close(found[0] / scale, expected[0] / scale, atol=1e-110, rtol=1e-8)
    for a, b in zip(found[1:], expected[1:], strict=True):
        close(a, b, atol=1e-7, rtol=1e-7)


@pytest.mark.parametrize("spread", [0.0, 1e-5])
def test_many_close_pairs_are_left_to_others(spread):
    """Rows that have collapsed would be measured one by one."""
    x = (1 + spread * normal(1, 30, 3)).float()
    x[-1] = 0
    assert EuclideanProducts(x, x).distances(slice(0, 10)) is None
    assert EuclideanProducts(x[:5], x[:5]).distances(slice(0, 5)) is not None


def test_far_from_the_origin_as_many_are_close():
    x = (1e4 + normal(1, 30, 3)).float()
    found = EuclideanProducts(x, x).distances(slice(0, 30))
    close(found, mm.pairwise(mm.euclidean, x.double(), x.double()), rtol=1e-8)
