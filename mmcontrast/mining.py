"""Miners: hard negatives and triplets, one of many, HyCon's pair selection and its weights.

Every miner works without gradient and answers with masks, indices or weights of a fixed shape.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from mmcontrast import _checks
from mmcontrast.masks import different_label, off_diagonal, partner_indices, same_label
from mmcontrast.rows import RowMap, dot, l2_normalize, map_rows, upcast
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
        unselected: how the side that is not selected enters the ratio: ``"mean"``, which keeps the
            two sides comparable, for the selected one is a weighted mean, or ``"sum"``.
        inter_factor: h is this many times larger for the inter-modal loss. The paper says the same
            h, 1, although there are twice as many pairs there; 2 keeps the fraction.

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
        if not 0 < self.fraction <= 1:
            _checks.fail("fraction", "a number in (0, 1]", self.fraction)
        _checks.positive("gamma", self.gamma)
        _checks.one_of("unselected", self.unselected, ("mean", "sum"))
        _checks.whole("inter_factor", self.inter_factor)

    def count(self, batch_size: int | Tensor) -> int | Tensor:
        """How many pairs stay on each side, h, of a batch of K; a tensor for a 0-d tensor."""
        # 100 * 0.29 is 28.999999999999996: the little on top rounds it to the 29 that is meant.
        if isinstance(batch_size, Tensor):
            return (batch_size.double() * self.fraction + 1e-9).floor().long().clamp_min(1)
        return max(1, math.floor(batch_size * self.fraction + 1e-9))


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

    Ties go to the lower index.

    Args:
        similarity: (B, C).
        positives: (B, C) bool.
        negatives: (B, C) bool.
        selection: how many, and on which sides.
        batch_size: K in :math:`h = \lfloor K\beta \rfloor`: an int or a 0-d tensor. Default: B.

    Returns:
        The two masks, thinned; the side that is not selected as it was.

    Raises:
        ValueError: on shapes or dtypes that disagree.

    Example:
        >>> similarity = torch.tensor([[0.9, 0.1, 0.5, 0.8]])
        >>> positives = torch.tensor([[True, True, False, False]])
        >>> select_pairs(similarity, positives, ~positives, selection=PairSelection())
        (tensor([[False,  True, False, False]]), tensor([[False, False, False,  True]]))

    References: HyCon, IEEE TAFFC 14(3), eq. 13.
    """
    count = selection.count(len(similarity) if batch_size is None else batch_size)
    return thin(similarity, positives, negatives, selection, count)


def thin(
    similarity: Tensor,
    positives: Tensor,
    negatives: Tensor,
    selection: PairSelection,
    count: int | Tensor,
) -> tuple[Tensor, Tensor]:
    """:func:`select_pairs` with h already counted."""
    _pair_masks(similarity, positives, negatives)
    hardest = _top(-similarity, positives, count) if selection.positives else positives
    closest = _top(similarity, negatives, count) if selection.negatives else negatives
    return hardest, closest


