"""Measures of embeddings and their similarities, from which :func:`diagnose` is put together.

Of one set of rows: :func:`uniformity`, :func:`centroid`, :func:`effective_rank`. Of one block of
the similarities, so that no matrix of all of them is needed: :func:`anchor_sums`,
:func:`false_negatives` and :func:`histogram`, which are added up over the blocks.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from mmcontrast.exact.tiles import largest_octave, slices
from mmcontrast.exact.topk import top_at_once
from mmcontrast.masks import different_label, same_label
from mmcontrast.rows import RowMap, dot, l2_normalize

BINS = 40

LabelPair = tuple[Tensor, Tensor] | None
"""The anchors' labels and the candidates'; None without labels."""


def anchor_sums(
    similarity: Tensor,
    positive: Tensor,
    negative: Tensor,
    partnered: Tensor,
    temperature: float | Tensor,
    edges: Tensor,
) -> tuple[Tensor, ...]:
    """Sums over a block of b anchors, and histograms of their similarities.

    Args:
        similarity: (b, C).
        positive: (b, C) bool: each anchor's partner.
        negative: (b, C) bool: its negatives; none in the row of an anchor without a partner.
        partnered: (b,) bool: anchors with a partner.
        temperature: of the softmax.
        edges: (BINS + 1,) bounds of the bins.

    Returns:
        0-d sums of the losses, of the anchors with the right partner first, and of the perplexities
        of the softmax over the negatives; (BINS,) histograms of the similarities of partners, of
        all negatives, and of each anchor's hardest negative.
    """
    opposed = negative.any(1)  # (b,): anchors with a negative
    score = torch.where(positive, similarity, 0).sum(1)  # (b,): of the partner
    ranked = torch.where(negative, similarity, -math.inf)
    best = ranked.amax(1) if similarity.shape[1] else ranked.sum(1)  # (b,): the hardest negative
    # With odds e^((s - top) / t) of the negatives against the hardest one, all at most 1:
    # their log-sum-exp is top / t + log(sum of odds), the entropy of their softmax
    # log(sum of odds) - mean(s - top) / t, and the loss softplus(log-sum-exp - score / t).
    top = torch.where(opposed, best, 0)
    odds = ((ranked - top[:, None]) / temperature).exp()  # (b, C), 0 outside the negatives
    total = torch.where(opposed, odds.sum(1), 1)
    mean = (odds * (similarity - top[:, None])).sum(1) / total
    perplexity = (total.log() - mean / temperature).exp()
    losses = F.softplus((top - score) / temperature + total.log(), threshold=50)
    return (
        torch.where(opposed, losses, 0).sum(),
        (partnered & (score > best)).sum(),
        torch.where(opposed, perplexity, 0).sum(),
        histogram(score, partnered, edges),
        histogram(similarity, negative, edges),
        histogram(best, opposed, edges),
    )


def false_negatives(
    similarity: Tensor, negative: Tensor, rows: slice, given: LabelPair, k: int
) -> tuple[Tensor, Tensor]:
    """0-d counts among the k most similar negatives of a block's rows.

    First those with the anchor's label; then all of which both labels are known. ``rows`` is the
    block's slice of the anchors, ``similarity`` and ``negative`` are its (b, C).
    """
    if given is None:
        return torch.zeros_like(negative.sum()), torch.zeros_like(negative.sum())
    ranked = torch.where(negative, similarity, -math.inf)
    highest = top_at_once(ranked, min(k, ranked.shape[1]))[1]  # (b, k), ties by index
    # With fewer than k negatives, this also returns other candidates: & negative drops them.
    pair = given[0][rows], given[1]
    same = (same_label(*pair) & negative).gather(1, highest)  # (b, k)
    different = (different_label(*pair) & negative).gather(1, highest)
    return same.sum(), (same | different).sum()


def bin_edges(x: Tensor, y: Tensor, normalize: RowMap | None) -> Tensor:
    """(BINS + 1,) bounds of equal bins over [-m, m], where no similarity is above m in size.

    m is 1 for cosines, else the product of the longest rows' lengths.
    """
    steps = torch.linspace(-1, 1, BINS + 1, dtype=x.dtype, device=x.device)
    if normalize is l2_normalize or not len(x) or not len(y):
        return steps
    most = largest_octave(x, y, 1.0)
    return steps * torch.where(most > 0, most, 1)


def histogram(values: Tensor, mask: Tensor, edges: Tensor) -> Tensor:
    """(BINS,) number of values inside the mask in each bin.

    Bins are computed, not searched for: a value at a bound may be rounded into the next bin.
    """
    # Products out of range are NaN here, which has no integer.
    place = ((values / edges[-1] + 1) / 2 * BINS).nan_to_num(0).clamp(0, BINS - 1).long()
    counts = torch.zeros(BINS, dtype=torch.int64, device=values.device)
    return counts.scatter_add(0, place.flatten(), mask.flatten().long())


def uniformity(x: Tensor, size: int) -> Tensor:
    """Log of the mean of exp(-2 d^2) over pairs of rows; 0 for fewer than two rows.

    A block of ``size`` rows at a time, each with itself and the rows after it, so that every pair
    i < j is in one block. Sums stay in log space: rows that are far apart do not underflow.
    """
    n = len(x)
    if n < 2:
        return x.new_zeros(())
    squares = x.square().sum(1)
    places = torch.arange(n, device=x.device)
    parts = []
    for i in slices(n, size):
        later = slice(i.start, n)
        # |a - b|^2 = |a|^2 + |b|^2 - 2 a . b, which rounding may take below 0: (size, rows left)
        distances = (squares[i, None] + squares[later] - 2 * dot(x[i], x[later])).clamp_min(0)
        counted = places[later] > places[i, None]
        parts.append(torch.where(counted, -2 * distances, -math.inf).flatten().logsumexp(0))
    return torch.stack(parts).logsumexp(0) - math.log(n * (n - 1) / 2)


def centroid(x: Tensor) -> Tensor:
    """(D,) mean of the rows; 0 without rows."""
    return x.sum(0) / max(len(x), 1)


def effective_rank(x: Tensor) -> Tensor:
    """Exponential of the entropy of the singular values' shares; 0 where all of them are 0."""
    values = torch.linalg.svdvals(x)  # (min(N, D),)
    total = values.sum()
    shares = values / total
    return torch.where(total > 0, torch.special.entr(shares).sum().exp(), 0)
