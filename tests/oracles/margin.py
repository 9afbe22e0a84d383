"""The triplet loss, by loops."""

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
        value = distance(a, p) - distance(a, n) + margin
        values.append(max(0.0, value) if hinge else value)
    return reduce(values, weight, reduction)
