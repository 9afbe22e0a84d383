"""Contrast of multilinear inner products with shuffled tuples, and with all of them.

Of a tuple of rows, a product needs only their elementwise product, a candidate as any other. The
positive is a candidate by itself, given as a number for each anchor.
"""

import functools
import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from mmcontrast.exact.evaluation import (
    Gradients,
    Kept,
    Losses,
    Needed,
    evaluate,
    evaluate_in_one_pass,
)
from mmcontrast.exact.infonce_tiles import add_to_sums
from mmcontrast.exact.tiles import (
    LOG2_E,
    as_bytes,
    excluded,
    piece,
    slices,
    temperature_gradient,
    tile_of,
)
from mmcontrast.rows import dot
from mmcontrast.softmax import masked_logsumexp


class Shuffled(NamedTuple):
    """Which of C candidates are no negatives of an anchor."""

    start: int  # the first anchor's positive is candidate start, the next one's start + 1, ...
    again: Tensor | None  # (B,) int64, a candidate that is the positive once more; None for none
    columns: Tensor | None  # (C,) bool, those that take part; None for all

    def negatives(self, like: Tensor) -> Tensor:
        """(B, C) bool."""
        rows, columns = like.shape
        places = torch.arange(columns, device=like.device)
        own = torch.arange(self.start, self.start + rows, device=like.device)
        keep = places != own[:, None]
        if self.again is not None:
            keep = keep & (places != self.again[:, None])
        return keep if self.columns is None else keep & self.columns


def shuffled_in_blocks(
    anchors: Tensor,
    candidates: Tensor,
    positive: Tensor,
    temperature: Tensor,
    weight: Tensor | None,
    among: Shuffled,
    step: int,
) -> Tensor:
    """Losses of (B, D) anchors with (B,) positives among (C, D) candidates, times ``weight``.

    See :func:`evaluate_in_one_pass` for ``weight``.
    """
    inputs = anchors, candidates, positive, temperature
    return evaluate_in_one_pass(_ShuffledBlocks(step, among), weight, *inputs)


def plain_shuffled(
    anchors: Tensor,
    candidates: Tensor,
    positive: Tensor,
    temperature: float | Tensor,
    among: Shuffled,
) -> Tensor:
    """The (B,) losses in operations that autograd knows."""
    logits = dot(anchors, candidates) / temperature
    keep = among.negatives(logits)
    rest = masked_logsumexp(logits, keep, empty=excluded(logits.dtype))
    return F.softplus(rest - positive / temperature, threshold=50)


class _ShuffledBlocks(NamedTuple):
    step: int
    among: Shuffled

    def losses(self, needed: Needed, weight: Tensor | None, *inputs: Any) -> Losses:
        x, c, positive, temperature = inputs
        scale, limits = LOG2_E / temperature, torch.finfo(x.dtype)
        low = excluded(x.dtype)
        out = None if self.among.columns is None else as_bytes(~self.among.columns)
        gx, gc, gp = (torch.zeros_like(z) for z in (x, c, positive))
        gaps, room = torch.empty_like(positive), x.new_empty(min(self.step, len(x)) * len(c))
        for i in slices(len(x), self.step):
            rows = piece(x, i)
            odds = torch.mm(rows * scale, c.T, out=tile_of(room, len(rows), len(c)))  # (R, C)
            if out is not None:
                odds.add_(out, alpha=low)
            odds.diagonal(self.among.start + i.start).fill_(-math.inf)
            if self.among.again is not None:
                odds.scatter_(1, piece(self.among.again, i)[:, None], -math.inf)
            # The clamp is for a row without a negative: all of it is to be far below the shift.
            shift = odds.amax(1, keepdim=True).clamp_min_(low / 2)
            sums = odds.sub_(shift).exp2_().sum(1, keepdim=True)
            gap = sums.log().add_(shift / LOG2_E)[:, 0] - positive[i] / temperature
            gaps[i] = gap
            if weight is None or not any(needed):
                continue
            # See infonce_tiles: the slope of a loss by its gap, of which the negatives have shares.
            w = gap.sigmoid_().mul_(piece(weight, i) if weight.ndim else weight).div_(temperature)
            gp[i] = -w
            w = w[:, None] / sums.clamp_min_(limits.tiny)  # (R, 1)
            if needed[0] or needed[3]:
                torch.mm(odds, c, out=piece(gx, i)).mul_(w)
            if needed[1]:
                gc.addmm_(odds.T, rows * w)
        gt = None
        if needed[3]:
            gt = temperature_gradient(x, gx, temperature) - (positive * gp).sum() / temperature
        return F.softplus(gaps, threshold=50), (gx, gc, gp, gt)

    def plain(self, *inputs: Any) -> Tensor:
        x, c, positive, temperature = inputs
        return plain_shuffled(x, c, positive, temperature, self.among)


