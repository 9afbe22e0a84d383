"""Maps the tests and tries the mutants: each worker has a copy of the checkout and its servers."""

import compileall
import fcntl
import json
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Container, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from tests.mutants.child import ENDED, TIME_LIMIT
from tests.mutants.lines import Map, Tests, digest, part
from tests.mutants.operators import Mutant
from tests.mutants.project import Project
from tests.mutants.results import results, stored_in

FILES_AT_ONCE = 8
"""Of other test files, whose import takes longer than the tests of a line."""


class Worker:
    """A copy of the checkout, and the processes that run pytest in it."""

    def __init__(self, project: Project, number: int) -> None:
        self.project, self.number = project, number
        self.tree = project.tree(number)
        compileall.compile_dir(self.tree, quiet=2)  # once, and not in each run
        self.servers: dict[bool, subprocess.Popen[str]] = {}
        self.reliable: set[str] = set()
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
        server.stdin.write(json.dumps(asked) + "\n")
        server.stdin.flush()
        answer: dict[str, Any] = json.loads(server.stdout.readline())
        return answer

    def end(self) -> None:
        for server in self.servers.values():
            assert server.stdin is not None
            server.stdin.close()
            server.wait()
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
        target.write_text(json.dumps(found))
        shutil.rmtree(into)
        said = f"{file}: {len(found['seconds'])} tests in {answer['seconds']} s"
        return said + "".join(f"\n    left out, did not pass: {name}" for name in found["failed"])

    # --- mutants -------------------------------------------------------------------------------

    def try_mutant(self, mutant: Mutant, tests: Tests, budget: float) -> dict[str, Any]:
        """What became of it: killed by which test, survived, or not run by any.

        A test that fails without the mutant too, alone in this order, say, has killed nothing.
        """
        seconds = 0.0
        while True:
            chosen = within(tests, budget, self.unreliable)
            self.write(mutant.path, mutant.apply(self.project.source(mutant.path)))
            try:
                result, batch = self.attempt(tests, chosen)
            finally:
                self.write(mutant.path, self.project.source(mutant.path))
            seconds += result["seconds"]
            if self.passes(result.get("test", ""), batch, tests):
                left = len(tests) - len(chosen)
                return {**result, "seconds": round(seconds, 1), "left": left}
            self.unreliable.add(result["test"])
            say(f"does not count, it fails without a mutant: {result['test']}")

    def write(self, path: str, source: bytes) -> None:
        """Without what Python compiled of it: a change within a second would go unseen."""
        file = self.tree / path
        for stale in (file.parent / "__pycache__").glob(f"{file.stem}.*"):
            stale.unlink()
        file.write_bytes(source)

    def attempt(self, tests: Tests, chosen: list[str]) -> tuple[dict[str, Any], list[str]]:
        """The result, and the tests that ran together last."""
        seconds, ran, batch = 0.0, 0, []
        result: dict[str, Any] = {"result": "survived" if chosen else "not run"}
        for batch in batches(self.project, chosen):
            answer = self.together(tests, batch)
            seconds += answer["seconds"]
            ran += answer["ran"]
            if answer["failed"] is not None:
                kind = "timeout" if answer["failed"] == TIME_LIMIT else "killed"
                result = {"result": kind, "test": answer["failed"]}
                break
        return {**result, "seconds": seconds, "ran": ran}, batch

    def together(self, tests: Tests, batch: list[str]) -> dict[str, Any]:
        files = list(dict.fromkeys(name.split("::")[0] for name in batch))
        patience = self.project.patience
        limits = {name: patience / 2 + 4 * tests.seconds[name] for name in batch}
        return self.pytest(files, tests=batch, limits=limits, limit=patience)

    def passes(self, test: str, batch: list[str], tests: Tests) -> bool:
        """Whether what failed, a test or the import of its file, passes without a mutant.

        After the same tests. What did not end in time is not tried a second time.

        Raises:
            RuntimeError: the process ends without a mutant, too.
        """
        if test == ENDED and self.together(tests, batch)["failed"] == ENDED:
            raise RuntimeError(f"{self.tree}: expected tests that can run, got {batch}")
        named = test.split("::")[0].endswith(".py")
        if named and test not in self.reliable:
            before = batch[: batch.index(test) + 1] if test in batch else batch
            if self.together(tests, before)["failed"] is not None:
                return False
            self.reliable.add(test)
        return True


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


def in_parallel(
    project: Project, jobs: Iterable[Any], workers: int, work: Callable[[Worker, Any], None]
) -> None:
    """Every job by the next worker that is free; of two such runs at once the second ends.

    Raises:
        BlockingIOError: another run has the copies.
    """
    project.store.mkdir(exist_ok=True)
    held = (project.store / "lock").open("w")
    fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    free: SimpleQueue[Worker] = SimpleQueue()
    made = [Worker(project, number) for number in range(workers)]
    for worker in made:
        free.put(worker)

    def one(job: Any) -> None:
        worker = free.get()
        try:
            work(worker, job)
        finally:
            free.put(worker)

    try:
        with ThreadPoolExecutor(workers) as pool:
            try:
                for done in [pool.submit(one, job) for job in jobs]:
                    done.result()
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise
    finally:
        for worker in made:
            worker.end()
        held.close()


def say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def make_map(project: Project, files: Sequence[str], workers: int, limit: float) -> None:
    """Record test files: those named, or all that have no part yet or have changed since."""
    chosen = files or [file for file in project.test_files() if not is_mapped(project, file)]
    in_parallel(project, chosen, workers, lambda worker, file: say(worker.record(file, limit)))


def is_mapped(project: Project, file: str) -> bool:
    path = map_part(project, file)
    if not path.is_file():
        return False
    recorded: str = json.loads(path.read_text())["file"]
    return recorded == digest(project.source(file))


def run(project: Project, sample: Iterable[Mutant], workers: int, budget: float) -> None:
    """Try those that have no result yet and are not equivalent; a line of JSON for each."""
    known = Map(project.store / "map")
    done = results(project)
    lock = threading.Lock()
    left = []
    for mutant in sample:
        key = mutant.key(project.source(mutant.path))
        if key not in done and not project.is_equivalent(mutant):
            left.append((mutant, key))

    def one(worker: Worker, job: tuple[Mutant, str]) -> None:
        mutant, key = job
        tests = known.of(mutant, project.source(mutant.path))
        result = worker.try_mutant(mutant, tests, budget)
        old = " ".join(mutant.old.split())
        about = {name: getattr(mutant, name) for name in ("path", "line", "operator", "at")}
        with lock, stored_in(project).open("a") as file:
            file.write(json.dumps({"key": key, **about, "old": old, "new": mutant.new, **result}))
            file.write("\n")
            say(f"{result['result']}: {mutant.path}:{mutant.at}: {old} -> {mutant.new}")

    say(f"{len(left)} to try")
    in_parallel(project, left, workers, one)
