"""Who ranks highest, exactly, in blocks of rows: no matrix of all similarities is ever made.

The k highest of a row lie in the k groups of columns with the highest maxima. Maxima are cheap and
few, so the expensive ranking is done on k groups, not on the row. Labels cost nothing either: with
rows and columns sorted by label, a block's own classes are one slice of the columns.
"""

import math
from collections.abc import Iterator

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from mmcontrast.eager import full_precision, is_eager
from mmcontrast.exact.classes import Window, by_class, windows
from mmcontrast.masks import labelled
from mmcontrast.rows import dot

LEAST = 448**2  # similarities from which blocks of rows are faster than all at once
GROUP = 8  # columns of a group
FEW = 128  # columns up to which topk is the fastest, which leaves the order of equal ones open
SORTED = 80  # columns up to which a sort is faster than groups
BLOCK = 2**20  # similarities at a time: 4 MB of float32, which the third-level cache holds


def step(rows: Tensor, columns: Tensor, chunk_size: int | None) -> int | None:
    """How many rows at a time; None for all at once by operations that a compiler can trace."""
    if not is_eager(rows, columns):
        return None
    if chunk_size is not None:
        return chunk_size
    if len(rows) * len(columns) < LEAST:
        return None
    return max(64, (BLOCK if rows.device.type == "cpu" else 64 * BLOCK) // len(columns))


def highest(
    x: Tensor,
    y: Tensor,
    k: int,
    step: int,
    banned: Tensor | None,
    allowed: Tensor | None,
    labels: tuple[Tensor, Tensor] | None,
) -> tuple[Tensor, Tensor]:
    """(B, k) highest dot products of each row of x, and whose; minus infinity beyond the last.

    Args:
        x: (B, D) anchors.
        y: (C, D) candidates.
        k: how many.
        step: anchors at a time.
        banned: (B,) one candidate of each anchor that does not count, negative for none.
        allowed: (B, C) bool, who counts.
        labels: of anchors and candidates; equal ones do not count, nor does a label of -100.
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
        places = names.new_full((size,), -1).scatter(0, names, torch.arange(len(names)).to(names))
        at = torch.where(banned < 0, -1, places[banned.clamp_min(0)])[rows, None]
        at, out = at.clamp_min(0), at >= 0
    for i, block in _blocks(x, y, step):
        if banned is not None:
            block.scatter_(1, at[i], torch.where(out[i], -math.inf, block.gather(1, at[i])))
        if allowed is not None:
            kept = allowed[i] if labels is None else allowed[rows[i]][:, names]
            block.masked_fill_(~kept, -math.inf)
        for part, columns, one in near.get(i.start, []):
            same = block[part.start - i.start : part.stop - i.start, columns]
            if one:
                same.fill_(-math.inf)
            else:
                same.masked_fill_(ids[part, None] == theirs[columns], -math.inf)
        scores[rows[i]], found[rows[i]] = top(block, k, names)
    return scores, found


def batch_hard(
    x: Tensor, labels: Tensor, anchors: Tensor, step: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Each anchor's least similar of its class, its most similar of another, and who has both.

    Args:
        x: (N, D) everybody.
        labels: (N,) or (N, L).
        anchors: (B,) consecutive rows of x.
        step: anchors at a time.
    """
    positives, negatives = torch.zeros_like(anchors), torch.zeros_like(anchors)
    found = torch.zeros_like(anchors, dtype=torch.bool)
    if not len(anchors):
        return positives, negatives, found
    order, ids, counts = by_class(labels)
    y, start = x.index_select(0, order), anchors[0]
    places = ((order >= start) & (order < start + len(anchors))).nonzero()[:, 0]
    rows, own = order[places] - start, ids[places]
    least = torch.zeros_like(rows)
    near = windows(own, ids, step)
    for i, block in _blocks(y.index_select(0, places), y, step):
        block.scatter_(1, places[i, None], math.inf)
        for part, columns, one in near[i.start]:
            same = block[part.start - i.start : part.stop - i.start, columns]
            apart = None if one else own[part, None] != ids[columns]
            others = same if apart is None else same.masked_fill(apart, math.inf)
            # Within a class the order is by index: the first of equal ones has the lowest index.
            least[part] = first(others, largest=False) + columns.start
            if apart is None:
                same.fill_(-math.inf)
            else:
                same.masked_fill_(~apart, -math.inf)
        scores, others_found = top(block, 1, order)
        positives[rows[i]], negatives[rows[i]] = order[least[i]], others_found[:, 0]
        found[rows[i]] = (counts[own[i]] > 1) & (scores[:, 0] > -math.inf)
    return positives, negatives, found


def batch_hard_at_once(x: Tensor, labels: Tensor, anchors: slice) -> tuple[Tensor, Tensor, Tensor]:
    """:func:`batch_hard` by masks, in operations that a compiler can trace."""
    there = labelled(labels)
    apart = labels[anchors, None] != labels
    if labels.ndim == 2:
        apart = apart.any(-1)
    similarity = dot(x[anchors], x)
    if not similarity.numel():
        nobody = torch.zeros(len(similarity), dtype=torch.int64, device=x.device)
        return nobody, nobody, nobody.bool()
    similarity.diagonal(anchors.start).fill_(math.inf)  # oneself, who is of one's class
    farthest = filled(similarity.clone(), apart, math.inf)
    nearest = filled(similarity, ~(apart & there), -math.inf)
    positives, negatives = first(farthest, largest=False), first(nearest, largest=True)
    # Minus infinity, or no number, where there is no positive, no negative or neither.
    gap = nearest.gather(1, negatives[:, None]) - farthest.gather(1, positives[:, None])
    return positives, negatives, (gap[:, 0] > -math.inf) & there[anchors]


def filled(scores: Tensor, where: Tensor, value: float) -> Tensor:
    """The scores with a value where a mask says so; they may be written over."""
    if scores.is_cpu and is_eager(scores, where):  # NumPy takes half the time
        np.copyto(scores.numpy(), value, where=where.numpy())
        return scores
    return torch.where(where, value, scores)


def first(scores: Tensor, *, largest: bool) -> Tensor:
    """(R,) the largest or smallest of each row; of several equal ones, the first."""
    if scores.is_cpu and is_eager(scores):  # NumPy takes a tenth of the time
        rows = scores.numpy()
        return torch.from_numpy(rows.argmax(1) if largest else rows.argmin(1))
    return scores.argmax(1) if largest else scores.argmin(1)


def at_once(scores: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """:func:`top` of all columns in their order, where a compiler can trace it as well."""
    eager, width = is_eager(scores), scores.shape[1]
    if eager and scores.is_cpu and k < width <= FEW:
        values, places = scores.topk(k + 1)
        found = values.numpy()
        if (found[:, :-1] > found[:, 1:]).all():  # nobody has an equal: there is but one order
            return values.narrow_copy(1, 0, k), places.narrow_copy(1, 0, k)
    if eager and width > SORTED:
        return top(scores, k, torch.arange(width, device=scores.device))
    values, places = scores.sort(dim=1, descending=True, stable=True)
    return values[:, :k], places[:, :k]


def top(scores: Tensor, k: int, names: Tensor) -> tuple[Tensor, Tensor]:
    """The k highest of each row and the names of their columns; ties go to the lower name.

    Args:
        scores: (R, C); minus infinity where nothing is.
        k: how many; rows that are too short are filled up with minus infinity.
        names: (C,) int64.
    """
    if scores.shape[1] <= k:
        return _sorted(scores, k, names)
    # One more than asked for: whether the last one has its equal among those that stay outside.
    places = _highest(scores, k + 1)
    values, order = _descending(scores.gather(1, places))
    found = names[places.gather(1, order)]
    equal = (values[:, 1:] == values[:, :-1]) & (values[:, 1:] > -math.inf)
    values, found = values[:, :k], found[:, :k]
    tied = equal.any(1).nonzero()[:, 0]
    if len(tied):  # it was left open which of several equal ones are named
        values = values.clone()
        values[tied], found[tied] = _by_name(scores[tied], values[tied], found[tied], names)
    return values, found


def _by_name(scores: Tensor, values: Tensor, found: Tensor, names: Tensor) -> tuple[Tensor, Tensor]:
    """The k highest values and whose they are, now with ties by name.

    Who is above the last of the k is among those found; who is its equal is looked up anew.
    """
    k = values.shape[1]
    last = values[:, -1:]
    low = torch.iinfo(torch.int32).min
    places = _highest(torch.where(scores == last, -names.int(), low), k)
    level = torch.where(scores.gather(1, places) == last, last, -math.inf)
    values = torch.cat([torch.where(values > last, values, -math.inf), level], dim=1)
    found, order = torch.cat([found, names[places]], dim=1).sort(1)
    values, order = values.gather(1, order).sort(dim=1, descending=True, stable=True)
    return values[:, :k], found.gather(1, order[:, :k])


def _highest(scores: Tensor, k: int) -> Tensor:
    """(R, k) places of the k highest of each row, in any order; ties go anywhere."""
    groups = scores.shape[1] // GROUP
    if groups < 2 * k:
        return _partition(scores, k)
    whole = groups * GROUP
    best = _highest(scores[:, :whole].reshape(-1, GROUP, groups).amax(1), k)
    members = torch.arange(0, whole, groups, device=scores.device)
    places = (best[:, :, None] + members).flatten(1)
    if whole < scores.shape[1]:
        rest = torch.arange(whole, scores.shape[1], device=scores.device)
        places = torch.cat([places, rest.expand(len(scores), -1)], dim=1)
    return places.gather(1, _partition(scores.gather(1, places), k))


def _descending(scores: Tensor) -> tuple[Tensor, Tensor]:
    """A sort of short rows."""
    if scores.device.type != "cpu":
        return scores.sort(1, descending=True)
    order = torch.from_numpy((-scores).numpy().argsort(axis=1))
    return scores.gather(1, order), order


def _partition(scores: Tensor, k: int) -> Tensor:
    """:func:`_highest` of short rows, for which NumPy takes a fraction of topk's time."""
    if scores.device.type != "cpu":
        return scores.topk(k, sorted=False).indices
    last = scores.shape[1] - k
    return torch.from_numpy(scores.numpy().argpartition(last, axis=1)[:, last:])


def _sorted(scores: Tensor, k: int, names: Tensor) -> tuple[Tensor, Tensor]:
    """:func:`top` by a stable sort of the whole row, its columns in the order of their names."""
    names, order = names.sort()
    values, places = scores[:, order].sort(dim=1, descending=True, stable=True)
    missing = max(k - scores.shape[1], 0)
    values = F.pad(values[:, :k], (0, missing), value=-math.inf)
    return values, F.pad(names[places[:, :k]], (0, missing))


def _blocks(x: Tensor, y: Tensor, step: int) -> Iterator[tuple[slice, Tensor]]:
    """Dot products of some rows with all columns; each block overwrites the last."""
    dtype = torch.promote_types(x.dtype, y.dtype)
    x, y = x.to(dtype), y.to(dtype)
    room = x.new_empty(min(step, len(x)), len(y))
    for start in range(0, len(x), step):
        i = slice(start, min(start + step, len(x)))
        block = room[: i.stop - i.start]
        with full_precision(x):
            torch.mm(x[i], y.mT, out=block)
        yield i, block


def _sorted_together(ours: Tensor, theirs: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Anchors and their classes, candidates and their classes, both sorted by class."""
    if ours is theirs:
        order, ids, _ = by_class(ours)
        return order, ids, order, ids
    order, ids, _ = by_class(torch.cat([ours, theirs]))
    left = order < len(ours)
    return order[left], ids[left], order[~left] - len(ours), ids[~left]
