"""InfoNCE and its forms, by loops over anchors and candidates."""

import math

import numpy as np

from tests.oracles.reductions import log_sum_exp, reduce
from tests.oracles.rows import clean, is_present, rows, similarities


def target_shares(n_anchors, n_candidates, targets, positives, keep):
    """For each anchor: {candidate: share of the target}, kept candidates only; {} drops out."""
    shares = []
    for i in range(n_anchors):
        row = {}
        for j in range(n_candidates):
            if positives is not None:
                share = float(positives[i][j])
            else:
                share = float(j == (i if targets is None else int(targets[i])))
            if share > 0 and (keep is None or keep[i][j]):
                row[j] = share
        total = sum(row.values())
        shares.append({j: share / total for j, share in row.items()})
    return shares


def nce_values(logits, targets=None, positives=None, keep=None):
    """-sum_j share_j log(exp(s_ij) / sum_kept exp(s_ik)) for each anchor."""
    n_candidates = len(logits[0]) if logits else 0
    values = []
    all_shares = target_shares(len(logits), n_candidates, targets, positives, keep)
    for i, shares in enumerate(all_shares):
        if not shares:
            values.append(None)
            continue
        kept = [logits[i][j] for j in range(n_candidates) if keep is None or keep[i][j]]
        values.append(math.fsum(q * (log_sum_exp(kept) - logits[i][j]) for j, q in shares.items()))
    return values


def info_nce(
    anchors,
    candidates,
    targets=None,
    *,
    temperature=0.07,
    positives=None,
    keep=None,
    bias=None,
    weight=None,
    normalize="l2",
    reduction="mean",
):
    """HyCon eq 3 with cosines over a temperature; several positives: the mean of the log shares."""
    sim = similarities(anchors, candidates, normalize)
    logits = [[s / temperature for s in row] for row in sim]
    logits, keep = biased(logits, keep, bias)
    return reduce(nce_values(logits, targets, positives, keep), weight, reduction)


def biased(logits, keep, bias):
    """Logits plus a bias; without the pairs whose bias is minus infinity."""
    if bias is None:
        return logits, keep
    pairs = [[(i, j) for j in range(len(row))] for i, row in enumerate(logits)]
    keep = [[(keep is None or keep[i][j]) and bias[i][j] > -math.inf for i, j in r] for r in pairs]
    added = [[logits[i][j] + (bias[i][j] if keep[i][j] else 0.0) for i, j in r] for r in pairs]
    return added, keep


def symmetric_info_nce(x, y, *, positives=None, keep=None, bias=None, reduction="mean", **options):
    """MCL-MCF algorithm 1: the mean of both directions."""
    masks = {"positives": positives, "keep": keep, "bias": bias}
    turned = {name: None if z is None else np.asarray(z).T for name, z in masks.items()}
    there = info_nce(x, y, reduction=reduction, **masks, **options)
    return (there + info_nce(y, x, reduction=reduction, **turned, **options)) / 2


def matched_pair_nce(
    x, y, *, temperature=0.1, keep=None, weight=None, normalize="l2", reduction="mean"
):
    """TeCaFN eq 6 as printed: the denominator holds the matched pairs of all samples."""
    x, y = rows(x, normalize), rows(y, normalize)
    logits = [float(a @ b) / temperature for a, b in zip(x, y, strict=True)]
    taking_part = [i for i in range(len(x)) if keep is None or keep[i]]
    values = []
    for i in range(len(x)):
        if i in taking_part:
            values.append(log_sum_exp([logits[j] for j in taking_part]) - logits[i])
        else:
            values.append(None)
    return reduce(values, weight, reduction)


def anchored_info_nce(features, *, anchor="text", direction="from_anchor", present=None, **options):
    """TeCaFN L_tcon, MFON L_ICL: {"anchor-other": value}."""
    terms = {}
    n = len(features[anchor])
    for name in features:
        if name == anchor:
            continue
        has = [is_present(present, anchor, i) and is_present(present, name, i) for i in range(n)]
        keep = [[has[i] and has[j] for j in range(n)] for i in range(n)]
        x, y = clean(features[anchor], has), clean(features[name], has)
        forward = info_nce(x, y, keep=keep, **options)
        backward = info_nce(y, x, keep=keep, **options)
        terms[f"{anchor}-{name}"] = {
            "from_anchor": forward,
            "to_anchor": backward,
            "both": forward + backward,
        }[direction]
    return terms
