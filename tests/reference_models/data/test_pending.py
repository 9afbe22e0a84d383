"""Dtypes, arrays and sets of a pickle, noted down while it runs and made after it."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from reference_models.data.pending import (
    Function,
    PendingArray,
    PendingDtype,
    PendingSet,
    Refused,
    make_array,
    object_array,
)


@given(
    arrays.arrays(
        st.sampled_from(["?", "i1", "<i4", ">i8", "u2", "f2", ">f4", "f8", "<U3", ">U2", "S4"]),
        arrays.array_shapes(min_dims=0, min_side=0),
    ),
    st.sampled_from("CF"),
)
def test_an_array_of_its_bytes(source, order):
    dtype = PendingDtype(source.dtype.str[1:])
    dtype.__setstate__((3, source.dtype.byteorder, None, None, None, -1, -1, 0))
    made = make_array(source.tobytes(order), dtype, source.shape, order)
    assert made.dtype == source.dtype.newbyteorder("=")
    assert np.array_equal(made, source, equal_nan=source.dtype.kind == "f")


@pytest.mark.parametrize(
    "code", ["V8", "M8", "m8", "i4,O", "(2,)i4", "U\u0661", "f4\n", "c8", 3, b"f4"]
)
def test_other_dtypes(code):
    with pytest.raises(Refused, match="the dtype"):
        PendingDtype(code)


@pytest.mark.parametrize(
    "shape",
    [(-1,), (2.0,), (True,), (np.int64(2),), ("2",), (2**60,), (1,) * 33, (10**7, 0), ((1,),)],
)
def test_other_shapes(shape):
    with pytest.raises(ValueError, match=r"a shape of|without content"):
        make_array(b"", PendingDtype("f4"), shape, "C")


def test_objects_are_placed_one_by_one():
    made = make_array([[1, 2], [3, 4]], PendingDtype("O"), (2, 1), "C")
    assert made.shape == (2, 1)
    assert made[1, 0] == [3, 4]
    assert object_array([(1, 2), "a"]).tolist() == [(1, 2), "a"]


def test_states_are_given_once():
    array = PendingArray()
    array.__setstate__((1, (2,), PendingDtype("i1"), True, b"ab"))
    assert array.parts[0] == b"ab"
    assert array.parts[3:] == ("F", None)
    with pytest.raises(Refused, match="another state"):
        array.__setstate__((1, (2,), PendingDtype("i1"), True, b"cd"))
    for part in (PendingSet(set, [1]), Function(len)):
        with pytest.raises(Refused, match="a state for a"):
            part.__setstate__({})
    assert Function(len)([1, 2]) == 2
