"""How classes are dealt to batches, so that none is in a batch too often, and then their samples.

A batch has ``width`` groups, each of samples of one class.
"""

from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    Ints = np.typing.NDArray[np.int64]
    Generator = np.random.Generator
else:
    Ints = Generator = Any  # NumPy imports these when they are asked for


def fewest_in_a_batch(groups: Ints, width: int) -> int:
    """How many groups of one class a batch has to allow to be filled: 1 for ``width`` classes."""
    return 1 + bisect_left(
        range(1, width), True, key=lambda most: bool(np.minimum(groups, most).sum() >= width)
    )


def batches_without_repeats(groups: Ints, width: int, most: int) -> int:
    """The largest number of batches with at most ``most`` groups of a class in each."""
    # A class can fill up to most * T places of T batches: concave in T, so what is too many batches
    # stays too many, and halving finds the last that is not.
    longest = int(groups.sum()) // width
    return bisect_left(
        range(1, longest + 1),
        True,
        key=lambda t: bool(np.minimum(groups, most * t).sum() < width * t),
    )


def batches_with_all(groups: Ints, width: int, most: Ints) -> int:
    """The smallest number of batches with all groups, at most ``most`` of each class in a batch."""
    return max(int((-(-groups // most)).max()), -(-int(groups.sum()) // width))


def level(total: int, low: Ints, high: Ints, generator: Generator) -> Ints:
    """Whole numbers from low to high, as equal as these allow, that sum to ``total``."""
    line = bisect_left(
        range(1, int(high.max()) + 1),
        True,
        key=lambda x: bool(np.clip(x, low, high).sum() > total),
    )
    counts: Ints = np.clip(line, low, high)
    above = np.flatnonzero(np.clip(line + 1, low, high) > counts)
    counts[generator.permutation(above)[: total - counts.sum()]] += 1
    return counts


def deal(counts: Ints, width: int, generator: Generator) -> Ints:
    """(T, width) the classes of each of T batches, at random.

    Class c has counts[c] places, counts[c] / T in each batch, rounded down or up.

    Args:
        counts: (C,) places of each class; their sum is T * width.
        width: places in a batch.
        generator: of the numbers.
    """
    order = generator.permutation(len(counts))
    # The classes one after the other fill a table of which a column is a batch. A class inside one
    # row is at most once in a column, wherever the row's entries go: so each row is shuffled. What
    # a class has in the next row goes to columns that have least of it.
    table = np.repeat(order, counts[order]).reshape(width, -1)
    dealt = np.empty_like(table)
    have, before = np.zeros(table.shape[1], dtype=np.int64), -1  # of the class that goes on
    for row, out in zip(table, dealt, strict=True):
        columns = generator.permutation(len(row))
        if row[0] == before:
            rest = int((row == before).sum())
            columns = columns[np.argsort(have[columns], kind="stable")]
            columns[rest:] = generator.permutation(columns[rest:])
        out[columns] = row
        if row[-1] != before:
            have, before = np.zeros_like(have), int(row[-1])
        have = have + (out == before)
    return dealt.T


def spread(classes: Ints, ids: Ints | None, generator: Generator) -> Ints:
    """(N,) samples by class, in random order; those of one id evenly over their class."""
    place = generator.random(len(classes))
    if ids is not None:
        pairs = np.unique(classes * (ids.max(initial=0) + 1) + ids, return_inverse=True)[1]
        order = np.lexsort((place, pairs))
        sizes = np.bincount(pairs)
        # The k-th of m samples with one id lies in the k-th of m equal parts.
        kth = np.empty_like(classes)
        kth[order] = np.arange(len(order)) - np.repeat(sizes.cumsum() - sizes, sizes)
        place = (kth + place) / sizes[pairs]
    return np.lexsort((place, classes))


def fill(
    classes: Sequence[int],
    queues: Sequence[deque[int]],
    ids: Sequence[int],
    used: set[int],
    *,
    each: int,
    again: Callable[[int], list[int]] | None,
    patience: int,
) -> list[int]:
    """The samples of a batch: ``each`` from the queue of every class; none where that fails.

    Args:
        classes: one for each group of the batch.
        queues: the samples of each class, which are taken from the left.
        ids: of each sample.
        used: ids that may not come again; those of the batch are added.
        each: number of samples in a group.
        again: a class's samples for a queue that is empty; None ends there.
        patience: how many samples of a queue may be passed over.
    """
    mine: set[int] = set()
    groups: list[tuple[deque[int], list[int]]] = []
    for c in classes:
        queue, refilled = queues[c], again is None
        taken: list[int] = []
        passed: list[int] = []
        while len(taken) < each and len(passed) <= patience:
            if not queue and not refilled and again is not None:
                queue.extend(again(c))
                refilled = True
            if not queue:
                break
            sample = queue.popleft()
            known = ids[sample]
            if known in used or known in mine:
                passed.append(sample)
            else:
                mine.add(known)
                taken.append(sample)
        queue.extendleft(reversed(passed))
        groups.append((queue, taken))
        if len(taken) < each:
            for queue, taken in reversed(groups):
                queue.extendleft(reversed(taken))
            return []
    used |= mine
    return [sample for _, taken in groups for sample in taken]
