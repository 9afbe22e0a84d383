"""What set the sizes in mmcontrast/exact/sizes.py: time by size, for several values of each.

    OMP_NUM_THREADS=1 python -m tests.benchmarks.thresholds [NAME ...]

Prints milliseconds of processor time, forward and backward, the best of some interleaved rounds:
a line for each number of samples, a column for each value of the threshold.
"""

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any
from unittest import mock

import torch
from torch import Tensor

import mmcontrast as mm
from mmcontrast.exact import sizes

NEVER, ALWAYS = 2**60, 0
Call = Callable[[], object]


@dataclass(frozen=True)
class Threshold:
    """A name in sizes, the values tried, and a loss by the number of samples."""

    name: str
    values: Sequence[Any]
    samples: Sequence[int]
    loss: Callable[[int], Call]


def rows(n: int, d: int = 64) -> Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(n)).requires_grad_()


def paired(loss: Callable[..., Tensor], **options: Any) -> Callable[[int], Call]:
    def of(n: int) -> Call:
        x, y = rows(n), rows(n).detach().flip(0).requires_grad_()
        return lambda: torch.autograd.grad(loss(x, y, **options), (x, y))

    return of


def masked(n: int) -> Call:
    x, y, keep = rows(n), rows(n), torch.rand(n, n) < 0.9
    return lambda: torch.autograd.grad(mm.info_nce(x, y, keep=keep), (x, y), allow_unused=True)


def several(n: int) -> Call:
    x, y, positives = rows(n), rows(n), mm.same_label(torch.arange(n) // 8)
    return lambda: torch.autograd.grad(
        mm.info_nce(x, y, positives=positives), (x, y), allow_unused=True
    )


def labelled(of_a_class: int) -> Callable[[int], Call]:
    def of(n: int) -> Call:
        x, labels = rows(n), torch.arange(n) // of_a_class
        return lambda: torch.autograd.grad(mm.sup_con(x, labels), x)

    return of


def mined(n: int) -> Call:
    x, y = rows(n).detach(), rows(n + 1).detach()
    return lambda: mm.hard_negatives(x, y, 10)


def hybrid(classes: Callable[[int], int]) -> Callable[[int], Call]:
    def of(n: int) -> Call:
        x = {name: rows(n, 50) for name in ("text", "audio", "vision")}
        labels = torch.arange(n) % classes(n)
        return lambda: torch.autograd.grad(
            mm.hybrid_contrast(x, labels).total, list(x.values()), allow_unused=True
        )

    return of


def by_masks(n: int) -> Call:
    x = {name: rows(n, 50) for name in ("text", "audio", "vision")}
    same = mm.same_label(torch.arange(n) % 3)
    return lambda: torch.autograd.grad(
        mm.hybrid_contrast(x, None, positives=same, negatives=~same).total, list(x.values())
    )


TILES = [(256, 256), (512, 512), (1024, 256), (1024, 1024)]
THRESHOLDS = [
    Threshold("AT_ONCE", (NEVER, ALWAYS), (128, 256, 362, 512), paired(mm.symmetric_info_nce)),
    Threshold("SPLIT", (NEVER, ALWAYS), (128, 181, 256, 512), masked),
    Threshold("MASKED", (2**17, 2**19, 2**21), (1024, 4096), several),
    Threshold("WIDE", TILES, (2048, 4096), paired(mm.symmetric_info_nce)),
    Threshold("BLOCK", (2**18, 2**20, 2**22), (1024, 4096), paired(mm.info_nce)),
    Threshold("SIGMOID_TILES", (NEVER, ALWAYS), (256, 512, 724), paired(mm.sigmoid_contrast)),
    Threshold(
        "SUPCON_SIDE",
        [{"cpu": side, "other": side} for side in (128, 256, 384, 512, 4096)],
        (256, 384, 512, 4096),
        labelled(8),
    ),
    Threshold("LOOKED_UP", (16, 64, 256), (1024, 4096), labelled(8)),
    Threshold("RANKED", (NEVER, ALWAYS), (256, 448, 634), mined),
    Threshold("RANKED_BLOCK", (2**18, 2**20, 2**22), (1024, 4096), mined),
    Threshold("GROUP", (4, 8, 16, 64), (1024, 4096), mined),
    Threshold("TOPK", (ALWAYS, NEVER), (64, 128, 256), mined),
    Threshold("SORTED", (ALWAYS, NEVER), (64, 80, 128), mined),
    Threshold("MOMENTS", (NEVER, ALWAYS), (100, 200, 400), hybrid(lambda n: 2)),
    Threshold("MOMENTS_CLASS", (32, 128, 512), (1024, 4096), hybrid(lambda n: n // 128)),
    Threshold("MOMENTS_PART", (512, 2048, 8192), (8192, 32768), hybrid(lambda n: 2)),
    Threshold("SIMILARITIES", (2**20, 2**22, 2**24), (512, 1024), by_masks),
]


def measured(threshold: Threshold, n: int, rounds: int = 7, least: float = 0.02) -> list[float]:
    """Milliseconds by value of the threshold."""
    call = threshold.loss(n)
    best = [float("inf")] * len(threshold.values)
    for _ in range(rounds):
        for k, value in enumerate(threshold.values):
            with mock.patch.object(sizes, threshold.name, value):
                call()
                begin, calls = time.process_time(), 0
                while calls == 0 or time.process_time() - begin < least:
                    call()
                    calls += 1
                best[k] = min(best[k], (time.process_time() - begin) / calls)
    return [1e3 * seconds for seconds in best]


def label(value: Any) -> str:
    """The value as a column's head: the side on which a size is of NEVER and ALWAYS."""
    if isinstance(value, dict):
        value = value["cpu"]
    return {NEVER: "below", ALWAYS: "above"}.get(value, str(value))


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.thresholds")
    parser.add_argument("names", nargs="*", metavar="NAME", help="of sizes; all by default")
    names = parser.parse_args().names
    torch.set_num_threads(1)
    for threshold in THRESHOLDS:
        if names and threshold.name not in names:
            continue
        heads = [label(value) for value in threshold.values]
        sys.stdout.write(f"{threshold.name} = {getattr(sizes, threshold.name)}\n")
        sys.stdout.write(f"{'samples':>10}" + "".join(f"{head:>14}" for head in heads) + "\n")
        for n in threshold.samples:
            cells = "".join(f"{ms:>14.3f}" for ms in measured(threshold, n))
            sys.stdout.write(f"{n:>10}{cells}\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
