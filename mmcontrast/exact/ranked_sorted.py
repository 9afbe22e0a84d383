"""Rank-N-Contrast with its gradients in one pass, its candidates sorted by their scores once."""

from functools import partial
from typing import Any

import torch
from torch import Tensor

from mmcontrast.distance_matrix import pairwise
from mmcontrast.distances import Distance, euclidean
from mmcontrast.eager import is_eager
from mmcontrast.exact.euclidean_products import EuclideanProducts
from mmcontrast.exact.evaluation import Losses, Needed
from mmcontrast.exact.ranked_merge import Anchors, ranked_by_merging
from mmcontrast.exact.ranked_scores import Scores
from mmcontrast.exact.tiles import slices


def can_be_sorted(scores: Scores, *inputs: Any) -> bool:
    """Whether there is one score a sample, on a CPU, in eager mode, and anybody to compare with."""
    if not (scores.anchors.is_cpu and scores.anchors.shape[1] == 1):
        return False
    return is_eager(*scores[:4], *inputs) and bool(scores.counted().any())


def ranked_by_sorting_once(
    scores: Scores,
    distance: Distance,
    step: int,
    needed: Needed,
    weight: Tensor | None,
    *inputs: Tensor,
) -> Losses | None:
    """(B,) losses and gradients of their weighted sum; None where logits are too far apart.

    Args:
        scores: of which :func:`can_be_sorted` is true.
        distance: without parameters.
        step: anchors at a time.
        needed, weight: see :class:`OnePassWay`.
        inputs: (B, D) anchors, (C, D) candidates and the temperature.
    """
    anchors, columns, own = _places(scores)
    y, z = scores.anchors[anchors, 0], scores.candidates[columns, 0]
    slack = 2 * scores.rounding * y.abs()[:, None]  # as in ranked_at_once
    x, candidates, temperature = inputs
    exact = distance is euclidean and x.dtype == torch.float32
    way = (EuclideanProducts if exact else partial(_Autograd, distance))(
        x[anchors], candidates[columns]
    )
    losses, by_temperature = x.new_zeros(x.shape[0]), torch.zeros_like(temperature)
    shares = weight.expand_as(losses)[anchors, None] if weight is not None and any(needed) else None
    for i in slices(len(anchors), step):
        apart = way.distances(i)
        if apart is None:
            return None
        among = Anchors(y[i], slack[i], None if own is None else own[i])
        ranked = ranked_by_merging(
            apart / -temperature, z, among, scores.rounding, shares is not None
        )
        if ranked is None:
            return None
        values, slopes = ranked
        losses[anchors[i]] = values.to(losses.dtype)
        if slopes is not None and shares is not None:
            slopes.mul_(shares[i] / -temperature)
            by_temperature -= torch.dot(slopes.view(-1), apart.view(-1)) / temperature
            way.add_gradient(i, apart, slopes)
    if shares is None:
        return losses, (None, None, None)
    found = *map(_back, way.gradients(), (x, candidates), (anchors, columns)), by_temperature
    return losses, [v if wants else None for v, wants in zip(found, needed, strict=True)]


class _Autograd:
    """Distances and gradients of the package's other distances, as :class:`EuclideanProducts`."""

    def __init__(self, distance: Distance, x: Tensor, y: Tensor):
        self.distance = distance
        self.rows, self.others = (v.detach().requires_grad_() for v in (x, y))
        self.by_rows, self.by_others = torch.zeros_like(x), torch.zeros_like(y)

    def distances(self, i: slice) -> Tensor:
        with torch.enable_grad():
            self.found = pairwise(self.distance, self.rows[i], self.others)
        return self.found.detach().double()

    def add_gradient(self, i: slice, distances: Tensor, slopes: Tensor) -> None:
        wanted = self.rows, self.others
        rows, others = torch.autograd.grad(self.found, wanted, slopes.to(self.found.dtype))
        self.by_rows += rows
        self.by_others += others

    def gradients(self) -> tuple[Tensor, Tensor]:
        return self.by_rows, self.by_others


def _places(scores: Scores) -> tuple[Tensor, Tensor, Tensor | None]:
    """The anchors and candidates that take part, and which of these each anchor is itself.

    Candidates are in the order of their scores.
    """
    anchors, columns = (x.nonzero()[:, 0] for x in (scores.rated, scores.candidates_rated))
    columns = columns[scores.candidates[columns, 0].argsort(stable=True)]
    if scores.own is None:
        return anchors, columns, None
    places = torch.empty_like(scores.candidates_rated, dtype=torch.int64)
    places[columns] = torch.arange(len(columns))
    return anchors, columns, places[scores.own[anchors]]


def _back(gradient: Tensor, like: Tensor, place: Tensor) -> Tensor:
    """The gradient of an input from that of its rows that take part."""
    return torch.zeros_like(like).index_copy_(0, place, gradient.to(like.dtype))
