"""The closest candidates of each anchor by any measure, in blocks of anchors and of candidates.

All pairs are compared quickly, to within a known rounding. Of each block the few closest are
measured exactly, and where what was left out could, with its rounding, be closer than one of them,
all of the block. So what is found does not depend on blocks, and equal candidates always tie. In
memory are one block, and the k closest so far.
"""

import math
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from mmcontrast.distances import Distance
from mmcontrast.eager import known_finite
from mmcontrast.exact import sizes
from mmcontrast.exact.closeness import MEASURES, of_all, of_pairs, quick_value, side, widest
from mmcontrast.exact.corpus import Corpus
from mmcontrast.exact.limits import Bounds, inside
from mmcontrast.exact.ties import first_equal, share_scores
from mmcontrast.exact.tiles import slices
from mmcontrast.exact.topk import filled, highest_places, merged, top
from mmcontrast.masks import different_label, same_label
from mmcontrast.presence import zero_outside


class Among(NamedTuple):
    """Which candidates an anchor may have."""

    banned: Tensor | None = None  # (B,) one that it may not, negative for none
    allowed: Tensor | None = None  # (B, C) bool
    labels: Tensor | None = None  # (B,) or (B, L)
    candidate_labels: Tensor | None = None  # (C,) or (C, L)
    same: bool = False  # of equal labels, else of different ones

    def excluded(self, i: slice, j: slice) -> Iterator[Tensor]:
        """Masks (R, C) or (C,) of those that a block's rows may not have."""
        if self.banned is not None:
            names = torch.arange(j.start, j.stop, device=self.banned.device)
            yield self.banned[i, None] == names
        if self.allowed is not None:
            yield ~self.allowed[i, j]
        if self.labels is not None and self.candidate_labels is not None:
            wanted = same_label if self.same else different_label
            yield ~wanted(self.labels[i], self.candidate_labels[j])


SPARE = 8
"""Candidates of a block beyond the k that are measured exactly."""


def nearest(
    x: Tensor,
    corpus: Corpus,
    k: int,
    *,
    among: Among,
    distance: Distance | None = None,
    bounds: Bounds | None = None,
    farthest: bool = False,
    chunk_size: int | None = None,
) -> tuple[Tensor, Tensor]:
    """(B, k) closeness in float64, descending, and the candidates that have it. Reads values.

    Where fewer than k candidates are there, the rest is minus infinity. Rows that are not finite
    take no part.

    Args:
        x: (B, D) mapped anchors.
        corpus: C candidates.
        k: how many.
        among: which candidates each anchor may have.
        distance: None for dot products.
        bounds: of the closeness.
        farthest: the least close ones instead, with their closeness negated.
        chunk_size: anchors at a time.
    """
    best = widest(x.new_full((len(x), k), -math.inf))
    found = torch.zeros(len(x), k, dtype=torch.int64, device=x.device)
    if not len(x):
        return best, found
    x, here = _finite(x)
    centre = x.mean(0)
    mine = side(distance, x, centre, columns=False)
    width, rows = _block_sizes(x, chunk_size)
    for j in slices(len(corpus.rows), width):
        y, there = _finite(corpus.part(j, x))
        theirs = None if len(y) <= k + SPARE else side(distance, y, centre, columns=True)
        names = torch.arange(j.start, j.stop, device=x.device)
        for i in slices(len(x), rows):
            pairs = _Pairs(x[i], y, names, distance, -1 if farthest else 1, _of(bounds, i))
            if mine is None or theirs is None:
                scores, slack = x.new_zeros(len(pairs.x), len(y)), None
            else:
                scores, slack = of_all(distance, mine.of(i), theirs)
                scores = -scores if farthest else scores
            for out in (*among.excluded(i, j), *_missing(here, there, i)):
                scores = filled(scores, out.expand_as(scores), -math.inf)
            best[i], found[i] = pairs.closest(scores, slack, best[i], found[i])
    return best, found


