"""Sums and moments of each large class of a batch, over its parts and over the ranks."""

from typing import NamedTuple

import torch
from torch import Tensor

from mmcontrast import distributed
from mmcontrast.distributed import Group
from mmcontrast.hybrid.row_sums import row_moments


class ClassSums(NamedTuple):
    """Sums over G classes that are cut into P parts; float64."""

    totals: Tensor
    """(G, M, D + 1) sum, and number, of each class's rows on all ranks."""
    other_parts: Tensor
    """(P, M, D + 1) the same of each part's class without the part itself."""
    moments: Tensor
    """(G, M, D, D) sum of the outer products of each class's rows on all ranks."""


def sum_classes(
    rows: list[Tensor], present: list[Tensor], shares: list[int], group: Group | None
) -> ClassSums:
    """Sum up the parts of each class, and the classes of all ranks.

    Args:
        rows: P parts, (k, M, D) each; one at least.
        present: (k, M) 1 or 0: the modalities that each sample has.
        shares: the number of parts, one after the other, of each class.
        group: the ranks. All of them pass parts of the same classes, empty ones where they have no
            sample of a class.
    """
    found = [row_moments(x) for x in rows]
    sums = [append_counts(total, there) for (total, _), there in zip(found, present, strict=True)]
    by_class = torch.split(torch.stack(sums), shares)  # (parts of the class, M, D + 1) each
    totals = torch.stack([x.sum(0) for x in by_class])
    left, products = [x for _, x in found], []
    for share in shares:
        products.append(sum(left[1:share], left[0]))
        left = left[share:]
    moments = torch.stack(products)
    elsewhere = torch.zeros_like(totals)  # the classes' sums on the other ranks
    if distributed.active(group) is not None:
        every, own = distributed.joined(totals, group)
        every = every.view(-1, *totals.shape)  # (ranks, G, M, D + 1)
        elsewhere = all_but_each(every)[own.start // len(totals)]
        totals = every.sum(0)
        moments = distributed.total(moments, group)
    other_parts = [all_but_each(x) + y for x, y in zip(by_class, elsewhere, strict=True)]
    return ClassSums(totals, torch.cat(other_parts), moments)


def append_counts(sums: Tensor, present: Tensor) -> Tensor:
    """(M, D) sums of rows and the (k, M) presence of their samples -> (M, D + 1)."""
    return torch.cat([sums, present.sum(0)[:, None]], dim=1)


def all_but_each(x: Tensor) -> Tensor:
    """For each entry of the first axis, the sum of all others.

    It adds the sums of the entries before and after. Subtracting the entry from the total would
    leave no correct digit of a small class next to a large one.
    """
    none = torch.zeros_like(x[:1])
    before = torch.cat([none, x[:-1]]).cumsum(0)
    after = torch.cat([x[1:], none]).flip(0).cumsum(0).flip(0)
    return before + after
