"""The k highest scores of each row, exactly, and in one order: ties go to the lower column name.

The k highest of a row lie in the k groups of columns with the highest maxima. Maxima are cheap and
few, so the expensive ranking is done on the k groups, not on the row. Selection leaves open which
of several equal scores are taken; rows where that matters are ranked again by name.
"""

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from mmcontrast.eager import is_eager
from mmcontrast.exact import sizes


def filled(scores: Tensor, where: Tensor, value: float) -> Tensor:
    """``torch.where(where, value, scores)``, which may overwrite the scores."""
    if scores.is_cpu and is_eager(scores, where):  # NumPy takes half the time
        np.copyto(scores.numpy(), value, where=where.numpy())
        return scores
    return torch.where(where, value, scores)


def first(scores: Tensor, *, largest: bool) -> Tensor:
    """(R,) index of the largest or smallest of each row; of several equal ones, the first."""
    if scores.is_cpu and is_eager(scores):  # NumPy takes a tenth of the time
        rows = scores.numpy()
        return torch.from_numpy(rows.argmax(1) if largest else rows.argmin(1))
    return scores.argmax(1) if largest else scores.argmin(1)


def top_at_once(scores: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """:func:`top` of all columns in their order, where a compiler can trace it as well."""
    eager, width = is_eager(scores), scores.shape[1]
    if eager and scores.is_cpu and k < width <= sizes.TOPK:
        # topk breaks ties arbitrarily. If k + 1 values strictly descend, there is no tie to break.
        values, places = scores.topk(k + 1)
        found = values.numpy()
        if (found[:, :-1] > found[:, 1:]).all():  # no ties: only one order
            return values.narrow_copy(1, 0, k), places.narrow_copy(1, 0, k)
    if eager and width > sizes.SORTED:
        return top(scores, k, torch.arange(width, device=scores.device))
    values, places = scores.sort(dim=1, descending=True, stable=True)
    return values[:, :k], places[:, :k]


def top(scores: Tensor, k: int, names: Tensor) -> tuple[Tensor, Tensor]:
    """The k highest of each row and the names of their columns; ties go to the lower name.

    Args:
        scores: (R, C); minus infinity for what is excluded.
        k: how many; shorter rows are padded with minus infinity.
        names: (C,) int64.
    """
    if scores.shape[1] <= k:
        return _sorted(scores, k, names)
    # One more than asked for, to see whether the k-th has an equal outside.
    places = highest_places(scores, k + 1)  # (R, k + 1)
    values, order = _descending(scores.gather(1, places))
    found = names[places.gather(1, order)]
    # Two equal neighbours among the k + 1: either both are in the k, in arbitrary order, or one was
    # left out arbitrarily. Ties of minus infinity, of excluded columns, do not matter.
    equal = (values[:, 1:] == values[:, :-1]) & (values[:, 1:] > -math.inf)
    values, found = values[:, :k], found[:, :k]  # (R, k)
    tied = equal.any(1).nonzero()[:, 0]
    if len(tied):  # selection took any of the equal ones
        values = values.clone()
        values[tied], found[tied] = _by_name(scores[tied], values[tied], found[tied], names)
    return values, found


def _by_name(scores: Tensor, values: Tensor, found: Tensor, names: Tensor) -> tuple[Tensor, Tensor]:
    """The k highest values of rows with ties, and their columns, now with ties by name.

    All scores above the k-th were found by value; those equal to it are selected again, by name.
    """
    k = values.shape[1]
    last = values[:, -1:]
    low = torch.iinfo(torch.int32).min
    # The k lowest names among the scores equal to the k-th are the k highest of -name. If there are
    # fewer, the rest of these places is marked by minus infinity and sorted to the end.
    places = highest_places(torch.where(scores == last, -names.int(), low), k)
    level = torch.where(scores.gather(1, places) == last, last, -math.inf)
    # 2k candidates: above the k-th value, and at it.
    values = torch.cat([torch.where(values > last, values, -math.inf), level], dim=1)
    return merged(values, torch.cat([found, names[places]], dim=1), k)


def merged(values: Tensor, names: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k highest of each row's (R, N) values, N at least k, and their names, by name in ties."""
    # Sorted by name, then stably by value: by value, with ties by name.
    names, order = names.sort(1)
    values, order = values.gather(1, order).sort(dim=1, descending=True, stable=True)
    return values[:, :k], names.gather(1, order[:, :k])


def highest_places(scores: Tensor, k: int) -> Tensor:
    """(R, k) positions of the k highest of each row, in any order, with ties broken arbitrarily."""
    # Suppose a score is among the k highest and its group is not among the k groups with the
    # highest maxima. Then each of those has a maximum at least as high: k scores that are as good a
    # choice. So the members of k groups suffice: 8 k scores are ranked, and the k groups are found
    # by the same method among the maxima.
    groups = scores.shape[1] // sizes.GROUP
    if groups < 2 * k:
        return _partition(scores, k)
    whole = groups * sizes.GROUP
    # Group g has the columns g, g + groups, g + 2 groups, ...: the maxima are then taken between
    # contiguous runs of columns, which a CPU does several at a time.
    best = highest_places(scores[:, :whole].reshape(-1, sizes.GROUP, groups).amax(1), k)
    members = torch.arange(0, whole, groups, device=scores.device)
    places = (best[:, :, None] + members).flatten(1)  # (R, 8 k)
    if whole < scores.shape[1]:
        # Up to 7 columns that fill no group are candidates always.
        rest = torch.arange(whole, scores.shape[1], device=scores.device)
        places = torch.cat([places, rest.expand(len(scores), -1)], dim=1)
    return places.gather(1, _partition(scores.gather(1, places), k))


def _descending(scores: Tensor) -> tuple[Tensor, Tensor]:
    """Short rows, sorted."""
    if scores.device.type != "cpu":
        return scores.sort(1, descending=True)
    order = torch.from_numpy((-scores).numpy().argsort(axis=1))
    return scores.gather(1, order), order


def _partition(scores: Tensor, k: int) -> Tensor:
    """:func:`highest_places` of short rows, for which NumPy takes a fraction of topk's time."""
    if scores.device.type != "cpu":
        return scores.topk(k, sorted=False).indices
    # argpartition puts the k highest behind position `last`, in any order, in linear time.
    last = scores.shape[1] - k
    return torch.from_numpy(scores.numpy().argpartition(last, axis=1)[:, last:])


def _sorted(scores: Tensor, k: int, names: Tensor) -> tuple[Tensor, Tensor]:
    """:func:`top` by a stable sort of the whole row, its columns in the order of their names."""
    names, order = names.sort()
    values, places = scores[:, order].sort(dim=1, descending=True, stable=True)
    missing = max(k - scores.shape[1], 0)
    values = F.pad(values[:, :k], (0, missing), value=-math.inf)
    return values, F.pad(names[places[:, :k]], (0, missing))
