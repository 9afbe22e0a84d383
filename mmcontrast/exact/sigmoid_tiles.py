"""The sigmoid loss of all pairs of rows, and its gradients: plainly, at once, or in tiles."""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from mmcontrast.eager import known
from mmcontrast.exact import tiles
from mmcontrast.exact.tiles import LOG2_E, TILE
from mmcontrast.rows import dot

LARGE = 15  # octaves: of eight factors of 2^15 each, the product is a float32 still


class Pairs:
    """Who belongs together and who takes part, and the loss of that."""

    def __init__(self, positives: Tensor | None, keep: Tensor | None, start: int):
        self.positives = positives
        self.keep = keep
        self.start = start  # where there are no positives, the first row's partner

    def losses(
        self, x: Tensor, y: Tensor, temperature: float | Tensor, bias: float | Tensor
    ) -> Tensor:
        """(B,) the losses of all pairs at once."""
        logits = dot(x, y) / temperature + bias
        together = self.positives
        if together is None:
            columns = torch.arange(len(y), device=x.device)
            together = columns == columns[self.start : self.start + len(x), None]
        logits = torch.where(together, -logits, logits)
        if self.keep is not None:
            logits = torch.where(self.keep, logits, -math.inf)
        return F.softplus(logits, threshold=50).sum(1)

    def at_once(
        self,
        x: Tensor,
        y: Tensor,
        temperature: Tensor,
        bias: Tensor,
        weight: Tensor | None,
        needed: Sequence[bool],
    ) -> tuple[Tensor, list[Tensor | None]]:
        """Losses and gradients from one matrix of all logits."""
        logits = self.turned(torch.mm(x, y.T).div_(temperature).add_(bias))
        if self.keep is not None:
            logits.masked_fill_(~self.keep, -math.inf)
        losses = F.softplus(logits, threshold=50).sum(1)
        if weight is None or not any(needed):
            return losses, [None] * 4
        slope = self.turned(logits.sigmoid_())
        slope *= weight[:, None] if weight.ndim else weight
        gb = slope.sum().to(bias.device) if needed[3] else None
        slope /= temperature
        gx = slope @ y if needed[0] or needed[2] else None
        gy = slope.T @ x if needed[1] else None
        gt = tiles.by_temperature(x, gx, temperature) if gx is not None and needed[2] else None
        return losses, [gx, gy, gt, gb]

    def turned(self, logits: Tensor) -> Tensor:
        """All logits or their slopes, those of the pairs that belong together the other way."""
        if self.positives is not None:
            return torch.where(self.positives, -logits, logits)
        logits.diagonal(self.start).neg_()
        return logits

    def partners(
        self, x: Tensor, y: Tensor, scale: Tensor, shift: Tensor
    ) -> tuple[Tensor, Tensor] | None:
        """(B,) losses of the rows with their partners, where these stand at their places.

        And the slopes. The logits of all others are then of one sign, and mostly far from 0.
        """
        if self.positives is not None:
            return None
        parts = [(x[i] * y[self.start :][i]).sum(1) for i in tiles.slices(len(x), TILE)]
        logits = -(torch.cat([x.new_empty(0), *parts]) * scale + shift) / LOG2_E
        if self.keep is not None:
            logits.masked_fill_(~self.keep.diagonal(self.start), -math.inf)
        return F.softplus(logits, threshold=50), -logits.sigmoid()

    def in_tiles(
        self,
        sides: tuple[int, int],
        x: Tensor,
        y: Tensor,
        temperature: Tensor,
        bias: Tensor,
        weight: Tensor | None,
        needed: Sequence[bool],
    ) -> tuple[Tensor, list[Tensor | None]]:
        """Losses and gradients in one pass over tiles: 3 matrix products."""
        scale, shift = LOG2_E / temperature, LOG2_E * bias
        losses, slopes = x.new_zeros(len(x)), x.new_zeros(len(x))
        gx = torch.empty_like(x) if needed[0] or needed[2] else None
        gy = torch.empty_like(y) if needed[1] else None
        # A number where all rows count alike: it can wait for the end.
        each = None if weight is None or weight.ndim == 0 else weight[:, None]
        partners = self.partners(x, y, scale, shift)
        small = self.known_small(x, y, scale, shift)
        rooms = [tiles.memory(x, y, sides) for _ in range(3)]
        for i in tiles.slices(len(x), sides[0]):
            rows = x[i]
            scaled, weighted = rows * scale, rows if each is None else rows * each[i]
            for j in tiles.slices(len(y), sides[1]):
                size = len(rows), j.stop - j.start
                logits, slope = (tiles.tile(room, *size) for room in rooms[:2])
                torch.addmm(shift, scaled, y[j].T, out=logits)
                self.without_partners(logits, i, j)
                losses[i] += _softplus_sums(logits, slope, rooms[2], small)
                self.with_partners(slope, i, j, partners)
                if gx is not None:
                    torch.addmm(gx[i], slope, y[j], beta=int(j.start > 0), out=gx[i])
                if gy is not None:
                    torch.addmm(gy[j], slope.T, weighted, beta=int(i.start > 0), out=gy[j])
                if needed[3]:
                    slopes[i] += slope.sum(1)
        if partners is not None:
            losses += partners[0]
        share = 1 if weight is None else weight
        if gx is not None:
            gx *= (share if each is None else each) / temperature
        if gy is not None:
            gy *= (share if each is None else 1) / temperature
        gt = tiles.by_temperature(x, gx, temperature) if gx is not None and needed[2] else None
        gb = (slopes * share).sum().to(bias.device) if needed[3] else None
        return losses, [gx, gy, gt, gb]

    def without_partners(self, logits: Tensor, i: slice, j: slice) -> None:
        """A tile's logits, those of partners at their places taken out, turned otherwise."""
        if self.positives is not None:
            torch.where(self.positives[i, j], -logits, logits, out=logits)
        else:
            logits.diagonal(i.start + self.start - j.start).fill_(-math.inf)
        if self.keep is not None:
            logits.masked_fill_(~self.keep[i, j], -math.inf)

    def with_partners(
        self, slope: Tensor, i: slice, j: slice, partners: tuple[Tensor, Tensor] | None
    ) -> None:
        """The slopes of that tile by the products of the rows, the partners' put in."""
        if self.positives is not None:
            torch.where(self.positives[i, j], -slope, slope, out=slope)
        elif partners is not None:
            offset = i.start + self.start - j.start
            there = slope.diagonal(offset)
            there.copy_(partners[1][i][max(-offset, 0) :][: len(there)])

    def known_small(self, x: Tensor, y: Tensor, scale: Tensor, shift: Tensor) -> bool:
        """Whether no odds are large in any tile: no logit is above |x| |y|."""
        if 0 in (len(x), len(y)):
            return True
        bound = scale * tiles.lengths(x).amax() * tiles.lengths(y).amax()
        return known(bound + (shift if self.positives is None else shift.abs()) <= LARGE)


def _softplus_sums(octaves: Tensor, slope: Tensor, room: Tensor, small: bool) -> Tensor:
    """For s = log(2) octaves: the sums over the rows of log(1 + e^s), and its slope, in memory.

    Where no odds o = e^s are huge, logarithms are saved: with (1 + o)(1 + p) = 1 + (o + p + op),
    pairs of columns are joined before they are taken. Nothing is lost, for nothing is subtracted.
    """
    if not small and not known(octaves.amax() <= LARGE):
        logits = octaves.div_(LOG2_E)
        torch.sigmoid(logits, out=slope)
        return F.softplus(logits, threshold=50).sum(1)
    odds = octaves.exp2_()
    torch.div(odds, torch.add(odds, 1, out=slope), out=slope)
    for _ in range(3):
        if odds.shape[1] % 2 == 0:
            left, right = odds.chunk(2, dim=1)
            odds = torch.add(left, right, out=tiles.tile(room, *left.shape))
            odds.addcmul_(left, right)
            room = room[odds.numel() :]
    return odds.log1p_().sum(1)
