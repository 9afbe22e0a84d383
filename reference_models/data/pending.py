"""Parts of a pickle that are made after it has ended: dtypes, arrays and sets.

While a pickle runs, these only note down what they are to be made of, so that nothing can change
them once they are checked. None imports, evaluates or uses numpy's own reconstruction code, in
which a forged dtype state can give invalid pointers.
"""

import math
import re
import sys
from collections.abc import Callable
from typing import Any

import numpy as np

from reference_models.excerpt import excerpt, excerpts


class Refused(Exception):
    """The pickle names something outside the list."""


class Function:
    """A function that a pickle may call; it can neither read nor change it."""

    __slots__ = ("_call",)

    def __init__(self, call: Callable[..., Any]) -> None:
        self._call = call

    def __call__(self, *arguments: Any) -> Any:
        """What the pickle asked for."""
        return self._call(*arguments)

    def __setstate__(self, state: Any) -> None:
        raise Refused("a state for a function")


class PendingDtype:
    """A dtype under construction: its code, then its byte order; every other state is refused."""

    __slots__ = ("dtype",)

    def __init__(self, code: Any, *_align_and_copy: Any) -> None:
        if not isinstance(code, str) or re.fullmatch(r"[?biufSUO][0-9]{0,9}", code) is None:
            raise Refused(f"the dtype {excerpt(code)}")
        self.dtype = np.dtype(code)

    def __setstate__(self, state: Any) -> None:
        _version, order, subarray, names, fields, *_sizes_and_flags = state
        if not subarray is names is fields is None:
            raise Refused("a structured dtype")
        if order not in ("<", ">", "|", "="):
            raise ValueError(f"a dtype's byte order is {excerpt(order)}")
        self.dtype = self.dtype.newbyteorder(order)


class PendingArray:
    """An array to be made: content, dtype, shape, order, and axes to be permuted."""

    __slots__ = ("parts",)

    def __init__(self, *parts: Any) -> None:
        self.parts = parts

    def __setstate__(self, state: Any) -> None:
        if self.parts:
            raise Refused("another state for an array")
        _version, shape, dtype, fortran, content = state
        self.parts = (content, dtype, shape, "F" if fortran else "C", None)


class PendingSet:
    """A set to be made: of Python 3's protocols 0 to 3."""

    __slots__ = ("items", "kind")

    def __init__(self, kind: type, items: Any = ()) -> None:
        self.kind, self.items = kind, items

    def __setstate__(self, state: Any) -> None:
        raise Refused("a state for a set")


def make_array(content: Any, dtype: Any, shape: Any, order: str) -> np.ndarray:
    """An array of that dtype and shape from ``content``, bytes; of objects: from a list."""
    if not isinstance(dtype, PendingDtype) or not isinstance(shape, tuple):
        raise TypeError("an array without a dtype or a shape")
    count = _size_of(shape)
    if dtype.dtype == object:
        if not isinstance(content, list) or count != len(content):
            raise ValueError("an object array whose list does not fill its shape")
        return object_array(content).reshape(shape, order=order)
    content = _bytes(content)
    if count * dtype.dtype.itemsize != len(content):
        raise ValueError(f"{len(content)} bytes for an array {shape} of {dtype.dtype}")
    if not content:
        # For a text of no letters numpy takes one, for an array of no texts the size of one.
        if count > 1 or dtype.dtype.itemsize > 10_000:
            raise ValueError(f"no bytes for an array {shape} of {dtype.dtype}")
        return np.zeros(shape, dtype.dtype.newbyteorder("="))
    if dtype.dtype.kind == "U":
        letters = np.frombuffer(content, np.dtype("u4").newbyteorder(dtype.dtype.byteorder))
        if letters.max() > sys.maxunicode:
            raise ValueError("text outside Unicode")
    array = np.frombuffer(content, dtype.dtype).reshape(shape, order=order)
    return array.astype(array.dtype.newbyteorder("="), copy=False)  # the only one of torch


def _size_of(shape: tuple[Any, ...]) -> int:
    """The number of values in an array of a shape."""
    if len(shape) > 32 or any(type(n) is not int or not 0 <= n < 2**48 for n in shape):
        raise ValueError(f"a shape of {excerpts(shape)}")
    if 0 in shape and math.prod(shape[: shape.index(0)]) > 10**6:
        raise ValueError(f"an array {shape} without content")  # a list of it would be large
    return math.prod(shape)


def object_array(items: Any) -> np.ndarray:
    """(N,) of N values, which may be lists."""
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
