"""HyCon's pair selection and hardness weights, eq 13 to 15, by loops."""

import math

import numpy as np

from tests.oracles.rows import softmax_row


def how_many(fraction, batch_size):
    """h = K * fraction, at least one (HyCon 3.4); 90 * 0.7 is 63, whatever floats make of it."""
    return max(1, math.floor(batch_size * fraction + 1e-9))


class FrozenWeights:
    """Inside `with`, the weights of eq 14 and the choice of eq 13 stay what they were at first.

    The gradient is stopped there, which a difference quotient has to be told.
    """

    active = None

    def __init__(self):
        self.kept = []

    def __enter__(self):
        self.calls = iter(range(1_000_000))
        FrozenWeights.active = self

    def __exit__(self, *_):
        FrozenWeights.active = None

    @classmethod
    def hold(cls, compute):
        """The value of the first run's n-th call, whatever this run's would be."""
        if cls.active is None:
            return compute()
        n = next(cls.active.calls)
        if n == len(cls.active.kept):
            cls.active.kept.append(compute())
        return cls.active.kept[n]


def lowest(values, h):
    """Indices of the h smallest, ties by lower index."""
    return FrozenWeights.hold(lambda: sorted(range(len(values)), key=lambda k: (values[k], k))[:h])


def soft_weights(values):
    return FrozenWeights.hold(lambda: softmax_row(values) if values else [])


def select_pairs(similarity, positives, negatives, *, selection, batch_size=None):
    """HyCon eq 13: the h least similar positives and the h most similar negatives per anchor."""
    h = how_many(selection["fraction"], len(similarity) if batch_size is None else batch_size)
    picked = []
    for mask, sign, active in (
        (positives, 1.0, selection["positives"]),
        (negatives, -1.0, selection["negatives"]),
    ):
        out = np.array(mask, dtype=bool)
        if active:
            for i, row in enumerate(mask):
                available = [j for j in range(len(row)) if row[j]]
                scores = [sign * float(similarity[i][j]) for j in available]
                out[i] = False
                for k in lowest(scores, h):
                    out[i][available[k]] = True
        picked.append(out)
    return tuple(picked)


def hardness_weights(similarity, positives, negatives, *, gamma=1.0):
    """HyCon eq 14 over the pairs of each mask."""
    shape = np.asarray(similarity).shape
    pos_weights, neg_weights = np.zeros(shape), np.zeros(shape)
    for i in range(shape[0]):
        for mask, out, hardness in (
            (positives, pos_weights, lambda s: 1 / (s + gamma)),
            (negatives, neg_weights, lambda s: s),
        ):
            chosen = [j for j in range(shape[1]) if mask[i][j]]
            values = soft_weights([hardness(float(similarity[i][j])) for j in chosen])
            for j, w in zip(chosen, values, strict=True):
                out[i][j] = w
    return pos_weights, neg_weights
