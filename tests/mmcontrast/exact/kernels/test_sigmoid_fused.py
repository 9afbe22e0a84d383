"""The sigmoid loss by kernels: its bias, and small losses."""

import pytest
import torch

from mmcontrast.exact import kernels
from tests.mmcontrast.exact.kernels.cases import BLOCKS, LOSSES, given, in_double, plain_sigmoid


@pytest.mark.parametrize("temperature", [0.01, 0.5])
def test_bias_has_a_gradient(temperature, device):
    x, y = given("random", 19, 10, "ieee", device)
    bias = torch.tensor(-2.0, device=device, requires_grad=True)
    value = LOSSES["sigmoid"][0](x, y, temperature, bias=bias, blocks=BLOCKS).sum()
    double = in_double(x, y, bias)
    expected = plain_sigmoid(*double[:2], temperature, double[2]).sum()
    torch.testing.assert_close(value.double(), expected, rtol=1e-6, atol=1e-6)
    (found,) = torch.autograd.grad(value, bias)
    (sought,) = torch.autograd.grad(expected, double[2])
    torch.testing.assert_close(found.double(), sought, rtol=1e-6, atol=1e-5)


def test_the_softplus_of_what_is_far_below_zero_keeps_its_digits(device):
    """SigLIP starts at a bias of -10, where 1 + e^s has lost what e^s says."""
    x, y = given("zero", 18, 6, "ieee", device)
    for bias in (-10.0, -30.0):
        losses = kernels.sigmoid_fused(x[::2], y[9:], 1.0, bias, None, blocks=BLOCKS) + bias
        exact = plain_sigmoid(*in_double(x[::2], y[9:]), 1.0, bias) + bias
        torch.testing.assert_close(losses.double(), exact, rtol=0, atol=4e-6)
