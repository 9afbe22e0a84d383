"""Rank-N-Contrast of one score a sample, on a CPU: candidates are sorted once, for all anchors.

Along sorted scores, the distances from an anchor's fall up to it and rise behind it. These are two
sorted runs, which a stable sort only has to merge: 6 ns a candidate, where a sort takes 50. In the
new order, all denominators of an anchor are one cumulative sum of exponentials in float64; they
have one more in their gradient. Both add up positive numbers, so that no digit is lost.
"""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

RANGE = 600.0
"""Logits of an anchor may differ by as much: exp(-600) is far from the smallest float64."""


class Anchors(NamedTuple):
    """A block of anchors that take part, and their scores."""

    scores: Tensor  # (R,) float64
    slack: Tensor  # (R, 1): distances of the scores that differ by less are equal
    own: Tensor | None  # (R,) int64: the candidate that is the anchor itself; None: none is


def ranked_by_merging(
    logits: Tensor, scores: Tensor, anchors: Anchors, rounding: float, gradient: bool
) -> tuple[Tensor, Tensor | None] | None:
    """(R,) losses, and their (R, C) gradient if wanted; None if exponentials might underflow.

    Args:
        logits: (R, C) float64, at least one of them of another sample.
        scores: (C,) of the candidates, all of whom take part, in ascending order.
        anchors: whose rows these are.
        rounding: relative; times a distance, it adds to its slack.
        gradient: of each loss by its own logits.
    """
    near = (anchors.scores[:, None] - scores).abs_().neg_()  # (R, C): ascending from the farthest
    if anchors.own is not None:
        near.scatter_(1, anchors.own[:, None], 1.0)  # the last, which is left out
    order = torch.from_numpy(np.argsort(near.numpy(), axis=1, kind="stable"))
    order = order if anchors.own is None else order[:, :-1]
    near, s = near.gather(1, order), logits.gather(1, order)
    low, high = s.aminmax(dim=1, keepdim=True)
    if not bool((high - low < RANGE).all()):  # also of NaN
        return None

    s = s.sub_(high)
    e = s.exp()
    sums = e.cumsum(1)
    rest = _behind(sums)  # of all that are before each in the order
    each = (rest / e).log1p_()
    # The sum up to the last of a tie is the denominator of all in it.
    inner, last, others = _ties(near, anchors.slack - rounding * near)
    each.view(-1)[inner] = -s.view(-1)[inner]
    each.view(-1)[last] += others * sums.view(-1)[last].log()
    n = s.shape[1]
    losses = each.sum(1) / n
    if not gradient:
        return losses, None

    # A loss falls by what its candidate lacks to the whole denominator, and rises by its share in
    # the denominators of all that are nearer, or in its tie.
    weights = sums.reciprocal_()
    lacks = rest.mul_(weights)
    lacks.view(-1)[inner] = 1
    tied = others * weights.view(-1)[last]
    weights.view(-1)[inner] = 0
    weights.view(-1)[last] += tied
    beyond = _behind(weights.flip(1).cumsum(1)).flip(1)
    beyond.view(-1)[last] += tied
    by_logit = e.mul_(beyond).sub_(lacks).div_(n)
    return losses, torch.zeros_like(logits).scatter_(1, order, by_logit)


def _behind(sums: Tensor) -> Tensor:
    """(R, C) sums from the left, each without its own entry."""
    found = torch.zeros_like(sums)
    found[:, 1:] = sums[:, :-1]
    return found


def _ties(near: Tensor, slack: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Of (R, C) sorted numbers, by flat index: who is tied with the next, and the last of each tie.

    And how many are in a tie with the last of it. Numbers that differ by no more than the slack of
    the first are tied.
    """
    same = torch.zeros_like(near, dtype=torch.bool)  # never at the end of a row
    torch.logical_not(near.diff(dim=1) > slack[:, :-1], out=same[:, :-1])
    inner = same.view(-1).nonzero()[:, 0]
    ends = (inner.diff(append=inner.new_full((1,), -1)) != 1).nonzero()[:, 0]
    return inner, inner[ends] + 1, ends.diff(prepend=ends.new_full((1,), -1))
