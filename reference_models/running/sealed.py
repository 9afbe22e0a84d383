"""Arrays in a safetensors file with their SHA-256: a half-written or changed one is never read."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy
from numpy.typing import NDArray

from reference_models.running import storage

Arrays = Mapping[str, NDArray[Any]]


def digest_of(arrays: Arrays) -> str:
    """SHA-256 of names, types, shapes and values."""
    total = hashlib.sha256()
    for name in sorted(arrays):
        values = np.ascontiguousarray(arrays[name])
        total.update(f"{name} {values.dtype} {values.shape}\n".encode())
        total.update(values.tobytes())
    return total.hexdigest()


def write_sealed(path: Path, arrays: Arrays, about: str) -> str:
    """Write arrays and a text about them, in one piece; returns their SHA-256."""
    digest = digest_of(arrays)
    path.parent.mkdir(parents=True, exist_ok=True)
    words = {"about": about, "sha256": digest}
    storage.write(path, safetensors.numpy.save(dict(arrays), words))
    return digest


def read_sealed(path: Path) -> tuple[dict[str, NDArray[Any]], str, str]:
    """What :func:`write_sealed` wrote: the arrays, the text, and the SHA-256.

    Raises:
        FileNotFoundError: no file; ValueError: one that was cut or changed.
    """
    problem = f"{path}: expected the file as it was written, got one that was cut or changed"
    try:
        with safetensors.safe_open(storage.regular(path), framework="numpy") as file:
            words = file.metadata() or {}
            names = file.keys()
            arrays = {name: file.get_tensor(name) for name in names}
    except Exception as error:  # SafetensorError, or what a strange header leads to
        raise ValueError(f"{problem} ({error}); delete it, and the same call makes it") from error
    if words.get("sha256") != digest_of(arrays):
        raise ValueError(f"{problem}; delete it, and the same call makes it")
    return arrays, words.get("about", ""), words["sha256"]
