"""What is mutated: a checkout, its copies, and the mutants of its files."""

import math
import os
import random
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from tests.mutants.operators import Mutant, mutants

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Project:
    """A checkout and how its tests are run; what is stored lies in its ``.mutants``."""

    root: Path
    sources: Sequence[str] = ("mmcontrast",)
    """Folders and files that are mutated, and whose lines are recorded."""

    left_out: Sequence[str] = ()
    """Of those, folders that are not mutated."""

    tests: Sequence[str] = ("tests", "mmcontrast", "reference_models")
    equivalents: Path = Path(__file__).parent / "equivalent.toml"
    preload: Sequence[str] = ()
    """Modules that are imported once, not for every run."""

    peers: Path | None = None
    """A folder of libraries for some test files alone."""

    with_peers: Sequence[str] = ()
    """Those files, or folders of them."""

    patience: float = 60
    """Seconds to import tests in; a test may take half of it and four times what it took before."""

    @property
    def store(self) -> Path:
        return self.root / ".mutants"

    def files(self, within: Sequence[str] = ()) -> Iterator[str]:
        """Those that are mutated, from the root; all, or those under some paths."""
        for folder in within or self.sources:
            path = self.root / folder
            for file in [path] if path.is_file() else sorted(path.rglob("*.py")):
                name = file.relative_to(self.root)
                if not any(name.is_relative_to(other) for other in self.left_out):
                    yield name.as_posix()

    def source(self, path: str) -> bytes:
        return (self.root / path).read_bytes()

    def test_files(self) -> Iterator[str]:
        """All that pytest may find tests in: test files, and the doctests of the rest."""
        for folder in self.tests:
            for file in sorted((self.root / folder).rglob("*.py")):
                is_test = file.name.startswith("test_")
                if is_test or (not folder.startswith("tests") and b">>> " in file.read_bytes()):
                    yield file.relative_to(self.root).as_posix()

    def needs_peers(self, file: str) -> bool:
        return any(Path(file).is_relative_to(path) for path in self.with_peers)

    # --- copies --------------------------------------------------------------------------------

    def tree(self, number: int) -> Path:
        """A fresh copy, of what git tracks or would."""
        tree = self.store / f"tree-{number}"
        shutil.rmtree(tree, ignore_errors=True)
        for path in self.tracked():
            (tree / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(self.root / path, tree / path)
        if (self.root / ".venv").exists():
            (tree / ".venv").symlink_to((self.root / ".venv").resolve())
        return tree

    def tracked(self) -> list[Path]:
        call = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
        said = subprocess.run(call, cwd=self.root, capture_output=True, text=True, check=False)
        if said.returncode == 0:
            names = [Path(name) for name in said.stdout.split("\0") if name]
        else:
            names = [path.relative_to(self.root) for path in self.root.rglob("*")]
            names = [name for name in names if name.parts[0] not in (".mutants", ".venv")]
        return [name for name in names if (self.root / name).is_file()]

    def environment(self, tree: Path, peers: bool) -> dict[str, str]:
        """Of the tests: one thread, the same examples on every run, the copy before all else.

        The hub is off from the start: what is preloaded reads that before the tests can say so.
        """
        folders = [tree, *([self.peers] if peers and self.peers else []), ROOT]
        usual = {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
        data = self.root.parent / "shared" / "data"
        if data.is_dir():
            usual["MMCONTRAST_DATA"] = str(data)
        own = {"HYPOTHESIS_PROFILE": "ci", "PYTHONPATH": os.pathsep.join(map(str, folders))}
        return {**usual, **os.environ, **own}

    def server(self, peers: bool) -> list[str]:
        """The command of a process that is forked."""
        # Their tests say how Triton shall run before torch's compiler imports it.
        preload = () if peers else self.preload
        return [sys.executable, "-m", "tests.mutants.child", *preload]

    # --- mutants -------------------------------------------------------------------------------

    def all(self, path: str) -> list[Mutant]:
        return mutants(path, self.source(path))

    def sample(self, count: int, seed: int, within: Sequence[str] = ()) -> list[Mutant]:
        """About ``count``, of every file as its share is, and at least one where there is one.

        A file's are drawn by the seed and its name: other files do not matter to which they are,
        and a larger sample has those of a smaller one.
        """
        known = {path: self.all(path) for path in self.files(within)}
        total = sum(map(len, known.values()))
        drawn = []
        for path, found in known.items():
            share = min(len(found), math.ceil(count * len(found) / total)) if total else 0
            random.Random(f"{seed} {path}").shuffle(found)
            drawn += sorted(found[:share], key=lambda m: (m.start, m.end, m.new))
        return drawn

    @cached_property
    def equivalent(self) -> list[dict[str, Any]]:
        """Changes that no test can notice, each with its reason."""
        if not self.equivalents.is_file():
            return []
        found: list[dict[str, Any]] = tomllib.loads(self.equivalents.read_text()).get("mutant", [])
        return found

    def described(self, entry: dict[str, Any]) -> list[Mutant]:
        """What an entry says is equivalent: all that its texts fit, or the one that it numbers."""
        if not (self.root / entry["path"]).is_file():
            return []
        found = [mutant for mutant in self.all(entry["path"]) if describes(entry, mutant)]
        return found[entry["only"] :][:1] if "only" in entry else found

    @cached_property
    def no_test_can_notice(self) -> set[Mutant]:
        return {mutant for entry in self.equivalent for mutant in self.described(entry)}

    def is_equivalent(self, mutant: Mutant) -> bool:
        return mutant in self.no_test_can_notice

    def unknown_equivalents(self) -> list[dict[str, Any]]:
        """Entries that fit no mutant any more, or others than one, or than as many as they say."""
        return [
            entry
            for entry in self.equivalent
            if len(self.described(entry)) != entry.get("times", 1)
        ]


def describes(entry: dict[str, Any], mutant: Mutant) -> bool:
    """By the texts of the line, of what stood there and of what stands there now."""
    return (entry["path"], entry["line"], entry["old"], entry["new"]) == (
        mutant.path,
        mutant.line,
        " ".join(mutant.old.split()),
        mutant.new,
    )
