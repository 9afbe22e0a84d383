"""What to run where a GPU is: ``make gpu``, or ``python -m tests.gpu``, in under 8 minutes.

The tests of the kernels on the device, then :mod:`tests.benchmarks.gpu`, to which unknown options
go. Both write into a folder as they go (``--out``, by default ``bench``): ``kernel-tests.txt``,
``gpu.json`` and ``gpu.md``. What is not installed is named and left out. Ends with 1 where a test
failed, or where there is no GPU.
"""

import argparse
import importlib.util
import os
import subprocess
import sys
import time
from contextlib import nullcontext
from pathlib import Path

import torch

ROOT = Path(__file__).parents[1]
TESTS = "tests/mmcontrast/exact/kernels"
TEST_SECONDS = 160.0
BENCHMARK_SECONDS = 250.0
MORE = 30.0  # for the call that has begun when a part's time is over
WORKERS = 8  # kernels are compiled on the processor, one by one in each of them
NEEDED = {
    "triton": "the kernels are NOT taken and NOT tested",
    "pytest": "the kernels are NOT tested",
    "hypothesis": "the kernels are NOT tested",
    "xdist": "the kernels are tested in one process, which the time may not suffice for",
    "inf_cl": "NOT compared with",
    "memeff": "NOT compared with",
    "open_clip": "NOT compared with",
}


def say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def missing() -> list[str]:
    """The modules that are not here, each said with what it means."""
    found = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    for name in found:
        say(f"MISSING: {name}: {NEEDED[name]}")
    return found


def run_for(seconds: float, command: list[str], log: Path | None = None) -> int:
    """The exit status of Python with these arguments, or 124 where it was cut."""
    start = time.monotonic()
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
    with nullcontext() if log is None else open(log, "w") as file:
        try:
            status = subprocess.run(
                [sys.executable, *command],
                cwd=ROOT,
                env=environment,
                stdout=file,
                stderr=subprocess.STDOUT,
                timeout=seconds,
                check=False,
            ).returncode
        except subprocess.TimeoutExpired:
            status = 124
    word = f"CUT after its {seconds:.0f} s" if status == 124 else f"ended with {status}"
    say(f"python {' '.join(command)}: {word}, {time.monotonic() - start:.0f} s")
    return status


def kernel_tests(seconds: float, out: Path, absent: list[str]) -> int:
    """The tests' status; the end of what they said is printed, all of it is in the folder."""
    if {"triton", "pytest", "hypothesis"} & set(absent):
        return 1
    log = out / "kernel-tests.txt"
    # A warning of a library that no test machine has is no failure of a kernel.
    command = ["-m", "pytest", "-q", "-p", "no:cacheprovider", "-W", "default", "-m", "not slow"]
    command += [] if "xdist" in absent else ["-n", str(WORKERS)]
    status = run_for(seconds, [*command, TESTS], log)
    lines = log.read_text().splitlines()
    say("\n".join(line for line in lines if line.startswith(("FAILED", "ERROR"))))
    say("\n".join(lines[-3:]))
    return status


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        "python -m tests.gpu",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--out", type=Path, default=Path("bench"), help="folder (bench)")
    add("--test-seconds", type=float, default=TEST_SECONDS, help=f"({TEST_SECONDS:g}); 0: none")
    add(
        "--seconds", type=float, default=BENCHMARK_SECONDS, help=f"({BENCHMARK_SECONDS:g}); 0: none"
    )
    options, others = parser.parse_known_args(argv)
    if not torch.cuda.is_available():
        say("No CUDA device is here: NOTHING was run.")
        return 1
    options.out.mkdir(parents=True, exist_ok=True)
    absent = missing()
    status = kernel_tests(options.test_seconds, options.out, absent) if options.test_seconds else 0
    if options.seconds:
        command = ["-m", "tests.benchmarks.gpu", "--seconds", f"{options.seconds:g}"]
        command += ["--out", str(options.out.resolve()), *others]
        status |= run_for(options.seconds + MORE, command)
    return 1 if status else 0


if __name__ == "__main__":
    sys.exit(main())
