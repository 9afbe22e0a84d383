"""Joint contrast of several modalities, by loops over anchors and tuples."""

import itertools
import math

import numpy as np

from tests.oracles.reductions import log_sum_exp, reduce
from tests.oracles.rows import is_present, rows


def joint_score(score, anchor, others):
    """How well a row fits a tuple of others; the better, the larger."""
    if score == "product":  # Symile's multilinear inner product
        return math.fsum(math.prod(entries) for entries in zip(anchor, *others, strict=True))
    if score == "volume":  # GRAM: the root of the determinant of all dot products
        return -_volume([anchor, *others])
    # TRIANGLE: the area of the triangle, half that of the parallelogram of two sides
    return -_volume([x - anchor for x in others]) / math.factorial(len(others))


def _volume(vectors):
    """By the singular values, of which a determinant of dot products would be the square."""
    return math.prod(np.linalg.svd(np.stack(vectors), compute_uv=False)[: len(vectors)]) * (
        len(vectors) <= len(vectors[0])
    )


def joint_contrast(
    features,
    *,
    score="product",
    anchor=None,
    negatives="shuffled",
    orders=None,
    temperature=0.07,
    present=None,
    weight=None,
    normalize="l2",
    reduction="mean",
):
    """arXiv:2411.01053, 2412.11959 and 2509.24734: a dict of one loss for each anchor.

    ``orders`` has for each anchor, and each other modality, the order of its shuffled rows.
    """
    mapped = {name: rows(x, normalize) for name, x in features.items()}
    size = len(next(iter(mapped.values())))

    def has(name, i):
        return is_present(present, name, i)

    def loss(name, i):
        names = [other for other in mapped if other != name and has(other, i)]
        if not has(name, i) or not names:
            return None

        def logit(a, places):
            tuple_ = [mapped[other][j] for other, j in zip(names, places, strict=True)]
            return joint_score(score, mapped[name][a], tuple_) / temperature

        def there(places):
            return all(has(other, j) for other, j in zip(names, places, strict=True))

        own = (i,) * len(names)
        tuples = [(j,) * len(names) for j in range(size) if j != i]
        if score == "product" and len(names) > 1 and negatives == "all":
            tuples = list(itertools.product(range(size), repeat=len(names)))
        if score == "product" and len(names) > 1 and negatives == "shuffled":
            tuples = [
                tuple(int(orders[name][other][j]) for other in names) for j in range(size) if j != i
            ]
        found = [logit(i, places) for places in tuples if places != own and there(places)]
        positive = logit(i, own)
        value = log_sum_exp([positive, *found]) - positive
        if score == "product":
            return value
        back = [logit(a, own) for a in range(size) if a != i and has(name, a)]
        return (value + log_sum_exp([positive, *back]) - positive) / 2

    return {
        name: reduce([loss(name, i) for i in range(size)], weight, reduction)
        for name in (mapped if anchor is None else [anchor])
    }
