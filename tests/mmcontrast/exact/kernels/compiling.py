"""Compiles every kernel for an H100, which takes no GPU, and tells what each needs.

A program of its own: Triton's interpreter and its compiler cannot be had in one process.
"""

import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import torch

from mmcontrast.exact.kernels.blocks import chosen
from mmcontrast.exact.kernels.launch import ROUNDED, Logits

POINTERS = {torch.bfloat16: "*bf16", torch.float16: "*fp16", torch.float32: "*fp32"}
INTEGERS = ("rows", "columns", "tall", "wide")
# Every kernel of the losses, and the blocks of wider rows.
CASES = [
    ("bf16", 64, ""),
    ("bf16", 512, "symmetric"),
    ("bf16", 1024, "symmetric"),
    ("tf32", 256, "symmetric"),
    ("ieee", 256, "symmetric"),
]
SOFTMAX = {"symmetric": {"diagonal": True}, "one_way": {"partner": torch.zeros(1).long()}}
SIGMOID = {"diagonal": True, "bias": torch.zeros(())}
SUP_CON = SOFTMAX["symmetric"] | SOFTMAX["one_way"]


def logits(features, precision, **options):
    x = torch.zeros(1, features, dtype=ROUNDED.get(precision, torch.float32))
    return Logits(x, x, torch.ones(()), precision, **options)


def needs(kernel, matrix, blocks, **constants):
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
    found = triton.compile(source, target=GPUTarget("cuda", 90, 32), options=options)
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(found.asm["cubin"])
        file.flush()
        command = [tools / "cuobjdump", "--dump-resource-usage", file.name]
        usage = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    registers, stack = re.search(r"REG:(\d+) STACK:(\d+)", usage).groups()
    return {
        "registers": int(registers),
        "stack": int(stack),
        "shared": found.metadata.shared,
        "tensor_cores": "wgmma" in found.asm["ptx"],
    }


def kernels(features, precision):
    """Each kernel as each loss launches it."""
    from mmcontrast.exact.kernels import triton_tiles

    sums = chosen(features, precision, gradient=False)
    gradient = chosen(features, precision, gradient=True)
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
        yield f"{name} gradient", triton_tiles.gradient_kernel, matrix, gradient, constants


def main():
    from mmcontrast.exact.kernels import triton_tiles

    found = []
    for precision, d, losses in CASES:
        for name, kernel, matrix, blocks, constants in kernels(d, precision):
            if name.startswith(losses):
                found.append(
                    {"name": f"{name}, {precision}, d={d}"}
                    | needs(kernel, matrix, blocks, **constants)
                )
    # One row alone: Triton compiles a size of 1 as a constant.
    matrix = logits(64, "ieee", diagonal=True)
    sizes = {"rows": 1, "columns": 1}
    blocks = chosen(64, "ieee", gradient=False)
    found.append(
        {"name": "one row"} | needs(triton_tiles.sums_kernel, matrix, blocks, BOTH=True, **sizes)
    )
    rows = logits(70, "bf16")
    for matrix, partner in ((rows, True), (rows._replace(y=rows.y.float()), False)):
        constants = {"D": 70, "ROWS": 16, "DEPTH": 64, "PARTNER": partner}
        found.append(
            {"name": "pairs"} | needs(triton_tiles.pair_kernel, matrix, blocks, **constants)
        )
    sys.stdout.write(json.dumps(found))


if __name__ == "__main__":
    main()
