"""InfoNCE in tiles with columns that travel, for candidates that do not fit on one rank together.

Each rank keeps its anchors. The candidates go from rank to rank with the sums that have been found
for them so far, and are home again after as many steps as there are ranks. So a rank holds its own
rows and two ranks' candidates, and never all of them. The next candidates are on their way while
the present ones are being evaluated.

Reference: Inf-CL, arXiv:2410.17243, which passes candidates around for one direction at a time.
"""

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor

from mmcontrast.distributed import joined
from mmcontrast.exact import sizes
from mmcontrast.exact.evaluation import Gradients, Kept, Needed, evaluate
from mmcontrast.exact.infonce_tiles import add_to_sums, negatives_gradient
from mmcontrast.exact.plain import plain_one_way, plain_symmetric
from mmcontrast.exact.tiles import (
    LOG2_E,
    NegativeSums,
    scalar,
    temperature_gradient,
    tiles,
)
from mmcontrast.gaps import USUAL, Slopes, Variant, losses_and_slopes
from mmcontrast.masks import IGNORE
from mmcontrast.rows import in_wider_dtype


def info_nce_on_ring(
    x: Tensor,
    y: Tensor,
    targets: Tensor,
    temperature: float | Tensor,
    both: bool,
    side: int | None,
    counts: list[int],
    group: Any,
    variant: Variant = USUAL,
) -> Tensor:
    """(B,) losses of this rank's anchors among all ranks' candidates.

    Args:
        x: (B, D) anchors of this rank.
        y: (C, D) its candidates.
        targets: (B,) which of ``y`` are the positives; -100 for none.
        temperature: above 0.
        both: both directions, averaged; the targets are then 0, 1, ..., B - 1, and C is B.
        side: rows and columns of a tile; None for what the cache holds.
        counts: every rank's C.
        group: of more than one rank.
        variant: of the losses, see :mod:`mmcontrast.gaps`: (B,), or (2, B) for both directions.
    """
    x, y = in_wider_dtype(x, y)
    way = _Ring(both, side or sizes.TILE, counts, group, variant._replace(extra=None))
    return evaluate(way, x, y, targets, scalar(temperature, x), variant.extra)


