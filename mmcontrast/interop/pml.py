"""pytorch-metric-learning: masks as index tuples, our miners as its miners, our losses as its own.

What it calls a miner's output is one of two tuples of int64 index vectors: triplets ``(a, p, n)``,
or pairs ``(a1, p, a2, n)``, anchors with positives and anchors with negatives. A mask (B, C) says
the same.

One of its miners in one of our losses::

    found = MultiSimilarityMiner()(embeddings, labels)
    positives, negatives = from_pml_tuple(found, len(embeddings), len(embeddings))
    info_nce(embeddings, embeddings, positives=positives, keep=positives | negatives)

Masks and tuples need nothing of the library; the miners and the loss do, and say so.
"""

import importlib
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from mmcontrast import arguments
from mmcontrast.hybrid.selection import PairSelection, select_pairs
from mmcontrast.masks import different_label, off_diagonal, same_label
from mmcontrast.mining import extreme, hard_negatives, hard_triplets
from mmcontrast.rows import RowMap, dot, l2_normalize, map_rows

__all__ = [
    "HardNegativeMiner",
    "HardTripletMiner",
    "MaskLoss",
    "PairSelectionMiner",
    "from_pml_tuple",
    "label_masks",
    "to_pml_tuple",
]


class _Absent:
    """What the classes here are built on where the library is not there: an error when made."""

    def __init__(self, **settings: Any):
        raise ImportError("pytorch_metric_learning is not installed")


def _base(module: str, name: str) -> Any:
    try:
        return getattr(importlib.import_module(f"pytorch_metric_learning.{module}"), name)
    except ModuleNotFoundError as error:
        if error.name != "pytorch_metric_learning":  # it is there, but not what it needs itself
            raise
        return _Absent


# The library has no types, so these are Any; a class built on Any is what mypy calls [misc] below.
BaseMiner: Any = _base("miners", "BaseMiner")
BaseMetricLossFunction: Any = _base("losses", "BaseMetricLossFunction")


# --- masks and tuples ----------------------------------------------------------------------------


def to_pml_tuple(
    positives: Tensor, negatives: Tensor, *, triplets: bool = False
) -> tuple[Tensor, ...]:
    """Masks as an index tuple, for ``loss(embeddings, labels, indices_tuple)``.

    Args:
        positives: (B, C) bool.
        negatives: (B, C) bool.
        triplets: every positive of an anchor with every negative of it, ``(a, p, n)``; an anchor
            that lacks either is left out. Else the pairs, ``(a1, p, a2, n)``.

    Returns:
        Three or four int64 vectors, sorted by anchor.

    Raises:
        ValueError: on masks that are not (B, C) bool, or not of one shape.

    Example:
        >>> to_pml_tuple(torch.tensor([[True, False, False]]), torch.tensor([[False, True, True]]))
        (tensor([0]), tensor([0]), tensor([0, 0]), tensor([1, 2]))
    """
    if arguments.tensor("positives", positives).ndim != 2:
        arguments.fail("positives", "shape (B, C)", arguments.shape(positives))
    arguments.mask("positives", positives, tuple(positives.shape))
    arguments.mask("negatives", negatives, tuple(positives.shape))
    a1, p = positives.nonzero(as_tuple=True)
    a2, n = negatives.nonzero(as_tuple=True)
    if not triplets:
        return a1, p, a2, n
    # The negatives are sorted by anchor: each positive pair takes its anchor's stretch of them.
    count = negatives.sum(1)
    each = count[a1]
    ends = each.cumsum(0)
    place = torch.arange(int(each.sum()), device=a1.device)
    within = place - (ends - each).repeat_interleave(each)
    start = (count.cumsum(0) - count)[a1].repeat_interleave(each)
    return a1.repeat_interleave(each), p.repeat_interleave(each), n[start + within]


