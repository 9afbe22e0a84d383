"""Mining in blocks of anchors: no matrix of all similarities is ever made.

With anchors and candidates sorted by label, the candidates of a block's own classes are one slice
of columns. So positives and negatives need no mask: a few rectangles of each block are overwritten.
"""

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from mmcontrast.eager import full_precision
from mmcontrast.exact.classes import Window, by_class, windows
from mmcontrast.exact.limits import inside, semi_hard_bounds
from mmcontrast.exact.ties import first_equal, share_scores
from mmcontrast.exact.topk import filled, first, top
from mmcontrast.masks import labelled
from mmcontrast.rows import in_wider_dtype


def highest(
    x: Tensor,
    y: Tensor,
    k: int,
    step: int,
    banned: Tensor | None,
    allowed: Tensor | None,
    labels: tuple[Tensor, Tensor] | None,
) -> tuple[Tensor, Tensor]:
    """(B, k) highest dot products of each anchor, and the indices of their candidates.

    Where fewer than k candidates are allowed, the rest is minus infinity.

    Args:
        x: (B, D) anchors.
        y: (C, D) candidates.
        k: how many.
        step: anchors at a time.
        banned: (B,) one excluded candidate of each anchor, negative for none.
        allowed: (B, C) bool: candidates outside it are excluded.
        labels: of anchors and candidates; pairs of equal labels are excluded, and labels of -100.
    """
    dtype = torch.promote_types(x.dtype, y.dtype)
    scores = x.new_full((len(x), k), -math.inf, dtype=dtype)
    found = torch.zeros(len(x), k, dtype=torch.int64, device=x.device)
    rows, names = torch.arange(len(x), device=x.device), torch.arange(len(y), device=y.device)
    near: dict[int, list[Window]] = {}
    size = len(y)
    if labels is not None:
        rows, ids, names, theirs = _sorted_together(*labels)
        x, y = x.index_select(0, rows), y.index_select(0, names)
        near = windows(ids, theirs, step)
    if not len(names):
        return scores, found
    if banned is not None:
        # With labels, the columns are sorted by class and lack unlabelled candidates. places[c] is
        # the column in which candidate c is now, -1 if in none; `at` is that of each sorted
        # anchor's banned candidate.
        places = names.new_full((size,), -1).scatter(0, names, torch.arange(len(names)).to(names))
        at = torch.where(banned < 0, -1, places[banned.clamp_min(0)])[rows, None]
        # Every row writes one entry, so that no rows have to be picked out: minus infinity at its
        # banned column, or at column 0 the score that is there anyway.
        at, out = at.clamp_min(0), at >= 0
    for i, block in score_blocks(x, y, step):  # (step, C)
        if banned is not None:
            block.scatter_(1, at[i], torch.where(out[i], -math.inf, block.gather(1, at[i])))
        if allowed is not None:
            kept = allowed[i] if labels is None else allowed[rows[i]][:, names]
            block.masked_fill_(~kept, -math.inf)
        # The pairs of equal labels, a rectangle for each window. Where its rows are of one class
        # all of it is masked, else each pair is compared.
        for part, columns, one in near.get(i.start, []):
            same = block[part.start - i.start : part.stop - i.start, columns]
            if one:
                same.fill_(-math.inf)
            else:
                same.masked_fill_(ids[part, None] == theirs[columns], -math.inf)
        scores[rows[i]], found[rows[i]] = top(block, k, names)  # back in the order of the batch
    return scores, found


