"""pytorch-metric-learning: our miners as its miners, our losses as its own, masks as its tuples.

One of its miners in one of our losses, by a conversion of its index tuples (``pml_tuples``)::

    found = MultiSimilarityMiner()(embeddings, labels)
    positives, negatives = from_pml_tuple(found, len(embeddings), len(embeddings))
    info_nce(embeddings, embeddings, positives=positives, keep=positives | negatives)

The conversions need nothing of the library; the miners and the loss do, and raise without it.
"""

import importlib
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from mmcontrast import arguments
from mmcontrast.exact.ties import map_equal_rows, tied_dot
from mmcontrast.hybrid.selection import PairSelection, select_pairs
from mmcontrast.interop.pml_tuples import from_pml_tuple, label_masks, to_pml_tuple
from mmcontrast.mining import hard_negatives
from mmcontrast.picking import extreme
from mmcontrast.rows import RowMap, l2_normalize, map_rows
from mmcontrast.triplet_mining import hard_triplets

__all__ = [
    "HardNegativeMiner",
    "HardTripletMiner",
    "MaskLoss",
    "PairSelectionMiner",
    "SupConLoss",
    "from_pml_tuple",
    "label_masks",
    "to_pml_tuple",
]


class _Absent:
    """The base class where the library is not installed: an error when made."""

    def __init__(self, **settings: Any):
        raise ImportError("pytorch_metric_learning is not installed")


def _base(module: str, name: str) -> Any:
    """A class of the library, or :class:`_Absent` where it is not installed."""
    try:
        return getattr(importlib.import_module(f"pytorch_metric_learning.{module}"), name)
    except ModuleNotFoundError as error:
        if error.name != "pytorch_metric_learning":  # it is installed, but not its own requirements
            raise
        return _Absent


# The library has no types, so these are Any; mypy calls a class with a base of Any [misc] below.
BaseMiner: Any = _base("miners", "BaseMiner")
BaseMetricLossFunction: Any = _base("losses", "BaseMetricLossFunction")


# --- our miners as its miners --------------------------------------------------------------------


class HardTripletMiner(BaseMiner):  # type: ignore[misc]  # the library has no types
    """:func:`mmcontrast.hard_triplets` as a miner: ``miner(embeddings, labels)`` gives (a, p, n).

    One triplet for each anchor that has a positive and a negative: its least similar positive and
    its most similar negative. Both are taken from ``ref_emb`` and ``ref_labels``.

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


class HardNegativeMiner(BaseMiner):  # type: ignore[misc]  # the library has no types
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
            targets=torch.full_like(own, -100),  # the labels exclude positives
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


class PairSelectionMiner(BaseMiner):  # type: ignore[misc]  # the library has no types
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
    """(B, D), (C, D) -> (B, C)."""
    return tied_dot(map_rows(x, normalize), map_equal_rows(y, normalize))


# --- our losses as its losses --------------------------------------------------------------------


class MaskLoss(BaseMetricLossFunction):  # type: ignore[misc]  # the library has no types
    """One of our losses as one of its own: labels, index tuples and references become masks.

    It takes what its losses take, ``loss(embeddings, labels, indices_tuple, ref_emb, ref_labels)``,
    and works wherever they do: in its trainers and its ``DistributedLossWrapper``. Only
    ``CrossBatchMemory`` and ``SelfSupervisedLoss`` check for the names of its own classes, and
    refuse every other; they take :class:`SupConLoss`.

    Args:
        loss: called with ``(anchors, candidates, positives=..., keep=...)``: :func:`info_nce`,
            which is SupCon for several positives, :func:`n_pair` or :func:`sigmoid_contrast`, with
            settings by ``functools.partial``; an :class:`InfoNCE`, whose temperature may be
            learned; any function of that form. A scalar is the loss; (B,) values are passed to the
            reducer.
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


class SupConLoss(MaskLoss):
    """:class:`MaskLoss` for ``CrossBatchMemory`` and ``SelfSupervisedLoss``.

    These read the name of a loss's class and take those of the library alone. What they ask of it
    (labels, index tuples, references) every :class:`MaskLoss` does, so this is one under a name
    that they know, whatever loss it is made with::

        CrossBatchMemory(SupConLoss(InfoNCE(temperature=0.1)), embedding_size=128)

    Args:
        loss, settings: as for :class:`MaskLoss`.

    Note:
        ``SupConLoss(partial(info_nce, temperature=t))`` in either is the library's own
        ``SupConLoss(t)`` there, where every anchor has a positive.
    """
