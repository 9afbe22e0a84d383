"""Compile the kernels for every generation of GPUs, which takes no GPU, and tell what they need.

``python -m tests.mmcontrast.exact.kernels.compiling`` compiles a line of each table for each target
and every kernel of the losses for one; with ``--all`` every line at widths that divide it and that
do not, some 1,000 kernels of a second each, with ``--targets``, ``--widths``, ``--losses`` and
``--seconds`` less. It ends with 1 where something does not fit.

A program of its own: Triton's interpreter and its compiler cannot be had in one process.
"""

import argparse
import json
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import torch

from mmcontrast.exact.kernels.blocks import chosen, generation
from mmcontrast.exact.kernels.launch import ROUNDED, Logits
from tests.mmcontrast.exact.kernels.cases import BLOCKS

TARGETS = {"sm_80": (8, 0), "sm_86": (8, 6), "sm_89": (8, 9), "sm_90": (9, 0)}
TARGETS |= {"sm_100": (10, 0), "sm_120": (12, 0)}
WIDTHS = [56, 64, 104, 128, 200, 256, 384, 512, 768, 1000, 1024, 1104, 8192]  # of 8, as launched
STACK = 128  # bytes of a program that may leave its registers: not those of the inner loop
PRODUCTS = re.compile(r"wgmma|mma\.sync|tcgen05\.mma")
POINTERS = {torch.bfloat16: "*bf16", torch.float16: "*fp16", torch.float32: "*fp32"}
INTEGERS = ("rows", "columns", "tall", "wide")
# Precision, features and losses: every kernel of the losses, and the blocks of wider rows.
CASES = {
    "sm_90": [
        ("bf16", 64, ""),
        ("bf16", 512, "symmetric"),
        ("bf16", 1024, "symmetric"),
        ("tf32", 256, "symmetric"),
        ("ieee", 256, "symmetric"),
    ],
    **{
        target: [("bf16", 384, "symmetric"), ("bf16", 1024, "symmetric gradient")]
        for target in ("sm_80", "sm_86", "sm_100", "sm_120")
    },
}
SOFTMAX = {"symmetric": {"diagonal": True}, "one_way": {"partner": torch.zeros(1).long()}}
SIGMOID = {"diagonal": True, "bias": torch.zeros(())}
SUP_CON = SOFTMAX["symmetric"] | SOFTMAX["one_way"]


def logits(features, precision, **options):
    x = torch.zeros(1, features, dtype=ROUNDED.get(precision, torch.float32))
    return Logits(x, x, torch.ones(()), precision, **options)


def needs(target, kernel, matrix, blocks, **constants):
    """Registers, bytes on the stack and shared memory of a program, compiled as if launched."""
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    tools = Path(triton.__file__).parent / "backends" / "nvidia" / "bin"
    how = matrix.how(blocks) | {"PRECISION": "tf32" if matrix.precision == "tf32" else "ieee"}
    options = {name: how.pop(name) for name in ("num_warps", "num_stages")}
    constants = {name: x for name, x in how.items() if name in kernel.arg_names} | constants
    pointers = {"x": POINTERS[matrix.x.dtype], "y": POINTERS[matrix.y.dtype], "partner": "*i64"}
    others = dict.fromkeys(INTEGERS, "i32") | dict.fromkeys(constants, "constexpr")
    types = {name: (pointers | others).get(name, "*fp32") for name in kernel.arg_names}
    places = {name: k for k, name in enumerate(kernel.arg_names)}
    aligned = {(places[x],): [["tt.divisibility", 16]] for x, kind in types.items() if "*" in kind}
    source = ASTSource(kernel, types, {(places[x],): v for x, v in constants.items()}, aligned)
    major, minor = TARGETS[target]
    gpu = GPUTarget("cuda", 10 * major + minor, 32)
    found = triton.compile(source, target=gpu, options=options)
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(found.asm["cubin"])
        file.flush()
        command = [tools / "cuobjdump", "--dump-resource-usage", file.name]
        usage = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    registers, stack = re.search(r"REG:(\d+) STACK:(\d+)", usage).groups()
    instruction = PRODUCTS.search(found.asm["ptx"])
    return {
        "target": target,
        "blocks": list(blocks),
        "registers": int(registers),
        "stack": int(stack),
        "shared": found.metadata.shared,
        "room": room(blocks, matrix.x.shape[1], matrix.precision, TARGETS[target]),
        "tensor_memory": getattr(found.metadata, "tmem_size", None) or 0,
        "products": instruction and instruction[0],
    }


def room(blocks, features, precision, capability):
    """Bytes of shared memory that a program needs at most, from what it keeps there.

    Those are the rows of x where all of their features fit, the rows of y or parts of both that
    are on their way, the tile of the logits' gradient, and a line of sums of each warp.
    """
    major, size = capability[0], 2 if precision in ROUNDED else 4
    # Tiles on their way: where products read registers one has arrived there, and where they have a
    # memory of their own one is still read.
    buffers = {9: blocks.stages, 10: blocks.stages + 1}.get(major, max(blocks.stages - 1, 1))
    if (major, precision) == (9, "tf32"):
        buffers *= 2  # wgmma takes tf32 in one order of rows and columns only: a transposed copy
    depth, width = blocks.depth, blocks.width
    whole = depth >= features and (width == 0 or width >= features)
    held = blocks.rows * depth if whole else 0
    streamed = blocks.columns * (depth if whole else depth + width)
    streamed += 0 if whole else blocks.rows * depth
    tile = blocks.rows * blocks.columns if width else 0
    sums = 4 * blocks.warps * max(blocks.rows, blocks.columns)
    return size * (held + buffers * streamed + tile) + sums


