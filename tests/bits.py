"""Whether values and gradients are still the same, bit for bit: before a change and after it.

    python -m tests.bits store FILE
    python -m tests.bits compare FILE [--only WORD]
    python -m tests.bits --list

Every public loss and miner is called on seeded inputs of sizes on both sides of each threshold.
``store`` keeps the bits of all results in an npz file, which is this machine's own; ``compare``
lists the cases that have others now, and exits with 1 where there are any.
"""

import argparse
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from tests.bits_cases import outcome
from tests.bits_words import names as cases
from tests.ranks import launch

Results = dict[str, np.ndarray]
"""By case, output and dtype."""


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.bits", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("action", nargs="?", choices=("store", "compare"))
    parser.add_argument("file", nargs="?", type=Path)
    parser.add_argument("--only", default="", metavar="WORD", help="cases with that in their name")
    parser.add_argument("--list", action="store_true", help="the cases' names, and nothing else")
    given = parser.parse_args()
    names = [name for name in cases() if given.only in name]
    if given.list:
        _say(*names)
        return 0
    if given.action is None or given.file is None:
        parser.error("store or compare, and a file")
    if given.action == "compare":
        return compare(given.file, names)
    found = run(names)
    write(given.file, found)
    _say(f"{len(names)} cases, {len(found)} outputs in {given.file}")
    return 0


def run(names: list[str]) -> Results:
    """The cases of one process here, those of several ranks in processes of their own."""
    torch.set_num_threads(1)
    found: Results = {}
    for name in names:
        if world(name) == 1:
            found |= result(name)
    for size in sorted({world(name) for name in names} - {1}):
        some = [name for name in names if world(name) == size]
        with tempfile.TemporaryDirectory() as folder:
            Path(folder, "names").write_text("\n".join(some))
            launch(size, "tests.bits_ranks", folder)
            for rank in range(size):
                found |= read(Path(folder, f"{rank}.npz"))
    return found


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


def compare(file: Path, names: list[str]) -> int:
    """What differs from the file, said; 1 where something does."""
    if not names:
        _say("no such case")
        return 1
    every = list(cases())
    wanted = set(names)
    stored = {
        key: x for key, x in read(file).items() if len(names) == len(every) or _case(key) in wanted
    }
    found = run(names)
    lines = list(differences(stored, found))
    _say(*lines)
    failed = {line.split(" | ")[0] for line in lines}
    _say(
        f"{len(failed)} of {len(names)} cases differ" if lines else f"{len(names)} cases are equal"
    )
    return int(bool(lines))


def _case(key: str) -> str:
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
    low, high = np.minimum(_ordered(old), _ordered(new)), np.maximum(_ordered(old), _ordered(new))
    return f"{number}, {largest}, {int((high - low).max())} ulps at most"


def _ordered(x: np.ndarray) -> np.ndarray:
    """Bits as unsigned integers in the order of the floating numbers that they are."""
    bits = np.atleast_1d(x).view(f"u{x.dtype.itemsize}")
    sign = np.array(1 << (8 * x.dtype.itemsize - 1), bits.dtype)
    return np.where(bits & sign, ~bits, bits | sign)


def _say(*lines: str) -> None:
    sys.stdout.writelines(f"{line}\n" for line in lines)
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
