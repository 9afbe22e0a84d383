"""Checks of numbers: what each takes, and what it says of everything else."""

import enum
import re
from fractions import Fraction

import numpy as np
import pytest
import torch

from mmcontrast import arguments


class Weight(float):
    pass


class Count(enum.IntEnum):
    TWO = 2


@pytest.mark.parametrize("kind", [float, int, Weight, Count, np.float32, np.float64, np.int64])
def test_numbers_of_all_kinds(kind):
    assert arguments.is_number(kind(2))


@pytest.mark.parametrize(
    "value", [True, np.True_, "2", None, Fraction(2), 2j, torch.tensor(2.0), Weight("nan")]
)
def test_what_is_no_number(value):
    assert not arguments.is_number(value)


@pytest.mark.parametrize(
    "call",
    [
        lambda: arguments.positive("x", 1e-9),
        lambda: arguments.probability(0),
        lambda: arguments.probability(1.0),
        lambda: arguments.whole("x", 1),
        lambda: arguments.temperature(torch.tensor(-1.0)),  # a learned one is not read
    ],
)
def test_what_is_right_of_scalars_passes(call):
    call()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: arguments.positive("x", 0), "x: expected a number above 0, got 0"),
        (lambda: arguments.positive("x", float("nan")), "x: expected a number above 0, got nan"),
        (
            lambda: arguments.positive("x", torch.tensor(1.0)),
            "x: expected a number above 0, got tensor(1.) torch.float32",
        ),
        (lambda: arguments.probability(1.1), "probability: expected a number in [0, 1], got 1.1"),
        (lambda: arguments.probability(torch.tensor(0.5)), "probability: expected a number in"),
        (lambda: arguments.whole("x", 0), "x: expected an int of at least 1, got 0"),
        (lambda: arguments.whole("x", True), "x: expected an int of at least 1, got True"),
        (lambda: arguments.whole("x", 2.0), "x: expected an int of at least 1, got 2.0"),
        (lambda: arguments.temperature(0.0), "temperature: expected a number above 0, got 0.0"),
        (
            lambda: arguments.temperature(torch.ones(1, 1)),
            "temperature: expected a number above 0 or a floating tensor of shape () or (1,), got "
            "(1, 1) torch.float32",
        ),
        (lambda: arguments.temperature(torch.tensor(1)), "temperature: expected a number above 0"),
    ],
)
def test_each_error_of_scalars_names_what_was_expected_and_what_came(call, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        call()


def test_a_constant_is_no_learned_number():
    arguments.constant("x", torch.tensor(0.5))
    with pytest.raises(ValueError, match=r"^x: expected a number, as no gradient by it is made"):
        arguments.constant("x", torch.nn.Parameter(torch.tensor(0.5)))


@pytest.mark.parametrize("shape", [(), (1,)])
def test_a_learned_number_comes_back_without_a_dimension(shape):
    given = torch.full(shape, 0.5, requires_grad=True)
    for found in (arguments.temperature(given), arguments.number_or_scalar("x", given)):
        assert found.shape == ()
        assert torch.autograd.grad(found, given)[0].shape == shape
    assert arguments.constant("x", given.detach()).shape == ()
    for number in (2, 0.5, np.float32(0.5)):
        assert arguments.temperature(number) is number
        assert arguments.number_or_scalar("x", number) is number
        assert arguments.constant("x", number) is number


@pytest.mark.parametrize(
    "other", [torch.ones(2), torch.ones(1, 1), torch.ones(0), torch.ones(1).int()]
)
def test_a_learned_number_is_one_number(other):
    expected = r"x: expected a number or a floating tensor of shape \(\) or \(1,\), got"
    for check in (arguments.number_or_scalar, arguments.constant):
        with pytest.raises(ValueError, match=expected):
            check("x", other)