def batch_hard(
    x: Tensor, labels: Tensor, anchors: Tensor, step: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Each anchor's least similar positive and most similar negative, and whether it has both.

    Args:
        x: (N, D) all samples.
        labels: (N,) or (N, L).
        anchors: (B,) consecutive rows of x.
        step: anchors at a time.
    """
    positives, negatives = torch.zeros_like(anchors), torch.zeros_like(anchors)
    found = torch.zeros_like(anchors, dtype=torch.bool)
    if not len(anchors):
        return positives, negatives, found
    # All samples sorted by class are the columns, and those of them that are anchors the rows.
    # places[r] is the column of row r itself, rows[r] its index among the anchors.
    order, ids, counts = by_class(labels)
    y, start = x.index_select(0, order), anchors[0]
    places = ((order >= start) & (order < start + len(anchors))).nonzero()[:, 0]
    rows, own = order[places] - start, ids[places]
    least = torch.zeros_like(rows)
    near = windows(own, ids, step)
    for i, block in score_blocks(y.index_select(0, places), y, step):  # (step, n)
        block.scatter_(1, places[i, None], math.inf)  # the anchor itself is no positive
        for part, columns, one in near[i.start]:
            same = block[part.start - i.start : part.stop - i.start, columns]
            # A class's columns hold all positives of its rows: the least is found here, then they
            # are masked, so that the highest of what remains in the block is the most similar
            # negative.
            apart = None if one else own[part, None] != ids[columns]
            others = same if apart is None else same.masked_fill(apart, math.inf)
            # Within a class samples are sorted by index, so the first of equal ones is the lowest.
            least[part] = first(others, largest=False) + columns.start
            if apart is None:
                same.fill_(-math.inf)
            else:
                same.masked_fill_(~apart, -math.inf)
        scores, others_found = top(block, 1, order)  # (R, 1)
        positives[rows[i]], negatives[rows[i]] = order[least[i]], others_found[:, 0]
        found[rows[i]] = (counts[own[i]] > 1) & (scores[:, 0] > -math.inf)
    return positives, negatives, found


def batch_hard_at_once(
    similarity: Tensor, labels: Tensor, anchors: slice, semi_hard: float | None
) -> tuple[Tensor, Tensor, Tensor]:
    """:func:`batch_hard` by masks, in operations that a compiler can trace.

    Args:
        similarity: (B, N) of the anchors and all samples; overwritten.
        labels: (N,) or (N, L).
        anchors: which of the samples they are.
        semi_hard: negatives are less similar than the positive, by at most this; None: any are.
    """
    there = labelled(labels)
    apart = labels[anchors, None] != labels
    if labels.ndim == 2:
        apart = apart.any(-1)
    if not similarity.numel():
        none = torch.zeros(len(similarity), dtype=torch.int64, device=similarity.device)
        return none, none, none.bool()
    similarity.diagonal(anchors.start).fill_(math.inf)  # the anchor itself is no positive
    farthest = filled(similarity.clone(), apart, math.inf)
    positives = first(farthest, largest=False)
    least = farthest.gather(1, positives[:, None])[:, 0]
    negative = apart & there
    if semi_hard is not None:
        negative = negative & inside(similarity, semi_hard_bounds(least, semi_hard))
    nearest = filled(similarity, ~negative, -math.inf)
    negatives = first(nearest, largest=True)
    # Minus infinity, or no number, where there is no positive, no negative or neither.
    gap = nearest.gather(1, negatives[:, None])[:, 0] - least
    return positives, negatives, (gap > -math.inf) & there[anchors]


def score_blocks(x: Tensor, y: Tensor, step: int) -> Iterator[tuple[slice, Tensor]]:
    """Dot products of some rows with all columns; each block overwrites the last.

    Equal columns have equal products.
    """
    x, y = in_wider_dtype(x, y)
    room = x.new_empty(min(step, len(x)), len(y))
    first_of = first_equal(y)
    for start in range(0, len(x), step):
        i = slice(start, min(start + step, len(x)))
        block = room[: i.stop - i.start]
        with full_precision(x):
            torch.mm(x[i], y.mT, out=block)
        yield i, share_scores(block, first_of)


def _sorted_together(ours: Tensor, theirs: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Anchors and their classes, candidates and their classes, both sorted by class."""
    if ours is theirs:
        order, ids, _ = by_class(ours)
        return order, ids, order, ids
    order, ids, _ = by_class(torch.cat([ours, theirs]))
    left = order < len(ours)
    return order[left], ids[left], order[~left] - len(ours), ids[~left]
