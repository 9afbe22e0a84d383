"""Measure symmetric InfoNCE on a GPU beside other libraries': ``python -m tests.benchmarks.gpu``.

Time is the device's, forward and backward, by events around a call that meets a cold second-level
cache: the median of rounds in which all cases of one size and precision take turns. Memory is the
peak that PyTorch allocates above what it held before, gradients included. The floor is the matrix
products alone, S = X Y^T, S Y and S^T X, by PyTorch's own library in the same precision.
"""

import argparse
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median

import torch
from torch import Tensor

from mmcontrast.exact import infonce_tiles, kernels
from tests.benchmarks import cases, peers, report
from tests.benchmarks.cases import OURS, PLAIN, SCALE, TEMPERATURE, Call, Inputs
from tests.benchmarks.gpu_targets import DTYPES, INF_CL, LOSSES, verdicts
from tests.benchmarks.measure import MB
from tests.benchmarks.peers import CHUNKED, OPEN_CLIP

TILES = "mmcontrast, tiles of PyTorch operations"
BLOCK = 2**28  # entries of the floor's block of logits
FLUSH = 2**28  # bytes that are written before a call, several times the second-level cache
AHEAD = 2_000_000  # clock cycles that the device waits, so that launching a call is not what counts
LONGEST = 1000.0  # ms of a call from which on one round is enough

Clock = Callable[[Callable[[], object]], float]
"""Takes a call and says how many milliseconds it took."""


# --- what is measured ----------------------------------------------------------------------------


@dataclass(frozen=True)
class GpuCase:
    name: str
    make: Callable[[str, int], Call]
    """Imports what it needs and gives the call, for a precision and a width."""
    matrices: float = 0
    """How many N x N float32 matrices it holds at once, about."""


def ours(kind: str, d: int) -> Call:
    def call(inputs: Inputs) -> Tensor:
        return kernels.symmetric_fused(*inputs.rows, TEMPERATURE, precision=kind).mean()

    return call


def plain(kind: str, d: int) -> Call:
    return lambda inputs: cases.symmetric(inputs, chunk_size=len(inputs.labels))


def tiles(kind: str, d: int) -> Call:
    """What runs where there is no Triton, in tiles for a GPU."""

    def call(inputs: Inputs) -> Tensor:
        x, y = (z.float() for z in inputs.rows)
        return infonce_tiles.symmetric_in_tiles(x, y, TEMPERATURE, (8192, 8192)).mean()

    return call


def inf_cl(kind: str, d: int) -> Call:
    way = peers.module("inf_cl").cal_flash_loss
    head = min(d, 256)

    def call(inputs: Inputs) -> Tensor:
        x, y = inputs.rows
        there = way(x, y, inputs.labels, SCALE, head)
        return ((there + way(y, x, inputs.labels, SCALE, head)) / 2).mean()

    return call


CASES = [
    GpuCase(OURS, ours),
    GpuCase(TILES, tiles),
    GpuCase(PLAIN, plain, 5),
    GpuCase(OPEN_CLIP, lambda kind, d: peers.clip(), 4),
    GpuCase(CHUNKED, lambda kind, d: peers.both(peers.chunked())),
    GpuCase(INF_CL, inf_cl),
]


def given(n: int, d: int, kind: str, device: str) -> Inputs:
    """Rows of unit length, in the precision's dtype, as leaves."""
    rows, labels = cases.pair(n, d)
    found = (x.detach().to(device, DTYPES[kind]).requires_grad_() for x in rows)
    return Inputs(tuple(found), labels.to(device))


def run(call: Call, inputs: Inputs) -> Tensor:
    """Forward and backward; the value."""
    value = call(inputs)
    torch.autograd.grad(value, inputs.rows)
    return value.detach()


