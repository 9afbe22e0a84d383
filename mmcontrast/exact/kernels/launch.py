"""The kernels of :mod:`~mmcontrast.exact.kernels.triton_tiles`: blocks, grids and outputs."""

from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from mmcontrast.exact.evaluation import Gradients, Needed
from mmcontrast.exact.kernels.blocks import Blocks, Capability, ceil, chosen, split
from mmcontrast.exact.tiles import LOG2_E, NegativeSums, scalar

LOWEST = -3e38
RANGE = 60  # octaves either way in which a float32 holds sums and their inverses
ALIGNED = 8  # features, so that each row begins at 16 bytes, which are loaded together
ROUNDED = {"bf16": torch.bfloat16, "fp16": torch.float16}
PRECISIONS = ("ieee", "tf32", *ROUNDED)


def processors(device: torch.device) -> int:
    """How many programs run at a time, about."""
    if device.type != "cuda":
        return 4
    return 2 * torch.cuda.get_device_properties(device).multi_processor_count


def capability(device: torch.device) -> Capability:
    """By which the blocks are chosen; in Triton's interpreter that of an H100."""
    return torch.cuda.get_device_capability(device) if device.type == "cuda" else (9, 0)


def at_device(x: Tensor) -> AbstractContextManager[Any]:
    """Triton launches on the current device."""
    return torch.cuda.device(x.device) if x.device.type == "cuda" else nullcontext()


# --- what is launched ----------------------------------------------------------------------------


class Logits(NamedTuple):
    """The matrix of x y^T / temperature, and which of its entries are negatives."""

    x: Tensor
    y: Tensor
    """(B, D) and (C, D), contiguous, in the dtype of the products."""
    temperature: Tensor
    """0-d float32, on the same device, like the bias."""
    precision: str
    diagonal: bool = False
    """Exclude the pairs (i, i)."""
    partner: Tensor | None = None
    """(B,) one excluded column of each row; transposed, (C,) one excluded row of each column."""
    by: str = "row"
    bias: Tensor | None = None
    """Added to the logits of the sigmoid loss."""
    blocks: Blocks | None = None

    @property
    def mT(self) -> "Logits":
        """The transpose."""
        return self._replace(x=self.y, y=self.x, by="column" if self.by == "row" else "row")

    def base(self) -> Tensor:
        """The first shift: 0 where no logit needs one, else the lowest float.

        No logit is above |x| |y| / temperature. This stays on the device, as the kernels do both.
        """
        # Within 2^-60 to 2^60, sums and their inverses are floats without a shift, and one
        # exponential serves rows and columns. Comparing on the host would wait for the GPU, so the
        # kernels branch.
        bound = LOG2_E / self.temperature * longest(self.x) * longest(self.y)
        return torch.where(bound <= RANGE, 0.0, LOWEST)

    def chosen(self, *, gradient: bool) -> Blocks:
        """The blocks that were given, or those of the table for this device."""
        if self.blocks is not None:
            return self.blocks
        on = capability(self.x.device)
        return chosen(self.x.shape[1], self.precision, gradient=gradient, capability=on)

    def how(self, blocks: Blocks) -> dict[str, Any]:
        """What the kernels are compiled for."""
        exact = self.precision if self.precision not in ROUNDED else "ieee"
        return {
            "D": self.x.shape[1],
            "ROWS": blocks.rows,
            "COLUMNS": blocks.columns,
            "DEPTH": blocks.depth,
            "DIAGONAL": self.diagonal,
            "PARTNER": "" if self.partner is None else self.by,
            "SIGMOID": self.bias is not None,
            "PRECISION": exact if self.x.device.type == "cuda" else "upcast",
            "num_warps": blocks.warps,
            "num_stages": blocks.stages,
        }


def longest(x: Tensor) -> Tensor:
    """The largest length of a row, in float32."""
    found: Tensor = torch.linalg.vector_norm(x, dim=1, dtype=torch.float32).amax()
    return found


