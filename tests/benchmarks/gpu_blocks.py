"""Blocks of the kernels beside each other on a GPU: ``python -m tests.benchmarks.gpu_blocks``.

Each kernel alone, of symmetric InfoNCE, with the blocks of its table and with others that the
compiler says fit an H100: which is fastest only a device knows. The floor is the matrix products
alone. ``gpu-blocks.json`` and ``gpu-blocks.md`` are written anew after each width.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from mmcontrast.exact.kernels import launch
from mmcontrast.exact.kernels.blocks import Blocks, Capability, generation
from mmcontrast.exact.kernels.launch import Logits, Share
from tests.benchmarks import report
from tests.benchmarks.cases import TEMPERATURE, Inputs
from tests.benchmarks.gpu import about, numbers, say, words
from tests.benchmarks.gpu_cases import given, one_product, products
from tests.benchmarks.gpu_measure import Tools, device_clock, device_peak, interleaved
from tests.benchmarks.gpu_targets import LARGE
from tests.mmcontrast.exact.kernels.compiling import room

# By precision and the features up to which they are meant.
SUMS = {
    ("bf16", 64): [(128, 256, 64, 0, 8, 3), (128, 128, 64, 0, 8, 3), (128, 64, 64, 0, 4, 3)],
    ("bf16", 256): [(128, 128, 64, 0, 8, 4), (128, 256, 64, 0, 8, 3)],
    ("bf16", 8192): [(128, 128, 64, 0, 8, 4), (128, 128, 128, 0, 8, 3), (64, 256, 64, 0, 4, 4)],
}
GRADIENTS = {
    ("bf16", 64): [(128, 128, 64, 64, 8, 3), (128, 64, 64, 64, 8, 3), (64, 128, 64, 64, 4, 3)],
    ("bf16", 256): [
        (128, 64, 256, 256, 8, 2),
        (64, 64, 256, 256, 4, 3),
        (64, 128, 256, 256, 8, 2),
        (128, 64, 64, 256, 8, 3),
    ],
    ("bf16", 512): [
        (64, 32, 512, 512, 8, 3),
        (64, 32, 512, 512, 8, 2),
        (128, 64, 64, 256, 8, 3),
        (32, 32, 512, 512, 8, 2),
    ],
    ("bf16", 1024): [
        (64, 64, 128, 512, 8, 2),
        (32, 32, 1024, 1024, 8, 2),
        (32, 16, 1024, 1024, 8, 3),
        (128, 64, 64, 256, 8, 3),
    ],
    ("tf32", 512): [(64, 32, 32, 256, 8, 2), (64, 32, 32, 256, 4, 2)],
}


def others(kind: str, d: int, gradient: bool, capability: Capability) -> list[Blocks]:
    """What is tried beside the table's own blocks, as far as it fits this GPU."""
    lists = GRADIENTS if gradient else SUMS
    most = [top for precision, top in lists if precision == kind and d <= top]
    found = [Blocks(*blocks) for blocks in lists[kind, min(most)]] if most else []
    shared = getattr(generation(capability), "shared", 0)
    return [blocks for blocks in found if room(blocks, d, kind, capability) <= shared]


def calls(
    inputs: Inputs, kind: str, gradient: bool, capability: Capability
) -> Iterator[tuple[str, Callable[[], object]]]:
    """A kernel's launch with each of the blocks; the table's first."""
    x, y = (launch.rounded(z, kind) for z in inputs.rows)
    temperature = torch.tensor(TEMPERATURE, device=x.device)
    logits = Logits(x, y, temperature, kind, diagonal=True)
    base = logits.base()
    sums = launch.sums(logits, base, both=True)
    share = torch.full_like(sums.rows, 1 / len(x))
    rows = Share(share, sums.rows, sums.row_shift)
    columns = Share(share, sums.columns, sums.column_shift)
    own = logits.chosen(gradient=gradient)
    for blocks in [own, *others(kind, len(x[0]), gradient, capability)]:
        tried = logits._replace(blocks=blocks)
        name = f"{tuple(blocks)}{' of the table' if blocks is own else ''}"
        if gradient:
            yield name, partial(launch.gradient, tried, base, rows, columns)
        else:
            yield name, partial(launch.sums, tried, base, both=True)


def two_products(inputs: Inputs) -> Tensor:
    """S = X Y^T and S Y, in blocks of whole rows."""
    x, y = (z.detach() for z in inputs.rows)
    return torch.cat([left @ y.T @ y for left in x.split(max(2**28 // len(y), 1))])


def compared(
    n: int, d: int, kind: str, gradient: bool, capability: Capability, device: str, tools: Tools
) -> list[dict]:
    """One kernel at one width: its blocks in turns with the products."""
    inputs = given(n, d, kind, device)
    loss = f"{'gradient' if gradient else 'sums'} kernel, {kind}"
    names: list[str] = []
    memory, group = [], []
    for name, call in calls(inputs, kind, gradient, capability):
        if tools.late():
            tools.say(f"Left out: {name} ({loss}, d={d}: no time is left)")
            continue
        try:
            call()
            memory.append(tools.peak(call))
        except Exception as error:
            tools.say(f"Left out: {name} ({loss}, d={d}: {error!r:.200})")
            continue
        names.append(name)
        group.append(call)
    with products(kind):
        floor = partial(two_products if gradient else one_product, inputs)
        *times, least = interleaved([*group, floor], tools)
    same = {"loss": loss, "n": n, "d": d, "floor_ms": least, "apart": 0.0}
    return [
        same | {"case": name, "ms": ms, "MB": peak}
        for name, ms, peak in zip(names, times, memory, strict=True)
    ]


def compare(options: argparse.Namespace, tools: Tools, capability: Capability, device: str) -> None:
    """All widths; the tables are printed at the end, and written after each."""
    results: list[dict] = []
    machine = about()
    for kind in options.kinds:
        for d in options.dims:
            for gradient in (True, False):
                found = (options.size, d, kind, gradient, capability, device, tools)
                results += compared(*found)
            text = json.dumps({"machine": machine, "results": results}, indent=1)
            report.write_whole(options.out / "gpu-blocks.json", text)
            report.write_whole(options.out / "gpu-blocks.md", report.tables(results))
    say(report.tables(results))


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        "python -m tests.benchmarks.gpu_blocks",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--dims", type=numbers, default=[512, 1024, 768, 256, 64, 384], metavar="D,..")
    add("--kinds", type=words, default=["bf16", "tf32"], metavar="KIND,..", help="(bf16,tf32)")
    add("--size", type=int, default=LARGE, metavar="N", help=f"({LARGE})")
    add("--rounds", type=int, default=7, help="rounds, whose median is told (7)")
    add("--seconds", type=float, default=150.0, help="begin nothing after so many (150)")
    add("--out", type=Path, default=Path("bench"), help="folder (bench)")
    options = parser.parse_args(argv)
    if not torch.cuda.is_available():
        say("No CUDA device is here: the blocks are not compared.")
        return 1
    deadline = time.monotonic() + options.seconds
    tools = Tools(device_clock(), device_peak, say, options.rounds, deadline)
    compare(options, tools, torch.cuda.get_device_capability(), "cuda")
    return 0


if __name__ == "__main__":
    sys.exit(main())
