"""The checks of config fields: one message, conditions in order."""

import math
from types import SimpleNamespace

import pytest

from reference_models.checks import expect, is_int, is_number


def test_a_value_that_meets_all_conditions_passes():
    expect(SimpleNamespace(size=3), "size", "a whole number from 1", is_int, lambda n: n >= 1)


@pytest.mark.parametrize("value", [0, "3", None, 2.0, True])
def test_a_refusal_names_field_expectation_and_value(value):
    # The second condition would raise on text: the first one comes first.
    with pytest.raises(ValueError, match=f"^size: expected a number from 1, got {value!r}$"):
        expect(SimpleNamespace(size=value), "size", "a number from 1", is_int, lambda n: n >= 1)


@pytest.mark.parametrize(
    ("value", "whole", "number"),
    [
        (3, True, True),
        (-2.5, False, True),
        (True, False, False),
        ("3", False, False),
        (None, False, False),
        (math.nan, False, False),
        (math.inf, False, False),
    ],
)
def test_what_counts_as_a_number(value, whole, number):
    assert (is_int(value), is_number(value)) == (whole, number)
