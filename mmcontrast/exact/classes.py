"""A batch sorted by class, so that the columns of a row's class are one slice."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from mmcontrast.exact import sizes
from mmcontrast.masks import labelled


class Classes(NamedTuple):
    """The labelled samples of a batch, class by class, and by index within a class."""

    order: Tensor
    """(n,) indices into the batch."""
    ids: Tensor
    """(n,) their classes, 0, 1, 2, ..., ascending."""
    counts: Tensor
    """(classes,) number of samples in each class."""

    @property
    def sizes(self) -> Tensor:
        """(n,) number of samples in each sample's class."""
        return self.counts[self.ids]


def by_class(labels: Tensor) -> Classes:
    """Sort a batch by its (B,) or (B, L) labels; -100 and NaN are left out. Reads values."""
    known = labelled(labels).nonzero()[:, 0]
    values = (labels[:, None] if labels.ndim == 1 else labels)[known]  # (n, L)
    # Labels of several columns are sorted like words: stable sorts from the last column to the
    # first.
    order = torch.arange(len(known), device=labels.device)
    for column in reversed(values.unbind(1)):
        order = order[column[order].argsort(stable=True)]
    values = values[order]
    # Where a sorted row differs from the one before it, the next class begins; the running count of
    # such places is the class. The first row begins class 0, and the slice keeps an empty batch
    # empty.
    another = (values[1:] != values[:-1]).any(1)
    ids = F.pad(another.long(), (1, 0)).cumsum(0)[: len(known)]  # (n,)
    return Classes(known[order], ids, ids.bincount())


class Window(NamedTuple):
    """A few rows, and the columns of their classes; both are sorted by class."""

    rows: slice
    columns: slice
    one: bool
    """Whether the rows are of one class."""


def windows(ids: Tensor, columns: Tensor, step: int) -> dict[int, list[Window]]:
    """The windows of each block of ``step`` rows, by the block's first row. Reads values.

    A tile's pairs of one class are then found without a mask: they lie in a few rectangles.
    """
    piece = sizes.LOOKED_UP if ids.device.type == "cpu" else 16 * sizes.LOOKED_UP
    # Each block of `step` rows is cut into pieces of a few rows. The smaller a piece, the fewer
    # columns of other classes its rectangle contains, and the more rectangles there are.
    pieces = [
        (block, slice(start, min(start + piece, block + step, len(ids))))
        for block in range(0, len(ids), step)
        for start in range(block, min(block + step, len(ids)), piece)
    ]
    if not pieces:
        return {}
    # Both sides are sorted by class, so the columns that share a class with some row of a piece lie
    # between the first column of its first class and the last column of its last class.
    ends = ids[torch.tensor([(rows.start, rows.stop - 1) for _, rows in pieces])]
    starts = torch.searchsorted(columns, ends[:, 0].contiguous()).tolist()
    stops = torch.searchsorted(columns, ends[:, 1].contiguous(), right=True).tolist()
    found: dict[int, list[Window]] = {}
    for (block, rows), near, (first, last) in zip(
        pieces, map(slice, starts, stops), ends.tolist(), strict=True
    ):
        found.setdefault(block, []).append(Window(rows, near, first == last))
    return found


def numbered(labels: Tensor, others: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """(B,) and (C,) numbers of the classes of labels (B,) and (C,), or (B, L) and (C, L)."""
    every = torch.cat([labels, others])
    axis = None if every.ndim == 1 else 0
    numbers = torch.unique(every, dim=axis, return_inverse=True)[1].to(dtype)
    return numbers[: len(labels)], numbers[len(labels) :]