def rounded(x: Tensor, precision: str) -> Tensor:
    """Rows in the dtype of the products, with features of 0 up to a multiple of ALIGNED."""
    found, more = x.detach().to(ROUNDED.get(precision, torch.float32)), -x.shape[1] % ALIGNED
    return F.pad(found, (0, more)) if more else found.contiguous()


def without_padding(gradient: Tensor, x: Tensor) -> Tensor:
    """The gradient by the features that the rows were given with."""
    return gradient[:, : x.shape[1]].contiguous()


def sums(logits: Logits, base: Tensor, *, both: bool) -> NegativeSums:
    """One product: (B,) sums of the rows, and with ``both`` (C,) of the columns, else nothing.

    For the sigmoid loss, the sums of the rows' softplus.
    """
    from mmcontrast.exact.kernels import triton_tiles

    x, y = logits.x, logits.y
    blocks = logits.chosen(gradient=False)
    tall, wide = ceil(len(x), blocks.rows), ceil(len(y), blocks.columns)
    # A grid of p x q programs, each of which walks through a rectangle of blocks. Programs of the
    # same p share rows of logits and those of the same q columns, and each writes its partial sums
    # to a line of its own: q lines of row sums, p of column sums, added up below. So no program
    # waits for another, and the order of additions is always the same.
    p, q = split(tall, wide, processors(x.device))
    # A program keeps the sums of the rows it is at in registers and stores them once: empty memory
    # will do. Column sums it reads and updates in memory: they begin at 0, and their shifts at the
    # base.
    row_sums = x.new_empty(q, len(x), dtype=torch.float32)
    row_shifts = torch.empty_like(row_sums)
    column_sums = x.new_zeros(p if both else 0, len(y), dtype=torch.float32)
    column_shifts = base.expand(column_sums.shape).contiguous()
    with at_device(x):
        triton_tiles.sums_kernel[(p, q)](
            x,
            y,
            # A kernel needs a pointer for every argument; what its constants switch off is never
            # read.
            x if logits.partner is None else logits.partner,
            logits.temperature,
            logits.temperature if logits.bias is None else logits.bias,
            base,
            row_sums,
            row_shifts,
            column_sums,
            column_shifts,
            len(x),
            len(y),
            ceil(tall, p) * blocks.rows,
            ceil(wide, q) * blocks.columns,
            BOTH=both,
            **logits.how(blocks),
        )
    if logits.bias is not None:
        return NegativeSums(row_sums.sum(0), base, base, base)
    rows, row_shift = _added(row_sums, row_shifts)
    columns, column_shift = _added(column_sums, column_shifts)
    return NegativeSums(rows, columns, row_shift, column_shift)


def _added(parts: Tensor, shifts: Tensor) -> tuple[Tensor, Tensor]:
    """The sum of partial sums in units of their shifts, and its own shift."""
    if len(parts) == 0:
        return parts, shifts
    # Part k is parts[k] 2^shifts[k]: all in units of the highest shift, so that nothing overflows.
    highest = shifts.amax(0)
    return (parts * (shifts - highest).exp2_()).sum(0), highest  # (B,) each


class Share(NamedTuple):
    """What the negatives of each row, or column, have of the logits' gradient together."""

    share: Tensor
    sums: Tensor | None = None
    """The sum that it is a share of, in units of 2^shift; None for the sigmoid loss."""
    shift: Tensor | None = None

    def over(self, unit: Tensor | None) -> tuple[Tensor, Tensor]:
        """The share over the sum, in the unit, and the shift; 0 where there is nothing to sum."""
        share = self.share if unit is None else self.share / unit
        if self.sums is None or self.shift is None:
            return share.contiguous(), share
        # A negative's gradient is share * 2^(s - shift) / sum: the kernel takes share / sum and the
        # shift.
        return share / self.sums.clamp_min(torch.finfo(torch.float32).tiny), self.shift


