"""Results by case, output and dtype: how they are made, kept and compared."""

import math
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from tests.bits.outcomes import outcome

Results = dict[str, np.ndarray]


def world(name: str) -> int:
    """Of how many ranks a case is."""
    return next((int(word[6:]) for word in name.split() if word.startswith("world=")), 1)


def result(name: str, rank: int = 0) -> Results:
    """What a case gives on a rank."""
    size = world(name)
    place = name if size == 1 else f"{name} rank={rank}"
    try:
        tensors = outcome(name, rank, size)
    except Exception as error:
        error.add_note(name)
        raise
    found = {}
    for output, x in tensors.items():
        kind = str(x.dtype).removeprefix("torch.")
        bits = x.view(torch.int16) if x.dtype == torch.bfloat16 else x
        found[f"{place}|{output}|{kind}"] = bits.numpy(force=True)
    return found


def write(file: Path, found: Results) -> None:
    """All of it or nothing."""
    part = file.with_name(f"{file.name}.{os.getpid()}.part")
    try:
        with part.open("wb") as stream:
            np.savez(stream, allow_pickle=False, **found)
        part.replace(file)
    finally:
        part.unlink(missing_ok=True)


def read(file: Path) -> Results:
    """What was written."""
    with np.load(file, allow_pickle=False) as stored:
        return dict(stored)


def case(key: str) -> str:
    """Whose result it is."""
    return key.split("|")[0].split(" rank=")[0]


def differences(stored: Results, found: Results) -> Iterator[str]:
    """A line for each output that is not the same."""
    for key in sorted(stored.keys() | found.keys()):
        place = " | ".join(key.split("|"))
        if key not in found or key not in stored:
            yield f"{place}: {'is new' if key in found else 'is gone'}"
            continue
        old, new = stored[key], found[key]
        if old.shape != new.shape:
            yield f"{place}: shape {new.shape}, was {old.shape}"
        elif old.tobytes() != new.tobytes():
            yield f"{place}: {_far(old, new, key.split('|')[-1])}"


def _far(old: np.ndarray, new: np.ndarray, kind: str) -> str:
    """How far two arrays are apart."""
    dtype = getattr(torch, kind)
    x, y = (torch.from_numpy(v.copy()).view(dtype).double() for v in (old, new))
    apart = (x - y).abs()
    number = f"{int((_ordered(old) != _ordered(new)).sum())} of {old.size} differ"
    largest = f"by {apart.max():.3g} at most, largest value {x.abs().max():.3g}"
    if not dtype.is_floating_point:
        return f"{number}, {largest}"
    # In units of the last place of the largest value, and each in units of its own.
    highest = float(x.nan_to_num(0, 0, 0).abs().max())
    unit = torch.finfo(dtype).eps * 2.0 ** (math.frexp(highest)[1] - 1)
    low, high = np.minimum(_ordered(old), _ordered(new)), np.maximum(_ordered(old), _ordered(new))
    ulps = f"{apart.max() / unit:.3g} of its ulps, {int((high - low).max())} of their own"
    return f"{number}, {largest}, {ulps}"


def _ordered(x: np.ndarray) -> np.ndarray:
    """Bits as unsigned integers in the order of the floating numbers that they are."""
    bits = np.atleast_1d(x).view(f"u{x.dtype.itemsize}")
    sign = np.array(1 << (8 * x.dtype.itemsize - 1), bits.dtype)
    return np.where(bits & sign, ~bits, bits | sign)
