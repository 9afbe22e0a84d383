"""What there is of each class in a batch: sums and moments, over its parts and over the ranks."""

from typing import NamedTuple

import torch
from torch import Tensor

from mmcontrast import distributed
from mmcontrast.distributed import Group
from mmcontrast.hybrid.sums import moments


class Classes(NamedTuple):
    """G classes in P parts; float64."""

    totals: Tensor
    """(G, M, D + 1) sums, and numbers, of each class's rows on all ranks."""
    beside: Tensor
    """(P, M, D + 1) for each part that of its class's rows in all others, without a gradient."""
    moments: Tensor
    """(G, M, D, D) of each class's rows on all ranks."""


def classes(
    rows: list[Tensor], present: list[Tensor], shares: list[int], group: Group | None
) -> Classes:
    """Of one class at least.

    Args:
        rows: P parts, (k, M, D).
        present: (k, M) 1 or 0: who has which modality.
        shares: how many parts, one after the other, each class has.
        group: of the ranks; all have parts of the same classes, if only empty ones.
    """
    found = [moments(x) for x in rows]
    sums = [with_numbers(total, there) for (total, _), there in zip(found, present, strict=True)]
    groups = torch.split(torch.stack(sums), shares)
    totals = torch.stack([x.sum(0) for x in groups])
    squares, products = [x for _, x in found], []
    for share in shares:
        products.append(sum(squares[1:share], squares[0]))
        squares = squares[share:]
    elsewhere = torch.zeros_like(totals)
    whole = torch.stack(products)
    if distributed.active(group) is not None:
        every, own = distributed.joined(totals, group)
        every = every.view(-1, *totals.shape)
        elsewhere = all_but_each(every.detach())[own.start // len(totals)]
        totals = every.sum(0)
        whole = distributed.total(whole, group)
    beside = [all_but_each(x.detach()) + y for x, y in zip(groups, elsewhere, strict=True)]
    return Classes(totals, torch.cat(beside), whole)


def with_numbers(sums: Tensor, here: Tensor) -> Tensor:
    """(M, D) sums of rows and (k, M) who has them -> (M, D + 1)."""
    return torch.cat([sums, here.sum(0)[:, None]], dim=1)


def all_but_each(x: Tensor) -> Tensor:
    """For each entry of the first axis the sum of all others.

    What comes before and what comes after: a total less the entry itself would lose every digit of
    a small class beside a large one.
    """
    none = torch.zeros_like(x[:1])
    before = torch.cat([none, x[:-1]]).cumsum(0)
    after = torch.cat([x[1:], none]).flip(0).cumsum(0).flip(0)
    return before + after