def from_pml_tuple(indices: Sequence[Tensor], anchors: int, candidates: int) -> tuple[Tensor, ...]:
    """An index tuple as masks, for ``positives=`` and ``keep=`` of our losses.

    Args:
        indices: ``(a, p, n)`` or ``(a1, p, a2, n)``; repeated pairs count once.
        anchors: B, how many anchors there are.
        candidates: C, how many candidates; B where the anchors are the candidates.

    Returns:
        positives and negatives, (B, C) bool each.

    Raises:
        ValueError: on another number of vectors.

    Example:
        >>> pairs = torch.tensor([0]), torch.tensor([1]), torch.tensor([0]), torch.tensor([2])
        >>> from_pml_tuple(pairs, 1, 3)
        (tensor([[False,  True, False]]), tensor([[False, False,  True]]))
    """
    if len(indices) == 3:
        a, p, n = indices
        indices = a, p, a, n
    elif len(indices) != 4:
        arguments.fail("indices", "3 or 4 index vectors", len(indices))
    a1, p, a2, n = indices
    positives = torch.zeros(anchors, candidates, dtype=torch.bool, device=p.device)
    negatives = torch.zeros_like(positives)
    positives[a1, p] = True
    negatives[a2, n] = True
    return positives, negatives


def label_masks(labels: Tensor, ref_labels: Tensor, itself: bool) -> tuple[Tensor, Tensor]:
    """Who is positive and who negative by label; a label of -100 is neither.

    Args:
        labels: (B,) the anchors' classes.
        ref_labels: (C,) the candidates' classes.
        itself: the candidates are the anchors, and nobody is its own positive.
    """
    positives = same_label(labels, ref_labels)
    if itself:
        positives = positives & off_diagonal(len(labels), labels.device)
    return positives, different_label(labels, ref_labels)


# --- our miners as its miners --------------------------------------------------------------------


class HardTripletMiner(BaseMiner):  # type: ignore[misc]
    """:func:`mmcontrast.hard_triplets` as a miner: ``miner(embeddings, labels)`` gives (a, p, n).

    One triplet for each anchor that has a positive and a negative: its least similar positive and
    its most similar negative. ``ref_emb`` and ``ref_labels`` are where both are looked for.

    Args:
        normalize: row map before the dot product; None for raw dot products.
    """

    def __init__(self, *, normalize: RowMap | None = l2_normalize):
        super().__init__()
        self.normalize = normalize

    def mine(
        self, embeddings: Tensor, labels: Tensor, ref_emb: Tensor, ref_labels: Tensor
    ) -> tuple[Tensor, ...]:
        """What ``forward`` calls, without gradient."""
        if ref_emb is embeddings:
            a, p, n = hard_triplets(embeddings, labels, normalize=self.normalize)
            found = p != a
        else:
            similarity = _similarity(embeddings, ref_emb, self.normalize)
            positives, negatives = label_masks(labels, ref_labels, False)
            p, has_positive = extreme(similarity, positives, largest=False)
            n, has_negative = extreme(similarity, negatives, largest=True)
            a, found = torch.arange(len(labels), device=p.device), has_positive & has_negative
        return a[found], p[found], n[found]


class HardNegativeMiner(BaseMiner):  # type: ignore[misc]
    """:func:`mmcontrast.hard_negatives` as a miner: all positive pairs and k negatives an anchor.

    Args:
        k: how many negatives of each anchor, the most similar ones.
        normalize: row map before the dot product; None for raw dot products.

    Returns:
        ``miner(embeddings, labels)`` gives the pairs (a1, p, a2, n).
    """

    def __init__(self, k: int, *, normalize: RowMap | None = l2_normalize):
        super().__init__()
        arguments.whole("k", k)
        self.k = k
        self.normalize = normalize

    def mine(
        self, embeddings: Tensor, labels: Tensor, ref_emb: Tensor, ref_labels: Tensor
    ) -> tuple[Tensor, ...]:
        """What ``forward`` calls, without gradient."""
        own = torch.arange(len(labels), device=labels.device)
        found = hard_negatives(
            embeddings,
            ref_emb,
            self.k,
            targets=torch.full_like(own, -100),  # who is no negative, the labels say
            labels=labels,
            candidate_labels=ref_labels,
            exclude_positive=False,
            normalize=self.normalize,
        )
        positives, _ = label_masks(labels, ref_labels, ref_emb is embeddings)
        anchors = own[:, None].expand_as(found.indices)
        return (
            *positives.nonzero(as_tuple=True),
            anchors[found.valid],
            found.indices[found.valid],
        )


