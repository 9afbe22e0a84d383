"""The functions that a pickle may call: restricted versions of numpy's and Python's constructors.

None of these imports, evaluates or uses numpy's own reconstruction code, in which a forged dtype
state can give invalid pointers. The reader of ``pickles.py`` finds them in ``ALLOWED``, by name.
"""

import math
import re
import sys
from collections.abc import Callable
from typing import Any

import numpy as np


class Refused(Exception):
    """The pickle names something outside the list."""


class _Function:
    """A function that a pickle may call; it can neither read nor change it."""

    __slots__ = ("_call",)

    def __init__(self, call: Callable[..., Any]) -> None:
        self._call = call

    def __call__(self, *arguments: Any) -> Any:
        return self._call(*arguments)

    def __setstate__(self, state: Any) -> None:
        raise Refused("a state for a function")


class _Dtype:
    """A dtype under construction: its code, then its byte order; every other state is refused."""

    __slots__ = ("dtype",)

    def __init__(self, code: Any) -> None:
        if not isinstance(code, str) or re.fullmatch(r"[?biufSUO]\d*", code) is None:
            raise Refused(f"the dtype {code!r:.60}")
        self.dtype = np.dtype(code)

    def __setstate__(self, state: Any) -> None:
        _version, order, subarray, names, fields, *_sizes_and_flags = state
        if not subarray is names is fields is None:
            raise Refused("a structured dtype")
        if order not in ("<", ">", "|", "="):
            raise ValueError(f"a dtype's byte order is {order!r}")
        self.dtype = self.dtype.newbyteorder(order)


class _Array:
    """An array under construction: made empty, then given its state."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value: np.ndarray | None = None

    def __setstate__(self, state: Any) -> None:
        _version, shape, dtype, fortran, content = state
        self.value = _array(content, dtype, shape, "F" if fortran else "C")


def _ndarray(*_arguments: Any) -> Any:
    raise Refused("a call of numpy.ndarray")


_NDARRAY = _Function(_ndarray)
_BEGUN = object()


def _reconstruct(kind: Any, _shape: Any, _code: Any) -> _Array:
    if kind is not _NDARRAY:
        raise Refused("an array of a class that is not numpy.ndarray")
    return _Array()


def _dtype(code: Any, *_align_and_copy: Any) -> _Dtype:
    return _Dtype(code)


def _array(content: Any, dtype: Any, shape: Any, order: str) -> np.ndarray:
    """An array of that dtype and shape from ``content``: bytes, or a list of objects."""
    if not isinstance(dtype, _Dtype) or not isinstance(shape, tuple):
        raise TypeError("an array without a dtype or a shape")
    if dtype.dtype == object:
        if not isinstance(content, list) or math.prod(shape) != len(content):
            raise ValueError("an object array whose list does not fill its shape")
        return _object_array(content).reshape(shape, order=order)
    content = _bytes(content)
    if math.prod(shape) * dtype.dtype.itemsize != len(content):
        raise ValueError(f"{len(content)} bytes for an array {shape} of {dtype.dtype}")
    if not content:
        return np.zeros(shape, dtype.dtype)
    if dtype.dtype.kind == "U":
        letters = np.frombuffer(content, np.dtype("u4").newbyteorder(dtype.dtype.byteorder))
        if letters.max() > sys.maxunicode:
            raise ValueError("text outside Unicode")
    array = np.frombuffer(content, dtype.dtype).reshape(shape, order=order)
    return array.astype(array.dtype.newbyteorder("="), copy=False)  # the only byte order of torch


def _object_array(items: list[Any]) -> np.ndarray:
    array = np.empty(len(items), dtype=object)
    for row, item in enumerate(items):  # one by one: a slice would unpack items that are lists
        array[row] = item
    return array


def _bytes(content: Any) -> bytes | bytearray | memoryview:
    if isinstance(content, str):  # bytes written by Python 2
        return content.encode("latin1")
    if not isinstance(content, bytes | bytearray | memoryview):
        raise TypeError(f"an array's content is {type(content).__name__}")
    return content


def _from_buffer(
    content: Any, dtype: Any, shape: Any, order: Any, axes: tuple[int, ...] | None = None
) -> np.ndarray:
    if order == "K" and axes is not None:
        return _array(content, dtype, shape, "C").transpose(axes)
    return _array(content, dtype, shape, "F" if order == "F" else "C")


def _scalar(dtype: Any, content: Any) -> Any:
    if isinstance(dtype, _Dtype) and dtype.dtype == object:
        raise Refused("an object scalar")
    return _array(content, dtype, (1,), "C")[0]


def _encode(text: Any, encoding: Any) -> bytes:
    # Protocols before 3 have no bytes: they store text, and a call that encodes it.
    if not isinstance(text, str) or encoding not in ("latin1", "latin-1"):
        raise Refused(f"_codecs.encode with {encoding!r:.60}")
    return text.encode("latin1")


def _empty_bytes() -> bytes:
    return b""


ALLOWED: dict[tuple[str, str], _Function] = {
    ("numpy", "ndarray"): _NDARRAY,
    ("numpy", "dtype"): _Function(_dtype),
    ("_codecs", "encode"): _Function(_encode),
    **{
        (f"numpy.{core}.{module}", name): _Function(call)
        for core in ("core", "_core")
        for module, name, call in (
            ("multiarray", "_reconstruct", _reconstruct),
            ("multiarray", "scalar", _scalar),
            ("numeric", "_frombuffer", _from_buffer),
        )
    },
    **{
        (builtins, name): _Function(call)
        for builtins in ("builtins", "__builtin__")
        for name, call in (
            ("bytes", _empty_bytes),
            ("set", set),
            ("frozenset", frozenset),
        )
    },
}


def finished(value: Any, seen: dict[int, Any]) -> Any:
    """``value`` with all arrays completed; ``seen`` has the finished and the begun parts, by id."""
    if isinstance(value, _Function | _Dtype):
        raise Refused("a function or a dtype in the place of data")
    if not isinstance(value, _Array | np.ndarray | dict | list | tuple | set | frozenset):
        return value
    if id(value) not in seen:
        seen[id(value)] = _BEGUN
        seen[id(value)] = _rebuilt(value, seen)
    if seen[id(value)] is _BEGUN:
        raise ValueError("a container that holds itself")
    return seen[id(value)]


def _rebuilt(value: Any, seen: dict[int, Any]) -> Any:
    if isinstance(value, _Array):
        if value.value is None:
            raise ValueError("an array without content")
        return finished(value.value, seen)
    if isinstance(value, np.ndarray):
        if value.dtype != object:
            return value
        items = [finished(item, seen) for item in value.flat]
        return _object_array(items).reshape(value.shape)
    if isinstance(value, dict):
        return {finished(key, seen): finished(item, seen) for key, item in value.items()}
    return type(value)([finished(item, seen) for item in value])
