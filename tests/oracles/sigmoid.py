"""SigLIP's sigmoid loss, by loops."""

import math

from tests.oracles.infonce import biased
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
    logits = [[s / temperature for s in row] for row in similarities(x, y, normalize)]
    if isinstance(bias, float | int):
        bias = [[bias] * len(row) for row in logits]
    masked = keep is not None
    logits, keep = biased(logits, keep, bias)
    for i, row in enumerate(logits):
        kept = [j for j in range(len(row)) if keep[i][j]]
        masked = masked or len(kept) < len(row)
        terms = []
        for j in kept:
            together = i == j if positives is None else bool(positives[i][j])
            z = 1.0 if together else -1.0
            terms.append(softplus(-z * row[j]))
        values.append(math.fsum(terms) if not masked or kept else None)
    return reduce(values, weight, reduction)