def hardness_weights(
    similarity: Tensor, positives: Tensor, negatives: Tensor, *, gamma: float = 1.0
) -> tuple[Tensor, Tensor]:
    r"""Weights of the selected pairs by their hardness, without gradient.

    .. math:: w^n = \mathrm{softmax}(s^n), \qquad w^p = \mathrm{softmax}\big(1 / (s^p + \gamma)\big)

    Args:
        similarity: (B, C).
        positives: (B, C) bool, over whom the first softmax goes.
        negatives: (B, C) bool, over whom the second one goes.
        gamma: above 0, and above minus the smallest similarity.

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
    _checks.positive("gamma", gamma)
    similarity = upcast(similarity.detach())
    # The floor only acts where gamma is too small for the similarities, and keeps 1 / 0 finite.
    shifted = (similarity + gamma).clamp_min(torch.finfo(similarity.dtype).tiny)
    return masked_softmax(1 / shifted, positives), masked_softmax(similarity, negatives)


class HardNegatives(NamedTuple):
    """What :func:`hard_negatives` found, hardest first; shape (B, K) each."""

    indices: Tensor
    """int64 candidates; 0 where not valid."""
    scores: Tensor
    """Their similarities; 0 where not valid."""
    valid: Tensor
    """bool: False where fewer than K candidates were allowed, or where the partner stood."""


@torch.no_grad()
def hard_negatives(
    anchors: Tensor,
    candidates: Tensor,
    k: int,
    *,
    targets: Tensor | None = None,
    allowed: Tensor | None = None,
    exclude_positive: bool | str = True,
    normalize: RowMap | None = l2_normalize,
    chunk_size: int | None = None,
) -> HardNegatives:
    """The k most similar candidates of each anchor that are not its own partner.

    Ties go to the lower index, the same way every time.

    Args:
        anchors: (B, D) one embedding per sample.
        candidates: (C, D) where to look.
        k: how many, at least 1; no more than C - 1 come back.
        targets: (B,) index of each anchor's partner, which is not returned, -100 for none.
            Default: row ``i`` belongs to anchor ``i``.
        allowed: (B, C) bool, who may be returned: ``different_label(labels)``, say. Default: all.
        exclude_positive: when the partner goes: True, before the k are counted; ``"after"``, when
            they are, so that its place among them is not valid and fewer remain; False: it stays.
        normalize: row map before the dot product; None for raw dot products.
        chunk_size: anchors at a time, for memory of O(chunk_size C); None: all at once.

    Returns:
        :class:`HardNegatives`, K = min(k, C - 1), without gradient; K = min(k, C) where the partner
        is not out before.

    Raises:
        ValueError: on shapes or dtypes that disagree, fewer candidates than anchors without
            targets, a k below 1, or another ``exclude_positive``.

    Example:
        >>> x = torch.tensor([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0]])
        >>> hard_negatives(x, x, k=1).indices
        tensor([[1],
                [0],
                [1]])

    References: TeCaFN, Multimedia Systems 30(4):228, eq. 7 (the partner is no negative) and
        Algorithm 1, which leaves the partner in (False). Its code is ``"after"``.
    """
    _checks.matrix("anchors", anchors)
    _checks.matrix("candidates", candidates, like=anchors)
    _checks.whole("k", k)
    if not isinstance(exclude_positive, bool) and exclude_positive != "after":
        _checks.fail("exclude_positive", "True, 'after' or False", repr(exclude_positive))
    size = (len(anchors), len(candidates))
    own = partner_indices(anchors, candidates, targets)
    if allowed is not None:
        _checks.mask("allowed", allowed, size)
    if chunk_size is not None:
        _checks.whole("chunk_size", chunk_size)
    count = min(k, max(size[1] - (exclude_positive is True), 0))
    choices = map_rows(candidates, normalize)
    columns = torch.arange(size[1], device=candidates.device)
    blocks = []
    step = max(size[0], 1) if chunk_size is None else chunk_size
    for start in range(0, max(size[0], 1), step):
        rows = slice(start, start + step)
        scores = dot(map_rows(anchors[rows], normalize), choices)
        if exclude_positive is True:
            scores = torch.where(columns != own[rows, None], scores, -math.inf)
        if allowed is not None:
            scores = torch.where(allowed[rows], scores, -math.inf)
        scores, indices = scores.sort(dim=-1, descending=True, stable=True)
        if exclude_positive == "after":
            scores = torch.where(indices != own[rows, None], scores, -math.inf)
        blocks.append((scores[:, :count], indices[:, :count]))
    scores, indices = (torch.cat(parts) for parts in zip(*blocks, strict=True))
    valid = scores > -math.inf
    return HardNegatives(torch.where(valid, indices, 0), torch.where(valid, scores, 0), valid)


@torch.no_grad()
def hard_triplets(
    anchors: Tensor, labels: Tensor, *, normalize: RowMap | None = l2_normalize
) -> tuple[Tensor, Tensor, Tensor]:
    """Each anchor's least similar positive and most similar negative: batch-hard triplets.

    Ties go to the lower index.

    Args:
        anchors: (B, D) one embedding per sample.
        labels: (B,) classes, or (B, L): equal in every column; -100 takes no part.
        normalize: row map before the dot product; None for raw dot products.

    Returns:
        Index tensors (a, p, n), (B,) int64 each, one triplet an anchor. An anchor that lacks a
        positive or a negative is its own, p = n = a: ``keep=p != a`` leaves it out of
        :func:`triplet`.

    Raises:
        ValueError: on shapes or dtypes that disagree.

    Example:
        >>> x = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.8, 0.6], [0.9, 0.1]])
        >>> hard_triplets(x, torch.tensor([0, 0, 0, 1]))
        (tensor([0, 1, 2, 3]), tensor([1, 0, 1, 3]), tensor([3, 3, 3, 3]))

    References: batch-hard triplets, arXiv:1703.07737; HyCon, IEEE TAFFC 14(3), section 4.5.7.
    """
    _checks.matrix("anchors", anchors)
    _checks.labels("labels", labels, len(anchors))
    rows = map_rows(anchors, normalize)
    similarity = dot(rows, rows)
    own = torch.arange(len(anchors), device=anchors.device)
    others = same_label(labels) & off_diagonal(len(labels), labels.device)
    positive, has_positive = extreme(similarity, others, largest=False)
    negative, has_negative = extreme(similarity, different_label(labels), largest=True)
    found = has_positive & has_negative
    return own, torch.where(found, positive, own), torch.where(found, negative, own)


@torch.no_grad()
def sample_one(mask: Tensor, *, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
    """Draw one True entry of each row, uniformly.

    Args:
        mask: (B, C) bool.
        generator: where the randomness comes from, on the mask's device; None is torch's own.

    Returns:
        (B,) int64 index, 0 where the row is empty, and (B,) bool, who had one.

    Raises:
        ValueError: on a mask that is not (B, C) bool.

    Example:
        >>> sample_one(torch.tensor([[False, True], [False, False]]))
        (tensor([1, 0]), tensor([ True, False]))
    """
    if _checks.tensor("mask", mask).ndim != 2:
        _checks.fail("mask", "shape (B, C)", _checks.shape(mask))
    draws = torch.rand(mask.shape, generator=generator, device=mask.device)
    return extreme(draws, mask, largest=True)


@torch.no_grad()
def extreme(similarity: Tensor, mask: Tensor, *, largest: bool) -> tuple[Tensor, Tensor]:
    """The most or the least similar candidate of each anchor among those in the mask.

    Args:
        similarity: (B, C).
        mask: (B, C) bool.
        largest: the most similar; else the least.

    Returns:
        (B,) int64 index, 0 where the row is empty, and (B,) bool, who had one. Ties go to the lower
        index.

    Raises:
        ValueError: on shapes or dtypes that disagree.

    Example:
        >>> mask = torch.tensor([[True, False, True]])
        >>> extreme(torch.tensor([[0.9, 0.2, 0.5]]), mask, largest=False)
        (tensor([2]), tensor([True]))
    """
    _checks.table("similarity", similarity)
    _checks.mask("mask", mask, tuple(similarity.shape))
    scores = torch.where(mask, similarity if largest else -similarity, -math.inf)
    # argmax leaves open which of several equal entries it names; a stable sort does not. The sum is
    # over one entry, or over none where there are no candidates at all.
    first = scores.sort(dim=-1, descending=True, stable=True).indices[:, :1].sum(-1)
    valid = mask.any(-1)
    return torch.where(valid, first, 0), valid


def _top(scores: Tensor, mask: Tensor, count: int | Tensor) -> Tensor:
    """The mask, thinned to its ``count`` highest scores in each row."""
    order = torch.where(mask, scores.detach(), -math.inf).sort(dim=-1, descending=True, stable=True)
    places = torch.arange(mask.shape[-1], device=mask.device).expand_as(order.indices)
    rank = torch.empty_like(order.indices).scatter(-1, order.indices, places)
    return mask & (rank < count)


def _pair_masks(similarity: Tensor, positives: Tensor, negatives: Tensor) -> None:
    _checks.table("similarity", similarity)
    _checks.mask("positives", positives, tuple(similarity.shape))
    _checks.mask("negatives", negatives, tuple(similarity.shape))
