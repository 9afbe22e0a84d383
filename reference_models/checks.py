"""Checks of the fields of a config class, with one format of messages."""

import math
from collections.abc import Callable
from typing import Any


def expect(config: object, name: str, expected: str, *conditions: Callable[[Any], object]) -> None:
    """Refuse a field unless its value meets all conditions, which are tried in order.

    Raises:
        ValueError: names the field, what was expected and what came.
    """
    value = getattr(config, name)
    if not all(condition(value) for condition in conditions):
        raise ValueError(f"{name}: expected {expected}, got {value!r}")


def is_int(value: object) -> bool:
    """Whether it is a whole number; True and False are not."""
    return isinstance(value, int) and not isinstance(value, bool)


def is_number(value: object) -> bool:
    """Whether it is a finite number; True and False are not."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