def negatives_of_all_tuples(
    anchors: Tensor,
    others: Tensor,
    temperature: Tensor,
    present: Tensor | None,
    start: int,
    step: int,
) -> Tensor:
    """(B,) logs of the sums over all tuples but the anchor's own of e^(product / temperature).

    Args:
        anchors: (B, D).
        others: (C, K, D) rows of the K other modalities; one of each makes a tuple, C^K in all.
        temperature: 0-d.
        present: (C, K) bool, which rows there are; None for all.
        start: the row of the others that is the first anchor's own.
        step: tuples at a time.
    """
    return evaluate(_AllTuples(present, start, step), anchors, others, temperature)


def plain_negatives_of_all_tuples(
    anchors: Tensor, others: Tensor, temperature: float | Tensor, present: Tensor | None, start: int
) -> Tensor:
    """The same in operations that autograd knows, with all products in memory."""
    size, number, _ = others.shape
    places = _places_of(torch.arange(size**number, device=others.device), size, number)
    own = torch.arange(start, start + anchors.shape[0], device=others.device)[:, None]
    keep = (places != own[:, None]).any(2)  # (B, C^K)
    if present is not None:
        keep = keep & _taken(present, places).all(1)
    logits = dot(anchors, _taken(others, places).prod(1)) / temperature
    return masked_logsumexp(logits, keep, empty=excluded(logits.dtype))


def _places_of(flat: Tensor, size: int, number: int) -> Tensor:
    """(T, K): which row of each modality the tuples of these numbers take, the last one fastest."""
    return torch.stack([flat // size ** (number - 1 - k) % size for k in range(number)], 1)


def _taken(x: Tensor, places: Tensor) -> Tensor:
    """(T, K, ...) the rows x[places[:, k], k]."""
    return x[places, torch.arange(places.shape[1], device=places.device)]


class _AllTuples(NamedTuple):
    present: Tensor | None
    start: int
    step: int

    def forward(self, needed: Needed, *inputs: Any) -> tuple[Tensor, Kept]:
        x, others, temperature = inputs
        sums = x.new_zeros(len(x))
        shift = torch.full_like(sums, torch.finfo(x.dtype).min)
        for _, _, tile in self.tiles(x, others, temperature):
            add_to_sums(sums, shift, tile)
        return (sums.log() + shift / LOG2_E).clamp_min_(excluded(x.dtype)), (sums, shift)

    def backward(self, needed: Needed, kept: Any, upstream: Tensor, *inputs: Any) -> Gradients:
        x, others, temperature = inputs
        sums, shift = kept
        u = upstream / temperature / sums.clamp_min(torch.finfo(x.dtype).tiny)
        gx, g_others = torch.zeros_like(x), torch.zeros_like(others)
        for places, factors, tile in self.tiles(x, others, temperature):
            slope = tile.sub_(shift[:, None]).exp2_().mul_(u[:, None])  # (B, T) by dot products
            gx.addmm_(slope, functools.reduce(torch.mul, factors))
            by_product = slope.T @ x  # (T, D)
            for k in range(len(factors)):
                by_row = functools.reduce(torch.mul, factors[:k] + factors[k + 1 :], by_product)
                g_others[:, k].index_add_(0, places[:, k], by_row)
        return gx, g_others, temperature_gradient(x, gx, temperature)

    def plain(self, *inputs: Any) -> Tensor:
        x, others, temperature = inputs
        return plain_negatives_of_all_tuples(x, others, temperature, self.present, self.start)

    def tiles(
        self, x: Tensor, others: Tensor, temperature: Tensor
    ) -> Iterator[tuple[Tensor, list[Tensor], Tensor]]:
        """Some tuples at a time: their places, their rows of each modality, and the logits."""
        size, number, _ = others.shape
        scaled, room = x * (LOG2_E / temperature), x.new_empty(len(x) * self.step)
        stride = sum(size**k for k in range(number))  # from one sample's own tuple to the next's
        for t in slices(size**number, self.step):
            places = _places_of(torch.arange(t.start, t.stop, device=x.device), size, number)
            factors = list(_taken(others, places).unbind(1))  # (T, D) each
            count = t.stop - t.start
            tile = tile_of(room, len(x), count)
            torch.mm(scaled, functools.reduce(torch.mul, factors).T, out=tile)
            if self.present is not None:
                absent = ~_taken(self.present, places).all(1)
                tile.add_(as_bytes(absent), alpha=excluded(x.dtype))
            # Where an anchor meets its own tuple: places on a straight line through the tile.
            first, stop = (-(-end // stride) - self.start for end in (t.start, t.stop))
            first, stop = max(first, 0), min(stop, len(x))
            if first < stop:
                place = first * count + (self.start + first) * stride - t.start
                line = tile.view(-1)[place :: count + stride]
                line[: stop - first].fill_(-math.inf)
            yield places, factors, tile
