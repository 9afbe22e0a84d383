"""Diagnosing two sets of embeddings: alignment, uniformity, gap, collapse, hard negatives."""

import math
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from mmcontrast import arguments
from mmcontrast.embedding_measures import (
    LabelPair,
    anchor_sums,
    bin_edges,
    centroid,
    effective_rank,
    false_negatives,
    uniformity,
)
from mmcontrast.exact import sizes
from mmcontrast.exact.counting import partner_ranks
from mmcontrast.exact.ties import first_equal, map_equal_rows, share_scores
from mmcontrast.exact.tiles import slices
from mmcontrast.masks import IGNORE, partner_indices
from mmcontrast.presence import refuse_not_finite
from mmcontrast.retrieval import median_rank
from mmcontrast.rows import RowMap, dot, in_wider_dtype, l2_normalize, map_rows
from mmcontrast.sharded import local_rows
from mmcontrast.wide import retry_in_float64

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class Diagnosis(NamedTuple):
    """The result of :func:`diagnose`: 0-d tensors, and histograms over ``edges``.

    Fields:
        alignment: Mean squared distance of partners: 0 if they coincide, 2 on average for
            random unit rows.
        anchor_uniformity: log of the mean of exp(-2 d^2) over pairs of anchors: 0 if all are
            equal, about -4 if many are spread evenly.
        candidate_uniformity: The same for candidates.
        gap: Distance between the two centroids: the modality gap.
        loss: InfoNCE at the given temperature.
        chance: log C: the loss when all similarities are equal.
        accuracy: Share of anchors with their partner strictly more similar than any other
            candidate.
        mrr: Mean over the anchors of 1 / rank of the partner, see :func:`retrieval`.
        median_rank: Median rank of the partner among the candidates: 1 if found first.
        anchor_rank: Effective rank of the anchors: the number of directions they use, from 1 to
            D or to their own number; 0 if all of them are zero.
        candidate_rank: The same for candidates.
        effective_negatives: Perplexity of the softmax over an anchor's negatives, mean over
            anchors: the number of negatives that share the gradient, from 1 to C - 1; 0 without
            negatives.
        false_negatives: Share of the k most similar negatives that have the anchor's label;
            None without labels.
        edges: (41,) bounds of the similarity bins.
        positives: (40,) number of partners in each bin.
        negatives: (40,) number of negatives in each bin.
        hardest: (40,) number of anchors with their most similar negative in each bin.
    """

    alignment: Tensor
    anchor_uniformity: Tensor
    candidate_uniformity: Tensor
    gap: Tensor
    loss: Tensor
    chance: Tensor
    accuracy: Tensor
    mrr: Tensor
    median_rank: Tensor
    anchor_rank: Tensor
    candidate_rank: Tensor
    effective_negatives: Tensor
    false_negatives: Tensor | None
    edges: Tensor
    positives: Tensor
    negatives: Tensor
    hardest: Tensor

    def summary(self) -> str:
        """The numbers as text, one line for each."""
        false = "no labels" if self.false_negatives is None else f"{self.false_negatives:.1%}"
        spread = f"{self.anchor_uniformity:.3f} and {self.candidate_uniformity:.3f}"
        below = self.chance - self.loss
        side = "below" if below >= 0 else "above"
        rows = [
            ("alignment", f"{self.alignment:.3f}", "0: partners coincide"),
            ("uniformity", spread, "0: collapsed, -4: spread out"),
            ("modality gap", f"{self.gap:.3f}", "0: one cloud, 2: opposite poles"),
            ("loss", f"{self.loss:.3f}", f"{abs(below):.3f} {side} chance"),
            ("accuracy", f"{self.accuracy:.1%}", "partners found"),
            ("median rank", f"{self.median_rank:g}", "of the partner, 1: found"),
            (
                "effective rank",
                f"{self.anchor_rank:.1f} and {self.candidate_rank:.1f}",
                "1: a line",
            ),
            ("effective negatives", f"{self.effective_negatives:.1f}", "an anchor"),
            ("false negatives", false, "of the most similar negatives"),
        ]
        return "\n".join(f"{name:<20} {value:<18} {note}" for name, value, note in rows)

    def figure(self) -> "Figure":
        """The histograms, with the numbers beside them, as a matplotlib ``Figure``."""
        from matplotlib.figure import Figure

        figure = Figure(figsize=(12, 4), layout="constrained")
        left, right = figure.subplots(1, 2, width_ratios=(3, 2))
        edges = self.edges.tolist()
        for name in ("negatives", "hardest", "positives"):
            counts = getattr(self, name)
            left.stairs((counts / counts.sum().clamp_min(1)).tolist(), edges, label=name, lw=1.5)
        left.set_xlabel("similarity")
        left.set_ylabel("share")
        left.legend()
        right.axis("off")
        right.text(0, 0.95, self.summary(), family="monospace", size=8, va="top")
        return figure


