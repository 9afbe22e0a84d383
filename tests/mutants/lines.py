"""The map: which tests run the lines of a mutant, and in which order they are tried."""

import hashlib
import json
import re
from collections import defaultdict
from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from tests.mutants.operators import Mutant

OF_ALL = (
    "tests/mmcontrast/test_sharded.py",
    "tests/mmcontrast/testing/test_registry.py",
    "tests/reference_models/test_layout.py",
    "tests/reference_models/test_registry.py",
)
"""Whose tests look at all functions, laws, classes or models as they are after the import."""
COPY = re.compile(r"^.*/\.mutants/tree-\d+/")


def part(recorded: Path, tree: Path, file: str) -> dict[str, Any]:
    """What a run of a file recorded, as it is stored: each test's time and lines, if it passed."""
    import coverage

    tests = json.loads((recorded / "tests.json").read_text())
    users = defaultdict(list)
    for name, test in tests.items():
        for context in [name, *test["uses"]]:
            users[context].append(name)
    lines: dict[str, dict[str, set[int]]] = defaultdict(lambda: defaultdict(set))
    for stored in recorded.glob("data*"):
        data = coverage.CoverageData(str(stored))
        try:
            data.read()
        except coverage.exceptions.DataError:  # of a process that a test killed while it wrote
            data.close(force=True)
            continue
        for path in data.measured_files():
            for line, contexts in data.contexts_by_lineno(path).items():
                for context in contexts:
                    for name in users[context]:
                        if tests[name]["passed"]:
                            lines[COPY.sub("", path)][name].add(line)
    sources = {path: digest((tree / path).read_bytes()) for path in lines}
    return {
        "file": digest((tree / file).read_bytes()),
        "seconds": {name: test["seconds"] for name, test in tests.items() if test["passed"]},
        "failed": [name for name, test in tests.items() if not test["passed"]],
        "sources": sources,
        "lines": {p: {n: ranges(found) for n, found in t.items()} for p, t in lines.items()},
    }


def digest(source: bytes) -> str:
    return hashlib.sha256(source).hexdigest()[:16]


def ranges(numbers: Iterable[int]) -> str:
    """``1-3,7``"""
    found: list[list[int]] = []
    for n in sorted(numbers):
        if found and found[-1][1] == n - 1:
            found[-1][1] = n
        else:
            found.append([n, n])
    return ",".join(str(a) if a == b else f"{a}-{b}" for a, b in found)


def meets(text: str, lines: tuple[int, int]) -> bool:
    """Whether ranges have a line of these, the last included."""
    ends = ([int(x) for x in span.split("-")] for span in text.split(",") if span)
    return any(span[0] <= lines[1] and lines[0] <= span[-1] for span in ends)


@dataclass(frozen=True)
class Tests:
    """Those to try on a mutant: its file's own, then others, the quickest first."""

    own: list[str]
    others: list[str]
    seconds: Mapping[str, float]

    def __len__(self) -> int:
        return len(self.own) + len(self.others)

    def slowest(self, file: str) -> float:
        """Seconds of a file's slowest test, the setup of what its tests share among them."""
        return max(s for name, s in self.seconds.items() if name.split("::")[0] == file)


class Map:
    """All parts that were recorded, of test files that are still there."""

    def __init__(self, folder: Path, root: Path) -> None:
        read = [json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))]
        self.parts = [
            part
            for part in read
            if all((root / file).is_file() for file in {n.split("::")[0] for n in part["seconds"]})
        ]

    @cached_property
    def seconds(self) -> dict[str, float]:
        return {name: s for part in self.parts for name, s in part["seconds"].items()}

    def of(self, mutant: Mutant, source: bytes) -> Tests:
        """The tests of its lines; if none, of its function, and if none, of its file.

        Lines that run at import belong to no test: those of what was imported count, too, and those
        of all such files. A file that has changed since it was recorded has its lines elsewhere:
        then all its tests count.
        """
        now, found = digest(source), set()
        general = set(OF_ALL) if mutant.lines == mutant.around else set()
        for spans in (mutant.lines, mutant.around, (0, 10**9)):
            for part in self.parts:
                fresh = part["sources"].get(mutant.path) == now
                for name, text in part["lines"].get(mutant.path, {}).items():
                    if not fresh or meets(text, spans):
                        found.add(name)
            if found:
                break
            general = set(OF_ALL)
        ordered = sorted(found, key=lambda name: (self.seconds[name], name))
        ours = {mutant.path, own_test_file(mutant.path)}
        own = [name for name in ordered if name.split("::")[0] in ours]
        # What a cached result of the file rests on was run under the first test's name alone.
        there = {name.split("::")[0] for name in own}
        own += self._more(there, found)
        more = self._more(general, {*found, *own})
        others = [name for name in ordered if name not in set(own)]
        return Tests(own, sorted([*others, *more], key=self.seconds.__getitem__), self.seconds)

    def _more(self, files: Container[str], known: Container[str]) -> list[str]:
        """The tests of some files beside those that are known, the quickest first."""
        more = [n for n in self.seconds if n.split("::")[0] in files and n not in known]
        return sorted(more, key=self.seconds.__getitem__)


def own_test_file(path: str) -> str:
    """``mmcontrast/exact/tiles.py`` -> ``tests/mmcontrast/exact/test_tiles.py``"""
    file = Path(path)
    return str(Path("tests", file.parent, f"test_{file.name}"))
