"""Sums over samples, accumulated in float64, and their derivatives."""

import pytest
import torch

from mmcontrast.exact import sizes
from mmcontrast.hybrid.row_sums import row_moments, sum_rows, sum_weighted_rows
from tests.mmcontrast.strategies import close, gradients, normal

M, D = 3, 4


def test_moments_and_their_derivatives():
    x = normal(1, 6, M, D)
    steps = torch.arange(1, M * D * D + 1, dtype=torch.float64).view(M, D, D)

    def total(x, moments):
        of_x, of_products = moments(x)
        return (of_x * steps[:, 0]).sum() + (of_products * steps).sum()

    def written_out(x):
        return x.sum(0), torch.einsum("kmd,kme->mde", x, x)

    value, (found,) = gradients(lambda x: total(x, row_moments), x)
    expected, (slope,) = gradients(lambda x: total(x, written_out), x)
    close(value, expected)
    close(found, slope)
    assert torch.autograd.gradgradcheck(lambda x: row_moments(x), x[:2].requires_grad_())


@pytest.mark.parametrize(
    "n", [0, 1, sizes.MOMENTS_RUN - 1, sizes.MOMENTS_RUN, 5 * sizes.MOMENTS_RUN + 3]
)
def test_sums_of_many_rows_are_in_float64(n):
    """In float32 a hundred thousandth of each row is lost beside the sum of so many."""
    x = (1000 + normal(1, n, 2, D)).float()
    found = sum_rows(x)
    assert found.dtype == torch.float64
    close(found, x.double().sum(0), rtol=2e-7)


@pytest.mark.parametrize("n", [0, 1, sizes.MOMENTS_RUN, 2 * sizes.MOMENTS_RUN + 5])
def test_weighted_sums_are_the_loops(n):
    """Weights of a modality are nearly equal; a run of 64 rows is a float32 sum, to 1e-5 of 1."""
    weights, x = 1000 + normal(1, n, M, 2).float(), normal(2, n, M, D).float()
    expected = torch.einsum("kmp,kmd->pd", weights.double(), x.double())
    found = sum_weighted_rows(weights, x)
    assert found.dtype == torch.float64
    close(found, expected, rtol=0, atol=1000 * 1e-5)
