"""The settings of text alone: the one row, and what is refused."""

import pytest

from reference_models.registry import find
from reference_models.text_only.settings import CHOICES, TextOnlyConfig


def test_the_only_table_has_one_row():
    assert find("text-only").tables == {"headline": {"text-only": {}}}


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        *[("dropout", value, "a number from 0, below 1") for value in (1.0, -0.1, "0.5", None)],
        ("squared", 1, "true or false"),
        *[(name, "other", f"one of {', '.join(values)}") for name, values in CHOICES.items()],
    ],
)
def test_the_config_refuses(name, value, expected):
    with pytest.raises(ValueError) as caught:  # noqa: PT011 (the whole message is compared below)
        TextOnlyConfig(**{name: value})
    assert str(caught.value) == f"{name}: expected {expected}, got {value!r}"
