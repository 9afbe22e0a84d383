"""A process that is forked for every run of pytest, so that torch is imported once.

``python -m tests.mutants.child MODULE...`` imports the modules, then reads a line of JSON for each
run and answers with one. Where it is started is the folder whose tests run.
"""

import contextlib
import gc
import importlib
import json
import os
import signal
import sys
import time
from collections.abc import Callable
from multiprocessing import connection
from pathlib import Path
from typing import Any

import pytest

OPTIONS = [
    *("-q", "-p", "no:cacheprovider", "-p", "no:xdist", "--tb=short"),
    *("-W", "ignore::pytest.PytestAssertRewriteWarning"),  # what was imported before the fork
]

NOTHING_RAN = 5
"""pytest's exit code where there was no test."""

TIME_LIMIT = "the time limit"
ENDED = "the process ended, as after a write to memory that is not its own"


class Chosen:
    """The tests to run, in their order, and the first that failed."""

    def __init__(self, tests: list[str] | None, tell: Callable[[str], None]) -> None:
        self.tell = tell
        self.order = None if tests is None else {name: i for i, name in enumerate(tests)}
        self.failed: str | None = None
        self.ran = 0

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        order = self.order
        if order is not None:
            here = (item for item in items if item.nodeid in order)
            items[:] = sorted(here, key=lambda item: order[item.nodeid])

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        self.tell(nodeid)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self.ran += report.when == "call"
        if report.failed and self.failed is None:
            self.failed = report.nodeid

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed and self.failed is None:
            self.failed = report.nodeid


def run(asked: dict[str, Any], tell: Callable[[str], None]) -> dict[str, Any]:
    """One run of pytest: what failed, and how many tests ran; each is told when it begins."""
    chosen = Chosen(asked.get("tests"), tell)
    plugins: list[object] = [chosen]
    if "record" in asked:
        from tests.mutants.recording import Recording

        plugins.append(Recording(Path(asked["record"]), asked["paths"]))
    first = [] if "record" in asked else ["-x"]
    code = int(pytest.main([*OPTIONS, *first, *asked["files"]], plugins=plugins))
    failed = chosen.failed or (
        f"pytest ended with {code}" if code not in (0, NOTHING_RAN) else None
    )
    return {"failed": failed, "ran": chosen.ran}


def in_a_fork(asked: dict[str, Any]) -> dict[str, Any]:
    """The same in a process group of its own, which is killed when a test's time is up.

    ``limits`` has the seconds of some tests, and ``limit`` those of the others and of what goes
    before the first.
    """
    ours, its = connection.Pipe(duplex=False)
    pid = os.fork()
    if pid == 0:
        os.setsid()
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        sys.dont_write_bytecode = not asked.get("bytecode", False)
        with open(asked["said"], "w") as said:
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            os.dup2(said.fileno(), 1)
            os.dup2(said.fileno(), 2)
            its.send(run(asked, its.send))
            sys.stdout.flush()
        os._exit(0)
    its.close()
    began = time.monotonic()
    answer: dict[str, Any] = {"failed": None, "ran": 0}
    last = None
    try:
        limit = asked["limit"]
        while ours.poll(limit):
            said_so = ours.recv()
            if isinstance(said_so, dict):
                answer = said_so
                break
            last = said_so
            limit = asked.get("limits", {}).get(said_so, asked["limit"])
        else:
            answer["failed"] = TIME_LIMIT
    except EOFError:
        answer["failed"] = ENDED
    finally:  # it has answered or it shall not, and what it started has nothing left to do
        with contextlib.suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    return {**answer, "last": last, "seconds": round(time.monotonic() - began, 2)}


def main() -> None:
    for module in sys.argv[1:]:
        importlib.import_module(module)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that what it forked ends with it
    gc.collect()
    gc.freeze()
    for line in sys.stdin:
        sys.stdout.write(json.dumps(in_a_fork(json.loads(line))) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
