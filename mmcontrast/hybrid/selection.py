"""HyCon-v2's pair selection, eq. 13, and the weights of the selected pairs, eq. 14-15."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from mmcontrast import arguments
from mmcontrast.rows import upcast
from mmcontrast.sharded import local_rows
from mmcontrast.softmax import masked_softmax


@dataclass(frozen=True)
class PairSelection:
    r"""HyCon-v2's pair selection: the hardest pairs of each anchor, weighted by their hardness.

    Args:
        fraction: :math:`\beta`; of K samples the :math:`h = \max(1, \lfloor K\beta \rfloor)` least
            similar positives and most similar negatives stay, or all where there are fewer.
        gamma: :math:`\gamma > 0` in the positives' weights, the softmax of
            :math:`1 / (s + \gamma)`. The paper gives no value; cosines need it above 1.
        positives: select among the positives; False is the paper's ablation.
        negatives: select among the negatives; False is the paper's ablation.
        unselected: how a side without selection enters the ratio: by its ``"mean"``, which keeps
            the two sides comparable, because the selected one is a weighted mean, or by its
            ``"sum"``.
        inter_factor: h is this many times larger for the inter-modal loss. The paper has the same
            h for both, 1, although there are twice as many pairs across modalities; 2 keeps the
            fraction.

    Raises:
        ValueError: on a fraction outside (0, 1], a gamma that is not positive, another word for
            unselected, or a factor below 1.

    Example:
        >>> PairSelection(fraction=0.2).count(32)
        6

    References: HyCon, IEEE TAFFC 14(3), section 3.4, eq. 13-15.
    """

    fraction: float = 0.2
    gamma: float = 1.0
    positives: bool = True
    negatives: bool = True
    unselected: str = "mean"
    inter_factor: int = 1

    def __post_init__(self) -> None:
        if not arguments.is_number(self.fraction) or not 0 < self.fraction <= 1:
            arguments.fail("fraction", "a number in (0, 1]", arguments.shown(self.fraction))
        arguments.flag("positives", self.positives)
        arguments.flag("negatives", self.negatives)
        arguments.positive("gamma", self.gamma)
        arguments.one_of("unselected", self.unselected, ("mean", "sum"))
        arguments.whole("inter_factor", self.inter_factor)

    def count(self, batch_size: int | Tensor) -> int | Tensor:
        """How many pairs stay on each side, h, of a batch of K; a tensor for a 0-d tensor."""
        # 100 * 0.29 is 28.999999999999996: the small addition makes it the 29 that is meant.
        if isinstance(batch_size, Tensor):
            return (batch_size.double() * self.fraction + 1e-9).floor().long().clamp_min(1)
        return max(1, math.floor(batch_size * self.fraction + 1e-9))


@local_rows
def select_pairs(
    similarity: Tensor,
    positives: Tensor,
    negatives: Tensor,
    *,
    selection: PairSelection,
    batch_size: int | Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    r"""Keep the h least similar positives and the h most similar negatives of each anchor.

    .. math:: s^p = \mathrm{Min}_h(a \cdot p), \qquad s^n = \mathrm{Max}_h(a \cdot n)

    Ties go to the lower index. NaN counts as hardest, so that the loss shows it.

    Args:
        similarity: (B, C).
        positives: (B, C) bool.
        negatives: (B, C) bool.
        selection: how many, and on which sides.
        batch_size: K in :math:`h = \lfloor K\beta \rfloor`: an int or a 0-d tensor. Default: B.

    Returns:
        The two masks, reduced to the selected pairs; a side without selection is unchanged.

    Raises:
        ValueError: on shapes or dtypes that disagree.

    Example:
        >>> similarity = torch.tensor([[0.9, 0.1, 0.5, 0.8]])
        >>> positives = torch.tensor([[True, True, False, False]])
        >>> select_pairs(similarity, positives, ~positives, selection=PairSelection())
        (tensor([[False,  True, False, False]]), tensor([[False, False, False,  True]]))

    References: HyCon, IEEE TAFFC 14(3), eq. 13.
    """
    _pair_masks(similarity, positives, negatives)
    if not isinstance(selection, PairSelection):
        arguments.fail("selection", "a PairSelection", arguments.shown(selection))
    if isinstance(batch_size, Tensor):
        if batch_size.ndim != 0:
            arguments.fail("batch_size", "an int or a 0-d tensor", arguments.shown(batch_size))
    elif batch_size is not None:
        batch_size = arguments.whole("batch_size", batch_size, least=0)
    count = selection.count(len(similarity) if batch_size is None else batch_size)
    return thin(similarity, positives, negatives, selection, count)


def thin(
    similarity: Tensor,
    positives: Tensor,
    negatives: Tensor,
    selection: PairSelection,
    count: int | Tensor,
) -> tuple[Tensor, Tensor]:
    """:func:`select_pairs` with h given as ``count``."""
    _pair_masks(similarity, positives, negatives)
    hardest = _top(-similarity, positives, count) if selection.positives else positives
    closest = _top(similarity, negatives, count) if selection.negatives else negatives
    return hardest, closest


@local_rows
def hardness_weights(
    similarity: Tensor, positives: Tensor, negatives: Tensor, *, gamma: float = 1.0
) -> tuple[Tensor, Tensor]:
    r"""Weights of the selected pairs by their hardness, without gradient.

    .. math:: w^n = \mathrm{softmax}(s^n), \qquad w^p = \mathrm{softmax}\big(1 / (s^p + \gamma)\big)

    Args:
        similarity: (B, C).
        positives: (B, C) bool, the entries of the softmax of the positives.
        negatives: (B, C) bool, the entries of the softmax of the negatives.
        gamma: above 0. Of similarities of ``-gamma`` or less, the positives' weights see no
            difference; cosines need a gamma above 1.

    Returns:
        (B, C) weights of the positives and of the negatives, 0 outside the masks; a row sums to 1,
        or to 0 where its mask is empty.

    Raises:
        ValueError: on shapes or dtypes that disagree, or a gamma that is not positive.

    Example:
        >>> similarity = torch.tensor([[0.0, 1.0, 0.3, 0.3]])
        >>> positives = torch.tensor([[True, True, False, False]])
        >>> hardness_weights(similarity, positives, ~positives)
        (tensor([[0.6225, 0.3775, 0.0000, 0.0000]]), tensor([[0.0000, 0.0000, 0.5000, 0.5000]]))

    References: HyCon, IEEE TAFFC 14(3), eq. 14.
    """
    _pair_masks(similarity, positives, negatives)
    arguments.positive("gamma", gamma)
    similarity = upcast(similarity.detach())
    # The floor matters only where gamma is too small for the similarities: it keeps 1 / 0 finite.
    shifted = (similarity + gamma).clamp_min(torch.finfo(similarity.dtype).tiny)
    return masked_softmax(1 / shifted, positives), masked_softmax(similarity, negatives)


def _top(scores: Tensor, mask: Tensor, count: int | Tensor) -> Tensor:
    """The mask, reduced to its ``count`` highest scores in each row."""
    # Minus infinity inside the mask must stay before what is outside.
    scores = scores.detach().clamp_min(torch.finfo(scores.dtype).min)
    order = torch.where(mask, scores, -math.inf).sort(dim=-1, descending=True, stable=True)
    places = torch.arange(mask.shape[-1], device=mask.device).expand_as(order.indices)
    rank = torch.empty_like(order.indices).scatter(-1, order.indices, places)
    return mask & (rank < count)


def _pair_masks(similarity: Tensor, positives: Tensor, negatives: Tensor) -> None:
    arguments.table("similarity", similarity)
    arguments.mask("positives", positives, tuple(similarity.shape))
    arguments.mask("negatives", negatives, tuple(similarity.shape))
