"""Processor time and peak memory of a case, and the matrix products that it is compared with."""

import ctypes
import gc
import math
import multiprocessing
import os
import resource
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median
from typing import Any

import torch

from tests.benchmarks.cases import Call, Case, Inputs, Loss

SHORTEST = 0.02  # seconds a round takes at least: a call that is shorter is repeated
WARMED = 0.1  # seconds of a call up to which each round begins with one that does not count
LONGEST = 12.0  # seconds of a call from which on the first one, warm-up to the others, is enough
WARM = 4160
"""Most rows of the warm-up call before memory is measured. It initialises MKL, and for sums of more
than 4096 rows Inductor compiles another program."""
MMAP_THRESHOLD, MAPPED = -3, 2**16  # malloc.h's name; bytes from which on each has its own pages
TRACED = (480, 512)  # rows of the calls for which a compiled case is compiled
MB = 2**20


def run(loss: Loss, call: Callable[[Inputs], torch.Tensor], inputs: Inputs) -> torch.Tensor:
    """Forward and backward; the value."""
    value = call(inputs)
    if loss.gradient:
        torch.autograd.grad(value, inputs.rows)
    return value.detach()


def ready(case: Case, loss: Loss, d: int) -> Call:
    """The case's call; a compiled one has met two sizes, and has its program for all sizes."""
    call = case.make()
    for n in TRACED if case.compiled else ():
        run(loss, call, loss.inputs(n, d))
    return call


# --- the floor -----------------------------------------------------------------------------------


def floor(
    a: torch.Tensor, b: torch.Tensor, products: int, rows: int, columns: int
) -> Callable[[], tuple[torch.Tensor, torch.Tensor]]:
    """The products alone that a loss of all pairs needs: S = A B^T, and S B and S^T A behind it.

    In blocks of the cache's size, and without any storage but the results'.
    """
    buffer = torch.empty(min(rows, len(a)) * min(columns, len(b)))
    to_a, to_b = torch.empty_like(a), torch.empty_like(b)

    def call() -> tuple[torch.Tensor, torch.Tensor]:
        to_a.zero_()
        to_b.zero_()
        for x, to_x in zip(a.split(rows), to_a.split(rows), strict=True):
            for y, to_y in zip(b.split(columns), to_b.split(columns), strict=True):
                block = buffer[: len(x) * len(y)].view(len(x), len(y))
                torch.mm(x, y.T, out=block)
                if products == 3:
                    to_x.addmm_(block, y)
                    to_y.addmm_(block.T, x)
        return to_a, to_b

    return call


def floors(n: int, d: int, products: int) -> list[Callable[[], None]]:
    """Square tiles, or whole rows: the floor is whichever is faster."""
    whole = max(2**21 // n, 32)
    shapes = [(512, 512), (whole, n)] if n > 512 else [(n, n)]
    a, b = torch.randn(n, d), torch.randn(n, d)
    return [floor(a, b, products, *shape) for shape in shapes]


# --- time ----------------------------------------------------------------------------------------


class Clock:
    """One call's rounds, which are taken in turn with the other calls'."""

    def __init__(self, call: Callable[[], object]):
        self.call = call
        first = self._seconds(1)
        self.rounds = [first] if first > LONGEST else []
        self.enough = first > LONGEST
        self.seconds = first

    def round(self) -> None:
        if self.enough:
            return
        if self.seconds < WARMED:
            self.seconds = min(self.seconds, self._seconds(1))
        repeats = max(1, math.ceil(SHORTEST / max(self.seconds, 1e-6)))
        self.rounds.append(self._seconds(repeats))

    def milliseconds(self) -> float:
        return 1e3 * median(self.rounds)

    def _seconds(self, repeats: int) -> float:
        start = time.process_time()
        for _ in range(repeats):
            self.value = self.call()
        return (time.process_time() - start) / repeats


def interleaved(calls: list[Callable[[], object]], rounds: int) -> list[Clock]:
    gc.freeze()  # or some call pays for looking through all that was imported
    clocks = [Clock(call) for call in calls]
    for _ in range(rounds):
        for clock in clocks:
            clock.round()
    return clocks


# --- memory --------------------------------------------------------------------------------------


def forked(function: Callable[..., Any], *inputs: object) -> Any:
    """What a function returns in a process of its own; None where that ended before."""
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    child = context.Process(target=_tell, args=(sender, function, inputs))
    child.start()
    sender.close()
    try:
        return receiver.recv()
    except EOFError:
        return None
    finally:
        child.join()


def _tell(sender: Connection, function: Callable[..., Any], inputs: tuple[object, ...]) -> None:
    sender.send(function(*inputs))


def peak_memory(case: Case, loss: Loss, n: int, d: int) -> float | None:
    """MB that the call holds at most above what the process held before, in a process of its own.

    None where the process ended before it could tell, for want of memory.
    """
    return forked(_peak_of_a_call, case, loss, n, d)


def _peak_of_a_call(case: Case, loss: Loss, n: int, d: int) -> float:
    torch.set_num_threads(1)  # threads do not survive a fork
    gc.freeze()  # what was imported is no garbage, and looking through it takes its time
    call = ready(case, loss, d)
    run(loss, call, loss.inputs(min(n, WARM), d))
    inputs = loss.inputs(n, d)
    _give_back()

    def measured() -> float:
        torch.set_num_threads(1)  # each thread has a number of its own
        before = _start_peak()
        run(loss, call, inputs)
        return (_peak() - before) / MB

    # A new thread has a heap of its own. In the usual one, memory may be taken from a free place
    # and stay resident there when it is given back, as luck has it.
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(measured).result()


def _give_back() -> None:
    """Free memory goes back to the system, now and later, so that its use again is seen."""
    if sys.platform == "linux":
        system = ctypes.CDLL(None)
        system.mallopt(MMAP_THRESHOLD, MAPPED)
        system.malloc_trim(0)


def _start_peak() -> int:
    """The peak starts anew from what is resident now, where the system can do that."""
    if sys.platform != "linux":
        return _peak()
    Path("/proc/self/clear_refs").write_text("5")
    return _status("VmRSS")


def _peak() -> int:
    if sys.platform == "linux":
        return _status("VmHWM")
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _status(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith(name))


def free_memory() -> int:
    """Bytes that a new process may take."""
    if sys.platform == "linux":
        lines = Path("/proc/meminfo").read_text().splitlines()
        return next(1024 * int(x.split()[1]) for x in lines if x.startswith("MemAvailable"))
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
