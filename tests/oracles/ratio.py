"""HyCon's share of the positives, eq 5, 7, 10 and 18, by loops."""

import math

from tests.oracles.reductions import reduce


def negated_share(pos, neg, log):
    return -math.log(pos / (pos + neg)) if log else -pos / (pos + neg)


def ratio_contrast(similarity, positives, negatives, *, log=False, weight=None, reduction="mean"):
    """HyCon eq 5 (log) and eq 7, 10, 18: -sum_P s / (sum_P s + sum_Q s)."""
    values = []
    for s, p, q in zip(similarity, positives, negatives, strict=True):
        if not any(float(v) > 0 for v in p) or not any(float(v) > 0 for v in q):
            values.append(None)
            continue
        pos = math.fsum(float(v) * float(sij) for v, sij in zip(p, s, strict=True))
        neg = math.fsum(float(v) * float(sij) for v, sij in zip(q, s, strict=True))
        values.append(negated_share(pos, neg, log))
    return reduce(values, weight, reduction)
