"""Supervised contrast and N-pair, by loops."""

import math

from tests.oracles.infonce import biased, target_shares
from tests.oracles.masks import classes_of
from tests.oracles.reductions import log_sum_exp, reduce
from tests.oracles.rows import similarities


def sup_con(
    anchors,
    labels,
    candidates=None,
    candidate_labels=None,
    *,
    form="out",
    temperature=0.07,
    positives=None,
    keep=None,
    bias=None,
    decoupled=False,
    weight=None,
    normalize="l2",
    reduction="mean",
):
    """HyCon eq 4 ("in": the sum over the positives inside the log) and SupCon's eq 2 ("out")."""
    alone = candidates is None
    others = anchors if alone else candidates
    sim = similarities(anchors, others, normalize)
    sim = [[s / temperature for s in row] for row in sim]
    sim, keep = biased(sim, keep, bias)
    if positives is None:
        left = classes_of(labels)
        right = left if alone else classes_of(candidate_labels)
    values = []
    for i, row in enumerate(sim):
        shares, denominator, negatives = {}, [], []
        for j, s in enumerate(row):
            if (alone and i == j) or (keep is not None and not keep[i][j]):
                continue
            if positives is None:
                if left[i] is None or right[j] is None:
                    continue
                share = float(left[i] == right[j])
            else:
                share = float(positives[i][j])
            denominator.append(s)
            if share > 0:
                shares[j] = share
            else:
                negatives.append(s)
        if not shares:
            values.append(None)
            continue
        if decoupled:  # the negatives alone
            denominator = negatives
        if not denominator:
            values.append(0.0)
            continue
        everybody, total = log_sum_exp(denominator), math.fsum(shares.values())
        if form == "in":
            inside = [math.log(share) + row[j] for j, share in shares.items()]
            values.append(everybody - log_sum_exp(inside))
        else:
            values.append(
                math.fsum(share / total * (everybody - row[j]) for j, share in shares.items())
            )
    return reduce(values, weight, reduction)


def n_pair(
    anchors,
    candidates,
    targets=None,
    *,
    positives=None,
    keep=None,
    weight=None,
    normalize=None,
    reduction="mean",
):
    """HyCon eq 20: log(1 + sum_n exp(a.n - a.p)); whoever is not p is a negative of p.

    An anchor with several positives is worth the mean over them (soft: the weighted mean).
    """
    sim = similarities(anchors, candidates, normalize)
    values = []
    all_shares = target_shares(len(sim), len(candidates), targets, positives, keep)
    for i, shares in enumerate(all_shares):
        value = None
        for p, share in shares.items():
            gaps = [
                sim[i][j] - sim[i][p]
                for j in range(len(candidates))
                if j != p and (keep is None or keep[i][j])
            ]
            value = (value or 0.0) + share * log_sum_exp([0.0, *gaps])
        values.append(value)
    return reduce(values, weight, reduction)
