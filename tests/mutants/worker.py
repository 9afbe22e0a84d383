"""A copy of the checkout in which tests are run: without a mutant, to map them, and with one."""

import compileall
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Container, Iterable, Sequence
from pathlib import Path
from typing import Any

from tests.mutants.child import ENDED, TIME_LIMIT
from tests.mutants.lines import Tests, part
from tests.mutants.operators import Mutant
from tests.mutants.project import Project

FILES_AT_ONCE = 8
"""How many test files run in one process. Importing them takes longer than their few tests."""


class Worker:
    """A copy of the checkout, and the processes that run pytest in it."""

    def __init__(self, project: Project, number: int) -> None:
        self.project, self.number = project, number
        self.tree = project.tree(number)
        compileall.compile_dir(self.tree, quiet=2)  # once, and not in each run
        self.servers: dict[bool, subprocess.Popen[str]] = {}
        self.whole = {path: (self.tree / path).read_bytes() for path in files_of(self.tree)}
        self.reliable: set[tuple[str | None, ...]] = set()
        self.unreliable: set[str] = set()

    def pytest(self, files: Sequence[str], *, limit: float, **asked: Any) -> dict[str, Any]:
        """A run of some files that all need the peers, or none."""
        peers = self.project.needs_peers(files[0])
        if peers not in self.servers:
            self.servers[peers] = subprocess.Popen(
                self.project.server(peers),
                cwd=self.tree,
                env=self.project.environment(self.tree, peers),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
        server = self.servers[peers]
        said = str(self.project.store / f"said-{self.number}")
        asked |= {"files": list(files), "limit": limit, "said": said}
        assert server.stdin is not None
        assert server.stdout is not None
        try:
            server.stdin.write(json.dumps(asked) + "\n")
            server.stdin.flush()
            answer: dict[str, Any] = json.loads(server.stdout.readline())
        except (BrokenPipeError, json.JSONDecodeError):  # a test, or a mutant, ended it
            server.kill()
            self.servers.pop(peers).communicate()
            return {"failed": ENDED, "ran": 0, "last": None, "seconds": 0.0}
        return answer

    def end(self) -> None:
        for server in self.servers.values():
            server.communicate()  # ends where nothing more is asked
        shutil.rmtree(self.tree, ignore_errors=True)

    # --- the map -------------------------------------------------------------------------------

    def record(self, file: str, limit: float) -> str:
        """Run a test file and store its part of the map; a line that says so."""
        into = self.project.store / f"recorded-{self.number}"
        shutil.rmtree(into, ignore_errors=True)
        into.mkdir(parents=True)
        paths = list(self.project.sources)
        asked = {"record": str(into), "paths": paths, "bytecode": True}
        answer = self.pytest([file], limit=limit, **asked)
        if not (into / "tests.json").is_file():
            return f"{file}: {answer['failed'] or answer}"
        found = part(into, self.tree, file)
        target = map_part(self.project, file)
        target.parent.mkdir(parents=True, exist_ok=True)
        (into / "part").write_text(json.dumps(found))
        (into / "part").replace(target)  # whole, or not at all
        shutil.rmtree(into)
        self.restore()
        said = f"{file}: {len(found['seconds'])} tests in {answer['seconds']} s"
        return said + "".join(f"\n    left out, did not pass: {name}" for name in found["failed"])

    # --- mutants -------------------------------------------------------------------------------

    def try_mutant(
        self, mutant: Mutant, source: bytes, tests: Tests, budget: float
    ) -> dict[str, Any]:
        """What became of it: killed by which test, survived, or not run by any.

        A test that fails without the mutant too, alone in this order, say, has killed nothing.
        """
        seconds = 0.0
        while True:
            chosen = within(tests, budget, self.unreliable)
            self.write(mutant.path, mutant.apply(source))
            try:
                result, batch, last = self.attempt(tests, chosen)
            finally:
                self.write(mutant.path, source)
                self.restore()
            seconds += result["seconds"]
            culprit = None if "test" not in result else self.without(result, batch, last, tests)
            if culprit is None:
                left = len(tests) - len(chosen)
                return {**result, "seconds": round(seconds, 1), "left": left}
            self.unreliable.add(culprit)
            say(f"does not count, it fails without a mutant: {culprit}")

    def write(self, path: str, source: bytes) -> None:
        """Without what Python compiled of it: a change within a second would go unseen."""
        file = self.tree / path
        for stale in (file.parent / "__pycache__").glob(f"{file.stem}.*"):
            stale.unlink()
        file.write_bytes(source)

    def restore(self) -> None:
        """The copy as it was: what a mutant wrote there is not for the next."""
        for path in files_of(self.tree) - self.whole.keys():
            (self.tree / path).unlink()
        for path, content in self.whole.items():
            file = self.tree / path
            if not file.is_file() or file.read_bytes() != content:
                self.write(path, content)

    def attempt(
        self, tests: Tests, chosen: list[str]
    ) -> tuple[dict[str, Any], list[str], str | None]:
        """The result, the tests that ran together last, and which of them began last."""
        seconds, ran, batch, last = 0.0, 0, [], None
        result: dict[str, Any] = {"result": "survived" if chosen else "not run"}
        for batch in batches(self.project, chosen):
            answer = self.together(tests, batch)
            seconds += answer["seconds"]
            ran += answer["ran"]
            if answer["failed"] is not None:
                kind = "timeout" if answer["failed"] == TIME_LIMIT else "killed"
                result, last = {"result": kind, "test": answer["failed"]}, answer["last"]
                break
        return {**result, "seconds": seconds, "ran": ran}, batch, last

    def together(self, tests: Tests, batch: list[str]) -> dict[str, Any]:
        files = list(dict.fromkeys(name.split("::")[0] for name in batch))
        patience = self.project.patience
        # Whichever test of a file is the first makes what the file's tests share.
        shared = {file: tests.slowest(file) for file in files}
        limits = {
            name: patience / 2 + 4 * tests.seconds[name] + 2 * shared[name.split("::")[0]]
            for name in batch
        }
        return self.pytest(files, tests=batch, limits=limits, limit=patience)

    def without(
        self, result: dict[str, Any], batch: list[str], last: str | None, tests: Tests
    ) -> str | None:
        """What fails without a mutant too, a test or the import of its file; None if all passes.

        After the same tests, and in the same order: what passes after others says nothing.

        Raises:
            RuntimeError: it is no test that fails.
        """
        failed = result["test"]
        culprit = last if failed in (TIME_LIMIT, ENDED) else failed
        before = batch[: batch.index(culprit) + 1] if culprit in batch else batch
        if (culprit, *before) in self.reliable:
            return None
        again = self.together(tests, before)
        self.restore()
        if again["failed"] is None:
            self.reliable.add((culprit, *before))
            return None
        failed = again["last"] if again["failed"] in (TIME_LIMIT, ENDED) else again["failed"]
        if failed not in {*batch, *(name.split("::")[0] for name in batch)}:
            raise RuntimeError(f"{self.tree}: expected tests that can run, got {again} of {batch}")
        return str(failed)


def files_of(tree: Path) -> set[str]:
    """All but what Python compiled, and what is only linked."""
    return {
        str(Path(folder, name).relative_to(tree))
        for folder, _, names in os.walk(tree)
        if Path(folder).name != "__pycache__"
        for name in names
    }


def map_part(project: Project, file: str) -> Path:
    return project.store / "map" / f"{file.replace('/', '.')}.json"


def within(tests: Tests, budget: float, without: Container[str]) -> list[str]:
    """As many of them as take that many seconds, and one at least."""
    chosen: list[str] = []
    total = 0.0
    for name in [*tests.own, *tests.others]:
        if name in without or name.split("::")[0] in without:
            continue
        total += tests.seconds[name]
        if chosen and total > budget:
            break
        chosen.append(name)
    return chosen


def batches(project: Project, tests: Iterable[str]) -> list[list[str]]:
    """Tests that run together: of a few files, which all need the peers or none."""
    by_file: dict[str, list[str]] = {}
    for name in tests:
        by_file.setdefault(name.split("::")[0], []).append(name)
    found: list[tuple[bool, int, list[str]]] = []
    for file, names in by_file.items():
        peers = project.needs_peers(file)
        if not found or found[-1][0] != peers or found[-1][1] == FILES_AT_ONCE:
            found.append((peers, 0, []))
        _, files, batch = found[-1]
        found[-1] = (peers, files + 1, [*batch, *names])
    return [batch for _, _, batch in found]


def say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()
