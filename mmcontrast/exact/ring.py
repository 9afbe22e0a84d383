"""InfoNCE over ranks whose candidates together would not fit: they go round, a rank's at a time.

Each rank keeps its anchors. The candidates travel from rank to rank with what has been found out
about them so far, and are home again after as many steps as there are ranks. So a rank holds its
own rows and two ranks' candidates, and never all of them. The next candidates are on their way
while the present ones are at work.

Reference: Inf-CL, arXiv:2410.17243, which lets them go round for one direction at a time.
"""

import math
from collections.abc import Iterator
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from mmcontrast.distributed import joined
from mmcontrast.eager import apply, full_precision, is_eager
from mmcontrast.exact.infonce_tiles import add, negative_share, plain_symmetric
from mmcontrast.exact.tiles import LOG2_E, TILE, by_temperature, differentiate, number, slices
from mmcontrast.masks import IGNORE
from mmcontrast.rows import dot
from mmcontrast.softmax import log_share

LEAST = 2**26
"""Entries of all ranks' candidates (256 MB of float32) from which they are not gathered."""


def pays(x: Tensor, sizes: list[int]) -> bool:
    """Whether rows of ranks of these sizes had better go round, and nothing traces the code."""
    return len(sizes) > 1 and sum(sizes) * x.shape[1] >= LEAST and is_eager()


def info_nce(
    x: Tensor,
    y: Tensor,
    targets: Tensor,
    temperature: float | Tensor,
    both: bool,
    tile: int | None,
    sizes: list[int],
    group: Any,
) -> Tensor:
    """(B,) losses of this rank's anchors among all ranks' candidates.

    Args:
        x: (B, D) anchors of this rank.
        y: (C, D) its candidates.
        targets: (B,) which of ``y`` are the partners; -100 for none.
        temperature: above 0.
        both: both directions, averaged; the targets are then 0, 1, ..., B - 1, and C is B.
        tile: rows and columns at a time; None for what the cache holds.
        sizes: every rank's C.
        group: of more than one rank.
    """
    dtype = torch.promote_types(x.dtype, y.dtype)
    x, y = x.to(dtype), y.to(dtype)
    return apply(_Ring, x, y, number(temperature, x), targets, both, tile or TILE, sizes, group)


def circulate(
    fixed: list[Tensor], moving: list[Tensor], sizes: list[int], group: Any
) -> Iterator[tuple[int, list[Tensor], list[Tensor]]]:
    """Whose rows are here, and the rows: ``moving`` may be written to, and comes home so."""
    rank, world = dist.get_rank(group), len(sizes)
    home = moving
    for k in range(world):
        owner, coming = (rank - k) % world, (rank - k - 1) % world
        last = k == world - 1
        fixed_next, sent = ([], []) if last else _exchange(fixed, sizes[coming], group)
        yield owner, fixed, moving
        _wait(sent)
        moving_next, sent = _exchange(moving, sizes[coming], group)
        _wait(sent)
        fixed, moving = fixed_next, moving_next
    for mine, back in zip(home, moving, strict=True):
        mine.copy_(back)


def _exchange(rows: list[Tensor], size: int, group: Any) -> tuple[list[Tensor], list[dist.Work]]:
    """Send rows to the next rank and take as many tensors, of another size, from the one before."""
    if not rows:
        return [], []
    rank, world = dist.get_rank(group), dist.get_world_size(group)
    after, before = (dist.get_global_rank(group, (rank + k) % world) for k in (1, -1))
    taken = [x.new_empty(size, *x.shape[1:]) for x in rows]
    calls = [dist.P2POp(dist.isend, x.contiguous(), after, group) for x in rows]
    calls += [dist.P2POp(dist.irecv, x, before, group) for x in taken]
    return taken, dist.batch_isend_irecv(calls)


def _wait(sent: list[dist.Work]) -> None:
    for work in sent:
        work.wait()


