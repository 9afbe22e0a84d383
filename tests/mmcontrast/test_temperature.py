"""The learned temperature: its bounds, its gradient, its state."""

import copy

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch._subclasses.fake_tensor import FakeTensorMode

import mmcontrast as mm
from tests.mmcontrast.strategies import normal


@given(
    minimum=st.floats(1e-3, 1.0),
    width=st.floats(1.1, 100.0),
    share=st.floats(0.01, 0.99),
)
def test_it_starts_where_it_is_told(minimum, width, share):
    maximum = minimum * width
    initial = minimum * width**share
    temperature = mm.LearnableTemperature(initial, minimum=minimum, maximum=maximum)()
    assert temperature.shape == ()
    assert temperature.dtype == torch.float32
    assert temperature.requires_grad
    assert temperature.item() == pytest.approx(initial, rel=1e-4)


def test_defaults_are_the_documented_ones():
    assert mm.LearnableTemperature()().item() == pytest.approx(0.07, rel=1e-6)
    low, high = (settled(sign) for sign in (1, -1))
    assert low == pytest.approx(0.01, rel=0.02)
    assert high == pytest.approx(1.0, rel=0.02)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@given(initial=st.floats(0.011, 0.99))
def test_in_a_low_precision_model_it_is_the_value_of_its_parameter(dtype, initial):
    low = mm.LearnableTemperature(initial).to(dtype)
    wide = copy.deepcopy(low).double()
    assert low().dtype == torch.float32
    assert low().item() == pytest.approx(wide().item(), rel=1e-5)
    (found,) = torch.autograd.grad(low(), low.theta)
    (expected,) = torch.autograd.grad(wide(), wide.theta)
    assert found.dtype == dtype
    assert found.item() == pytest.approx(expected.item(), rel=torch.finfo(dtype).eps)


def settled(sign, steps=400):
    """Where an optimizer drives it that wants it low (1) or high (-1)."""
    temperature = mm.LearnableTemperature()
    optimizer = torch.optim.Adam(temperature.parameters(), lr=0.2)
    for _ in range(steps):
        optimizer.zero_grad()
        (sign * temperature()).backward()
        optimizer.step()
        assert 0.01 <= temperature().item() <= 1.0
    return temperature().item()


def test_the_gradient_is_that_of_central_differences():
    temperature = mm.LearnableTemperature(0.3).double()
    (parameter,) = temperature.parameters()
    (gradient,) = torch.autograd.grad(temperature(), parameter)
    step = 1e-6
    with torch.no_grad():
        parameter += step
        up = temperature().item()
        parameter -= 2 * step
        down = temperature().item()
    assert gradient.item() == pytest.approx((up - down) / (2 * step), rel=1e-6)


def test_an_optimizer_moves_it_in_a_loss():
    loss = mm.InfoNCE(temperature=mm.LearnableTemperature(0.5))
    x = normal(1, 8, 4).float()
    y = x + 0.1 * normal(2, 8, 4).float()
    optimizer = torch.optim.SGD(loss.parameters(), lr=0.5)
    before = loss(x, y)
    for _ in range(20):
        optimizer.zero_grad()
        loss(x, y).backward()
        optimizer.step()
    assert loss(x, y) < before


def test_law_59_state_dict_and_deepcopy():
    first, second = mm.LearnableTemperature(0.2), mm.LearnableTemperature(0.5)
    assert copy.deepcopy(first)().item() == first().item()
    second.load_state_dict(first.state_dict())
    assert second().item() == first().item()


def test_a_state_of_fake_tensors_loads_and_leaves_the_bounds():
    with FakeTensorMode():
        state = mm.LearnableTemperature(0.3, maximum=10).state_dict()
        temperature = mm.LearnableTemperature()
        temperature.load_state_dict(state)
    assert (temperature.minimum, temperature.maximum) == (0.01, 1.0)


def test_repr_tells_the_bounds():
    assert "0.02" in repr(mm.LearnableTemperature(0.5, minimum=0.02))


@pytest.mark.parametrize(
    ("initial", "minimum", "maximum"),
    [
        (0.0, 0.01, 1.0),
        (0.01, 0.01, 1.0),
        (1.0, 0.01, 1.0),
        (2.0, 0.01, 1.0),
        (0.07, 0.0, 1.0),
        (0.07, -1.0, 1.0),
        (0.3, 0.5, 0.2),
        (float("nan"), 0.01, 1.0),
    ],
)
def test_wrong_calls(initial, minimum, maximum):
    message = f"initial: expected 0 < minimum < initial < maximum, got .*{initial}"
    with pytest.raises(ValueError, match=message):
        mm.LearnableTemperature(initial, minimum=minimum, maximum=maximum)
