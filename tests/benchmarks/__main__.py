"""Measure the losses beside other libraries': a table, bench.json, bench.md and plots.

Time is the process's, forward and backward in float32, the median of rounds in which all cases of
one size take turns. Memory is the peak above what the process held before, in a process of its own
for each case. The floor is the matrix products alone that such a loss needs, in the same rounds.

Compiled cases have met other sizes before, so that their program is the one for all sizes; a table
tells what compiling takes, in processor time, the C++ compiler's included.

Where there is a CUDA device, tests.benchmarks.gpu measures the losses there too, into OUT/gpu.
"""

import argparse
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch

from tests.benchmarks import against, cases, compiled, gpu, measure, peers, report, targets

LOSSES = {loss.name: loss for loss in cases.LOSSES}


def say(text: str = "") -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def note(text: str) -> None:
    """What goes on, beside the tables."""
    sys.stderr.write(text + "\n")


def numbers(text: str) -> list[int]:
    return [int(x) for x in text.split(",") if x]


def arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        "python -m tests.benchmarks",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--sizes", type=numbers, metavar="N,..", help="batch sizes (256,1024,4096)")
    add("--dims", type=numbers, metavar="D,..", help="widths of the rows (64,512)")
    add("--hycon", type=numbers, metavar="K,..", help="HyCon's batch sizes (128,1024,8192)")
    add("--ranked", type=numbers, metavar="N,..", help="Rank-N-Contrast's (256,2048,8192)")
    add("--retrieval", type=numbers, metavar="N,..", help="retrieval's (1024,20000)")
    add("--corpus", type=numbers, metavar="N,..", help="those of the search in a corpus (262144)")
    add("--own", type=numbers, metavar="N,..", help="those of InfoNCE with own negatives (1024)")
    add("--joint", type=numbers, metavar="N,..", help="joint contrast's, d=128 (256,1024)")
    add("--large", type=numbers, metavar="N,..", help="ours alone, eager and compiled (16384)")
    add("--compiled", action=argparse.BooleanOptionalAction, help="with torch.compile (yes)")
    add("--against", type=Path, metavar="DIR", help="beside the package of another checkout")
    add("--rounds", type=int, help="rounds, whose median is told (5)")
    add("--cases", metavar="NAME,..", help="only those with one of these in 'loss: case'")
    add(
        "--memory",
        type=float,
        metavar="GB",
        help="leave out what takes more (half of what is free)",
    )
    add("--threads", type=int, default=1, help="threads of the timed calls (1)")
    add("--out", type=Path, default=Path("bench"), help="folder (bench)")
    add("--fast", action="store_true", help="some seconds: small sizes, nothing compiled")
    found = parser.parse_args(argv)
    full = {
        "sizes": [256, 1024, 4096],
        "dims": [64, 512],
        "hycon": [128, 1024, 8192],
        "ranked": [256, 2048, 8192],
        "retrieval": [1024, 20000],
        "corpus": [2**18],
        "own": [1024],
        "joint": [256, 1024],
        "large": [16384],
        "rounds": 5,
        "compiled": True,
    }
    fast = {
        "sizes": [64, 512],
        "dims": [32],
        "hycon": [16, 256],
        "ranked": [16, 128],
        "retrieval": [64],
        "corpus": [300],
        "own": [16],
        "joint": [16, 128],
        "large": [],
        "rounds": 1,
        "compiled": False,
    }
    for name, value in (fast if found.fast else full).items():
        if getattr(found, name) is None:
            setattr(found, name, value)
    if found.memory is None:
        found.memory = measure.free_memory() / 2**30 / 2
    return found


def chosen(names: str | None) -> list[cases.Case]:
    everything = cases.CASES + compiled.CASES + peers.CASES
    everything.sort(key=lambda case: list(LOSSES).index(case.loss))
    if names is None:
        return everything
    wanted = names.split(",")
    return [x for x in everything if any(name in f"{x.loss}: {x.name}" for name in wanted)]


def available(wanted: list[cases.Case]) -> list[cases.Case]:
    """Those whose libraries are here; the others are named."""
    found, missing = [], {}
    for case in wanted:
        try:
            case.make()
        except ImportError as error:
            missing.setdefault(case.name, str(error))
        else:
            found.append(case)
    for name, error in missing.items():
        say(f"Left out: {name} ({error})")
    return found


def fits(case: cases.Case, n: int, memory: float) -> bool:
    return n <= (case.largest or n) and case.bytes(n) <= memory * 2**30


