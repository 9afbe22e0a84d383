"""What is measured on a GPU: our own cases, other libraries', and the matrix products alone."""

import importlib.metadata
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

import mmcontrast
from mmcontrast.exact import infonce_tiles, kernels
from tests.benchmarks import cases, peers
from tests.benchmarks.cases import (
    OURS,
    OURS_COMPILED,
    PLAIN,
    SCALE,
    TEMPERATURE,
    TORCH,
    TORCH_COMPILED,
    Call,
    Inputs,
)
from tests.benchmarks.gpu_targets import DTYPES, INF_CL, MEMEFF
from tests.benchmarks.peers import CHUNKED, OPEN_CLIP

KERNELS_ALONE = "mmcontrast, kernels alone"
TILES = "mmcontrast, tiles of PyTorch operations"
BLOCK = 2**28  # entries of the floor's block of logits


@dataclass(frozen=True)
class GpuCase:
    name: str
    make: Callable[[str, int], Call]
    """Imports what it needs and gives the call, for a precision and a width."""
    matrices: float = 0
    """How many N x N float32 matrices it holds at once, about."""
    compiles: bool = False
    """Whether torch.compile takes its seconds, so that only some parts have it."""


# --- ours ----------------------------------------------------------------------------------------


def ours(kind: str, d: int) -> Call:
    """The public function, which takes the kernels by itself."""
    return cases.symmetric


def kernels_alone(kind: str, d: int) -> Call:
    def call(inputs: Inputs) -> Tensor:
        return kernels.symmetric_fused(*inputs.rows, TEMPERATURE, precision=kind).mean()

    return call


def at_once(kind: str, d: int) -> Call:
    return lambda inputs: cases.symmetric(inputs, chunk_size=len(inputs.labels))


def tiles(kind: str, d: int) -> Call:
    """What runs where there is no Triton, in tiles for a GPU."""

    def call(inputs: Inputs) -> Tensor:
        x, y = (z.float() for z in inputs.rows)
        return infonce_tiles.symmetric_in_tiles(x, y, TEMPERATURE, (8192, 8192)).mean()

    return call


def compiled(way: Callable[[Tensor, Tensor, Tensor], Tensor]) -> Call:
    """A loss of two views and labels under torch.compile."""
    program = torch.compile(way)
    return lambda inputs: program(*inputs.rows, inputs.labels)


def loss_of_views(x: Tensor, y: Tensor, labels: Tensor) -> Tensor:
    return mmcontrast.symmetric_info_nce(x, y, temperature=TEMPERATURE, normalize=None)


# --- plain PyTorch and other libraries -----------------------------------------------------------


def plain_of_views(x: Tensor, y: Tensor, labels: Tensor) -> Tensor:
    """As a user writes it under autocast: products in the rows' dtype, softmax in float32."""
    logits = (x @ y.T).float() * SCALE
    return (F.cross_entropy(logits, labels) + F.cross_entropy(logits.T, labels)) / 2


def plain(kind: str, d: int) -> Call:
    return lambda inputs: plain_of_views(*inputs.rows, inputs.labels)


def inf_cl(kind: str, d: int) -> Call:
    way = peers.module("inf_cl").cal_flash_loss
    head = min(d & -d, 256)  # features are cut into parts of one power of two

    def call(inputs: Inputs) -> Tensor:
        x, y = inputs.rows
        there = way(x, y, inputs.labels, SCALE, head)
        return ((there + way(y, x, inputs.labels, SCALE, head)) / 2).mean()

    return call


def memeff(kind: str, d: int) -> Call:
    """With the gradient of the loss: by default it is another multiple of it."""
    options = {"temperature": TEMPERATURE, "normalized_inputs": True, "stable": False}
    loss = peers.module("memeff").MemoryEfficientCLIPLoss(**options)
    return lambda inputs: loss(*inputs.rows)


# What the targets compare comes first: where the time runs out, the last are left out.
CASES = [
    GpuCase(OURS, ours),
    GpuCase(MEMEFF, memeff),
    GpuCase(OPEN_CLIP, lambda kind, d: peers.clip(), 4),
    GpuCase(INF_CL, inf_cl),
    GpuCase(CHUNKED, lambda kind, d: peers.both(peers.chunked())),
    GpuCase(TORCH, plain, 5),
    GpuCase(KERNELS_ALONE, kernels_alone),
    GpuCase(PLAIN, at_once, 5),
    GpuCase(TILES, tiles),
    GpuCase(TORCH_COMPILED, lambda kind, d: compiled(plain_of_views), 3, compiles=True),
    GpuCase(OURS_COMPILED, lambda kind, d: compiled(loss_of_views), 5, compiles=True),
]
TOP_K_CASES = [
    GpuCase(OURS, lambda kind, d: cases.top_k),
    GpuCase(TORCH, lambda kind, d: cases.torch_top_k, 2),
]
LIBRARIES = {OPEN_CLIP: "open_clip_torch", INF_CL: "inf-cl", MEMEFF: "memeff", "Triton": "triton"}
"""The packages of what is compared, by which their versions are known."""


def versions() -> dict[str, str]:
    """Of the other libraries; those that are not here say so."""
    found = {}
    for name, package in LIBRARIES.items():
        try:
            found[name] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "MISSING"
    return found


# --- inputs, the products and their precision ----------------------------------------------------


def given(n: int, d: int, kind: str, device: str) -> Inputs:
    """Rows of unit length, in the precision's dtype, as leaves."""
    rows, labels = cases.pair(n, d)
    found = (x.detach().to(device, DTYPES[kind]).requires_grad_() for x in rows)
    return Inputs(tuple(found), labels.to(device))


def products_alone(inputs: Inputs) -> tuple[Tensor, Tensor]:
    """S = X Y^T, S Y and S^T X in blocks of whole rows."""
    x, y = (z.detach() for z in inputs.rows)
    to_x, to_y = torch.empty_like(x), torch.zeros_like(y)
    rows = max(BLOCK // len(y), 1)
    for left, right in zip(x.split(rows), to_x.split(rows), strict=True):
        block = left @ y.T
        torch.mm(block, y, out=right)
        to_y.addmm_(block.T, left)
    return to_x, to_y


def one_product(inputs: Inputs) -> None:
    """S = X Y^T in blocks of whole rows, none of which is kept."""
    x, y = (z.detach() for z in inputs.rows)
    for left in x.split(max(BLOCK // len(y), 1)):
        torch.mm(left, y.T)


@contextmanager
def products(kind: str) -> Iterator[None]:
    """PyTorch's own products in tf32 where that is what is measured."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high" if kind == "tf32" else "highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