class PairSelectionMiner(BaseMiner):  # type: ignore[misc]
    """:func:`mmcontrast.select_pairs` as a miner: HyCon-v2's hardest pairs of each anchor.

    Args:
        selection: how many, and on which sides.
        normalize: row map before the dot product; None for raw dot products.

    Returns:
        ``miner(embeddings, labels)`` gives the pairs (a1, p, a2, n).
    """

    def __init__(self, selection: PairSelection, *, normalize: RowMap | None = l2_normalize):
        super().__init__()
        self.selection = selection
        self.normalize = normalize

    def mine(
        self, embeddings: Tensor, labels: Tensor, ref_emb: Tensor, ref_labels: Tensor
    ) -> tuple[Tensor, ...]:
        """What ``forward`` calls, without gradient."""
        masks = label_masks(labels, ref_labels, ref_emb is embeddings)
        similarity = _similarity(embeddings, ref_emb, self.normalize)
        return to_pml_tuple(*select_pairs(similarity, *masks, selection=self.selection))


def _similarity(x: Tensor, y: Tensor, normalize: RowMap | None) -> Tensor:
    return dot(map_rows(x, normalize), map_rows(y, normalize))


# --- our losses as its losses --------------------------------------------------------------------


class MaskLoss(BaseMetricLossFunction):  # type: ignore[misc]
    """One of our losses as one of its own: labels, index tuples and references become masks.

    It takes what its losses take, ``loss(embeddings, labels, indices_tuple, ref_emb, ref_labels)``,
    and goes wherever they go: its trainers and its ``DistributedLossWrapper``.
    ``CrossBatchMemory`` and ``SelfSupervisedLoss`` go by the names of its own classes, and refuse
    every other.

    Args:
        loss: called with ``(anchors, candidates, positives=..., keep=...)``: :func:`info_nce`,
            which is SupCon for several positives, :func:`n_pair` or :func:`sigmoid_contrast`,
            through ``functools.partial`` where they are to have settings; an :class:`InfoNCE`,
            whose temperature may be learned; any function of that form. A scalar is the loss;
            (B,) values are left to the reducer.
        **settings: of the library's base class: ``reducer``, ``embedding_regularizer``, ...

    Raises:
        ValueError: when called with neither labels nor an index tuple.

    Note:
        Without an index tuple, positives have the anchor's label and all others are negatives; a
        label of -100 is neither. A sample is not its own positive where the references are the
        embeddings themselves (the library asks whether the *labels* are the same object).
        ``MaskLoss(partial(info_nce, temperature=t))`` equals its ``SupConLoss(t)``, where every
        anchor has a positive.
    """

    def __init__(self, loss: Callable[..., Tensor], **settings: Any):
        super().__init__(**settings)
        self.loss = loss

    def compute_loss(
        self,
        embeddings: Tensor,
        labels: Tensor | None,
        indices_tuple: Sequence[Tensor] | None,
        ref_emb: Tensor,
        ref_labels: Tensor | None,
    ) -> dict[str, dict[str, Any]]:
        """What ``forward`` calls, in the library's form."""
        if indices_tuple is not None:
            positives, negatives = from_pml_tuple(indices_tuple, len(embeddings), len(ref_emb))
        elif labels is None or ref_labels is None:
            arguments.fail("labels", "labels, or an indices_tuple in their place", None)
        else:
            positives, negatives = label_masks(labels, ref_labels, ref_emb is embeddings)
        values = self.loss(embeddings, ref_emb, positives=positives, keep=positives | negatives)
        several = values.ndim == 1
        indices = torch.arange(len(values), device=values.device) if several else None
        kind = "element" if several else "already_reduced"
        return {"loss": {"losses": values, "indices": indices, "reduction_type": kind}}
