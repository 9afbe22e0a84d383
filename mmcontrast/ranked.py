"""Rank-N-Contrast: contrast by the order of real-valued scores."""

from typing import cast

import torch
from torch import Tensor, nn

from mmcontrast import arguments
from mmcontrast.distances import Distance, checked_distance, euclidean
from mmcontrast.distributed import Group, joined
from mmcontrast.exact.ranked_choice import ranked_losses
from mmcontrast.exact.ranked_scores import Scores
from mmcontrast.held import check_settings
from mmcontrast.learned import replicated, replicated_module
from mmcontrast.masks import IGNORE
from mmcontrast.presence import zero_outside
from mmcontrast.reductions import Reduction
from mmcontrast.rows import exact_number, in_wider_dtype, upcast
from mmcontrast.scores import ROUNDINGS
from mmcontrast.sharded import local_rows
from mmcontrast.temperature import LearnableTemperature, current
from mmcontrast.wide import narrow, widen_products


@local_rows
def rank_n_contrast(
    x: Tensor,
    scores: Tensor,
    candidates: Tensor | None = None,
    candidate_scores: Tensor | None = None,
    *,
    temperature: float | Tensor = 2.0,
    distance: Distance = euclidean,
    weight: Tensor | None = None,
    reduction: str = "mean",
    chunk_size: int | None = None,
    group: Group | None = None,
) -> Tensor:
    r"""Contrast for regression: embeddings become ordered as their scores are.

    Every other sample j is a positive of anchor i in turn, compared with all samples that are at
    least as far from i by their scores. With d the distance between embeddings,

    .. math::
        \ell_i = -\frac{1}{N - 1} \sum_{j \ne i} \log
            \frac{e^{-d(x_i, x_j) / \tau}}{\sum_{k \in S_{ij}} e^{-d(x_i, x_k) / \tau}},
        \qquad S_{ij} = \{k \ne i : |y_i - y_k| \ge |y_i - y_j|\}

    Args:
        x: (B, D) embeddings, not normalised.
        scores: (B,) real-valued labels, or (B, S): S for each sample, which differ by the sum of
            the absolute differences. A sample with NaN, infinity or -100 takes part neither as
            anchor nor as candidate.
        candidates: (C, D) rows that the anchors are compared with, of another modality, say.
            Default: the anchors, without each itself. With explicit candidates no pair is excluded.
        candidate_scores: (C,) or (C, S), needed with candidates.
        temperature: :math:`\tau > 0`, in the unit of the distance; a float, or a tensor of shape ()
            or (1,) when it is learned.
        distance: callable (..., D), (..., D) -> (...), evaluated by :func:`pairwise`.
        weight: (B,) sample weights.
        reduction: ``"mean"`` and ``"sum"`` give a scalar, ``"none"`` gives (B,).
        chunk_size: number of anchors at a time; default: by the size of the batch. Each block is
            evaluated again in the backward pass, so that memory is O(chunk_size C).
        group: a process group, or ``"world"``: the candidates are those of all its ranks, C in all,
            in the order of the ranks, and mean and sum are over all ranks' anchors.

    Returns:
        Scalar or (B,), float32, or float64 for float64 input. An anchor without candidates has loss
        0 and is left out of the mean.

    Raises:
        ValueError: on shapes or dtypes that disagree, candidates or their scores alone, or a float
            temperature that is not positive.

    Example:
        >>> x = torch.tensor([[0.0], [1.0], [3.0]])
        >>> rank_n_contrast(x, torch.tensor([0.0, 0.1, 0.5]), reduction="none")
        tensor([0.1566, 0.2370, 0.2370])

    Note:
        Scores are equally far where they are so up to the rounding of float32, or of float64 where
        they are float64: 0.8 and 1.2 from 1.0, though ``1.2 - 1.0 > 1.0 - 0.8`` in floating point.
        Of integer scores, only what is equal is equally far.
        The official code compares rounded differences; where none are tied the two are equal.

        A second derivative (``create_graph=True``) is exact, and holds the differences of all rows,
        (B, C, D).

    References: Rank-N-Contrast, arXiv:2210.01189, eq. 1 and 2.
    """
    arguments.matrix("x", x)
    arguments.columns("scores", scores, x.shape[0], "S")
    temperature = replicated(arguments.temperature(temperature), group, x)
    arguments.reduction(reduction)
    chunk_size = arguments.chunk(chunk_size)
    checked_distance(distance)
    distance = replicated_module(distance, group)
    if (candidates is None) != (candidate_scores is None):
        arguments.fail("candidate_scores", "candidates and their scores together", "one of the two")
    others = x if candidates is None else candidates
    other_scores = scores if candidate_scores is None else candidate_scores
    arguments.matrix("candidates", others, like=x)
    arguments.columns("candidate_scores", other_scores, others.shape[0], "S")
    if scores.shape[1:] != other_scores.shape[1:]:
        arguments.fail(
            "candidate_scores", "as many a sample as scores", arguments.shape(other_scores)
        )
    others, here = joined(others, group)  # (C of all ranks, D); here: this rank's rows
    other_scores, _ = joined(other_scores, group, size=others.shape[0])
    own = torch.arange(here.start, here.stop, device=x.device) if candidates is None else None

    y, rated = _columns(scores)  # (B, S), (B,)
    z, others_rated = _columns(other_scores)  # (C, S), (C,)
    # Rows that take no part become zero before any arithmetic, so that not even NaN propagates.
    x, others = upcast(zero_outside(x, rated)), upcast(zero_outside(others, others_rated))
    x, others = in_wider_dtype(x, others)
    rounding = ROUNDINGS * max(_tie_rounding(scores), _tie_rounding(other_scores))
    rows, columns = widen_products(x, others, distance=distance, group=group)
    found = ranked_losses(
        Scores(y, z, rated, others_rated, own, rounding),
        distance,
        rows,
        columns,
        exact_number(temperature),
        chunk_size=chunk_size,
        reduction=Reduction(reduction, weight, group),
    )
    return found if rows is x else cast(Tensor, narrow(found))


