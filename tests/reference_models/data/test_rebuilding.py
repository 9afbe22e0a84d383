"""Forged arrays and dtypes are refused."""

import pickle

import numpy as np
import pytest

from reference_models.data.pickles import DataError, load_pickle
from tests.reference_models.data.test_pickles import call, named, packed
from tests.reference_models.files import write

RECONSTRUCT = ("numpy._core.multiarray", "_reconstruct")
SCALAR = ("numpy._core.multiarray", "scalar")
NDARRAY = named("numpy", "ndarray")
PLAIN_STATE = (3, "<", None, None, None, -1, -1, 0)


def dtype(code: object, state: tuple | None = None) -> bytes:
    made = named("numpy", "dtype") + packed((code, False, True)) + b"R"
    return made if state is None else made + packed(state) + b"b"


def array(kind: bytes, shape: object, content: object, dtype: bytes) -> bytes:
    """What numpy writes for an array, with everything in it open to forgery."""
    empty = named(*RECONSTRUCT) + b"(" + kind + packed((0,)) + packed(b"b") + b"tR"
    state = b"(" + packed(1) + packed(shape) + dtype + packed(False) + packed(content) + b"t"
    return b"\x80\x04" + empty + state + b"b."


def test_the_forger_writes_what_numpy_reads():
    honest = array(NDARRAY, (2,), b"\x01\x00\x02\x00", dtype("i2", PLAIN_STATE))
    assert np.array_equal(pickle.loads(honest), [1, 2])


FORGERIES = {
    "object pointers from bytes": (
        array(NDARRAY, (8,), b"\x10" * 8, dtype("O8", PLAIN_STATE)),
        "object array whose list",
    ),
    "an object array of another length": (
        array(NDARRAY, (3,), [1, 2], dtype("O8", PLAIN_STATE)),
        "object array whose list",
    ),
    "an object scalar": (
        b"\x80\x04" + named(*SCALAR) + b"(" + dtype("O8") + packed(b"\x10" * 8) + b"tR.",
        "got an object scalar",
    ),
    "a structured dtype": (
        b"\x80\x04" + dtype("i8", (3, "<", None, ("a",), {"a": 1}, 8, 8, 0)) + b".",
        "got a structured dtype",
    ),
    "a subarray dtype": (
        b"\x80\x04" + dtype("i8", (3, "<", (1, (2,)), None, None, 8, 8, 0)) + b".",
        "got a structured dtype",
    ),
    "a void dtype": (b"\x80\x04" + dtype("V8") + b".", "got the dtype 'V8'"),
    "a dtype by fields": (b"\x80\x04" + dtype("i4,O") + b".", "got the dtype 'i4,O'"),
    "a dtype of another thing": (b"\x80\x04" + dtype([("a", "O")]) + b".", "got the dtype"),
    "an unknown byte order": (
        b"\x80\x04" + dtype("i8", (3, "!", None, None, None, 8, 8, 0)) + b".",
        "byte order is '!'",
    ),
    "too few bytes": (
        array(NDARRAY, (2,), b"\x01\x00", dtype("i2", PLAIN_STATE)),
        r"2 bytes for an array \(2,\)",
    ),
    "too many bytes": (
        array(NDARRAY, (2,), b"\x01" * 6, dtype("i2", PLAIN_STATE)),
        r"6 bytes for an array \(2,\)",
    ),
    "a shape below zero": (
        array(NDARRAY, (-1, -2), b"\x01" * 4, dtype("i2", PLAIN_STATE)),
        "damaged",
    ),
    "a shape that is a number": (
        array(NDARRAY, 2, b"\x01" * 4, dtype("i2", PLAIN_STATE)),
        "without a dtype or a shape",
    ),
    "a dtype that is a word": (
        array(NDARRAY, (2,), b"\x01" * 4, packed("i2")),
        "without a dtype or a shape",
    ),
    "content that is a number": (
        array(NDARRAY, (2,), 4, dtype("i2", PLAIN_STATE)),
        "content is int",
    ),
    "text outside Unicode": (
        array(NDARRAY, (1,), b"\xff\xff\xff\x7f", dtype("U1", PLAIN_STATE)),
        "text outside Unicode",
    ),
    "an array of another class": (
        array(named("builtins", "set"), (2,), b"\x01" * 4, dtype("i2", PLAIN_STATE)),
        "a class that is not numpy.ndarray",
    ),
    "an array that never gets content": (
        b"\x80\x04" + named(*RECONSTRUCT) + b"(" + NDARRAY + packed((0,)) + packed(b"b") + b"tR.",
        "an array without content",
    ),
    "numpy.ndarray called": (call("numpy", "ndarray", (2,), "f8"), "a call of numpy.ndarray"),
    "numpy.ndarray made by NEWOBJ": (
        b"\x80\x04" + NDARRAY + packed(()) + b"\x81.",
        "damaged",
    ),
    "another encoding": (call("_codecs", "encode", "a", "hex"), "_codecs.encode with 'hex'"),
    "an encoding of bytes": (call("_codecs", "encode", b"a", "latin1"), "_codecs.encode"),
    "an encoding that loses text": (call("_codecs", "encode", "\u4e00", "latin1"), "damaged"),
    "bytes of a length": (call("builtins", "bytes", 2**60), "damaged"),
    "a function as data": (b"\x80\x04]" + NDARRAY + b"a.", "a function or a dtype"),
    "a function as a key": (b"\x80\x04}" + NDARRAY + b"K\x01s.", "a function or a dtype"),
    "a dtype as data": (b"\x80\x04" + dtype("i2") + b".", "a function or a dtype"),
    "the state of a function": (
        b"\x80\x04" + named("_codecs", "encode") + packed({"_call": 1}) + b"b.",
        "a state for a function",
    ),
    "a list in itself": (b"\x80\x04]\x94h\x00a.", "a container that holds itself"),
    "a mapping with a list for a key": (b"\x80\x04}]K\x01s.", "damaged"),
    "too deep": (b"\x80\x04" + b"]" * 100_000 + b"a" * 99_999 + b".", "damaged"),
}


@pytest.mark.parametrize("name", FORGERIES)
def test_a_forgery_is_refused(tmp_path, name):
    data, words = FORGERIES[name]
    path = tmp_path / "x.pkl"
    path.write_bytes(data)
    with pytest.raises(DataError, match=rf"x\.pkl: .*{words}"):
        load_pickle(path)


def test_functions_of_the_reader_keep_no_state(tmp_path):
    path = tmp_path / "x.pkl"
    path.write_bytes(FORGERIES["the state of a function"][0])
    with pytest.raises(DataError):
        load_pickle(path)
    path = write(tmp_path / "y.pkl", [b"\xff"], protocol=2)  # goes through _codecs.encode
    assert load_pickle(path) == [b"\xff"]
