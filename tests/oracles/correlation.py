"""Modality correlation, CorMulT 3.2.3 and eq 8, by loops over steps."""

import math

import numpy as np

from tests.oracles.distances import cosine, cosine_distance
from tests.oracles.reductions import reduce
from tests.oracles.rows import is_present


def steps(sample):
    """One sample as a list of its steps' rows; a plain row is a single step."""
    sample = np.asarray(sample, dtype=np.float64)
    return [sample] if sample.ndim == 1 else list(sample)


def compared(x, y, how, reduce_over):
    """`how` compares two rows; C3: which rows a (t, o) map is compared by."""
    x, y = steps(x), steps(y)
    if reduce_over == "flatten":
        return how([v for row in x for v in row], [v for row in y for v in row])
    if reduce_over == "mean":
        return how(average(x), average(y))
    return math.fsum(how(a, b) for a, b in zip(x, y, strict=True)) / len(x)


def average(rows):
    return [math.fsum(float(row[k]) for row in rows) / len(rows) for k in range(len(rows[0]))]


def modality_correlation(x, y, *, reduce="flatten", mask=None):
    values = []
    for i in range(len(x)):
        a, b = steps(x[i]), steps(y[i])
        real = [k for k in range(len(a)) if mask is None or mask[i][k]]
        if real:
            values.append(
                compared(
                    np.array([a[k] for k in real]), np.array([b[k] for k in real]), cosine, reduce
                )
            )
        else:
            values.append(0.0)
    return np.array(values)


def modality_correlation_triplet(
    features,
    negatives,
    *,
    altered=None,
    margin=0.2,
    distance=cosine_distance,
    reduce_over="flatten",
    skip_unaltered=True,
    present=None,
    weight=None,
    reduction="mean",
):
    """{"modality": LOSS_m} of eq 8, one hinge a sample, each TL reduced by itself (C11)."""
    losses = {}
    for m in features:
        loss = 0.0
        for other in features:
            if other == m:
                continue
            values = []
            for i in range(len(features[m])):
                changed = not skip_unaltered or is_present(altered, other, i)
                here = is_present(present, m, i) and is_present(present, other, i)
                if not (changed and here):
                    values.append(None)
                    continue
                near = compared(features[m][i], features[other][i], distance, reduce_over)
                far = compared(features[m][i], negatives[other][i], distance, reduce_over)
                values.append(max(0.0, near - far + margin))
            loss = loss + reduce(values, weight, reduction)
        losses[m] = loss
    return losses
