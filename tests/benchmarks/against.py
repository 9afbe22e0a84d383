"""Our cases beside the same ones of another checkout: ``python -m tests.benchmarks --against DIR``.

Both run the cases that are written here, each with its own package, in a process of its own. The
two take turns, and the first of a turn changes. Processes are begun anew, because one can be faster
than another of the same code, by where its memory lies.
"""

import json
import subprocess
import sys
from functools import partial
from pathlib import Path
from statistics import quantiles

import torch

from tests.benchmarks import cases, measure
from tests.benchmarks.cases import Case

HERE = Path(__file__).resolve().parents[2]
PROCESSES = 3  # of each of the two
START = """
import sys
sys.path.insert(0, sys.argv[1])
import mmcontrast
sys.path.insert(0, sys.argv[2])
from tests.benchmarks import against
against.serve()
"""


class Other(RuntimeError):
    """The package cannot do that."""


class Worker:
    """A process that measures cases with the package of a folder."""

    def __init__(self, folder: Path):
        self.process = subprocess.Popen(
            [sys.executable, "-c", START, folder.resolve(), HERE],
            cwd=HERE,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def ask(self, *request: object) -> object:
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        answer = json.loads(self.process.stdout.readline() or '{"error": "its process ended"}')
        if "error" in answer:
            raise Other(answer["error"])
        return answer["found"]

    def __enter__(self) -> "Worker":
        return self

    def __exit__(self, *_: object) -> None:
        self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close()


def serve() -> None:
    """The worker's side: a case to take up, or a round of the one that it has."""
    torch.set_num_threads(1)
    clock: measure.Clock
    for line in sys.stdin:
        request = json.loads(line)
        try:
            if request[0] == "case":
                clock, found = _clock(*request[1:]), None
            else:
                clock.round()
                found = clock.rounds[-1]
            answer = {"found": found}
        except Exception as error:  # an older package may lack a function or an argument
            answer = {"error": f"{type(error).__name__}: {error}"}
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


def _clock(loss: str, name: str, n: int, d: int) -> measure.Clock:
    case = next(x for x in cases.CASES if (x.loss, x.name) == (loss, name))
    kind = next(x for x in cases.LOSSES if x.name == loss)
    return measure.Clock(partial(measure.run, kind, case.make(), kind.inputs(n, d)))


def ours(plan: list[tuple[list[Case], int, int]]) -> list[tuple[Case, int, int]]:
    """Our own cases of all sizes, without those that are compiled."""
    return [
        (case, n, d)
        for group, n, d in plan
        for case in group
        if case.name in cases.OWN and not case.compiled
    ]


def compared(
    folder: Path, wanted: list[tuple[Case, int, int]], rounds: int
) -> tuple[list[dict], list[str]]:
    """A result for each case, and a line for each that one of the two packages cannot do."""
    pairs: dict[tuple[Case, int, int], list[tuple[float, float]]] = {key: [] for key in wanted}
    failed = {}
    for _ in range(PROCESSES):
        with Worker(HERE) as here, Worker(folder) as there:
            for key in wanted:
                case, n, d = key
                try:
                    for worker in (here, there):
                        worker.ask("case", case.loss, case.name, n, d)
                    pairs[key] += [_pair(here, there, k % 2 == 1) for k in range(rounds)]
                except Other as error:
                    failed[key] = f"Left out: {case.loss}, {case.name}, N={n}, d={d}: {error}"
    results = [_result(*key, some) for key, some in pairs.items() if key not in failed]
    return results, list(failed.values())


def _pair(here: Worker, there: Worker, other_first: bool) -> tuple[float, float]:
    """Seconds of a call here and there."""
    if other_first:
        before = there.ask("round")
        return here.ask("round"), before
    return here.ask("round"), there.ask("round")


def _result(case: Case, n: int, d: int, pairs: list[tuple[float, float]]) -> dict:
    low, middle, high = quantiles([a / b for a, b in pairs], n=4, method="inclusive")
    before = quantiles([b for _, b in pairs], n=4, method="inclusive")[1]
    return {
        "loss": case.loss,
        "case": case.name,
        "n": n,
        "d": d,
        "ms": 1e3 * middle * before,  # so that the ratio is that of the pairs
        "before_ms": 1e3 * before,
        "quartiles": [low, high],
    }
