"""Reading other people's pickles without running them.

A pickle is a program: it names functions and asks the reader to call them. This reader lets it name
a dozen, all of which are rewritten here, in plain sight: none imports, evaluates or reaches numpy's
own reconstruction code, whose dtype state could be forged into wild pointers. What a file can hold
is thereby numpy arrays and scalars of numbers and text, and plain containers of them.
"""

import copyreg
import math
import os
import pickle
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np


class DataError(ValueError):
    """A data file that cannot be used: the message names the file, what was expected, what came."""


def load_pickle(path: str | Path) -> Any:
    """The content of a pickle made of numpy arrays and plain containers.

    Strings that Python 2 wrote are read as latin-1. Arrays may be read-only.

    Args:
        path: a pickle file of any protocol.

    Returns:
        dict, list, tuple, set, str, bytes, int, float, bool, None, numpy arrays and
        numpy scalars, nested as in the file.

    Raises:
        DataError: the file is missing, empty, truncated or no pickle, or it names anything outside
            the list above; nothing of it has been executed then.
    """
    path = Path(path)
    if not path.is_file():
        kind = "a folder" if path.is_dir() else "nothing there"
        raise DataError(f"{path}: expected a pickle file, got {kind}; give the path of the file")
    with path.open("rb") as file:
        head = file.read(64)
        if not head:
            raise DataError(
                f"{path}: expected a pickle file, got an empty one; download or write it again"
            )
        return _load(file, head, path)


def _load(file: BinaryIO, head: bytes, path: Path) -> Any:
    file.seek(0)
    # An extension code that this process has met before would skip find_class.
    copyreg.clear_extension_cache()
    try:
        return _finished(_Unpickler(file, encoding="latin1").load(), {})
    except _Refused as refused:
        raise DataError(
            f"{path}: expected numpy arrays and plain containers only, got {refused}; nothing was "
            "executed: save the file again with arrays, lists, text and numbers"
        ) from None
    except _UNREADABLE as error:
        raise DataError(f"{path}: {_diagnosis(file, head, error)}") from error


class _Refused(Exception):
    """The pickle asks for something outside the list."""


# Everything that pickle's own reader, or the checks below, raise on bytes that make no sense.
_UNREADABLE = (
    pickle.UnpicklingError,
    ArithmeticError,
    AttributeError,
    EOFError,
    LookupError,
    MemoryError,
    RecursionError,
    TypeError,
    ValueError,
)

_OTHER_FORMATS = {
    b"PK\x03\x04": "a zip archive (.npz, torch.save or a zipped download)",
    b"\x1f\x8b": "a gzip archive",
    b"\x89HDF": "an HDF5 file (.csd, .h5, .mat)",
    b"\x93NUMPY": "a numpy .npy file",
    b"version https://git-lfs": "a Git LFS pointer, not the file that it points to",
    b"<": "a web page",
}


def _diagnosis(file: BinaryIO, head: bytes, error: Exception) -> str:
    for magic, name in _OTHER_FORMATS.items():
        if head.lstrip().startswith(magic):
            return f"expected a pickle, got {name}; download or unpack it again"
    if head[0] != pickle.PROTO[0]:
        return (
            f"expected a pickle, got a file that is none ({_reason(error)}); give an MMSA .pkl file"
        )
    file.seek(-1, os.SEEK_END)
    if file.read(1) != pickle.STOP:
        return f"expected a whole pickle, got a truncated one ({_reason(error)}); download it again"
    return f"expected a pickle, got a damaged one ({_reason(error)}); download it again"


def _reason(error: Exception) -> str:
    return str(error) or type(error).__name__


class _Unpickler(pickle.Unpickler):
    """Pickle's reader, with a closed list in the place of its imports."""

    def find_class(self, module: str, name: str) -> Any:
        """The rewritten function of that name; never an import, never an attribute of one."""
        try:
            return _ALLOWED[module, name]
        except KeyError:
            raise _Refused(f"{module}.{name}") from None

    def persistent_load(self, pid: Any) -> Any:
        """Objects outside the file do not exist here."""
        raise _Refused(f"a reference to an object outside the file ({pid!r:.60})")


class _Function:
    """A function that a pickle may call, and do nothing else with."""

    __slots__ = ("_call",)

    def __init__(self, call: Callable[..., Any]) -> None:
        self._call = call

    def __call__(self, *arguments: Any) -> Any:
        return self._call(*arguments)

    def __setstate__(self, state: Any) -> None:
        raise _Refused("a state for a function")


class _Dtype:
    """A dtype under construction: its code, then its byte order; every other state is refused."""

    __slots__ = ("dtype",)

    def __init__(self, code: Any) -> None:
        if not isinstance(code, str) or re.fullmatch(r"[?biufSUO]\d*", code) is None:
            raise _Refused(f"the dtype {code!r:.60}")
        self.dtype = np.dtype(code)

    def __setstate__(self, state: Any) -> None:
        _version, order, subarray, names, fields, *_sizes_and_flags = state
        if not subarray is names is fields is None:
            raise _Refused("a structured dtype")
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
    raise _Refused("a call of numpy.ndarray")


_NDARRAY = _Function(_ndarray)
_BEGUN = object()


def _reconstruct(kind: Any, _shape: Any, _code: Any) -> _Array:
    if kind is not _NDARRAY:
        raise _Refused("an array of a class that is not numpy.ndarray")
    return _Array()


def _dtype(code: Any, *_align_and_copy: Any) -> _Dtype:
    return _Dtype(code)


def _array(content: Any, dtype: Any, shape: Any, order: str) -> np.ndarray:
    """An array of that dtype and shape on the bytes, or the list of objects, ``content``."""
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
    return array.astype(array.dtype.newbyteorder("="), copy=False)  # torch takes no other order


def _object_array(items: list[Any]) -> np.ndarray:
    array = np.empty(len(items), dtype=object)
    for row, item in enumerate(items):  # one by one: a slice would spread items that are lists
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
        raise _Refused("an object scalar")
    return _array(content, dtype, (1,), "C")[0]


def _encode(text: Any, encoding: Any) -> bytes:
    # Protocols before 3 have no bytes: they write text and ask for it to be encoded.
    if not isinstance(text, str) or encoding not in ("latin1", "latin-1"):
        raise _Refused(f"_codecs.encode with {encoding!r:.60}")
    return text.encode("latin1")


def _empty_bytes() -> bytes:
    return b""


_ALLOWED: dict[tuple[str, str], _Function] = {
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


def _finished(value: Any, seen: dict[int, Any]) -> Any:
    """``value`` with every array in its place; ``seen`` holds what is finished, or begun, by id."""
    if isinstance(value, _Function | _Dtype):
        raise _Refused("a function or a dtype in the place of data")
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
        return _finished(value.value, seen)
    if isinstance(value, np.ndarray):
        if value.dtype != object:
            return value
        items = [_finished(item, seen) for item in value.flat]
        return _object_array(items).reshape(value.shape)
    if isinstance(value, dict):
        return {_finished(key, seen): _finished(item, seen) for key, item in value.items()}
    return type(value)([_finished(item, seen) for item in value])
