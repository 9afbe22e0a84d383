"""The functions that a pickle may call: restricted versions of numpy's and Python's constructors.

The reader of ``pickles.py`` finds them in a :class:`Rebuilder`, by name. What they return is made
an array, or a set, by ``finished`` when the pickle has ended.
"""

from functools import partial
from typing import Any, NamedTuple

import numpy as np

from reference_models.data.pending import (
    Function,
    PendingArray,
    PendingDtype,
    PendingSet,
    Refused,
    make_array,
    object_array,
)
from reference_models.data.scanning import DEEPEST, MOST_NUMBERS, TOO_DEEP
from reference_models.excerpt import excerpt


def _ndarray(*_arguments: Any) -> Any:
    raise Refused("a call of numpy.ndarray")


_NDARRAY = Function(_ndarray)


def _reconstruct(kind: Any, _shape: Any, _code: Any) -> PendingArray:
    if kind is not _NDARRAY:
        raise Refused("an array of a class that is not numpy.ndarray")
    return PendingArray()


def _from_buffer(
    content: Any, dtype: Any, shape: Any, order: Any, axes: Any = None
) -> PendingArray:
    if order == "K" and axes is not None:
        return PendingArray(content, dtype, shape, "C", axes)
    return PendingArray(content, dtype, shape, "F" if order == "F" else "C", None)


def _empty_bytes() -> bytes:
    return b""


class _Finished(NamedTuple):
    """A value without unfinished parts; its size in bytes, of shared parts each time; its depth."""

    value: Any
    size: int
    depth: int


# Their sizes are known without a look at each; Python's own integers beyond 64 bits are rare.
_NUMBERS = frozenset({float, int, bool, type(None)})
_TEXTS = ({str}, {bytes})
_KEYS = (str, bytes, float, int, type(None), np.generic)


