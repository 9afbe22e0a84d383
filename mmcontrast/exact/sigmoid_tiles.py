"""The sigmoid loss of all pairs of rows, and its gradients in the same pass: at once, or in tiles.

Every pair is a question of its own, so a tile's losses and gradients are complete as soon as its
logits are there. In tiles, the positives at (i, start + i) are left out and added at the end: the
logits of all the others are then of one sign and mostly far from 0, which makes their softplus
cheap.
"""

import math
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from mmcontrast.eager import known
from mmcontrast.exact import sizes
from mmcontrast.exact.evaluation import Losses, Needed, evaluate_in_one_pass
from mmcontrast.exact.pair_rules import PairRules, as_function, as_tensors
from mmcontrast.exact.plain import plain_sigmoid
from mmcontrast.exact.tiles import (
    LOG2_E,
    Sides,
    largest_octave,
    memory,
    slices,
    temperature_gradient,
    tile_of,
    tiles,
)
from mmcontrast.softmax import biased, with_finite_bias

LARGE = 15  # octaves: of eight factors of 2^15 each, the product is a float32 still


def sigmoid_at_once(
    x: Tensor,
    y: Tensor,
    temperature: Tensor,
    bias: Tensor,
    weight: Tensor | None,
    positives: Tensor | None,
    keep: Tensor | None,
    start: int,
    pair_bias: Tensor | None = None,
) -> Tensor:
    """Sum of the (B,) losses times ``weight``, see :func:`evaluate_in_one_pass`.

    Args:
        x: (B, D) anchors.
        y: (C, D) candidates, of the same dtype.
        temperature, bias: 0-d.
        weight: (B,) or 0-d, or None for the losses themselves.
        positives: (B, C) bool; None for the pairs (i, start + i).
        keep: (B, C) bool: which pairs take part; None for all.
        start: which column belongs to the first row.
        pair_bias: (B, C), added to the bias.
    """
    way = _SigmoidAtOnce(positives, keep, start)
    return evaluate_in_one_pass(way, weight, x, y, temperature, bias, pair_bias)


def sigmoid_in_tiles(
    x: Tensor,
    y: Tensor,
    temperature: Tensor,
    bias: Tensor,
    weight: Tensor | None,
    positives: Tensor | None,
    rules: PairRules,
    own: Tensor | None,
    start: int,
    sides: Sides,
    pair_bias: Tensor | None = None,
) -> Tensor:
    """:func:`sigmoid_at_once` in tiles of so many rows and columns: 3 matrix products.

    ``rules`` say which pairs take part, ``own``, (B,) bool, which of (i, start + i); None for all.
    """
    way = _SigmoidTiles(positives, rules, own, start, sides)
    return evaluate_in_one_pass(way, weight, x, y, temperature, bias, pair_bias)


class _SigmoidAtOnce(NamedTuple):
    positives: Tensor | None
    keep: Tensor | None
    start: int

    def losses(self, needed: Needed, weight: Tensor | None, *inputs: Any) -> Losses:
        x, y, temperature, bias, pair_bias = inputs
        # The loss of a pair is softplus(s) for a negative and softplus(-s) for a positive. By the
        # signed logit its slope is the sigmoid; the sign applied once more makes that the slope by
        # s.
        logits = torch.mm(x, y.T).div_(temperature).add_(bias)  # (B, C)
        logits, keep = biased(logits, self.keep, pair_bias)
        logits = self.negated(logits)
        if keep is not None:
            logits.masked_fill_(~keep, -math.inf)
        losses = F.softplus(logits, threshold=50).sum(1)
        if weight is None or not any(needed):
            return losses, (None,) * 5
        slope = self.negated(logits.sigmoid_())
        slope *= weight[:, None] if weight.ndim else weight
        # A logit is x y / t + b, so the slope is the gradient by b as it is, and by x y divided by
        # t.
        gb = slope.sum().to(bias.device) if needed[3] else None
        gp = slope.clone() if needed[4] else None
        slope /= temperature
        gx = slope @ y if needed[0] or needed[2] else None
        gy = slope.T @ x if needed[1] else None
        gt = temperature_gradient(x, gx, temperature) if gx is not None and needed[2] else None
        return losses, (gx, gy, gt, gb, gp)

    def negated(self, logits: Tensor) -> Tensor:
        """All logits or their slopes, those of the positives with the other sign."""
        if self.positives is not None:
            return torch.where(self.positives, -logits, logits)
        logits.diagonal(self.start).neg_()
        return logits

    def plain(self, *inputs: Any) -> Tensor:
        x, y, temperature, bias, pair_bias = inputs
        return plain_sigmoid(x, y, temperature, bias, *self, pair_bias)


