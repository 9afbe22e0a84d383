"""Log-sums of a row's similarities to all others of its side, in blocks of whole rows.

They are further negatives of the row: what InfoNCE in both directions takes with ``within``. Only
the (B,) sums are kept in between, and the backward pass makes the logits again.
"""

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor

from mmcontrast.exact.choose import rows_at_a_time, weighted
from mmcontrast.exact.evaluation import Gradients, Kept, Needed, evaluate
from mmcontrast.exact.operators import as_operator
from mmcontrast.exact.tiles import (
    LOG2_E,
    exclude,
    excluded,
    piece,
    slices,
    temperature_gradient,
    tile_of,
)
from mmcontrast.rows import dot
from mmcontrast.softmax import masked_logsumexp


@as_operator
def weighted_log_sums(
    rows: Tensor,
    columns: Tensor,
    temperature: Tensor,
    weight: Tensor | None,
    keep: Tensor | None,
    start: int,
    chunk_size: int | None,
) -> Tensor:
    """(B,) log of the sum of e^s over a row's columns; minus infinity without one.

    Args:
        rows: (B, D).
        columns: (C, D) in the same dtype, the rows themselves among them.
        temperature: 0-d.
        weight: as in :func:`weighted_one_way`.
        keep: (B, C) bool; None for all. A row is never among its own columns.
        start: which column is the first row itself.
        chunk_size: rows at a time.
    """
    step = rows_at_a_time(len(rows), len(columns), chunk_size) or max(len(rows), 1)
    return weighted(evaluate(_LogSums(keep, start, step), rows, columns, temperature), weight)


class _LogSums(NamedTuple):
    keep: Tensor | None
    start: int
    step: int

    def forward(self, needed: Needed, *inputs: Any) -> tuple[Tensor, Kept]:
        x, y, temperature = inputs
        room = x.new_empty(min(self.step, len(x)) * len(y))
        found = x.new_empty(len(x))  # in octaves
        for i in slices(len(x), self.step):
            octaves = self.octaves(x, y, temperature, i, room)
            # The clamp is for a row without columns: minus infinity minus itself would be NaN.
            shift = octaves.amax(1, keepdim=True).clamp_min_(excluded(x.dtype) / 2)
            found[i] = octaves.sub_(shift).exp2_().sum(1).log2_() + shift[:, 0]
        return found / LOG2_E, (found,)

    def backward(self, needed: Needed, kept: Any, upstream: Tensor, *inputs: Any) -> Gradients:
        x, y, temperature = inputs
        (found,) = kept
        # The derivative by a logit is its share in the sum; 1 / t makes it that by the product.
        none = found == -math.inf
        found = found.masked_fill(none, 0)
        factor = upstream.masked_fill(none, 0) / temperature
        gx = torch.empty_like(x) if needed[0] or needed[2] else None
        gy = torch.zeros_like(y) if needed[1] else None
        room = x.new_empty(min(self.step, len(x)) * len(y))
        for i in slices(len(x), self.step):
            shares = self.octaves(x, y, temperature, i, room).sub_(piece(found, i)[:, None]).exp2_()
            shares.mul_(piece(factor, i)[:, None])
            if gx is not None:
                torch.mm(shares, y, out=piece(gx, i))
            if gy is not None:
                gy.addmm_(shares.T, piece(x, i))
        gt = temperature_gradient(x, gx, temperature) if gx is not None and needed[2] else None
        return gx, gy, gt

    def octaves(self, x: Tensor, y: Tensor, temperature: Tensor, i: slice, room: Tensor) -> Tensor:
        """(R, C) logits of some rows, so low where there is none that their exponentials are 0."""
        rows = piece(x, i) * (LOG2_E / temperature)
        found = torch.mm(rows, y.T, out=tile_of(room, len(rows), len(y)))
        if self.keep is not None:
            exclude(found, piece(self.keep, i))
        found.diagonal(self.start + i.start).fill_(-math.inf)
        return found

    def plain(self, *inputs: Any) -> Tensor:
        x, y, temperature = inputs
        columns = torch.arange(len(y), device=y.device)
        others = columns != columns[self.start : self.start + len(x), None]
        keep = others if self.keep is None else self.keep & others
        return masked_logsumexp(dot(x, y) / temperature, keep)