def timed(group: list[cases.Case], n: int, d: int, rounds: int) -> list[dict]:
    """One size's cases, in turns with their floors."""
    if any(case.compiled for case in group):
        torch.compiler.reset()  # or programs are those for all widths, too
    calls: list[Callable[[], object]] = []
    for case in group:
        loss = LOSSES[case.loss]
        call = measure.ready(case, loss, d)
        inputs = loss.inputs(n, d)
        calls.append(partial(measure.run, loss, call, inputs))
    kinds = {(LOSSES[c.loss].products, n * LOSSES[c.loss].per_sample) for c in group}
    floors = {kind: measure.floors(kind[1], d, kind[0]) for kind in kinds if kind[0]}
    everything = calls + [call for pair in floors.values() for call in pair]
    clocks = measure.interleaved(everything, rounds)
    fastest = {}
    rest = iter(clocks[len(calls) :])
    for kind, pair in floors.items():
        fastest[kind] = min(next(rest).milliseconds() for _ in pair)
    values = [float(clock.value) for clock in clocks[: len(calls)]]
    first: dict[str, float] = {}
    results = []
    for case, clock, value in zip(group, clocks, values, strict=False):
        loss = LOSSES[case.loss]
        reference = value if case.another else first.setdefault(case.loss, value)
        results.append(
            {
                "loss": case.loss,
                "case": case.name,
                "n": n,
                "d": d,
                "ms": clock.milliseconds(),
                "floor_ms": fastest.get((loss.products, n * loss.per_sample)),
                "rounds": len(clock.rounds),
                "value": value,
                "apart": abs(value - reference) / max(abs(reference), 1e-30),
            }
        )
    return results


def planned(options: argparse.Namespace) -> list[tuple[list[cases.Case], int, int]]:
    """Which cases are measured together, and at which size and width."""
    wanted = available([c for c in chosen(options.cases) if options.compiled or not c.compiled])
    own_sizes = {
        cases.HYCON.name: (options.hycon, 50),
        cases.RANKED.name: (options.ranked, 64),
        cases.RETRIEVAL.name: (options.retrieval, 64),
        cases.CORPUS.name: (options.corpus, 64),
        cases.OWN_NEGATIVES.name: (options.own, 384),
        cases.SHUFFLED.name: (options.joint, 128),
        cases.VOLUMES.name: (options.joint, 128),
    }
    others = [case for case in wanted if case.loss not in own_sizes]
    plan = [(others, n, d) for d in options.dims for n in options.sizes]
    for name, (sizes, d) in own_sizes.items():
        plan += [([case for case in wanted if case.loss == name], n, d) for n in sizes]
    names = (cases.OURS, cases.OURS_COMPILED) if options.compiled else ()
    two = [c for c in others if LOSSES[c.loss] in compiled.LOSSES and c.name in names]
    larger = [n for n in options.large if n not in options.sizes]
    plan += [(two, n, d) for d in options.dims for n in larger]
    return [([c for c in some if fits(c, n, options.memory)], n, d) for some, n, d in plan]


def main(argv: list[str] | None = None) -> int:
    options = arguments(argv)
    torch.set_num_threads(options.threads)
    about = report.machine()
    say(", ".join(f"{key} {value}" for key, value in about.items()))
    plan = planned(options)
    memory = {}
    for group, n, d in plan:  # first of all: a fork wants a process that has done nothing yet
        for case in group:
            note(f"memory: {case.loss}, N={n}, d={d}: {case.name}")
            memory[case, n, d] = measure.peak_memory(case, LOSSES[case.loss], n, d)
            if memory[case, n, d] is None:
                say(f"Left out: {case.name} ({case.loss}, N={n}, d={d}: its process failed)")
    note("compiling")
    compilations = compiled.compilations([c for group, _, _ in plan for c in group], options.rounds)
    results = []
    for everybody, n, d in plan:
        note(f"time: N={n}, d={d}")
        group = [case for case in everybody if memory[case, n, d] is not None]
        for case, result in zip(group, timed(group, n, d, options.rounds), strict=True):
            results.append(result | {"MB": memory[case, n, d]})
    found = {
        "machine": about,
        "rounds": options.rounds,
        "results": results,
        "compilations": compilations,
    }
    parts = [report.tables(results)]
    if compilations:
        parts.append(report.compilations(compilations))
    if options.against is not None:
        note(f"against {options.against}")
        both = against.ours(plan)
        found["against"], left_out = against.compared(options.against, both, options.rounds)
        parts.append(report.against(found["against"]))
        say("\n".join(left_out))
    text = "\n\n".join(parts)
    judged = targets.of_a_run(found)
    lines = [verdict.line() for verdict in judged] or ["No target is meant for these sizes."]
    say(f"\n{text}\n\nTargets:")
    say("\n".join(lines))
    found["targets"] = [{"line": v.line(), "met": v.met, "ratio": v.ratio} for v in judged]
    header = "\n".join(f"- {key}: {value}" for key, value in about.items())
    verdict = "\n".join(f"- {line}" for line in lines)
    report.write(options.out, found, f"{header}\n\n{text}\n\n### Targets\n\n{verdict}")
    return gpu.main(["--out", str(options.out / "gpu")])


if __name__ == "__main__":
    sys.exit(main())