class _Ring(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        y: Tensor,
        temperature: Tensor,
        targets: Tensor,
        both: bool,
        tile: int,
        sizes: list[int],
        group: Any,
    ) -> Tensor:
        ctx.settings = both, tile, sizes, group
        rank, lowest = dist.get_rank(group), torch.finfo(x.dtype).min
        rows, row_shift = x.new_zeros(len(x)), x.new_full((len(x),), lowest)
        columns, column_shift = x.new_zeros(len(y)), x.new_full((len(y),), lowest)
        moving = [columns, column_shift] if both else []
        with full_precision(x):
            scale = LOG2_E / temperature
            for owner, (theirs,), found in circulate([y], moving, sizes, group):
                own = targets if owner == rank else None
                for i, j, logits in _tiles(x, theirs, scale, own, tile):
                    add(rows[i], row_shift[i], logits)
                    if both:
                        add(found[0][j], found[1][j], logits.T)
        pair = (x * y[targets.clamp_min(0)]).sum(1) * scale
        losses, row_share = negative_share(rows.log() + (row_shift - pair) / LOG2_E)
        column_share = columns
        if both:
            back, column_share = negative_share(columns.log() + (column_shift - pair) / LOG2_E)
            losses = (losses + back) / 2
        ctx.save_for_backward(
            x,
            y,
            temperature,
            targets,
            rows,
            row_shift,
            row_share,
            columns,
            column_shift,
            column_share,
        )
        return torch.where(targets != IGNORE, losses, 0)

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> Any:
        x, y, temperature, targets, *rest = ctx.saved_tensors
        both, tile, sizes, group = ctx.settings
        if torch.is_grad_enabled():
            plain = _plain(x, y, temperature, targets, both, group)
            found = differentiate(plain, (x, y, temperature), ctx.needs_input_grad, upstream)
            return *found, *(None,) * 5
        rows, row_shift, row_share, columns, column_shift, column_share = rest
        rank, tiny = dist.get_rank(group), torch.finfo(x.dtype).tiny
        upstream = torch.where(targets != IGNORE, upstream, 0) / temperature
        upstream = upstream / 2 if both else upstream
        u = upstream * row_share
        v = upstream * column_share if both else torch.zeros_like(u)
        gx = y[targets.clamp_min(0)] * -(u + v)[:, None]
        gy = torch.zeros_like(y).index_add_(0, targets.clamp_min(0), x * -(u + v)[:, None])
        u = u / rows.clamp_min(tiny)
        fixed = [y, column_shift, v / columns.clamp_min(tiny)] if both else [y]
        with full_precision(x):
            scale = LOG2_E / temperature
            for owner, (theirs, *weights), (theirs_g,) in circulate(fixed, [gy], sizes, group):
                own = targets if owner == rank else None
                for i, j, logits in _tiles(x, theirs, scale, own, tile):
                    odds = (logits - row_shift[i, None]).exp2_().mul_(u[i, None])
                    if both:
                        odds += logits.sub_(weights[0][j]).exp2_().mul_(weights[1][j])
                    gx[i].addmm_(odds, theirs[j])
                    theirs_g[j].addmm_(odds.T, x[i])
        return gx, gy, by_temperature(x, gx, temperature, tile), *(None,) * 5


def _tiles(
    x: Tensor, y: Tensor, scale: Tensor, targets: Tensor | None, tile: int
) -> Iterator[tuple[slice, slice, Tensor]]:
    """The logits in octaves, those of the partners minus infinity where targets are given."""
    for i in slices(len(x), tile):
        scaled = x[i] * scale
        for j in slices(len(y), tile):
            logits = scaled @ y[j].T
            if targets is not None:
                columns = torch.arange(j.start, j.stop, device=y.device)
                logits.masked_fill_(targets[i, None] == columns, -math.inf)
            yield i, j, logits


def _plain(
    x: Tensor, y: Tensor, temperature: Tensor, targets: Tensor, both: bool, group: Any
) -> Tensor:
    """The same with all candidates at once, to be differentiated twice."""
    every, own = joined(y, group)
    if both:
        return plain_symmetric(x, every, temperature, own, group)
    columns = torch.arange(len(every), device=y.device)
    partners = torch.where(targets != IGNORE, targets + own.start, -1)
    return log_share(dot(x, every) / temperature, columns == partners[:, None], None)[0]