class _SigmoidTiles(NamedTuple):
    positives: Tensor | None
    rules: PairRules
    own: Tensor | None
    start: int
    sides: Sides

    def losses(self, needed: Needed, weight: Tensor | None, *inputs: Any) -> Losses:
        x, y, temperature, bias, pair_bias = inputs
        scale, shift = LOG2_E / temperature, LOG2_E * bias
        losses, slopes = x.new_zeros(len(x)), x.new_zeros(len(x))
        gx = torch.empty_like(x) if needed[0] or needed[2] else None
        gy = torch.empty_like(y) if needed[1] else None
        # A number where all rows count alike: it can wait for the end.
        each = None if weight is None or weight.ndim == 0 else weight[:, None]
        gp = torch.empty_like(pair_bias) if pair_bias is not None and needed[4] else None
        pairs = self.pairs(x, y, scale, shift, pair_bias)
        unbiased = pair_bias is None and not self.rules.bias_functions
        small = unbiased and self.known_small(x, y, scale, shift)
        slope_room, product_room = (memory(x, y, self.sides) for _ in range(2))
        for i, j, logits in tiles(x, y, self.sides, scale=scale, add=shift):
            # Row weights belong on the slopes (R, K), but cost less on (R, D): beforehand on the
            # rows that go into gy, and at the end on gx. `tiles` goes along a row of tiles, so this
            # is once for each of them.
            if j.start == 0:
                weighted = x[i] if each is None else x[i] * each[i]
            slope = tile_of(slope_room, *logits.shape)
            self.without_pairs(logits, i, j, scale, shift, pair_bias)
            losses[i] += _softplus_sums(logits, slope, product_room, small)
            self.with_pairs(slope, i, j, pairs)
            # beta = 0 at the first tile of each row of tiles, and of each column: it overwrites
            # what empty_like left in memory.
            if gx is not None:
                torch.addmm(gx[i], slope, y[j], beta=int(j.start > 0), out=gx[i])
            if gy is not None:
                torch.addmm(gy[j], slope.T, weighted, beta=int(i.start > 0), out=gy[j])
            if needed[3]:
                slopes[i] += slope.sum(1)
            if gp is not None:
                gp[i, j] = slope
        if pairs is not None:
            losses += pairs[0]
        share = 1 if weight is None else weight
        if gx is not None:
            gx *= (share if each is None else each) / temperature
        if gy is not None:
            gy *= (share if each is None else 1) / temperature
        gt = temperature_gradient(x, gx, temperature) if gx is not None and needed[2] else None
        gb = (slopes * share).sum().to(bias.device) if needed[3] else None
        if gp is not None:
            gp *= share if each is None else each
        return losses, (gx, gy, gt, gb, gp)

    def pairs(
        self, x: Tensor, y: Tensor, scale: Tensor, shift: Tensor, pair_bias: Tensor | None
    ) -> tuple[Tensor, Tensor] | None:
        """(B,) losses of the pairs (i, start + i), and their slopes; None under a mask."""
        if self.positives is not None:
            return None
        # Elementwise, not from the tiles, and negated as positives are; scale and shift are in
        # octaves.
        parts = [(x[i] * y[self.start :][i]).sum(1) for i in slices(len(x), sizes.TILE)]
        logits = -(torch.cat([x.new_empty(0), *parts]) * scale + shift) / LOG2_E
        partners = torch.arange(self.start, self.start + len(x), device=x.device)
        added = self.rules.partners_bias(pair_bias, partners)
        if added is not None:
            logits.sub_(added)
        if self.own is not None:
            logits.masked_fill_(~self.own, -math.inf)
        return F.softplus(logits, threshold=50), -logits.sigmoid()

    def without_pairs(
        self,
        logits: Tensor,
        i: slice,
        j: slice,
        scale: Tensor,
        shift: Tensor,
        pair_bias: Tensor | None,
    ) -> None:
        """Mask the pairs in a tile, or negate the positives that a mask names."""
        positives = None if self.positives is None else self.positives[i, j]
        others = scale, shift, pair_bias, as_function(positives)
        kept, added = self.rules.of_octaves(i, j, logits, *others)
        kept = with_finite_bias(kept, added)
        if added is not None:
            logits.add_(added, alpha=LOG2_E)
        # 2^-inf = 0: loss and slope of a masked pair are exactly 0.
        if positives is not None:
            torch.where(positives, -logits, logits, out=logits)
        else:
            logits.diagonal(i.start + self.start - j.start).fill_(-math.inf)
        if kept is not None:
            logits.masked_fill_(~kept, -math.inf)

    def with_pairs(
        self, slope: Tensor, i: slice, j: slice, pairs: tuple[Tensor, Tensor] | None
    ) -> None:
        """The slopes of that tile by the products of the rows, those of the pairs put in."""
        if self.positives is not None:
            torch.where(self.positives[i, j], -slope, slope, out=slope)
        elif pairs is not None:
            # Row i.start + r has its positive in column r + offset of the tile; see infonce_tiles.
            offset = i.start + self.start - j.start
            there = slope.diagonal(offset)
            there.copy_(pairs[1][i][max(-offset, 0) :][: len(there)])

    def known_small(self, x: Tensor, y: Tensor, scale: Tensor, shift: Tensor) -> bool:
        """Whether no odds are large in any tile."""
        if 0 in (len(x), len(y)):
            return True
        # No logit is above |x| |y| / t + b. Under a mask some are negated, and it takes |b|.
        shift = shift if self.positives is None else shift.abs()
        return known(largest_octave(x, y, scale) + shift <= LARGE)

    def plain(self, *inputs: Any) -> Tensor:
        x, y, temperature, bias, pair_bias = inputs
        positives = self.positives
        keep, pair_bias = as_tensors(self.rules, pair_bias, x, y, as_function(positives))
        return plain_sigmoid(x, y, temperature, bias, positives, keep, self.start, pair_bias)


