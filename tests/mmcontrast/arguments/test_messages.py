"""How what came is shown."""

import pytest

from mmcontrast import arguments


def test_whole_numbers_of_any_length_are_shown():
    with pytest.raises(ValueError, match=r"^x: expected an int of at least 1, got a whole number"):
        arguments.whole("x", 10**5000)
    assert not arguments.is_number(10**400)
    assert arguments.is_number(10**300)
