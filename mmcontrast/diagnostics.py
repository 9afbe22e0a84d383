"""What two sets of embeddings look like: alignment, uniformity, gap, collapse, hard negatives."""

import math
from typing import TYPE_CHECKING, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from mmcontrast import arguments
from mmcontrast.exact import sizes
from mmcontrast.exact.tiles import largest_octave, slices
from mmcontrast.masks import IGNORE, different_label, partner_indices, same_label
from mmcontrast.rows import RowMap, dot, l2_normalize, map_rows

if TYPE_CHECKING:
    from matplotlib.figure import Figure

BINS = 40


class Diagnosis(NamedTuple):
    """What :func:`diagnose` found: 0-d tensors, and histograms over ``edges``."""

    alignment: Tensor
    """Mean squared distance of partners: 0 where they coincide; 2 on average if they are random."""
    anchor_uniformity: Tensor
    """log of the mean of exp(-2 d^2) over the anchors' pairs: 0 if they are all alike, and about -4
    where many of them are spread evenly."""
    candidate_uniformity: Tensor
    """The same of the candidates."""
    gap: Tensor
    """Distance of the two centroids: the modality gap."""
    loss: Tensor
    """InfoNCE at the given temperature."""
    chance: Tensor
    """log C: the loss of embeddings that are all alike, or do not tell candidates apart."""
    accuracy: Tensor
    """Share of anchors to which no candidate is as similar as their partner."""
    anchor_rank: Tensor
    """Effective rank of the anchors: how many directions they fill, from 1 to D."""
    candidate_rank: Tensor
    """The same of the candidates."""
    effective_negatives: Tensor
    """Mean over the anchors of the perplexity of the softmax over their negatives: how many of
    them share the gradient, from 1 to C - 1."""
    false_negatives: Tensor | None
    """Share of the k most similar negatives that have the anchor's label; None without labels."""
    edges: Tensor
    """(41,) bounds of the similarity bins."""
    positives: Tensor
    """(40,) how many partners are that similar."""
    negatives: Tensor
    """(40,) how many negatives are that similar."""
    hardest: Tensor
    """(40,) of how many anchors the most similar negative is that similar."""

    def summary(self) -> str:
        """The numbers as text, a line each."""
        false = "no labels" if self.false_negatives is None else f"{self.false_negatives:.1%}"
        spread = f"{self.anchor_uniformity:.3f} and {self.candidate_uniformity:.3f}"
        rows = [
            ("alignment", f"{self.alignment:.3f}", "0: partners coincide"),
            ("uniformity", spread, "0: collapsed, -4: spread out"),
            ("modality gap", f"{self.gap:.3f}", "0: one cloud, 2: opposite poles"),
            ("loss", f"{self.loss:.3f}", f"{self.chance - self.loss:.3f} below chance"),
            ("accuracy", f"{self.accuracy:.1%}", "partners found"),
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
    r"""Why a contrastive model does not learn, in numbers: takes what :func:`info_nce` takes.

    On the mapped rows, with partners :math:`(a_i, c_{t_i})`, N anchors and C candidates:

    .. math::
        \mathrm{alignment} = \tfrac1N \sum_i \|a_i - c_{t_i}\|^2, \qquad
        \mathrm{uniformity} = \log \operatorname*{mean}_{i < j} e^{-2 \|a_i - a_j\|^2}

        \mathrm{gap} = \|\bar a - \bar c\|, \qquad
        \mathrm{rank} = \exp\Big(-\sum_k p_k \log p_k\Big), \quad
        p_k = \sigma_k \Big/ \sum_l \sigma_l

    with the singular values :math:`\sigma` of the rows. The effective number of negatives is the
    exponential of the entropy of the softmax over an anchor's negatives; negatives are all
    candidates but the partner. A loss near :math:`\log C` says that nothing is told apart; a rank
    near 1, or a uniformity near 0, that the embeddings collapsed; a large gap that the two sides
    live apart, which a loss at a low temperature does not close.

    Args:
        anchors: (B, D) one embedding per sample.
        candidates: (C, D) what each anchor chooses from.
        targets: (B,) index of each anchor's partner, -100 for none. Default: row ``i`` belongs to
            anchor ``i``. An anchor without a partner counts for uniformity, gap and rank only.
        labels: (B,) classes, or (B, L): who of the negatives is a false one; -100 is nobody's.
        candidate_labels: (C,) or (C, L), with labels. Default: the candidates have the anchors'.
        temperature: of the loss and of the softmax over the negatives.
        k: of how many of the most similar negatives the false ones are counted.
        normalize: row map before the dot product; None for raw dot products.
        chunk_size: anchors at a time. Memory is O((chunk_size + D) (B + C)). None chooses.

    Returns:
        :class:`Diagnosis`, without gradient. What has nobody to count is 0, a rank too.

    Raises:
        ValueError: on shapes or dtypes that disagree, a float temperature that is not positive, a k
            or a chunk_size below 1, or candidate_labels without labels.

    Example:
        >>> found = diagnose(torch.eye(4), torch.eye(4), temperature=1.0)
        >>> found.accuracy, found.anchor_rank
        (tensor(1.), tensor(4.))

    References: alignment and uniformity, Wang & Isola, arXiv:2005.10242; modality gap, Liang et
        al., arXiv:2203.02053; effective rank, Roy & Vetterli, EUSIPCO 2007.
    """
    arguments.matrix("anchors", anchors)
    arguments.matrix("candidates", candidates, like=anchors)
    arguments.temperature(temperature)
    arguments.whole("k", k)
    own = partner_indices(anchors, candidates, targets)
    given = _labels(anchors, candidates, labels, candidate_labels)
    x, y = map_rows(anchors, normalize), map_rows(candidates, normalize)
    dtype = torch.promote_types(x.dtype, y.dtype)
    x, y = x.to(dtype), y.to(dtype)
    width = max(len(x), len(y), 1)
    size = max(1, sizes.BLOCK // width) if chunk_size is None else chunk_size
    arguments.whole("chunk_size", size)
    counted = own != IGNORE
    edges = _edges(x, y, normalize)
    columns = torch.arange(len(y), device=y.device)
    blocks = []
    for i in slices(max(len(x), 1), size):
        similarity = dot(x[i], y)
        positive = columns == own[i, None]
        negative = ~positive & counted[i, None]
        sums = _of_anchors(similarity, positive, negative, counted[i], temperature, edges)
        blocks.append((*sums, *_false_negatives(similarity, negative, i, given, k)))
    sums = tuple(torch.stack(parts).sum(0) for parts in zip(*blocks, strict=True))
    loss, right, perplexity, positives, negatives, hardest, false, known = sums
    partnered = counted.sum().clamp_min(1)
    partners = y[own.clamp_min(0)] if len(y) else torch.zeros_like(x)
    distances = torch.where(counted, (x - partners).square().sum(1), 0)
    return Diagnosis(
        alignment=distances.sum() / partnered,
        anchor_uniformity=_uniformity(x, size),
        candidate_uniformity=_uniformity(y, size),
        gap=torch.linalg.vector_norm(_centroid(x) - _centroid(y)),
        loss=loss / partnered,
        chance=x.new_full((), math.log(max(len(y), 1))),
        accuracy=right.to(dtype) / partnered,
        anchor_rank=_effective_rank(x),
        candidate_rank=_effective_rank(y),
        effective_negatives=perplexity / partnered,
        false_negatives=None if given is None else false.to(dtype) / known.clamp_min(1),
        edges=edges,
        positives=positives,
        negatives=negatives,
        hardest=hardest,
    )


def _of_anchors(
    similarity: Tensor,
    positive: Tensor,
    negative: Tensor,
    partnered: Tensor,
    temperature: float | Tensor,
    edges: Tensor,
) -> tuple[Tensor, ...]:
    """Sums over (b,) anchors: loss, who is right, perplexity; histograms of three similarities."""
    opposed = negative.any(1)
    score = torch.where(positive, similarity, 0).sum(1)
    ranked = torch.where(negative, similarity, -math.inf)
    best = ranked.amax(1) if similarity.shape[1] else ranked.sum(1)
    # With the negatives' odds against the hardest one, e^(gap / t): the entropy of their
    # softmax is log(sum) - mean(gap) / t, and the loss softplus(lse of them - the positive).
    top = torch.where(opposed, best, 0)
    odds = ((ranked - top[:, None]) / temperature).exp()
    total = torch.where(opposed, odds.sum(1), 1)
    mean = (odds * (similarity - top[:, None])).sum(1) / total
    perplexity = (total.log() - mean / temperature).exp()
    losses = F.softplus((top - score) / temperature + total.log(), threshold=50)
    return (
        torch.where(opposed, losses, 0).sum(),
        (partnered & (score > best)).sum(),
        torch.where(opposed, perplexity, 0).sum(),
        _histogram(score, partnered, edges),
        _histogram(similarity, negative, edges),
        _histogram(best, opposed, edges),
    )


Labels = tuple[Tensor, Tensor] | None
"""The anchors' labels and the candidates'."""


def _labels(
    anchors: Tensor, candidates: Tensor, labels: Tensor | None, candidate_labels: Tensor | None
) -> Labels:
    if labels is None:
        if candidate_labels is not None:
            arguments.fail("labels", "labels, as candidate_labels are given", None)
        return None
    arguments.labels("labels", labels, len(anchors))
    theirs = labels if candidate_labels is None else candidate_labels
    arguments.labels("candidate_labels", theirs, len(candidates))
    same_label(labels[:0], theirs[:0])  # refuses another number of labels
    return labels, theirs


def _false_negatives(
    similarity: Tensor, negative: Tensor, rows: slice, given: Labels, k: int
) -> tuple[Tensor, Tensor]:
    """Of the k highest negatives of each row: how many have its label, how many have any."""
    if given is None:
        return torch.zeros_like(negative.sum()), torch.zeros_like(negative.sum())
    ranked = torch.where(negative, similarity, -math.inf)
    highest = ranked.topk(min(k, ranked.shape[1]), dim=1).indices
    pair = given[0][rows], given[1]
    same = (same_label(*pair) & negative).gather(1, highest)
    different = (different_label(*pair) & negative).gather(1, highest)
    return same.sum(), (same | different).sum()


def _edges(x: Tensor, y: Tensor, normalize: RowMap | None) -> Tensor:
    """Bounds of equal bins between the least and the largest possible similarity."""
    steps = torch.linspace(-1, 1, BINS + 1, dtype=x.dtype, device=x.device)
    if normalize is l2_normalize or not len(x) or not len(y):
        return steps
    most = largest_octave(x, y, 1.0)
    return steps * torch.where(most > 0, most, 1)


def _histogram(values: Tensor, mask: Tensor, edges: Tensor) -> Tensor:
    """How many values of the mask lie in each bin; rounding may put one at its neighbour's edge."""
    place = ((values / edges[-1] + 1) / 2 * BINS).clamp(0, BINS - 1).long()
    counts = torch.zeros(BINS, dtype=torch.int64, device=values.device)
    return counts.scatter_add(0, place.flatten(), mask.flatten().long())


def _uniformity(x: Tensor, size: int) -> Tensor:
    """log of the mean over pairs of exp(-2 d^2): some rows at a time with those after them."""
    n = len(x)
    if n < 2:
        return x.new_zeros(())
    squares = x.square().sum(1)
    places = torch.arange(n, device=x.device)
    parts = []
    for i in slices(n, size):
        later = slice(i.start, n)
        distances = (squares[i, None] + squares[later] - 2 * dot(x[i], x[later])).clamp_min(0)
        counted = places[later] > places[i, None]
        parts.append(torch.where(counted, -2 * distances, -math.inf).flatten().logsumexp(0))
    return torch.stack(parts).logsumexp(0) - math.log(n * (n - 1) / 2)


def _centroid(x: Tensor) -> Tensor:
    return x.sum(0) / max(len(x), 1)


def _effective_rank(x: Tensor) -> Tensor:
    """exp of the entropy of the singular values' shares; 0 where all are 0."""
    values = torch.linalg.svdvals(x)
    total = values.sum()
    shares = values / torch.where(total > 0, total, 1)
    return torch.where(total > 0, torch.special.entr(shares).sum().exp(), 0)
