"""The same losses under torch.compile, ours and plain PyTorch's; and what compiling them takes."""

import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from statistics import median

import torch

from tests.benchmarks import cases, measure, peers, rank_contrast
from tests.benchmarks.cases import (
    BATCH_HARD,
    ONE_WAY,
    OURS_COMPILED,
    RANKED,
    SIGMOID,
    SUP_CON,
    SYMMETRIC,
    TOP_K,
    TOP_K_LABELS,
    TORCH_COMPILED,
    Call,
    Case,
    Loss,
)

BACKEND = "inductor"
LOSSES = [SYMMETRIC, ONE_WAY, SIGMOID, SUP_CON]
"""Those whose compilations are timed and counted, and which are measured at the largest sizes."""
SIZES = (32, 33, 100, 512, 4096, 4095)
"""Batch sizes that one compiled step meets in this order."""
WIDTH = 64


def compiled(function: Call) -> Callable[[], Call]:
    def make() -> Call:
        peers.module("torch._inductor.compile_fx")  # takes seconds: here, and not in every fork
        # A fork cannot use a pool of processes.
        peers.module("torch._inductor.config").compile_threads = 1
        return torch.compile(function, backend=BACKEND, fullgraph=True)

    return make


def ours(loss: Loss, function: Call) -> Case:
    return Case(loss.name, OURS_COMPILED, compiled(function), compiled=True)


def plain(loss: Loss, function: Call, matrices: float) -> Case:
    return Case(loss.name, TORCH_COMPILED, compiled(function), matrices, compiled=True)


CASES = [
    ours(SYMMETRIC, cases.symmetric),
    plain(SYMMETRIC, cases.torch_symmetric, 4),
    ours(ONE_WAY, cases.one_way),
    plain(ONE_WAY, cases.torch_one_way, 3),
    ours(SIGMOID, cases.sigmoid),
    plain(SIGMOID, cases.torch_sigmoid, 5),
    ours(SUP_CON, cases.sup_con_by_label),
    plain(SUP_CON, cases.torch_sup_con, 7),
    ours(BATCH_HARD, cases.batch_hard),
    plain(BATCH_HARD, cases.torch_batch_hard, 3),
    ours(TOP_K, cases.top_k),
    plain(TOP_K, cases.torch_top_k, 1),
    ours(TOP_K_LABELS, cases.top_k_labels),
    plain(TOP_K_LABELS, cases.torch_top_k_labels, 2),
    ours(RANKED, rank_contrast.ours),
]


# --- compiling -----------------------------------------------------------------------------------


def compilations(wanted: list[Case], rounds: int) -> list[dict]:
    """A result for each compiled case: seconds of its first compilation, and how many it takes."""
    wanted = [x for x in dict.fromkeys(wanted) if x.compiled and _loss(x) in LOSSES]
    if not wanted:
        return []
    with tempfile.TemporaryDirectory() as folder:
        return measure.forked(_in_turns, wanted, rounds, Path(folder)) or []


def _loss(case: Case) -> Loss:
    return next(loss for loss in cases.LOSSES if loss.name == case.loss)


def _in_turns(wanted: list[Case], rounds: int, folder: Path) -> list[dict]:
    """Each time in a process of its own, which finds nothing that was compiled before."""
    torch.set_num_threads(1)
    os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(folder)
    _first_of_all()
    kept = _files(folder)

    def fresh(function: Callable[[Case], float], case: Case) -> float | None:
        found = measure.forked(function, case)
        for file in _files(folder) - kept:
            file.unlink()
        return found

    seconds: dict[str, list[float]] = {f"{case.loss}: {case.name}": [] for case in wanted}
    for _ in range(rounds):
        for case in wanted:
            taken = fresh(seconds_of_the_first, case)
            if taken is not None:
                seconds[f"{case.loss}: {case.name}"].append(taken)
    return [
        {
            "loss": case.loss,
            "case": case.name,
            "n": SIZES[-2],
            "d": WIDTH,
            "s": median(taken) if taken else None,
            "compilations": fresh(graphs_of_all_sizes, case),
        }
        for case, taken in zip(wanted, seconds.values(), strict=True)
    ]


def _first_of_all() -> None:
    """What the first compilation of a machine and a process does besides, as the headers' own."""

    def program(x: torch.Tensor) -> torch.Tensor:
        return x.sin().sum()

    x = torch.randn(8, requires_grad=True)
    torch.autograd.grad(torch.compile(program, backend=BACKEND)(x), x)


def _files(folder: Path) -> set[Path]:
    return {path for path in folder.rglob("*") if path.is_file()}


def seconds_of_the_first(case: Case) -> float:
    """Processor time, that of the C++ compiler included, until the first gradients are there."""
    loss = _loss(case)
    call, inputs = case.make(), loss.inputs(SIZES[-2], WIDTH)
    start = sum(os.times()[:4])
    measure.run(loss, call, inputs)
    return sum(os.times()[:4]) - start


def graphs_of_all_sizes(case: Case) -> int:
    """How often a step is compiled that meets all sizes."""
    from torch._dynamo.utils import counters

    counters.clear()
    loss, call = _loss(case), case.make()
    for n in SIZES:
        measure.run(loss, call, loss.inputs(n, WIDTH))
    return counters["stats"]["unique_graphs"]
