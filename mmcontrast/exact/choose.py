"""What decides which way a loss is evaluated, for all of them; the sizes are in ``sizes``.

Every way gives the same numbers. Each loss asks in its own ``..._choice``, in this order:

======================  ===========================================================================
InfoNCE, one way        plain under a tracer; at once; ring of ranks; kernels; blocks
InfoNCE, both ways      plain under a tracer; at once; ring; kernels, on one rank; one matrix; tiles
...  with ``keep``      plain under a tracer; blocks one way, tiles both ways
...  ``positives``      plain under a tracer; blocks, for each way
SupCon                  plain under a tracer; kernels; at once; tiles
sigmoid                 plain under a tracer; kernels, without masks on one rank; at once; tiles
Rank-N-Contrast         in one pass, blocks where they are many; at once; checkpointed blocks
joint contrast          plain under a tracer; blocks of shuffled tuples, or all tuples, some at a
                        time; volumes in tiles
mining                  blocks of candidates for distances, limits and files; at once under a
                        tracer or for few similarities; blocks
HyCon                   class moments; similarities, in blocks where they are many
======================  ===========================================================================

"Under a tracer" is whatever transforms or forward-differentiates the code, and for some losses what
compiles it (:func:`mmcontrast.eager.is_eager`, :func:`mmcontrast.eager.takes_ways`). InfoNCE's
callers ask for it, for the other losses it is asked here. Inside a way, ``topk`` still picks its
selection by the width of a row, and tiles try one shift for all before many.
"""

import functools
import importlib.util
import os
from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from mmcontrast import arguments
from mmcontrast.distributed import Group
from mmcontrast.eager import is_eager
from mmcontrast.exact import sizes
from mmcontrast.exact.kernels.blocks import generation
from mmcontrast.exact.tiles import map_in_pieces, rows_in_cache
from mmcontrast.rows import RowMap, in_wider_dtype, map_rows
from mmcontrast.wide import widen_products

INTERPRETED = False
"""Whether kernels suit the CPU: for tests in Triton's interpreter (TRITON_INTERPRET=1)."""

KERNEL_DTYPES = (torch.float32, torch.bfloat16, torch.float16)


# --- shared --------------------------------------------------------------------------------------


def mapped(
    x: Tensor, y: Tensor, normalize: RowMap | None, chunk_size: int | None
) -> tuple[Tensor, Tensor]:
    """Rows and columns in one dtype; in eager mode in pieces, as a compiler's loops are anyway."""
    size = chunk_size or sizes.WIDE[0]
    both = (
        map_in_pieces(z, normalize, size) if is_eager() else map_rows(z, normalize) for z in (x, y)
    )
    rows, columns = both
    return in_wider_dtype(rows, columns)


def products_in_range(
    x: Tensor, y: Tensor, normalize: RowMap | None, group: Group | None
) -> tuple[Tensor, Tensor, Callable[[Tensor], Tensor]]:
    """Rows, and what makes their loss float32 again where raw products had to be float64."""
    # A product beyond float32 would give the gradient 0 * inf.
    a, b = widen_products(x, y, group=group) if normalize is None else (x, y)
    # Infinite where too large: the caller tries again.
    return a, b, unchanged if a is x else Tensor.float


def unchanged(x: Tensor) -> Tensor:
    """x."""
    return x


def weighted(losses: Tensor, weight: Tensor | None) -> Tensor:
    """The sum of (B,) losses times the weight, (B,) or 0-d; the losses themselves without one."""
    return losses if weight is None else (losses * weight).sum()


def rows_at_a_time(rows: int, columns: int, chunk_size: int | None) -> int | None:
    """How many rows of a matrix of logits are made at a time; None for all at once.

    A ``chunk_size`` below the number of rows is taken as it is. Without one, small matrices are
    evaluated at once, and large ones in blocks that fit the cache. Under functional transforms and
    forward mode all is made at once; a compiler splits only by ``chunk_size``.
    """
    if chunk_size is not None:
        arguments.whole("chunk_size", chunk_size)
        split = is_eager() or torch.compiler.is_compiling()
        return chunk_size if split and chunk_size < rows and columns > 0 else None
    if not is_eager() or rows * columns < sizes.SPLIT:
        return None
    return min(rows_in_cache(columns), sizes.TILE)


def fits_at_once(x: Tensor, y: Tensor, chunk_size: int | None) -> bool:
    """Whether the matrix of these rows and columns may be made at once, and some copies of it."""
    rows, columns = x.shape[0], y.shape[0]
    step = rows_at_a_time(rows, columns, chunk_size)
    return (step is None or step >= rows) and 0 < rows * columns <= sizes.AT_ONCE


def ring_suits(candidates: Tensor, counts: list[int]) -> bool:
    """Whether to pass candidates around a ring of ranks with so many rows each."""
    size = sum(counts) * candidates.shape[1]
    return len(counts) > 1 and size >= sizes.RING and is_eager()


# --- kernels -------------------------------------------------------------------------------------


def kernels_suit(*tensors: Tensor) -> bool:
    """Whether the GPU kernels are taken for these, rows and columns of the logits.

    They are taken for many logits of CUDA tensors that have values and are not in float64, where
    Triton is installed, on a GPU that the blocks are made for, in eager mode; and not where
    MMCONTRAST_KERNELS=0 is set in the environment.
    """
    return (
        len(tensors[0]) * len(tensors[-1]) >= sizes.KERNELS
        and all(type(x) in (Tensor, nn.Parameter) and x.dtype in KERNEL_DTYPES for x in tensors)
        and len({x.device for x in tensors}) == 1
        and _device_suits(tensors[0].device)
        and is_eager()
    )


@functools.lru_cache
def _has_triton() -> bool:
    return importlib.util.find_spec("triton") is not None


def _device_suits(device: torch.device) -> bool:
    if os.environ.get("MMCONTRAST_KERNELS") == "0":
        return False
    if device.type != "cuda":
        return INTERPRETED and device.type == "cpu" and _has_triton()
    if torch.version.hip is not None:
        return False
    return generation(torch.cuda.get_device_capability(device)) is not None and _has_triton()


# --- HyCon ---------------------------------------------------------------------------------------


def moments_suit(features: Mapping[str, Tensor], labels: Tensor) -> bool:
    """Whether class moments are taken: for large batches with labels that may be read."""
    if len(labels) < sizes.MOMENTS or labels.numel() == 0:
        return False
    tensors = [labels, *features.values()]
    # MPS has no float64, so the sums would lose their precision.
    return is_eager(*tensors) and all(x.device.type != "mps" for x in tensors)


def anchors_of_a_block(width: int) -> int:
    """How many anchors that need so many similarities each are evaluated at a time."""
    return max(sizes.SIMILARITIES // max(width, 1), 1)


# --- mining --------------------------------------------------------------------------------------


def ranked_at_a_time(rows: Tensor, columns: Tensor, chunk_size: int | None) -> int | None:
    """How many rows are ranked at a time; None for all at once, so that a compiler can trace it."""
    if not is_eager(rows, columns):
        return None
    if chunk_size is not None:
        return chunk_size
    if len(rows) * len(columns) < sizes.RANKED:
        return None
    block = sizes.RANKED_BLOCK * (1 if rows.device.type == "cpu" else 64)
    return max(64, block // len(columns))