def _softplus_sums(octaves: Tensor, slope: Tensor, room: Tensor, small: bool) -> Tensor:
    """The sums over the rows of log(1 + e^s), s = log(2) octaves, and its slope, in memory.

    Where no odds o = e^s are huge, logarithms are saved: with (1 + o)(1 + p) = 1 + (o + p + op),
    pairs of columns are joined before they are taken. Nothing is lost, for nothing is subtracted.
    """
    # Large odds, from a high bias or a low temperature, or a device whose values are not read here:
    # the usual functions of the logits.
    if not small and not known(octaves.amax() <= LARGE):
        logits = octaves.div_(LOG2_E)
        torch.sigmoid(logits, out=slope)
        return F.softplus(logits, threshold=50).sum(1)
    odds = octaves.exp2_()
    torch.div(odds, torch.add(odds, 1, out=slope), out=slope)  # sigmoid: o / (1 + o)
    # Each step halves the columns: if left = o and right = p, then o + p + o p is what the product
    # of 1 + o and 1 + p exceeds 1 by. After three steps one log1p stands for eight. Eight factors
    # of at most 1 + 2^15 give 2^120, below 2^128. Keeping the excess, not the product, keeps the
    # digits of small odds. The halves, 1/2 + 1/4 + 1/8 of a tile, lie one behind the other in
    # `room`.
    for _ in range(3):
        if odds.shape[1] % 2 == 0:
            left, right = odds.chunk(2, dim=1)
            odds = torch.add(left, right, out=tile_of(room, *left.shape))
            odds.addcmul_(left, right)
            room = room[odds.numel() :]
    return odds.log1p_().sum(1)
