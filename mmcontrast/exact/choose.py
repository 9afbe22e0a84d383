"""InfoNCE with one partner for each anchor, in eager mode: the way that suits the size is taken."""

import torch
from torch import Tensor

from mmcontrast.distributed import Group, active, joined, sizes, total
from mmcontrast.exact import (
    infonce_blocks,
    infonce_small,
    infonce_tiles,
    infonce_whole,
    kernels,
    ring,
    tiles,
)
from mmcontrast.masks import IGNORE, checked_partners
from mmcontrast.reductions import Reduction
from mmcontrast.rows import RowMap, map_rows


def one_way(
    anchors: Tensor,
    candidates: Tensor,
    targets: Tensor | None,
    *,
    temperature: float | Tensor,
    weight: Tensor | None,
    normalize: RowMap | None,
    reduction: str,
    chunk_size: int | None,
    group: Group | None,
) -> Tensor:
    """:func:`info_nce` without masks; the arguments are checked, all but ``weight``."""
    if active(group) is None and tiles.small(anchors, candidates, chunk_size):
        rows, choices = map_rows(anchors, normalize), map_rows(candidates, normalize)
        losses = infonce_small.one_way(rows, choices, targets, temperature)
        counted = None if targets is None else targets != IGNORE
        return Reduction(reduction, weight).reduce(losses, counted)
    chosen = checked_partners(anchors, targets)
    counted = chosen != IGNORE
    counts = sizes(candidates, group)
    if ring.pays(candidates, counts):
        rows, choices = map_rows(anchors, normalize), map_rows(candidates, normalize)
        losses = ring.info_nce(
            rows, choices, chosen, temperature, False, chunk_size, counts, active(group)
        )
        return Reduction(reduction, weight, group).reduce(losses, counted)
    candidates, own = joined(candidates, group, counts)
    chosen = torch.where(counted, chosen + own.start, IGNORE)
    step = tiles.step(len(anchors), len(candidates), chunk_size) or len(anchors)
    if not step or not len(candidates):
        rows, choices = map_rows(anchors, normalize), map_rows(candidates, normalize)
        losses = infonce_blocks.plain_one_way(rows, choices, chosen, temperature)
        return Reduction(reduction, weight, group).reduce(losses, counted)
    rows, choices = (tiles.mapped(x, normalize, step) for x in (anchors, candidates))
    if targets is None:
        shares = Reduction(reduction, weight, group).equal_shares(rows)
    else:
        shares = Reduction(reduction, weight, group).shares(counted, rows.dtype)
    if kernels.usable(rows, choices):
        precision = kernels.precision(anchors, candidates)
        value = kernels.one_way(rows, choices, chosen, temperature, shares, precision=precision)
    else:
        value = infonce_blocks.one_way(rows, choices, chosen, temperature, shares, step)
    if reduction != "none":
        return total(value, group)
    return Reduction(reduction, weight).reduce(value, counted)


def symmetric(
    x: Tensor,
    y: Tensor,
    *,
    temperature: float | Tensor,
    weight: Tensor | None,
    normalize: RowMap | None,
    reduction: str,
    chunk_size: int | None,
    group: Group | None,
) -> Tensor:
    """:func:`symmetric_info_nce` without masks; the arguments are checked, all but ``weight``."""
    alone = active(group) is None
    if alone and tiles.small(x, y, chunk_size):
        rows, columns = map_rows(x, normalize), map_rows(y, normalize)
        losses = infonce_small.symmetric(rows, columns, temperature)
        return Reduction(reduction, weight).reduce(losses, None)
    counts = sizes(y, group)
    if ring.pays(y, counts):
        rows, columns = map_rows(x, normalize), map_rows(y, normalize)
        own = torch.arange(len(x), device=x.device)
        losses = ring.info_nce(
            rows, columns, own, temperature, True, chunk_size, counts, active(group)
        )
        everyone = torch.ones_like(own, dtype=torch.bool)
        return Reduction(reduction, weight, group).reduce(losses, everyone)
    y, here = joined(y, group, counts)
    step = tiles.step(len(x), len(y), chunk_size, side=tiles.TILE)
    sides = tiles.WIDE if chunk_size is None or step is None else (step, step)
    rows, columns = (tiles.mapped(z, normalize, sides[0]) for z in (x, y))
    shares = Reduction(reduction, weight, group).equal_shares(rows)
    if alone and kernels.usable(rows, columns):
        precision = kernels.precision(x, y)
        value = kernels.symmetric(rows, columns, temperature, precision=precision)
        value = value if shares is None else (value * shares).sum()
    elif alone and 0 < len(x) <= (step or len(x)):
        value = infonce_whole.symmetric(rows, columns, temperature, shares)
    else:  # in a group always: the columns' sums are taken over ranks of any size
        value = infonce_tiles.symmetric(
            rows, columns, temperature, sides, weight=shares, start=here.start, group=group
        )
    if reduction != "none":
        return total(value, group)
    return value if weight is None else value * weight.to(value.dtype)