class Rebuilder:
    """The functions for one pickle, and what they may make.

    A few bytes can call a function again and again with the same megabyte, or put one list into
    another thousands of times, level by level.

    Args:
        size: of the file, in bytes. What is made of it, with all that is shared counted as often as
            it is there, may be 30 times as large, and 16 MB above that.

    Attributes:
        allowed: (module, name) -> function.
    """

    def __init__(self, size: int) -> None:
        self.limit = 30 * size + 2**24
        self._left = self.limit
        self._numbers = 0  # that are keys
        self._seen: dict[int, _Finished | None] = {}
        self.allowed: dict[tuple[str, str], Function] = {
            ("numpy", "ndarray"): _NDARRAY,
            ("numpy", "dtype"): Function(PendingDtype),
            ("_codecs", "encode"): Function(self._encode),
            **{
                (f"numpy.{core}.{module}", name): Function(call)
                for core in ("core", "_core")
                for module, name, call in (
                    ("multiarray", "_reconstruct", _reconstruct),
                    ("multiarray", "scalar", self._scalar),
                    ("numeric", "_frombuffer", _from_buffer),
                )
            },
            **{
                (builtins, name): Function(call)
                for builtins in ("builtins", "__builtin__")
                for name, call in (
                    ("bytes", _empty_bytes),
                    ("set", partial(PendingSet, set)),
                    ("frozenset", partial(PendingSet, frozenset)),
                )
            },
        }

    def _spend(self, size: int) -> None:
        self._left -= size
        if self._left < 0:
            raise Refused("content that is used again and again")

    def _encode(self, text: Any, encoding: Any) -> bytes:
        # Protocols before 3 have no bytes: they store text, and a call that encodes it.
        if not isinstance(text, str) or encoding not in ("latin1", "latin-1"):
            raise Refused(f"_codecs.encode with {excerpt(encoding)}")
        self._spend(len(text))
        return text.encode("latin1")

    def _scalar(self, dtype: Any, content: Any) -> Any:
        if isinstance(dtype, PendingDtype) and dtype.dtype == object:
            raise Refused("an object scalar")
        self._spend(_size(content))
        return make_array(content, dtype, (1,), "C")[0]

    def finished(self, value: Any) -> Any:
        """``value`` with all arrays and sets made, once the pickle has ended.

        Raises:
            Refused: content that is too large because parts of it are shared.
            TypeError, ValueError: arrays, keys or sets that cannot be.
        """
        found = self._finish(value, 0)
        if found.size > self.limit:
            raise Refused("parts that are shared very often")
        return found.value

    def _finish(self, value: Any, depth: int) -> _Finished:
        if isinstance(value, Function | PendingDtype):
            raise Refused("a function or a dtype in the place of data")
        if not isinstance(value, PendingArray | PendingSet | dict | list | tuple | set | frozenset):
            return _Finished(value, 8 + _size(value), 0)
        if id(value) not in self._seen:
            self._seen[id(value)] = None  # begun
            self._seen[id(value)] = self._rebuilt(value, depth + 1)
        found = self._seen[id(value)]
        if found is None:
            raise ValueError("a container that holds itself")
        if depth + found.depth > DEEPEST:
            raise ValueError(TOO_DEEP)
        return found

    def _rebuilt(self, value: Any, depth: int) -> _Finished:
        if depth > DEEPEST:
            raise ValueError(TOO_DEEP)
        if isinstance(value, PendingArray):
            return self._rebuilt_array(value, depth)
        if isinstance(value, dict):
            keys, key_size, _ = self._parts(list(value), depth)
            items, size, height = self._parts(list(value.values()), depth)
            self._check_keys(keys)
            return _Finished(dict(zip(keys, items, strict=True)), key_size + size, height)
        if isinstance(value, PendingSet):
            if not isinstance(value.items, list | tuple):
                raise TypeError(f"a set of {excerpt(value.items)}")
            self._spend(100 * len(value.items))
            items, size, height = self._parts(value.items, depth)
            self._check_keys(items)
            return _Finished(value.kind(items), size, height)
        items, size, height = self._parts(value, depth)
        return _Finished(value if items is value else type(value)(items), size, height)

    def _parts(self, values: Any, depth: int) -> tuple[Any, int, int]:
        """Finished values, their size and depth; the same object where nothing is to be done."""
        kinds = set(map(type, values))
        if kinds <= _NUMBERS:
            return values, 8 * len(values), 1
        if kinds in _TEXTS:
            return values, 8 * len(values) + sum(map(len, values)), 1
        found = [self._finish(value, depth) for value in values]
        sizes, depths = [part.size for part in found], [part.depth for part in found]
        return [part.value for part in found], sum(sizes) + 8 * len(found), 1 + max(depths)

    def _check_keys(self, keys: Any) -> None:
        """Refuse what may take long to hash: see ``scanning.py``, which does not see into calls."""
        for key in keys:
            for part in key if type(key) is tuple else (key,):
                if not isinstance(part, _KEYS) or (type(part) is int and abs(part) >= 2**64):
                    raise TypeError("a key that is neither text nor a number of usual size")
                self._numbers += not isinstance(part, str | bytes)
        if self._numbers > MOST_NUMBERS:
            raise Refused(f"more than {MOST_NUMBERS} keys that are numbers")

    def _rebuilt_array(self, value: PendingArray, depth: int) -> _Finished:
        if not value.parts:
            raise ValueError("an array without content")
        content, dtype, shape, order, axes = value.parts
        self._spend(_size(content))
        array = make_array(content, dtype, shape, order)
        height = 1
        if array.dtype == object:
            items, size, height = self._parts(content, depth)
            array = object_array(items).reshape(shape, order=order)
        else:
            size = array.nbytes
        return _Finished(array if axes is None else array.transpose(axes), 100 + size, height)


def _size(value: Any) -> int:
    """Bytes of a text, or of the places in a list."""
    if isinstance(value, str | bytes | bytearray | memoryview):
        return len(value)
    return 8 * len(value) if isinstance(value, list) else getattr(value, "nbytes", 0)