def floor(inputs: Inputs) -> tuple[Tensor, Tensor]:
    """The three products in blocks of whole rows."""
    x, y = (z.detach() for z in inputs.rows)
    to_x, to_y = torch.empty_like(x), torch.zeros_like(y)
    rows = max(BLOCK // len(y), 1)
    for left, right in zip(x.split(rows), to_x.split(rows), strict=True):
        block = left @ y.T
        torch.mm(block, y, out=right)
        to_y.addmm_(block.T, left)
    return to_x, to_y


@contextmanager
def products(kind: str) -> Iterator[None]:
    """PyTorch's own products in tf32 where that is what is measured."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high" if kind == "tf32" else "highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


# --- how it is measured --------------------------------------------------------------------------


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


def interleaved(calls: list[Callable[[], object]], rounds: int, clock: Clock) -> list[float]:
    """The median milliseconds of each call; the first, which compiles, does not count."""
    first = [min(clock(call), clock(call)) for call in calls]
    found: list[list[float]] = [[] for _ in calls]
    for turn in range(rounds):
        for call, once, times in zip(calls, first, found, strict=True):
            if turn == 0 or once < LONGEST:
                times.append(clock(call))
    return [median(times) for times in found]


def measured(
    wanted: list[GpuCase],
    inputs: Inputs,
    kind: str,
    rounds: int,
    clock: Clock,
    peak: Callable[[Callable[[], object]], float],
    say: Callable[[str], object],
) -> list[dict]:
    """One size in one precision: its cases in turns with their floor."""
    n, d = inputs.rows[0].shape
    calls, group, memory, values = [], [], [], []
    for case in wanted:
        call = partial(run, case.make(kind, d), inputs)
        try:
            values.append(float(call()))
            memory.append(peak(call))
        except Exception as error:  # a library that cannot do this size, dtype or device is told
            say(f"Left out: {case.name} ({LOSSES[kind].name}, N={n}, d={d}: {error!r:.200})")
            del values[len(memory) :]
            continue
        group.append(case)
        calls.append(call)
    *times, least = interleaved([*calls, partial(floor, inputs)], rounds, clock)
    return [
        {
            "loss": LOSSES[kind].name,
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
    wanted: list[GpuCase], kind: str, d: int, device: str, n: int = 1000
) -> dict[str, float]:
    """How far each case's gradients are from float64's, over their size; of rows as given."""
    inputs = given(n, d, kind, device)
    double = inputs._replace(rows=tuple(x.detach().double().requires_grad_() for x in inputs.rows))
    exact = torch.cat(torch.autograd.grad(cases.torch_symmetric(double), double.rows))
    found = {}
    for case in wanted:
        try:
            gradients = torch.autograd.grad(case.make(kind, d)(inputs), inputs.rows)
        except Exception:  # told where it is timed
            continue
        found[case.name] = ((torch.cat(gradients) - exact).norm() / exact.norm()).item()
    return found


# --- the command ---------------------------------------------------------------------------------


def words(text: str) -> list[str]:
    return [word for word in text.split(",") if word]


def numbers(text: str) -> list[int]:
    return [int(word) for word in words(text)]


def arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        "python -m tests.benchmarks.gpu",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--sizes", type=numbers, default=[4096, 32768], metavar="N,..", help="(4096,32768)")
    add("--dims", type=numbers, default=[64, 512], metavar="D,..", help="(64,512)")
    add("--kinds", type=words, default=list(DTYPES), metavar="KIND,..", help="(ieee,tf32,bf16)")
    add("--cases", metavar="NAME,..", help="only those with one of these in their name")
    add("--rounds", type=int, default=7, help="rounds, whose median is told (7)")
    add("--memory", type=float, default=60.0, metavar="GB", help="leave out what takes more (60)")
    add("--out", type=Path, default=Path("bench"), help="folder (bench)")
    return parser.parse_args(argv)


def chosen(options: argparse.Namespace, n: int) -> list[GpuCase]:
    """The cases asked for whose matrices fit."""
    names = [""] if options.cases is None else words(options.cases)
    return [
        case
        for case in CASES
        if any(name in case.name for name in names)
        and 4 * case.matrices * n * n <= options.memory * 2**30
    ]


def available(wanted: list[GpuCase], say: Callable[[str], object]) -> list[GpuCase]:
    """Those whose libraries are here; the others are named."""
    found = []
    for case in wanted:
        try:
            case.make("ieee", 64)
        except ImportError as error:
            say(f"Left out: {case.name} ({error})")
        else:
            found.append(case)
    return found


def about() -> dict[str, object]:
    name = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return report.machine() | {"gpu": name, "cuda": torch.version.cuda}


def say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def measure(
    options: argparse.Namespace,
    clock: Clock,
    peak: Callable[[Callable[[], object]], float],
    device: str = "cuda",
) -> list[dict]:
    """All sizes, widths and precisions; tables and verdicts are printed and written."""
    there = available(CASES, say)
    results, errors = [], {}
    for d in options.dims:
        for kind in options.kinds:
            with products(kind):
                wanted = [case for case in chosen(options, 1000) if case in there]
                errors[f"{kind}, d={d}"] = gradient_errors(wanted, kind, d, device)
        for n in options.sizes:
            for kind in options.kinds:
                wanted = [case for case in chosen(options, n) if case in there]
                inputs = given(n, d, kind, device)
                with products(kind):
                    results += measured(wanted, inputs, kind, options.rounds, clock, peak, say)
    judged = verdicts(results)
    lines = [verdict.line() for verdict in judged] or ["No target is meant for these sizes."]
    text = f"{report.tables(results)}\n\nTargets:\n" + "\n".join(lines)
    text += "\n\nErrors of the gradients at N=1000:\n" + "\n".join(
        f"{where}: " + ", ".join(f"{name} {error:.1e}" for name, error in some.items())
        for where, some in errors.items()
    )
    say(f"\n{text}")
    machine = about()
    options.out.mkdir(parents=True, exist_ok=True)
    found = {"machine": machine, "rounds": options.rounds, "results": results, "errors": errors}
    found["targets"] = [{"line": v.line(), "met": v.met, "ratio": v.ratio} for v in judged]
    (options.out / "gpu.json").write_text(json.dumps(found, indent=1) + "\n")
    header = "\n".join(f"- {key}: {value}" for key, value in machine.items())
    (options.out / "gpu.md").write_text(f"{header}\n\n{text}\n")
    return results


def main(argv: list[str] | None = None) -> int:
    options = arguments(argv)
    if not torch.cuda.is_available():
        say("No CUDA device is here: the losses on a GPU are not measured.")
        return 0
    measure(options, device_clock(), device_peak)
    return 0


if __name__ == "__main__":
    sys.exit(main())
