"""Values in messages: short, on one line, never written whole first."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reference_models.excerpt import excerpt, excerpts, printable


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("a", "'a'"),
        ("\x1b[31m\udc80", r"'\x1b[31m\udc80'"),
        (b"\xff", r"b'\xff'"),
        ("x" * 99, "'" + "x" * 56 + "..."),
        (3, "3"),
        (-(10**40), "a whole number of 133 bits"),
        (True, "True"),
        (None, "None"),
        (0.5, "0.5"),
        (np.str_("a"), "'a'"),
        ([[1]], "a list"),
        ([0, "a"], "[0, 'a']"),
        ((), "[]"),
        ([1, 2, 3, 4, 5], "a list"),
        (np.zeros(3), "a ndarray"),
        (np.float32(1), "a float32"),
    ],
)
def test_a_value(value, words):
    assert excerpt(value) == words


@given(st.text() | st.binary() | st.integers() | st.floats())
def test_an_excerpt_is_short_and_printable(value):
    found = excerpt(value, 40)
    assert len(found) <= 40
    assert found.isprintable()


def test_a_nested_list_is_not_written():
    laughs = ["lol"]
    for _ in range(60):
        laughs = [laughs] * 9
    assert excerpt(laughs) == "a list"
    assert (
        excerpts(laughs)
        == "[a list, a list, a list, a list, a list, a list, a list, a list, a list]"
    )


def test_an_integer_that_python_does_not_write():
    assert excerpt(1 << 10**6) == "a whole number of 1000001 bits"


def test_the_first_values():
    assert excerpts([]) == "[]"
    assert excerpts({"a": 1, 2: 3}) == "['a', 2]"
    assert excerpts(range(10**9), most=2) == "[0, 1, ...]"


@given(st.text())
def test_a_text_without_control_codes(text):
    found = printable(text)
    assert found.isprintable()
    found.encode()
    if text.isprintable():
        assert found == text


def test_escapes():
    assert printable("a\x1b]0;\n\udc80\u7ebf") == "a\\x1b]0;\\n\\udc80\u7ebf"
    assert printable("a" * 5, 3) == "aaa..."
