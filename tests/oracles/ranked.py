"""Rank-N-Contrast by loops."""

import math

import numpy as np

from tests.oracles.distances import euclidean
from tests.oracles.reductions import log_sum_exp, reduce


def rank_n_contrast(
    x,
    scores,
    candidates=None,
    candidate_scores=None,
    *,
    temperature=2.0,
    distance=euclidean,
    weight=None,
    reduction="mean",
):
    """arXiv:2210.01189, eq. 1 and 2; several scores a sample differ by their L1 distance.

    Scores are compared as they are, so ties are ties where differences are exact: whole numbers.
    """
    alone = candidates is None
    others = x if alone else candidates
    left, right = _columns(scores), _columns(scores if alone else candidate_scores)
    values = []
    for i, a in enumerate(x):
        compared = [
            j
            for j in range(len(others))
            if not (alone and i == j) and left[i] is not None and right[j] is not None
        ]
        logits = {j: -distance(a, others[j]) / temperature for j in compared}
        away = {j: math.fsum(abs(left[i] - right[j])) for j in compared}
        terms = [
            log_sum_exp([logits[k] for k in compared if away[k] >= away[j]]) - logits[j]
            for j in compared
        ]
        values.append(math.fsum(terms) / len(terms) if terms else None)
    return reduce(values, weight, reduction)


def _columns(scores):
    """(S,) for each sample, None for one that takes no part."""
    rows = np.asarray(scores, dtype=np.float64)
    rows = rows[:, None] if rows.ndim == 1 else rows
    return [row if np.isfinite(row).all() and (row != -100).all() else None for row in rows]
