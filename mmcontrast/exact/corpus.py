"""Candidates as they lie, in memory or in a file, read and mapped block by block.

A row is mapped to the same bits in every block, so that equal rows stay equal wherever they lie.
"""

from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from mmcontrast.exact.ties import map_equal_rows
from mmcontrast.rows import SHORTEST, RowMap, l2_normalize, shifted_cosine_normalize, upcast

Rows = Tensor | np.ndarray[Any, Any]
"""(C, D): a tensor, or an array of NumPy's, such as a memory-mapped one."""


class Corpus(NamedTuple):
    """The candidates of a miner, and the row map that is still to come."""

    rows: Rows
    normalize: RowMap | None
    device: torch.device

    def part(self, which: slice | Tensor, like: Tensor) -> Tensor:
        """Some rows, mapped, in another's dtype: a block of them, or those of (B,) indices."""
        return map_each_row(self._read(which), self.normalize).to(like.dtype)

    def is_wide(self) -> bool:
        """Whether the rows are in float64."""
        return self.rows.dtype in (torch.float64, np.float64)

    def whole(self) -> Tensor:
        """All rows, mapped."""
        rows = self.rows if isinstance(self.rows, Tensor) else self._read(slice(None))
        return map_equal_rows(rows, self.normalize)

    def _read(self, which: slice | Tensor) -> Tensor:
        if isinstance(self.rows, Tensor):
            return self.rows[which]
        index = which if isinstance(which, slice) else which.cpu().numpy()
        # A copy in this machine's order of bytes: what is read of a file is this block alone.
        block = np.array(self.rows[index], dtype=self.rows.dtype.newbyteorder("="))
        return torch.from_numpy(block).to(self.device)


def map_each_row(x: Tensor, normalize: RowMap | None) -> Tensor:
    """:func:`map_equal_rows` in which no row's bits depend on the rows beside it.

    Very short and very long rows have a unit length of their own way, and a block that contains one
    takes that way for all of its rows. So the two kinds are mapped apart.
    """
    if normalize not in (l2_normalize, shifted_cosine_normalize) or not len(x):
        return map_equal_rows(x, normalize)
    length = upcast(x).square().sum(-1).sqrt()
    usual = (length > SHORTEST) & (length < torch.inf)  # (C,)
    if usual.all():
        return map_equal_rows(x, normalize)
    mapped = map_equal_rows(x, normalize)
    mapped[usual] = map_equal_rows(x[usual], normalize)
    return mapped