def fits(kernel: dict) -> bool:
    """Whether a program finds the room that it needs on its target."""
    return (
        kernel["shared"] <= kernel["room"] <= generation(TARGETS[kernel["target"]]).shared
        and kernel["tensor_memory"] <= 512  # columns
        and kernel["stack"] <= STACK
    )


def kernels(features, precision, target):
    """Each kernel as each loss launches it."""
    from mmcontrast.exact.kernels import triton_tiles

    sums, gradient = (
        chosen(features, precision, gradient=wanted, capability=TARGETS[target])
        for wanted in (False, True)
    )
    symmetric, one_way, sigmoid, sup_con = (
        logits(features, precision, **options)
        for options in (SOFTMAX["symmetric"], SOFTMAX["one_way"], SIGMOID, SUP_CON)
    )
    alone = {"symmetric": symmetric, "one way": one_way, "sigmoid": sigmoid, "SupCon": sup_con}
    for name, matrix in alone.items():
        yield f"{name} sums", triton_tiles.sums_kernel, matrix, sums, {"BOTH": matrix is symmetric}
    ways = {
        "symmetric": (symmetric, True, True),
        "one way, anchors": (one_way, True, False),
        "one way, candidates": (one_way.mT, False, True),
        "sigmoid, x": (sigmoid, True, False),
        "sigmoid, y": (sigmoid.mT, False, True),
        "SupCon": (sup_con, True, True),
    }
    for name, (matrix, by_row, by_column) in ways.items():
        constants = {"BY_ROW": by_row, "BY_COLUMN": by_column, "WIDTH": gradient.width}
        constants["SLOPES"] = matrix.bias is not None and by_row
        name = name.replace(",", " gradient,") if "," in name else f"{name} gradient"
        yield name, triton_tiles.gradient_kernel, matrix, gradient, constants


def compiled(target, precision, d, losses) -> Iterator[dict]:
    """The kernels of some losses, by the beginnings of their names."""
    for name, kernel, matrix, blocks, constants in kernels(d, precision, target):
        if name.startswith(losses):
            yield {
                "name": f"{name}, {precision}, d={d}",
                **needs(target, kernel, matrix, blocks, **constants),
            }


def some() -> Iterator[dict]:
    """What a test has the time for."""
    from mmcontrast.exact.kernels import triton_tiles

    for target, cases in CASES.items():
        for precision, d, losses in cases:
            yield from compiled(target, precision, d, losses)
    # One row alone: Triton compiles a size of 1 as a constant.
    one = {"rows": 1, "columns": 1, "BOTH": True}
    matrix = logits(64, "ieee", diagonal=True)
    blocks = chosen(64, "ieee", gradient=False)
    yield {"name": "one row"} | needs("sm_90", triton_tiles.sums_kernel, matrix, blocks, **one)
    rows = logits(72, "bf16")
    for matrix, partner in ((rows, True), (rows._replace(y=rows.y.float()), False)):
        constants = {"D": 72, "ROWS": 16, "DEPTH": 64, "PARTNER": partner}
        yield {"name": "pairs"} | needs(
            "sm_90", triton_tiles.pair_kernel, matrix, BLOCKS, **constants
        )


def words(text: str) -> list[str]:
    return text.split(",")


def main() -> int:
    parser = argparse.ArgumentParser(
        "python -m tests.mmcontrast.exact.kernels.compiling",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--all", action="store_true", help="every line of every table")
    add("--json", action="store_true", help="print a list at the end instead of a line each")
    add("--targets", type=words, default=list(TARGETS), metavar="SM,..", help="(all six)")
    add("--precisions", type=words, default=["bf16", "tf32", "ieee"], metavar="P,..", help="(3)")
    add("--widths", type=words, default=WIDTHS, metavar="D,..", help=f"({WIDTHS})")
    add("--losses", type=words, default=["symmetric", "sigmoid"], metavar="L,..")
    add("--seconds", type=float, default=float("inf"), help="stop after so many")
    options = parser.parse_args()
    every = (
        kernel
        for target in options.targets
        for precision in options.precisions
        for d in options.widths
        for kernel in compiled(target, precision, int(d), tuple(options.losses))
    )
    start, found = time.monotonic(), []
    for kernel in every if options.all else some():
        found.append(kernel)
        if not options.json:
            line = "  ".join(f"{key} {value}" for key, value in kernel.items() if key != "name")
            word = "fits " if fits(kernel) else "NOT  "
            sys.stdout.write(f"{word} {kernel['name']}: {line}\n")
            sys.stdout.flush()
        if time.monotonic() - start > options.seconds:
            sys.stdout.write(f"Stopped after {options.seconds:g} seconds: the rest is NOT tried.\n")
            break
    if options.json:
        sys.stdout.write(json.dumps(found))
    return 0 if all(fits(kernel) for kernel in found) else 1


if __name__ == "__main__":
    sys.exit(main())
