"""Maps the tests and tries the mutants: the jobs, and the workers that do them."""

import fcntl
import json
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from queue import SimpleQueue
from typing import Any

from tests.mutants.lines import Map, digest
from tests.mutants.operators import Mutant
from tests.mutants.project import Project
from tests.mutants.results import results, stored_in
from tests.mutants.worker import Worker, map_part, say


@contextmanager
def alone(project: Project) -> Iterator[None]:
    """Of two runs at once the second ends.

    Raises:
        BlockingIOError: another run has the copies.
    """
    project.store.mkdir(exist_ok=True)
    with (project.store / "lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield


def in_parallel(
    project: Project, jobs: Iterable[Any], workers: int, work: Callable[[Worker, Any], None]
) -> None:
    """Every job by the next worker that is free."""
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
    known = Map(project.store / "map", project.root)
    done = results(project)
    lock = threading.Lock()
    left = []
    for mutant in sample:
        source = project.source(mutant.path)  # as it is now: who edits it meanwhile does no harm
        key = mutant.key(source)
        if key not in done and not project.is_equivalent(mutant):
            left.append((mutant, source, key))

    def one(worker: Worker, job: tuple[Mutant, bytes, str]) -> None:
        mutant, source, key = job
        tests = known.of(mutant, source)
        result = worker.try_mutant(mutant, source, tests, budget)
        old = " ".join(mutant.old.split())
        about = {name: getattr(mutant, name) for name in ("path", "line", "operator", "at")}
        with lock, stored_in(project).open("a") as file:
            file.write(json.dumps({"key": key, **about, "old": old, "new": mutant.new, **result}))
            file.write("\n")
            say(f"{result['result']}: {mutant.path}:{mutant.at}: {old} -> {mutant.new}")

    say(f"{len(left)} to try")
    in_parallel(project, left, workers, one)
