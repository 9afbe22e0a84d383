"""Modules as programs, each in a new process that starts with torch and more already imported.

A server that imported them once is forked for every program (`multiprocessing`'s forkserver): new
memory and no threads, as from a start of Python, without the seconds that the imports take.
"""

import multiprocessing
import os
import runpy
import sys
import tempfile
import time
from functools import cache
from multiprocessing import connection, forkserver
from multiprocessing.context import ForkServerContext
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from tests.processes import ROOT

IMPORTED = ["torch._dynamo.testing", "torch.distributed.fsdp", "mmcontrast", "pytest", "hypothesis"]
IMPORTED += ["matplotlib.pyplot", "IPython.core.interactiveshell"]


class Forks:
    """Programs that run at the same time, and end together."""

    def __init__(self) -> None:
        self.running: list[BaseProcess] = []
        self.said: list[Path] = []

    def start(self, module: str, *arguments: Any, **environment: str) -> None:
        """As `python -m module arguments`, with one thread."""
        handle, path = tempfile.mkstemp()
        os.close(handle)
        everything = {**os.environ, "OMP_NUM_THREADS": "1", **environment}
        given = (module, [str(x) for x in arguments], everything, path)
        process = server().Process(target=program, args=given)
        process.start()
        self.running.append(process)
        self.said.append(Path(path))

    def wait(self, timeout: float) -> dict[int, str]:
        """Until all have ended, or one failed, or time is up; what was said by those that failed.

        Whatever runs then is killed, and counts as failed.
        """
        end = time.monotonic() + timeout
        left = {process.sentinel: process for process in self.running}
        try:
            while left and all(process.exitcode in (0, None) for process in self.running):
                ended = connection.wait(left, timeout=max(0, end - time.monotonic()))
                if not ended:
                    break
                for sentinel in ended:
                    left.pop(sentinel).join()
        finally:  # else who interrupts the tests would wait for them at the end
            for process in left.values():
                process.kill()
                process.join()
            said = [path.read_text(errors="replace") for path in self.said]
            for path in self.said:
                path.unlink()
        codes = [process.exitcode for process in self.running]
        return {i: f"exit {code}\n{said[i][-3000:]}" for i, code in enumerate(codes) if code != 0}


@cache
def server() -> ForkServerContext:
    """Started at the first use, and ended with this process."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(IMPORTED)
    threads = os.environ.get("OMP_NUM_THREADS")
    os.environ["OMP_NUM_THREADS"] = "1"  # a library that starts threads reads it when imported
    forkserver.ensure_running()
    if threads is None:
        del os.environ["OMP_NUM_THREADS"]
    else:
        os.environ["OMP_NUM_THREADS"] = threads
    return context


def program(module: str, arguments: list[str], environment: dict[str, str], said: str) -> None:
    """What such a process does."""
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(ROOT)
    with open(said, "w") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)