@local_rows
@retry_in_float64
@torch.no_grad()
def diagnose(
    anchors: Tensor,
    candidates: Tensor,
    targets: Tensor | None = None,
    *,
    labels: Tensor | None = None,
    candidate_labels: Tensor | None = None,
    temperature: float | Tensor = 0.07,
    k: int = 10,
    normalize: RowMap | None = l2_normalize,
    chunk_size: int | None = None,
) -> Diagnosis:
    r"""Numbers that show why a contrastive model does not learn, from :func:`info_nce`'s inputs.

    On the mapped rows, with partners :math:`(a_i, c_{t_i})`, N anchors and C candidates:

    .. math::
        \mathrm{alignment} = \tfrac1N \sum_i \|a_i - c_{t_i}\|^2, \qquad
        \mathrm{uniformity} = \log \operatorname*{mean}_{i < j} e^{-2 \|a_i - a_j\|^2}

        \mathrm{gap} = \|\bar a - \bar c\|, \qquad
        \mathrm{rank} = \exp\Big(-\sum_k p_k \log p_k\Big), \quad
        p_k = \sigma_k \Big/ \sum_l \sigma_l

    with the singular values :math:`\sigma` of the rows. The effective number of negatives is the
    exponential of the entropy of the softmax over an anchor's negatives, which are all candidates
    except its partner. A loss near :math:`\log C` means chance level. A rank near 1 or a uniformity
    near 0 means that the embeddings have collapsed. A large gap means that anchors and candidates
    lie in separate regions, which a loss at a low temperature does not change.

    Args:
        anchors: (B, D) one embedding per sample.
        candidates: (C, D) what each anchor chooses from.
        targets: (B,) index of each anchor's partner, -100 for none. Default: row ``i`` belongs to
            anchor ``i``. An anchor without a partner counts for uniformity, gap and rank only.
        labels: (B,) classes, or (B, L): a negative with its anchor's label is a false negative;
            -100 means unlabelled, and is not counted.
        candidate_labels: (C,) or (C, L), with labels. Default: the anchors' labels.
        temperature: of the loss and of the softmax over the negatives.
        k: false negatives are counted among this many most similar negatives of each anchor.
        normalize: row map before the dot product; None for raw dot products.
        chunk_size: number of anchors at a time, for O((chunk_size + D) (B + C)) memory. None
            chooses blocks that fit the cache.

    Returns:
        :class:`Diagnosis`, without gradient. A number over an empty set is 0.

    Raises:
        ValueError: on shapes or dtypes that disagree, a float temperature that is not positive, a k
            or a chunk_size below 1, labels with fractions, candidate_labels without labels, or
            mapped rows with NaN or infinity.

    Example:
        >>> found = diagnose(torch.eye(4), torch.eye(4), temperature=1.0)
        >>> found.accuracy, found.anchor_rank
        (tensor(1.), tensor(4.))

    References: alignment and uniformity, Wang & Isola, arXiv:2005.10242; modality gap, Liang et
        al., arXiv:2203.02053; effective rank, Roy & Vetterli, EUSIPCO 2007.
    """
    arguments.matrix("anchors", anchors)
    arguments.matrix("candidates", candidates, like=anchors)
    temperature = arguments.temperature(temperature)
    k = arguments.whole("k", k)
    own = partner_indices(anchors, candidates, targets)
    given = _labels(anchors, candidates, labels, candidate_labels)
    x, y = map_rows(anchors, normalize), map_equal_rows(candidates, normalize)
    refuse_not_finite("anchors", x)
    refuse_not_finite("candidates", y)
    x, y = in_wider_dtype(x, y)
    # Blocks have at most ``width`` columns: uniformity compares each side with itself.
    width = max(len(x), len(y), 1)
    size = arguments.chunk(chunk_size) or max(1, sizes.BLOCK // width)
    counted = own != IGNORE  # (B,)
    edges = bin_edges(x, y, normalize)
    columns = torch.arange(len(y), device=y.device)
    # Block by block, each reduced to sums and histograms at once. Without anchors, one empty block
    # gives the zeros.
    blocks, found, first_of = [], [], first_equal(y)
    for i in slices(max(len(x), 1), size):
        similarity = share_scores(dot(x[i], y), first_of)  # (b, C)
        positive = columns == own[i, None]  # (b, C): none where own is -100
        negative = ~positive & counted[i, None]
        found.append(partner_ranks(similarity, own[i].clamp_min(0)))
        sums = anchor_sums(similarity, positive, negative, counted[i], temperature, edges)
        blocks.append((*sums, *false_negatives(similarity, negative, i, given, k)))
    sums = tuple(torch.stack(parts).sum(0) for parts in zip(*blocks, strict=True))
    loss, right, perplexity, positives, negatives, hardest, false, known = sums
    ranks = torch.cat(found)  # (B,)
    partnered = counted.sum().clamp_min(1)
    partners = y[own.clamp_min(0)] if len(y) else torch.zeros_like(x)
    distances = torch.where(counted, (x - partners).square().sum(1), 0)
    return Diagnosis(
        alignment=distances.sum() / partnered,
        anchor_uniformity=uniformity(x, size),
        candidate_uniformity=uniformity(y, size),
        gap=torch.linalg.vector_norm(centroid(x) - centroid(y)),
        loss=loss / partnered,
        chance=x.new_full((), math.log(max(len(y), 1))),
        accuracy=right.to(x.dtype) / partnered,
        mrr=torch.where(counted, 1 / ranks, 0).sum() / partnered,
        median_rank=median_rank(torch.where(counted, ranks, 0)),
        anchor_rank=effective_rank(x),
        candidate_rank=effective_rank(y),
        effective_negatives=perplexity / partnered,
        false_negatives=None if given is None else false.to(x.dtype) / known.clamp_min(1),
        edges=edges,
        positives=positives,
        negatives=negatives,
        hardest=hardest,
    )


def _labels(
    anchors: Tensor, candidates: Tensor, labels: Tensor | None, candidate_labels: Tensor | None
) -> LabelPair:
    """The labels of both sides, checked; None without labels."""
    if labels is None:
        if candidate_labels is not None:
            arguments.fail("labels", "labels, as candidate_labels are given", None)
        return None
    labels = arguments.labels("labels", labels, len(anchors))
    others = labels if candidate_labels is None else candidate_labels
    return labels, arguments.labels("candidate_labels", others, len(candidates), like=labels)
