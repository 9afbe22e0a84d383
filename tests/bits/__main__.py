"""Whether values and gradients are still the same, bit for bit: before a change and after it.

    python -m tests.bits store FILE
    python -m tests.bits compare FILE [--only WORD]
    python -m tests.bits --list

Every public loss and miner is called on seeded inputs of sizes on both sides of each threshold.
``store`` keeps the bits of all results in an npz file, which is this machine's own; ``compare``
lists the cases that have others now, and exits with 1 where there are any.
"""

import argparse
import sys
import tempfile
from pathlib import Path

import torch

from tests.bits.results import Results, case, differences, read, result, world, write
from tests.bits.words import names as cases
from tests.ranks import launch


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


def run(names: list[str], errors: dict[str, str] | None = None) -> Results:
    """The cases of one process here, those of several ranks in processes of their own.

    With ``errors``, what a case of one process raises goes there.
    """
    torch.set_num_threads(1)
    found: Results = {}
    for name in names:
        if world(name) > 1:
            continue
        try:
            found |= result(name)
        except Exception as error:
            if errors is None:
                raise
            errors[name] = f"raises {type(error).__name__}: {str(error)[:200]}"
    for size in sorted({world(name) for name in names} - {1}):
        some = [name for name in names if world(name) == size]
        with tempfile.TemporaryDirectory() as folder:
            Path(folder, "names").write_text("\n".join(some))
            launch(size, "tests.bits.ranks", folder)
            for rank in range(size):
                found |= read(Path(folder, f"{rank}.npz"))
    return found


def compare(file: Path, names: list[str]) -> int:
    """What differs from the file, said; 1 where something does."""
    errors: dict[str, str] = {}
    found = run(names, errors)
    looked_at = set(names) - set(errors)
    whole = len(names) == len(list(cases()))  # a stored case may be no case any more
    stored = {
        key: x
        for key, x in read(file).items()
        if case(key) in looked_at or (whole and case(key) not in errors)
    }
    lines = [f"{name} | {error}" for name, error in errors.items()]
    lines += differences(stored, found)
    failed = {case(line.split(" | ")[0]) for line in lines}
    _say(*lines, f"{len(failed)} of {len(names)} cases differ")
    return int(bool(failed) or not names)


def _say(*lines: str) -> None:
    sys.stdout.writelines(f"{line}\n" for line in lines)
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
