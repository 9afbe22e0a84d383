"""The triplet loss, by loops."""

import math

from tests.oracles.distances import euclidean
from tests.oracles.reductions import reduce


def triplet(
    anchors,
    positives,
    negatives,
    *,
    margin=1.0,
    distance=euclidean,
    hinge=True,
    swap=False,
    soft=False,
    keep=None,
    weight=None,
    reduction="mean",
):
    """HyCon eq 19 with squared Euclidean distances and no hinge."""
    values = []
    for i, (a, p, n) in enumerate(zip(anchors, positives, negatives, strict=True)):
        if keep is not None and not keep[i]:
            values.append(None)
            continue
        near = min(distance(a, n), distance(p, n)) if swap else distance(a, n)
        value = distance(a, p) - near + margin
        if soft:
            value = max(0.0, value) + math.log1p(math.exp(-abs(value)))
        values.append(max(0.0, value) if hinge else value)
    return reduce(values, weight, reduction)
