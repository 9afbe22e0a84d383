"""SigLIP's sigmoid loss, by loops."""

import math

from tests.oracles.reductions import reduce
from tests.oracles.rows import similarities


def softplus(value):
    return max(value, 0.0) + math.log1p(math.exp(-abs(value)))


def sigmoid_contrast(
    x,
    y,
    *,
    temperature,
    bias,
    positives=None,
    keep=None,
    weight=None,
    normalize="l2",
    reduction="mean",
):
    """SigLIP, algorithm 1: one logistic regression for each pair, summed over the candidates."""
    values = []
    for i, row in enumerate(similarities(x, y, normalize)):
        kept = [j for j in range(len(row)) if keep is None or keep[i][j]]
        terms = []
        for j in kept:
            together = i == j if positives is None else bool(positives[i][j])
            z = 1.0 if together else -1.0
            terms.append(softplus(-z * (row[j] / temperature + bias)))
        values.append(math.fsum(terms) if keep is None or kept else None)
    return reduce(values, weight, reduction)