class _Pairs(NamedTuple):
    """A block of anchors and one of candidates."""

    x: Tensor  # (R, D)
    y: Tensor  # (C, D)
    names: Tensor  # (C,)
    distance: Distance | None
    sign: int
    bounds: Bounds | None  # (R,) each

    def closest(
        self, scores: Tensor, slack: Tensor | None, best: Tensor, found: Tensor
    ) -> tuple[Tensor, Tensor]:
        """(R, k) closest so far: of those before, and of this block.

        Args:
            scores: (R, C) quick values, minus infinity for excluded pairs.
            slack: (R,) how far they may be off; None where they say nothing.
            best, found: (R, k) the closest before, and their names.
        """
        k = best.shape[1]
        if slack is None:
            rest = torch.arange(len(best), device=best.device)
            values, names = best, found
        else:
            places = highest_places(self._roughly_within(scores, slack), k + SPARE)
            few = scores.gather(1, places)  # (R, k + SPARE)
            exact = self.sign * of_pairs(self.distance, self.x, self.y[places])
            exact = self._within(exact, few == -math.inf)
            values = torch.cat([best, exact], 1)
            values, names = merged(values, torch.cat([found, self.names[places]], 1), k)
            # What was left out is no closer than the last one of the few, and the slack.
            last = few.amin(1)
            least = quick_value(self.distance, values[:, -1])
            rest = (~((last == -math.inf) | (least > last + slack))).nonzero()[:, 0]
        if len(rest):
            exact = self._within(self._exactly(rest), scores[rest] == -math.inf, rest)
            exact, others = top(exact, k, self.names)
            values[rest], names[rest] = merged(
                torch.cat([best[rest], exact], 1), torch.cat([found[rest], others], 1), k
            )
        return values, names

    def _exactly(self, rows: Tensor) -> Tensor:
        """(r, C) closeness of some of the anchors, a few of them at a time."""
        step = max(sizes.EXACT // max(self.y.numel(), 1), 1)
        x = self.x[rows]
        found = torch.cat(
            [of_pairs(self.distance, x[i], self.y[None]) for i in slices(len(x), step)]
        )
        # A caller's distance may have matrix products in it, which round by the place.
        if self.distance not in MEASURES:
            found = share_scores(found, first_equal(self.y))
        return self.sign * found

    def _within(self, exact: Tensor, out: Tensor, rows: Tensor | None = None) -> Tensor:
        """Exact values, minus infinity for excluded pairs and outside the bounds; none is NaN."""
        out = out | exact.isnan()
        if self.bounds is not None:
            bounds = self.bounds if rows is None else (self.bounds[0][rows], self.bounds[1][rows])
            out = out | ~inside(exact, bounds)
        return filled(exact, out, -math.inf)

    def _roughly_within(self, scores: Tensor, slack: Tensor) -> Tensor:
        """Quick values, minus infinity for those that are certainly outside the bounds."""
        if self.bounds is None:
            return scores
        low, high = (quick_value(self.distance, v).to(scores.dtype) for v in self.bounds)
        return filled(scores.clone(), ~inside(scores, (low - slack, high + slack)), -math.inf)


def _finite(x: Tensor) -> tuple[Tensor, Tensor | None]:
    """Rows with zeros for those that are not finite, and (N,) which are; None if all."""
    if known_finite(x):
        return x, None
    finite = x.isfinite().all(1)
    return zero_outside(x, finite), finite


def _missing(here: Tensor | None, there: Tensor | None, i: slice) -> Iterator[Tensor]:
    """Masks of the pairs with a row that is not finite."""
    if here is not None:
        yield ~here[i, None]
    if there is not None:
        yield ~there


def _of(bounds: Bounds | None, i: slice) -> Bounds | None:
    return None if bounds is None else (bounds[0][i], bounds[1][i])


def _block_sizes(x: Tensor, chunk_size: int | None) -> tuple[int, int]:
    """Candidates of a block, and anchors."""
    factor = 1 if x.device.type == "cpu" else 64
    columns = max(factor * sizes.CORPUS_BLOCK // x.shape[1], 64)
    return columns, chunk_size or max(factor * sizes.RANKED_BLOCK // columns, 64)
