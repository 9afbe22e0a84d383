"""Measure symmetric InfoNCE on a GPU beside other libraries': ``python -m tests.benchmarks.gpu``.

Time is the device's, forward and backward, by events around a call that meets a cold second-level
cache: the median of rounds in which all cases of one size and precision take turns. Memory is the
peak that PyTorch allocates above what it held before, gradients included. The floor is the matrix
products alone, S = X Y^T, S Y and S^T X, by PyTorch's own library in the same precision.

What matters most is measured first, and ``gpu.json`` and ``gpu.md`` are written anew after each
part, so that a run that is cut leaves what it has. ``--resume`` keeps what is there of the same GPU
and goes on. ``--seconds`` is the time for all: what it does not reach is left out, by name.
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Container
from pathlib import Path
from typing import NamedTuple

import torch

from mmcontrast.exact import choose
from tests.benchmarks import gpu_cases, gpu_targets, report
from tests.benchmarks.cases import OURS, OURS_COMPILED, TORCH, TORCH_COMPILED, Loss
from tests.benchmarks.gpu_cases import GpuCase, given, products
from tests.benchmarks.gpu_measure import (
    DeviceLost,
    Tools,
    device_clock,
    device_peak,
    gradient_errors,
    measured,
)
from tests.benchmarks.gpu_targets import DTYPES, LARGE, LOSSES, TOP_K

ROWS_OF_ERRORS = 2048  # of the gradients: the fewest for which the kernels are taken


class Part(NamedTuple):
    """One size of one loss in one precision."""

    kind: str
    d: int
    n: int = LARGE
    only: tuple[str, ...] = ()
    """The names of the cases that are meant; without any all that need no torch.compile."""
    top_k: bool = False

    @property
    def loss(self) -> Loss:
        return (TOP_K if self.top_k else LOSSES)[self.kind]

    @property
    def name(self) -> str:
        return ", ".join([f"{self.loss.name}, N={self.n}, d={self.d}", *self.only])


COMPILED = (OURS, OURS_COMPILED, TORCH, TORCH_COMPILED)
PARTS = [
    *(Part("bf16", d) for d in (512, 768, 1024, 384, 64, 256)),
    Part("bf16", 512, 262144, only=(OURS,)),
    Part("tf32", 512),
    Part("tf32", 512, top_k=True),
    Part("ieee", 512),
    Part("bf16", 512, only=COMPILED),
    Part("bf16", 512, 65536),
    Part("tf32", 64),
    Part("ieee", 64),
    Part("ieee", 512, top_k=True),
    Part("bf16", 64, 4096, only=COMPILED),
    Part("bf16", 512, 4096),
]


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
    add("--sizes", type=numbers, metavar="N,..", help="instead of the list of parts")
    add("--dims", type=numbers, metavar="D,..", help="the same")
    add("--kinds", type=words, metavar="KIND,..", help="the same: bf16, tf32, ieee")
    add("--cases", metavar="NAME,..", help="only those with one of these in their name")
    add("--without", default="", metavar="NAME,..", help="all but these")
    add("--rounds", type=int, default=7, help="rounds, whose median is told (7)")
    add("--memory", type=float, default=60.0, metavar="GB", help="leave out what takes more (60)")
    add("--seconds", type=float, default=float("inf"), help="begin nothing after so many")
    add("--resume", action="store_true", help="keep the parts that the folder has of this GPU")
    add("--out", type=Path, default=Path("bench"), help="folder (bench)")
    return parser.parse_args(argv)


def parts(options: argparse.Namespace) -> list[Part]:
    """The list, or what was asked for instead."""
    if options.sizes is options.dims is options.kinds is None:
        return PARTS
    return [
        Part(kind, d, n)
        for d in options.dims or [64, 512]
        for n in options.sizes or [4096, LARGE]
        for kind in options.kinds or list(DTYPES)
    ]


def chosen(options: argparse.Namespace, part: Part, there: list[GpuCase]) -> list[GpuCase]:
    """The cases of a part that are asked for and whose matrices fit."""
    names = [""] if options.cases is None else words(options.cases)
    return [
        case
        for case in (gpu_cases.TOP_K_CASES if part.top_k else there)
        if any(name in case.name for name in names)
        and case.name not in words(options.without)
        and (case.name in part.only if part.only else options.cases or not case.compiles)
        and 4 * case.matrices * part.n**2 <= options.memory * 2**30
    ]


def available(wanted: list[GpuCase], say: Callable[[str], object]) -> list[GpuCase]:
    """Those whose libraries are here; the others are named."""
    found = []
    for case in wanted:
        try:
            case.make("ieee", 64)
        except ImportError as error:
            say(f"MISSING: {case.name} is not compared with: {error}")
        else:
            found.append(case)
    return found


def about() -> dict[str, object]:
    machine = report.machine() | {"cuda": torch.version.cuda, "gpu": None, "kernels": False}
    if torch.cuda.is_available():
        capability = ".".join(map(str, torch.cuda.get_device_capability()))
        rows = torch.empty(ROWS_OF_ERRORS, 1, device="cuda")
        machine["gpu"] = f"{torch.cuda.get_device_name()}, compute capability {capability}"
        machine["kernels"] = choose.kernels_suit(rows, rows)
    return machine | gpu_cases.versions()


def say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def measure_part(
    part: Part, wanted: list[GpuCase], tools: Tools, device: str, known: Container[str]
) -> dict:
    """Figures of one part, and the errors of the gradients of its width, if they are not known."""
    where = f"{part.kind}, d={part.d}"
    inputs = given(part.n, part.d, part.kind, device)
    floor = gpu_cases.one_product if part.top_k else gpu_cases.products_alone
    found: dict = {"results": [], "errors": {}}
    with products(part.kind):
        found["results"] = measured(part.loss, wanted, floor, inputs, part.kind, tools)
        if not (part.top_k or part.only or where in known):
            size = part.kind, part.d, device, ROWS_OF_ERRORS
            found["errors"] = {where: gradient_errors(wanted, *size, tools)}
    return found


# --- what is kept --------------------------------------------------------------------------------


def kept(folder: Path, machine: dict) -> dict[str, dict]:
    """The parts that a run before has measured on the same GPU with the same libraries."""
    path = folder / "gpu.json"
    if not path.exists():
        return {}
    found = json.loads(path.read_text())
    same = ("gpu", "torch", "kernels", *gpu_cases.LIBRARIES)
    if any(found["machine"].get(key) != machine.get(key) for key in same):
        return {}
    return found["parts"]


def results_of(done: dict[str, dict]) -> list[dict]:
    return [result for part in done.values() for result in part["results"]]


def text_of(done: dict[str, dict]) -> str:
    """Tables, verdicts and errors as Markdown."""
    results = results_of(done)
    errors = "\n".join(
        f"{where}: " + ", ".join(f"{case} {error:.1e}" for case, error in some.items())
        for part in done.values()
        for where, some in part["errors"].items()
    )
    targets = "\n".join(gpu_targets.lines(results))
    of_gradients = f"Errors of the gradients at N={ROWS_OF_ERRORS}:\n{errors}"
    return f"{report.tables(results)}\n\nTargets:\n{targets}\n\n{of_gradients}"


def write(folder: Path, machine: dict, rounds: int, done: dict[str, dict]) -> None:
    """Both files."""
    judged = [
        {"line": verdict.line(), "met": verdict.met, "ratio": verdict.ratio}
        for verdict in gpu_targets.verdicts(results_of(done))
    ]
    found = {"machine": machine, "rounds": rounds, "parts": done, "targets": judged}
    header = "\n".join(f"- {key}: {value}" for key, value in machine.items())
    report.write_whole(folder / "gpu.json", json.dumps(found, indent=1))
    report.write_whole(folder / "gpu.md", f"{header}\n\n{text_of(done)}")


def measure(options: argparse.Namespace, tools: Tools, device: str = "cuda") -> list[dict]:
    """All parts; tables and verdicts are printed at the end, and written after each."""
    machine = about()
    say("\n".join(f"- {key}: {value}" for key, value in machine.items()))
    if device == "cuda" and not machine["kernels"]:
        say("The kernels are NOT taken on this machine: what is measured as ours are tiles.")
    there = available(gpu_cases.CASES, say)
    done = kept(options.out, machine) if options.resume else {}
    for part in parts(options):
        if part.name in done:
            say(f"Kept: {part.name}")
            continue
        if tools.late():
            say(f"Left out: {part.name} (no time is left)")
            continue
        start = time.monotonic()
        known = {where for found in done.values() for where in found["errors"]}
        done[part.name] = measure_part(part, chosen(options, part, there), tools, device, known)
        write(options.out, machine, options.rounds, done)
        say(f"{part.name}: {time.monotonic() - start:.0f} s")
    say(f"\n{text_of(done)}")
    return results_of(done)


def main(argv: list[str] | None = None) -> int:
    options = arguments(argv)
    if not torch.cuda.is_available():
        say("No CUDA device is here: the losses on a GPU are not measured.")
        return 0
    deadline = time.monotonic() + options.seconds
    tools = Tools(device_clock(), device_peak, say, options.rounds, deadline)
    try:
        measure(options, tools)
    except DeviceLost as lost:
        # An error of the device ends what a process can do there: a new one goes on without it.
        say(f"LOST: {lost}; it is left out, and the rest goes on.")
        without = ",".join(filter(None, [options.without, lost.case]))
        again = sys.argv[1:] if argv is None else argv
        again = [*again, "--resume", "--without", without]
        again += ["--seconds", str(max(deadline - time.monotonic(), 0))]
        os.execv(sys.executable, [sys.executable, "-m", "tests.benchmarks.gpu", *again])
    return 0


if __name__ == "__main__":
    sys.exit(main())
