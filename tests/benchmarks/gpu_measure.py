"""Time by the device's events, memory by PyTorch's allocator, and errors of gradients."""

import time
from collections.abc import Callable
from functools import partial
from statistics import median
from typing import NamedTuple

import torch
from torch import Tensor

from tests.benchmarks import cases
from tests.benchmarks.cases import Call, Inputs, Loss
from tests.benchmarks.gpu_cases import GpuCase, given
from tests.benchmarks.measure import MB

FLUSH = 2**28  # bytes that are written before a call, several times the second-level cache
AHEAD = 2_000_000  # clock cycles that the device waits, so that launching a call is not what counts
LONGEST = 1000.0  # ms of a call from which on one round is enough

Clock = Callable[[Callable[[], object]], float]
"""Takes a call and says how many milliseconds it took."""


class DeviceLost(RuntimeError):
    """A case ended with an error after which the process can do nothing more on the device."""

    def __init__(self, case: str, error: Exception):
        super().__init__(f"{case}: {error!r:.300}")
        self.case = case


def raise_if_lost(case: GpuCase, error: Exception) -> None:
    """Too little memory, say, is no such error; an access beyond a tensor is."""
    if "CUDA error" in str(error) and "out of memory" not in str(error):
        raise DeviceLost(case.name, error) from error


class Tools(NamedTuple):
    """How one run measures."""

    clock: Clock
    peak: Callable[[Callable[[], object]], float]
    """Takes a call and says how many MB it held at most."""
    say: Callable[[str], object]
    rounds: int
    deadline: float = float("inf")
    """On time.monotonic: no case is begun after it, and no second round."""

    def late(self) -> bool:
        return time.monotonic() > self.deadline


def device_clock() -> Clock:
    """Events around a call, after the cache was written over and while the device still waits."""
    scratch = torch.empty(FLUSH, dtype=torch.int8, device="cuda")

    def clock(call: Callable[[], object]) -> float:
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        scratch.zero_()
        torch.cuda._sleep(AHEAD)
        start.record()
        call()
        end.record()
        end.synchronize()
        return float(start.elapsed_time(end))

    return clock


def device_peak(call: Callable[[], object]) -> float:
    """MB that a call holds at most above what was held before."""
    torch.cuda.synchronize()
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    call()
    torch.cuda.synchronize()
    return (torch.cuda.max_memory_allocated() - before) / MB


def run(call: Call, inputs: Inputs, gradient: bool = True) -> Tensor:
    """Forward and backward; the value."""
    value = call(inputs)
    if gradient:
        torch.autograd.grad(value, inputs.rows)
    return value.detach()


def interleaved(calls: list[Callable[[], object]], tools: Tools) -> list[float]:
    """The median milliseconds of each call; the first, which compiles, does not count."""
    clock = tools.clock
    first = [min(clock(call), clock(call)) for call in calls]
    found: list[list[float]] = [[] for _ in calls]
    for turn in range(tools.rounds):
        if turn and tools.late():
            break
        for call, once, times in zip(calls, first, found, strict=True):
            if turn == 0 or once < LONGEST:
                times.append(clock(call))
    return [median(times) for times in found]


def measured(
    loss: Loss,
    wanted: list[GpuCase],
    floor: Callable[[Inputs], object],
    inputs: Inputs,
    kind: str,
    tools: Tools,
) -> list[dict]:
    """One size in one precision: its cases in turns with the products alone."""
    n, d = inputs.rows[0].shape
    where = f"{loss.name}, N={n}, d={d}"
    calls, group, memory, values = [], [], [], []
    for case in wanted:
        if tools.late():
            tools.say(f"Left out: {case.name} ({where}: no time is left)")
            continue
        try:
            call = partial(run, case.make(kind, d), inputs, loss.gradient)
            value = float(call())
            most = tools.peak(call)
        except Exception as error:  # a library that cannot do this size, dtype or device is told
            raise_if_lost(case, error)
            tools.say(f"Left out: {case.name} ({where}: {error!r:.200})")
            continue
        calls.append(call)
        group.append(case)
        memory.append(most)
        values.append(value)
    if not calls:
        return []
    *times, least = interleaved([*calls, partial(floor, inputs)], tools)
    return [
        {
            "loss": loss.name,
            "case": case.name,
            "n": n,
            "d": d,
            "ms": ms,
            "floor_ms": least,
            "MB": megabytes,
            "value": value,
            "apart": abs(value - values[0]) / max(abs(values[0]), 1e-30),
        }
        for case, ms, megabytes, value in zip(group, times, memory, values, strict=True)
    ]


def gradient_errors(
    wanted: list[GpuCase], kind: str, d: int, device: str, n: int, tools: Tools
) -> dict[str, float]:
    """How far each case's gradients are from float64's, over their size; of rows as given.

    Without those that torch.compile would take anew for this size.
    """
    inputs = given(n, d, kind, device)
    double = inputs._replace(rows=tuple(x.detach().double().requires_grad_() for x in inputs.rows))
    exact = torch.cat(torch.autograd.grad(cases.torch_symmetric(double), double.rows))
    found = {}
    for case in wanted:
        if case.compiles or tools.late():
            continue
        try:
            gradients = torch.autograd.grad(case.make(kind, d)(inputs), inputs.rows)
        except Exception as error:  # told where it is timed
            raise_if_lost(case, error)
            continue
        found[case.name] = ((torch.cat(gradients) - exact).norm() / exact.norm()).item()
    return found
