"""Reading pickles from untrusted sources without executing them.

A pickle is a program: it names functions, and the reader calls them. This reader allows a dozen
names, for each of which there is a function in ``rebuilding.py``: none of these imports, evaluates
or uses numpy's own reconstruction code, in which a forged dtype state can give invalid pointers.
Files can therefore hold numpy arrays and scalars of numbers and text, and plain containers of them.
``scanning.py`` looks at the whole program before it runs, so that it cannot exhaust the machine.
"""

import copyreg
import mmap
import os
import pickle
from pathlib import Path
from typing import Any, BinaryIO

from reference_models.data.pending import Refused
from reference_models.data.rebuilding import Rebuilder
from reference_models.data.scanning import scan
from reference_models.excerpt import excerpt, printable


class DataError(ValueError):
    """A data file that cannot be used: the message names the file, what was expected, what came."""


def load_pickle(path: str | Path) -> Any:
    """The content of a pickle made of numpy arrays and plain containers.

    Strings that Python 2 wrote are read as latin-1. Arrays may be read-only. Keys of dicts, and
    what is in sets, are text, numbers or short tuples of these.

    Args:
        path: a pickle file of any protocol.

    Returns:
        dict, list, tuple, set, str, bytes, int, float, bool, None, numpy arrays and
        numpy scalars, nested as in the file.

    Raises:
        DataError: the file is missing, empty, truncated or no pickle, or it names anything outside
            the list above, or would need far more memory or time than its size allows; nothing of
            it has been executed then.
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
    for magic, name in _OTHER_FORMATS.items():  # no readable pickle begins like this
        if head.lstrip().startswith(magic):
            raise DataError(f"{path}: expected a pickle, got {name}; download or unpack it again")
    try:
        return _read(file)
    except Refused as refused:
        raise DataError(
            f"{path}: expected numpy arrays and plain containers only, got {refused}; nothing was "
            "executed: save the file again with arrays, lists, text and numbers"
        ) from None
    except Exception as error:  # invalid bytes raise nearly everything that there is
        raise DataError(f"{path}: {_diagnosis(file, head, error)}") from error


def _read(file: BinaryIO) -> Any:
    with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        rebuilder = Rebuilder(len(data))
        scan(data)
    file.seek(0)
    # pickle caches extension codes; a cached one would bypass find_class.
    copyreg.clear_extension_cache()
    return rebuilder.finished(_Unpickler(file, rebuilder.allowed).load())


_OTHER_FORMATS = {
    b"PK\x03\x04": "a zip archive (.npz, torch.save or a zipped download)",
    b"\x1f\x8b": "a gzip archive",
    b"\x89HDF": "an HDF5 file (.csd, .h5, .mat)",
    b"\x93NUMPY": "a numpy .npy file",
    b"version https://git-lfs": "a Git LFS pointer, not the file that it points to",
    b"<": "a web page",
}


def _diagnosis(file: BinaryIO, head: bytes, error: Exception) -> str:
    if head[0] != pickle.PROTO[0]:
        return (
            f"expected a pickle, got a file that is none ({_reason(error)}); give an MMSA .pkl file"
        )
    file.seek(-1, os.SEEK_END)
    if file.read(1) != pickle.STOP:
        return f"expected a whole pickle, got a truncated one ({_reason(error)}); download it again"
    return f"expected a pickle, got a damaged one ({_reason(error)}); download it again"


def _reason(error: Exception) -> str:
    return printable(str(error)) or type(error).__name__


class _Unpickler(pickle.Unpickler):
    """Pickle's reader, with a fixed list of functions instead of imports."""

    def __init__(self, file: BinaryIO, allowed: dict[tuple[str, str], Any]) -> None:
        super().__init__(file, encoding="latin1")
        self._allowed = allowed

    def find_class(self, module: str, name: str) -> Any:
        """The function of that name in the fixed list; nothing is imported."""
        try:
            return self._allowed[module, name]
        except KeyError:
            raise Refused(printable(f"{module}.{name}", 100)) from None

    def persistent_load(self, pid: Any) -> Any:
        """Refuse references to objects outside the file."""
        raise Refused(f"a reference to an object outside the file ({excerpt(pid)})")
