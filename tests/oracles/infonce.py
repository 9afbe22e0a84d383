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


def nce_values(logits, targets=None, positives=None, keep=None, further=None, **variant):
    """-sum_j share_j log(exp(s_ij) / sum_kept exp(s_ik)) for each anchor, or a variant of it.

    ``further``: for each anchor the logits of its further negatives.
    """
    n_candidates = len(logits[0]) if logits else 0
    values = []
    all_shares = target_shares(len(logits), n_candidates, targets, positives, keep)
    for i, shares in enumerate(all_shares):
        if not shares:
            values.append(None)
            continue
        kept = [j for j in range(n_candidates) if keep is None or keep[i][j]]
        mine = [logits[i][j] for j in shares]
        rest = [logits[i][j] for j in kept if j not in shares]
        rest += [] if further is None else list(further[i])
        pull = math.fsum(q * logits[i][j] for j, q in shares.items())
        prior = variant.get("prior", 0.0)
        prior = float(prior if np.ndim(prior) == 0 else prior[i])
        given = {**variant, "prior": prior}
        values.append(nce_value(mine, rest, pull, **given))
    return values


def nce_value(positives, negatives, pull, *, decoupled=False, prior=0.0, smoothing=0.0, least=-1.0):
    """One anchor's loss: log(P + N) - pull, of logits; ``least``: of a negative's, by the prior.

    DCL eq 6 leaves out P; with a prior, N is n times g of the debiased loss' eq 7; a share of the
    target spread over all candidates is torch's label smoothing.
    """
    # Divided by the largest exponential.
    top = max([*positives, *negatives])
    p, n = ([math.exp(s - top) for s in each] for each in (positives, negatives))
    total = math.fsum(n)
    if prior > 0:
        mean = math.fsum(p) / len(p)
        total = (total - len(n) * prior * mean) / (1 - prior)
        total = max(total, len(n) * math.exp(least - top))
    logits = [*positives, *negatives]
    target = (1 - smoothing) * pull + smoothing * math.fsum(logits) / len(logits)
    if decoupled and not negatives:
        return pull - target
    return math.log(total + (0 if decoupled else math.fsum(p))) + top - target


def info_nce(
    anchors,
    candidates,
    targets=None,
    *,
    temperature=0.07,
    positives=None,
    keep=None,
    bias=None,
    own_negatives=None,
    own_keep=None,
    in_batch=True,
    weight=None,
    normalize="l2",
    reduction="mean",
    **variant,
):
    """HyCon eq 3 with cosines over a temperature; several positives: the mean of the log shares."""
    sim = similarities(anchors, candidates, normalize)
    logits = [[s / temperature for s in row] for row in sim]
    logits, keep = biased(logits, keep, bias)
    further = None
    if own_negatives is not None:
        there = np.ones(own_negatives.shape[:2], dtype=bool) if own_keep is None else own_keep
        further = [
            [similarities([a], [o], normalize)[0][0] / temperature for o in own[kept]]
            for a, own, kept in zip(anchors, own_negatives, there, strict=True)
        ]
    if not in_batch:
        at = range(len(anchors)) if targets is None else targets
        logits = [[row[j] if j >= 0 else 0.0] for row, j in zip(logits, at, strict=True)]
        targets = [0 if j >= 0 else -100 for j in at]
    variant["least"] = -1 / temperature
    values = nce_values(logits, targets, positives, keep, further, **variant)
    return reduce(values, weight, reduction)


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