def _columns(scores: Tensor) -> tuple[Tensor, Tensor]:
    """(B, S) scores in float64, and (B,) bool: samples with finite ones other than -100 only.

    Differences of float32 scores are exact in float64. Samples that are not rated have zeros.
    """
    columns = scores.double() if scores.ndim == 2 else scores.double()[:, None]
    rated = (columns.isfinite() & (columns != IGNORE)).all(1)
    return zero_outside(columns, rated), rated


def _tie_rounding(scores: Tensor) -> float:
    """The relative rounding of scores; integers have none."""
    if not scores.is_floating_point():
        return 0.0
    # Half precision counts as float32, so that its scores tie as the same numbers in float32 do.
    return torch.finfo(torch.float64 if scores.dtype == torch.float64 else torch.float32).eps


class RankNContrast(nn.Module):
    """:func:`rank_n_contrast` with its settings held.

    Args:
        temperature: a float, or a :class:`LearnableTemperature`.
        distance, reduction, chunk_size, group: as in :func:`rank_n_contrast`.

    Example:
        >>> x = torch.tensor([[0.0], [1.0], [3.0]])
        >>> RankNContrast()(x, torch.tensor([0.0, 0.1, 0.5]))
        tensor(0.2102)
    """

    def __init__(
        self,
        *,
        temperature: float | LearnableTemperature = 2.0,
        distance: Distance = euclidean,
        reduction: str = "mean",
        chunk_size: int | None = None,
        group: Group | None = None,
    ):
        super().__init__()
        self.temperature = temperature
        self.distance = distance
        self.reduction = reduction
        self.chunk_size = chunk_size
        self.group = group
        check_settings(self)

    def forward(
        self,
        x: Tensor,
        scores: Tensor,
        candidates: Tensor | None = None,
        candidate_scores: Tensor | None = None,
        *,
        weight: Tensor | None = None,
    ) -> Tensor:
        """See :func:`rank_n_contrast`."""
        return rank_n_contrast(
            x,
            scores,
            candidates,
            candidate_scores,
            temperature=current(self.temperature),
            distance=self.distance,
            weight=weight,
            reduction=self.reduction,
            chunk_size=self.chunk_size,
            group=self.group,
        )
