"""Rank-N-Contrast of a block of anchors: a sort, and one cumulative sum from the far end.

Sorted by how far their scores are from the anchor's, the candidates from position t on are the
denominator of the one at t. So all denominators of an anchor are one cumulative sum, and candidates
that are equally far share that of the first of them. A block is O(R C log C), and a few times R C
numbers; its gradients are made before it is dropped. One score a sample on a CPU has a quicker way,
which falls back to this one: :mod:`mmcontrast.exact.ranked_sorted`.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from mmcontrast.distance_matrix import pairwise
from mmcontrast.distances import Distance
from mmcontrast.exact.evaluation import Losses, Needed, evaluate_in_one_pass
from mmcontrast.exact.ranked_scores import Scores
from mmcontrast.exact.ranked_sorted import can_be_sorted, ranked_by_sorting_once
from mmcontrast.exact.tiles import slices


def ranked_at_once(
    scores: Scores,
    distance: Distance,
    x: Tensor,
    candidates: Tensor,
    temperature: float | Tensor,
    rows: slice = slice(None),
    twice: bool = True,
) -> Tensor:
    """(B,) losses of all anchors, or of some rows of them; 0 for one without candidates.

    ``twice``: in operations that have a second derivative, and take longer.
    """
    keep = scores.rated[rows, None] & scores.candidates_rated  # (R, C)
    if scores.own is not None:
        columns = torch.arange(candidates.shape[0], device=x.device)
        keep = keep & (columns != scores.own[rows, None])
    # In a lambda, a distance is evaluated without torch.cdist, whose second derivative is new.
    measure = (lambda a, b: distance(a, b)) if twice else distance
    logits = -pairwise(measure, x[rows], candidates) / temperature
    away = torch.cdist(scores.anchors[rows], scores.candidates, p=1)
    # The anchor's score is rounded for both distances that are compared.
    slack = 2 * scores.rounding * scores.anchors[rows].abs().sum(1, keepdim=True)  # (R, 1)
    sums = from_the_end_by_doubling if twice else from_the_end
    return _ranked(logits, away, keep, slack, scores.rounding, sums)


def _ranked(
    logits: Tensor,
    away: Tensor,
    keep: Tensor,
    slack: Tensor,
    rounding: float,
    sums_of: Callable[[Tensor], Tensor],
) -> Tensor:
    """(R,) losses from (R, C) logits, distances of the scores and who takes part."""
    # Who takes no part stands in front, where no sum from the far end reaches it.
    away, order = torch.where(keep, away, -math.inf).sort(1)
    s = logits.gather(1, order).double()
    sums = sums_of(s)

    none = away.new_full((away.shape[0], 1), -math.inf)
    # A candidate's score is at most the anchor's and their distance. So one with a large score
    # adds to the slack of its own distance only, and does not tie all others.
    slack = slack + rounding * away.clamp_min(0)
    starts = away.diff(dim=1, prepend=none) > slack  # farther than the one before, no tie
    places = torch.arange(away.shape[1], device=away.device)
    first = torch.where(starts, places, 0).cummax(1).values

    # Where a sum starts with a candidate, its loss is log(1 + rest / itself), computed from the
    # rest, because a plain difference would lose small losses. A tied one's loss is such a
    # difference; beside the first of its tie, the two losses add up to log 4 or more.
    rest = torch.cat([sums, none], 1)[:, 1:]
    each = torch.where(starts, F.softplus(rest - s, threshold=50), sums.gather(1, first) - s)
    summed = torch.where(away >= 0, each, 0).sum(1)
    return (summed / keep.sum(1).clamp_min(1)).to(logits.dtype)


def from_the_end(s: Tensor) -> Tensor:
    """(R, C): the log-sum-exp of each entry and all behind it."""
    return s.flip(1).logcumsumexp(1).flip(1)


def from_the_end_by_doubling(s: Tensor) -> Tensor:
    """:func:`from_the_end` with a second derivative, which torch's logcumsumexp has not: NaN.

    Sums of one entry become sums of 2, 4, 8, ... entries: log2(C) passes.
    """
    step = 1
    while step < s.shape[1]:
        one, other = s[:, :-step], s[:, step:]
        both = one + F.softplus(other - one, threshold=50)
        s = torch.cat([both, s[:, -step:]], 1)
        step *= 2
    return s


def ranked_checkpointed(
    scores: Scores,
    distance: Distance,
    x: Tensor,
    candidates: Tensor,
    temperature: float | Tensor,
    step: int,
) -> Tensor:
    """The same, ``step`` anchors at a time, each block evaluated again in the backward pass."""
    inputs = scores, distance, x, candidates, temperature
    blocks = slices(max(x.shape[0], 1), step)
    return torch.cat([checkpoint(ranked_at_once, *inputs, i, use_reentrant=False) for i in blocks])


def ranked_in_one_pass(
    scores: Scores,
    distance: Distance,
    x: Tensor,
    candidates: Tensor,
    temperature: float | Tensor,
    step: int,
    weight: Tensor | None,
) -> Tensor:
    """The same with gradients in the same pass; for distances that have no parameters.

    See :func:`evaluate_in_one_pass` for ``weight``.
    """
    return evaluate_in_one_pass(_Blocks(scores, distance, step), weight, x, candidates, temperature)


class _Blocks(NamedTuple):
    scores: Scores
    distance: Distance
    step: int

    def losses(self, needed: Needed, weight: Tensor | None, *inputs: Any) -> Losses:
        if can_be_sorted(self.scores, *inputs):
            quick = ranked_by_sorting_once(*self, needed, weight, *inputs)
            if quick is not None:
                return quick
        leaves = [
            v.detach().requires_grad_(wants) if isinstance(v, Tensor) else v
            for v, wants in zip(inputs, needed, strict=True)
        ]
        wanted = [v for v, wants in zip(leaves, needed, strict=True) if wants]
        x, candidates, temperature = leaves
        losses = torch.empty_like(x[:, 0])
        shares = None if weight is None else weight.expand_as(losses)
        found = [torch.zeros_like(v) for v in wanted]
        for i in slices(len(losses), self.step):
            with torch.set_grad_enabled(shares is not None and len(wanted) > 0):
                block = ranked_at_once(
                    self.scores, self.distance, x, candidates, temperature, i, twice=False
                )
            losses[i] = block.detach()
            if shares is not None and wanted:
                parts = torch.autograd.grad(block, wanted, shares[i])
                for gradient, part in zip(found, parts, strict=True):
                    gradient += part
        each = iter(found)
        return losses, [next(each) if wants else None for wants in needed]

    def plain(self, *inputs: Any) -> Tensor:
        return ranked_at_once(self.scores, self.distance, *inputs)