class _Ring(NamedTuple):
    both: bool
    side: int
    counts: list[int]
    group: Any
    variant: Variant

    def forward(self, needed: Needed, *inputs: Tensor) -> tuple[Tensor, Kept]:
        x, y, targets, temperature, extra = inputs
        # Rows stay at home, and so do their sums. Columns travel, and where columns are anchors
        # too, each rank adds what its rows have to their sums: after a full circle these cover the
        # rows of all ranks.
        lowest = torch.finfo(x.dtype).min
        rows, row_shift = x.new_zeros(len(x)), x.new_full((len(x),), lowest)
        columns, column_shift = x.new_zeros(len(y)), x.new_full((len(y),), lowest)
        moving = [columns, column_shift] if self.both else []
        scale = LOG2_E / temperature
        for owner, (theirs,), found in self.visits([y], moving):  # theirs: (their C, D)
            for i, j, octaves in self.octaves(x, theirs, scale, targets, owner):
                add_to_sums(rows[i], row_shift[i], octaves)
                if self.both:
                    add_to_sums(found[0][j], found[1][j], octaves.T)
        # A positive is always among a rank's own candidates, so it never travels. For gap, share, u
        # and v see infonce_tiles.
        positive = (x * y[targets.clamp_min(0)]).sum(1) * scale  # (B,)
        gap = rows.log() + (row_shift - positive) / LOG2_E
        if self.both:
            gap = torch.stack([gap, columns.log() + (column_shift - positive) / LOG2_E])
        variant = self.variant._replace(extra=extra)
        losses, slopes = losses_and_slopes(gap, positive / LOG2_E, temperature, variant)
        kept = rows, row_shift, columns, column_shift, *slopes
        losses = losses.mean(0) if self.both else losses
        return torch.where(targets != IGNORE, losses, 0), kept

    def backward(self, needed: Needed, kept: Any, upstream: Tensor, *inputs: Tensor) -> Gradients:
        x, y, targets, temperature, _ = inputs
        rows, row_shift, columns, column_shift, *shares = kept
        tiny, at = torch.finfo(x.dtype).tiny, targets.clamp_min(0)
        upstream = torch.where(targets != IGNORE, upstream, 0)
        upstream = upstream / 2 if self.both else upstream
        slopes, each = Slopes(*shares), upstream / temperature
        u, v = slopes.push * each if self.both else (slopes.push * each, torch.zeros_like(each))
        pull = slopes.pull * each
        pull = pull.sum(0) if self.both else pull
        # The positives' part, at home; the negatives' is added visit by visit. Several anchors of
        # one direction may share a positive, hence index_add_.
        gx = y[at] * -pull[:, None]
        gy = torch.zeros_like(y).index_add_(0, at, x * -pull[:, None])
        u = u / rows.clamp_min(tiny)
        # What a tile's gradient needs of its columns travels: the rows, and for two directions
        # their shifts and v / sums. The gradient by these rows travels along, grows at each rank
        # and returns complete.
        fixed = [y, column_shift, v / columns.clamp_min(tiny)] if self.both else [y]
        room = x.new_empty(min(self.side, len(x)) * min(self.side, max(self.counts)))
        scale = LOG2_E / temperature
        for owner, (theirs, *weights), (their_gradient,) in self.visits(fixed, [gy]):
            for i, j, octaves in self.octaves(x, theirs, scale, targets, owner):
                if self.both:
                    sums = NegativeSums(rows, columns, row_shift, weights[0])
                    negatives_gradient(octaves, i, j, sums, u, weights[1], room)
                else:
                    octaves.sub_(row_shift[i, None]).exp2_().mul_(u[i, None])
                gx[i].addmm_(octaves, theirs[j])
                their_gradient[j].addmm_(octaves.T, x[i])
        gt = temperature_gradient(x, gx, temperature, self.side)
        if slopes.inverse is not None:
            gt = gt - (slopes.inverse * upstream).sum() / temperature.square()
        return gx, gy, None, gt, None if slopes.extra is None else slopes.extra * upstream

    def plain(self, *inputs: Tensor) -> Tensor:
        x, y, targets, temperature, extra = inputs
        every, own = joined(y, self.group)
        variant = self.variant._replace(extra=extra)
        if self.both:
            return plain_symmetric(x, every, temperature, own, self.group, None, None, variant)
        positives = torch.where(targets != IGNORE, targets + own.start, -1)
        return plain_one_way(x, every, positives, temperature, None, None, variant)

    def octaves(
        self, x: Tensor, y: Tensor, scale: Tensor, targets: Tensor, owner: int
    ) -> Iterator[tuple[slice, slice, Tensor]]:
        """Tiles of a visiting rank's logits; on the owner's own rank, without the positives."""
        home = owner == dist.get_rank(self.group)
        for i, j, tile in tiles(x, y, (self.side, self.side), scale=scale):
            if home:
                columns = torch.arange(j.start, j.stop, device=y.device)
                tile.masked_fill_(targets[i, None] == columns, -math.inf)
            yield i, j, tile

    def visits(
        self, fixed: list[Tensor], moving: list[Tensor]
    ) -> Iterator[tuple[int, list[Tensor], list[Tensor]]]:
        """Pass tensors around the ranks: each visit's owner, and what it brings.

        ``fixed`` is only read, so it travels while a visit is evaluated; ``moving`` is written to,
        travels after that, and ends up at home.
        """
        rank, world, home = dist.get_rank(self.group), len(self.counts), moving
        # At step k, a rank has the candidates of the rank k places before it. Read-only tensors are
        # sent on before a visit is evaluated, and arrive in the meantime; the last visit sends
        # none. Sums and gradients are sent on after each visit, and from the last one to the rank
        # that owns them, the next.
        for k in range(world):
            owner, coming = (rank - k) % world, (rank - k - 1) % world
            last = k == world - 1
            fixed_next, sent = ([], []) if last else self.exchange(fixed, self.counts[coming])
            yield owner, fixed, moving
            _wait(sent)
            moving_next, sent = self.exchange(moving, self.counts[coming])
            _wait(sent)
            fixed, moving = fixed_next, moving_next
        for mine, back in zip(home, moving, strict=True):
            # The caller holds the tensors that it passed in; what came home is in others.
            mine.copy_(back)

    def exchange(self, rows: list[Tensor], size: int) -> tuple[list[Tensor], list[dist.Work]]:
        """Send to the next rank, and receive as many tensors of ``size`` rows from the last."""
        if not rows:
            return [], []
        group, rank, world = self.group, dist.get_rank(self.group), len(self.counts)
        after, before = (dist.get_global_rank(group, (rank + k) % world) for k in (1, -1))
        taken = [x.new_empty(size, *x.shape[1:]) for x in rows]
        # Sends and receives in one batch: no rank waits for another to receive first.
        calls = [dist.P2POp(dist.isend, x.contiguous(), after, group) for x in rows]
        calls += [dist.P2POp(dist.irecv, x, before, group) for x in taken]
        return taken, dist.batch_isend_irecv(calls)


def _wait(sent: list[dist.Work]) -> None:
    for work in sent:
        work.wait()
