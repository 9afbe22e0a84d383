"""Names and sentences: whole characters, every name once."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reference_models.data.pickles import DataError
from reference_models.data.wording import decoded, distinct, text_of, words


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("a\udc80", "a\ufffd"),
        ("\ud83d\ude00", "\U0001f600"),  # two halves, as JSON writes them
        (b"\xff", "\ufffd"),
        (3, "3"),
        (np.int64(3), "3"),
        (np.str_("a"), "a"),
        (None, "None"),
    ],
)
def test_a_name(value, expected):
    assert text_of(value, "x") == expected
    assert type(text_of(value, "x")) is str


@pytest.mark.parametrize("value", [["a"], ("a",), {}, {1}, np.zeros(2)])
def test_what_is_no_name(value):
    with pytest.raises(DataError, match="x, row 0: expected text or a number, got "):
        words([value], 1, "x")


def test_an_integer_that_python_does_not_write():
    with pytest.raises(DataError, match="got a whole number of 16610 bits"):
        text_of(10**5000, "x")


@given(st.text(st.characters(), max_size=20))
def test_any_text_can_be_written(text):
    whole = "".join(letter for letter in text if not "\ud800" <= letter <= "\udfff")
    assert decoded(whole) == whole
    decoded(text).encode()


@given(st.lists(st.sampled_from(["a", "b", "a/0", "a/1", "a/1/1", ""]), max_size=8))
def test_every_name_is_there_once(names):
    found = distinct(names)
    assert len(set(found)) == len(names)
    for name, new in zip(names, found, strict=True):
        assert new.startswith(name)
    if len(set(names)) == len(names):
        assert found == names


def test_columns_of_names():
    assert words(np.array([["a"], ["b"]]), 2, "x") == ["a", "b"]
    assert words(["a", "b", "a"], 3, "x") == ["a/0", "b", "a/2"]
    assert words(["a", "a"], 2, "x", text=True) == ["a", "a"]
    with pytest.raises(DataError, match="expected sentences, got int in row 1"):
        words(["a", 3], 2, "x", text=True)
    with pytest.raises(DataError, match="expected a list or an array, got ndarray"):
        words(np.array("a"), 1, "x")
    with pytest.raises(DataError, match="got 1000000"):
        words(np.zeros((10**6, 0)), 2, "x")