def gradient(
    logits: Logits,
    base: Tensor,
    rows: Share | None,
    columns: Share | None,
    *,
    slopes: bool = False,
) -> tuple[Tensor, Tensor]:
    """Two products: (B, D) the logits' gradient times y, in float32; and its sums, if wanted.

    Args:
        logits: as for :func:`sums`.
        base: as for :func:`sums`.
        rows: what the negatives of the rows have.
        columns: the same of the columns.
        slopes: whether the (B,) sums of the rows of the logits' gradient are wanted.
    """
    from mmcontrast.exact.kernels import triton_tiles

    x, y = logits.x, logits.y
    d = x.shape[1]
    unit = _unit(rows, columns) if x.dtype == torch.float16 else None
    blocks = logits.chosen(gradient=True)
    # One program for each block of rows, each WIDTH features of the gradient, and each part of the
    # columns. It keeps its (rows, width) sum in registers; parts are added up below.
    grid = (ceil(len(x), blocks.rows), ceil(d, blocks.width))
    wide = ceil(len(y), blocks.columns)
    parts = max(1, min(wide, processors(x.device) // (grid[0] * grid[1])))  # few rows: cut columns
    out = x.new_empty(parts, len(x), d, dtype=torch.float32)
    slope = x.new_empty(parts, len(x) if slopes else 0, dtype=torch.float32)
    with at_device(x):
        triton_tiles.gradient_kernel[(*grid, parts)](
            x,
            y,
            out,
            slope,
            x if logits.partner is None else logits.partner,
            logits.temperature,
            logits.temperature if logits.bias is None else logits.bias,
            base,
            # Share and shift, or two pointers that are not read.
            *((base, base) if rows is None else rows.over(unit)),
            *((base, base) if columns is None else columns.over(unit)),
            len(x),
            len(y),
            ceil(wide, parts) * blocks.columns,
            WIDTH=blocks.width,
            BY_ROW=rows is not None,
            BY_COLUMN=columns is not None,
            SLOPES=slopes,
            **logits.how(blocks),
        )
    found, slope = out[0] if parts == 1 else out.sum(0), slope.sum(0)
    return (found, slope) if unit is None else (found.mul_(unit), slope.mul_(unit))


def _unit(*shares: Share | None) -> Tensor:
    """What an entry of the gradient is counted in, so that a float16 holds the large and the small.

    No entry is more than twice the largest share, which becomes 2^14: half of what float16 holds.
    """
    # No exponential is above the sum that it is divided by, so |g_ij| <= |share_i| + |share_j|.
    largest = torch.stack([x.share.abs().amax() for x in shares if x is not None]).amax()
    return torch.where(largest > 0, largest, 1) / 2**14


def pairs(x: Tensor, y: Tensor, partner: Tensor | None = None) -> Tensor:
    """(B,) the dot product of each row with its partner, of the same index by default."""
    from mmcontrast.exact.kernels import triton_tiles

    out = x.new_empty(len(x), dtype=torch.float32)
    block = 16
    with at_device(x):
        triton_tiles.pair_kernel[(ceil(len(x), block),)](
            x,
            y,
            x if partner is None else partner,
            out,
            len(x),
            len(y),
            D=x.shape[1],
            ROWS=block,
            DEPTH=64,
            PARTNER=partner is not None,
        )
    return out


# --- what the losses share -----------------------------------------------------------------------


def scalar_for(value: float | Tensor, rows: Tensor) -> Tensor:
    """A 0-d float32 tensor on the device of the rows, where the kernels can read it."""
    return scalar(value, rows.new_empty(0, dtype=torch.float32)).to(rows.device)


def temperature_gradient_of(x: Tensor, gx: Tensor, temperature: Tensor) -> Tensor:
    """:func:`mmcontrast.exact.tiles.temperature_gradient` of rounded rows."""
    return pairs(x, gx).sum() / -temperature


def zeros(needed: Needed, *inputs: Tensor) -> Gradients:
    """Zero gradients, for an empty batch."""
    return [
        torch.zeros_like(x) if wanted else None for x, wanted in zip(inputs, needed, strict=True)
    ]
