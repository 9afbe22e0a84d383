"""The triplet loss with any distance."""

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmcontrast import arguments
from mmcontrast.distances import Distance, euclidean, measured
from mmcontrast.distributed import Group
from mmcontrast.eager import is_eager, known, known_finite
from mmcontrast.held import check_settings
from mmcontrast.learned import replicated, replicated_module
from mmcontrast.loading import load_checked
from mmcontrast.presence import zero_outside
from mmcontrast.reductions import Reduction
from mmcontrast.sharded import local_rows
from mmcontrast.wide import may_widen, narrow, widen


@local_rows
def triplet(
    anchors: Tensor,
    positives: Tensor,
    negatives: Tensor,
    *,
    margin: float | Tensor = 1.0,
    distance: Distance = euclidean,
    hinge: bool = True,
    swap: bool = False,
    soft: bool = False,
    keep: Tensor | None = None,
    weight: Tensor | None = None,
    reduction: str = "mean",
    group: Group | None = None,
) -> Tensor:
    r"""Triplet loss: the positive closer to the anchor than the negative, by a margin.

    .. math:: \ell_i = \max\big(0,\; d(a_i, p_i) - d(a_i, n_i) + m\big)

    Args:
        anchors: (B, D) one embedding per triplet.
        positives: (B, D) to be close to the anchors.
        negatives: (B, D) to be far from the anchors.
        margin: by how much, in the distance's unit.
        distance: callable (B, D), (B, D) -> (B,).
        hinge: stop at 0. HyCon prints no hinge, and squared Euclidean distance: its loss is
            unbounded below on free features, and lies in [-1, 3] on softmax-normalised ones.
        swap: the negative's distance is the smaller one of those to the anchor and to the positive.
        soft: log(1 + exp) of the same sum in the place of the hinge: positive for every triplet, so
            that also satisfied ones are pulled on. The paper's has a margin of 0.
        keep: (B,) bool, which triplets take part; all by default. The other rows affect neither
            value nor gradient.
        weight: (B,) sample weights.
        reduction: ``"mean"`` and ``"sum"`` give a scalar, ``"none"`` gives (B,).
        group: a process group, or ``"world"``: mean and sum are those of all its ranks' samples,
            the same on every rank; see :func:`gather`. None: this rank alone.

    Returns:
        Scalar or (B,), float32, or float64 for float64 input.

    Raises:
        ValueError: on shapes or dtypes that disagree, a distance of another shape, or ``soft``
            without the hinge, whose place it takes.

    Example:
        >>> a, p, n = torch.zeros(1, 2), torch.tensor([[3.0, 4.0]]), torch.tensor([[0.0, 5.5]])
        >>> triplet(a, p, n, margin=1.0)
        tensor(0.5000)

    Note:
        Equals ``torch.nn.functional.triplet_margin_with_distance_loss`` with the same distance and
        ``swap``; pytorch-metric-learning's ``TripletMarginLoss`` with ``MeanReducer()`` and an
        ``LpDistance`` that does not normalise, ``swap`` the same and ``smooth_loss`` being
        ``soft``; with :func:`cosine_distance`, sentence-transformers' ``TripletLoss`` with its
        ``COSINE``.

    References: FaceNet, arXiv:1503.03832; HyCon, IEEE TAFFC 14(3), eq. 19; swap, Learning local
        feature descriptors with triplets, BMVC 2016, section 3.3; soft margin, arXiv:1703.07737,
        section 2.
    """
    arguments.matrix("anchors", anchors)
    arguments.matrix("positives", positives, rows=anchors.shape[0], like=anchors)
    arguments.matrix("negatives", negatives, rows=anchors.shape[0], like=anchors)
    margin = replicated(arguments.number_or_scalar("margin", margin), group, anchors)
    distance = replicated_module(distance, group)
    for name, value in (("hinge", hinge), ("swap", swap), ("soft", soft)):
        arguments.flag(name, value)
    if soft and not hinge:
        arguments.fail("hinge", "True where soft takes its place", hinge)
    arguments.reduction(reduction)
    if keep is not None:
        arguments.mask("keep", keep, (anchors.shape[0],))
        if is_eager() and known(keep.all()):
            keep = None
    if keep is not None:
        anchors, positives, negatives = (
            zero_outside(x, keep) for x in (anchors, positives, negatives)
        )
    losses = _gaps(anchors, positives, negatives, distance, swap) + margin
    if soft:  # above 50 it is the sum itself, to the last bit of a float64
        losses = F.softplus(losses, threshold=50)
    elif hinge:
        losses = torch.relu(losses)
    return Reduction(reduction, weight, group).reduce(losses, keep)


def _gaps(
    anchors: Tensor, positives: Tensor, negatives: Tensor, distance: Distance, swap: bool
) -> Tensor:
    """How much farther than the negatives the positives are, (B,)."""
    far, near = _far_and_near(anchors, positives, negatives, distance, swap)
    if known_finite(far.detach() + near.detach()):
        return far - near
    # Distances are capped at the largest float; the difference of two such says nothing.
    if may_widen(anchors, positives, negatives, distance=distance):
        a, p, n = widen((anchors, positives, negatives))
        far, near = _far_and_near(a, p, n, distance, swap)
        return cast(Tensor, narrow(far - near))
    return far - near


def _far_and_near(
    a: Tensor, p: Tensor, n: Tensor, distance: Distance, swap: bool
) -> tuple[Tensor, Tensor]:
    """The distances of the positives, and of the negatives, (B,) each."""
    far, near = measured(distance, a, p), measured(distance, a, n)
    return far, torch.minimum(near, measured(distance, p, n)) if swap else near


class Triplet(nn.Module):
    """:func:`triplet` with its settings held.

    Args:
        margin, distance, hinge, swap, soft, reduction, group: as in :func:`triplet`.

    Example:
        >>> x = torch.eye(2)
        >>> Triplet(margin=0.5)(x, x, x)
        tensor(0.5000)
    """

    load_state_dict = load_checked

    def __init__(
        self,
        *,
        margin: float | Tensor = 1.0,
        distance: Distance = euclidean,
        hinge: bool = True,
        swap: bool = False,
        soft: bool = False,
        reduction: str = "mean",
        group: Group | None = None,
    ):
        super().__init__()
        self.margin = margin
        self.distance = distance
        self.hinge = hinge
        self.swap = swap
        self.soft = soft
        self.reduction = reduction
        self.group = group
        check_settings(self)

    def forward(
        self,
        anchors: Tensor,
        positives: Tensor,
        negatives: Tensor,
        *,
        keep: Tensor | None = None,
        weight: Tensor | None = None,
    ) -> Tensor:
        """See :func:`triplet`."""
        return triplet(
            anchors,
            positives,
            negatives,
            margin=self.margin,
            distance=self.distance,
            hinge=self.hinge,
            swap=self.swap,
            soft=self.soft,
            keep=keep,
            weight=weight,
            reduction=self.reduction,
            group=self.group,
        )
