"""The papers' equations as float64 loops over samples: slow, plain, and independent of the library.

Nothing here is vectorised beyond a dot product, and nothing is imported from `mmcontrast`.
Arguments are numpy arrays, or anything `np.asarray` takes, and carry the library's names.
A "per anchor" list holds ``None`` for an anchor that drops out.
"""

import itertools
import math

import numpy as np
import torch

IGNORE = -100


# --- rows ------------------------------------------------------------------------------------


def l2_row(x):
    norm = math.sqrt(sum(v * v for v in x))
    return [0.0 for _ in x] if norm == 0 else [v / norm for v in x]


def softmax_row(x):
    top = max(x)
    shares = [math.exp(v - top) for v in x]
    return [s / sum(shares) for s in shares]


def shifted_cosine_row(x):
    """Rows whose dot product is (1 + cos) / 2: one more feature carries the shift."""
    return [v / math.sqrt(2) for v in l2_row(x)] + [1 / math.sqrt(2)]


def softplus_row(x):
    return l2_row([max(v, 0.0) + math.log1p(math.exp(-abs(v))) for v in x])


ROW_MAPS = {
    "l2": l2_row,
    "softmax": softmax_row,
    "shifted_cosine": shifted_cosine_row,
    "softplus": softplus_row,
    None: list,
}


def rows(x, normalize):
    row_map = ROW_MAPS[normalize]
    return [np.array(row_map([float(v) for v in row])) for row in np.asarray(x, dtype=np.float64)]


def similarities(x, y, normalize):
    x, y = rows(x, normalize), rows(y, normalize)
    return [[float(a @ b) for b in y] for a in x]


# --- reductions ------------------------------------------------------------------------------


def reduce(values, weight, reduction):
    """`values`: one number for each anchor, ``None`` where it drops out."""
    weight = [1.0] * len(values) if weight is None else [float(w) for w in weight]
    weighted = [0.0 if v is None else w * v for v, w in zip(values, weight, strict=True)]
    if reduction == "none":
        return np.array(weighted)
    if reduction == "sum":
        return math.fsum(weighted)
    total = math.fsum(w for v, w in zip(values, weight, strict=True) if v is not None)
    return math.fsum(weighted) / total if total else 0.0


def log_sum_exp(values):
    top = max(values)
    return top + math.log(math.fsum(math.exp(v - top) for v in values))


# --- InfoNCE ---------------------------------------------------------------------------------


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
    weight=None,
    normalize="l2",
    reduction="mean",
):
    """HyCon eq 3 with cosines over a temperature; several positives: the mean of the log shares."""
    sim = similarities(anchors, candidates, normalize)
    logits = [[s / temperature for s in row] for row in sim]
    return reduce(nce_values(logits, targets, positives, keep), weight, reduction)


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
    weight=None,
    normalize="l2",
    reduction="mean",
):
    """HyCon eq 4 ("in": the sum over the positives inside the log) and SupCon's eq 2 ("out")."""
    alone = candidates is None
    others = anchors if alone else candidates
    sim = similarities(anchors, others, normalize)
    if positives is None:
        left = classes_of(labels)
        right = left if alone else classes_of(candidate_labels)
    values = []
    for i, row in enumerate(sim):
        shares, denominator = {}, []
        for j, s in enumerate(row):
            if (alone and i == j) or (keep is not None and not keep[i][j]):
                continue
            if positives is None:
                if left[i] is None or right[j] is None:
                    continue
                share = float(left[i] == right[j])
            else:
                share = float(positives[i][j])
            denominator.append(s / temperature)
            if share > 0:
                shares[j] = share
        if not shares:
            values.append(None)
            continue
        everybody, total = log_sum_exp(denominator), math.fsum(shares.values())
        if form == "in":
            inside = [math.log(share) + row[j] / temperature for j, share in shares.items()]
            values.append(everybody - log_sum_exp(inside))
        else:
            values.append(
                math.fsum(
                    share / total * (everybody - row[j] / temperature)
                    for j, share in shares.items()
                )
            )
    return reduce(values, weight, reduction)


def symmetric_info_nce(x, y, *, positives=None, keep=None, reduction="mean", **options):
    """MCL-MCF algorithm 1: the mean of both directions."""
    there = info_nce(x, y, positives=positives, keep=keep, reduction=reduction, **options)
    positives = None if positives is None else np.asarray(positives).T
    keep = None if keep is None else np.asarray(keep).T
    back = info_nce(y, x, positives=positives, keep=keep, reduction=reduction, **options)
    return (there + back) / 2


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


def is_present(present, name, i):
    return present is None or name not in present or bool(present[name][i])


def clean(x, has):
    """Absent rows may hold anything: replace them, so that a stray use stays finite here."""
    x = np.array(x, dtype=np.float64)
    for i, there in enumerate(has):
        if not there:
            x[i] = 1.0
    return x


# --- ratio contrast, N-pair, triplet -----------------------------------------------------------


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


def euclidean(x, y):
    return math.sqrt(squared_euclidean(x, y))


def squared_euclidean(x, y):
    return math.fsum((float(a) - float(b)) ** 2 for a, b in zip(x, y, strict=True))


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


# --- HyCon -----------------------------------------------------------------------------------


def classes_of(labels):
    """Labels (B,) or (B, L) as a list of tuples; None where a sample has no label."""
    labels = np.asarray(labels)
    labels = labels[:, None] if labels.ndim == 1 else labels
    rows_of_labels = [tuple(row.tolist()) for row in labels]
    return [None if any(unlabelled(v) for v in row) else row for row in rows_of_labels]


def unlabelled(value):
    return value == IGNORE or value != value  # the second: NaN


def normalized(features, present, labelled, normalize):
    """{modality: [row or None]}: None where the sample does not take part in that modality."""
    out = {}
    for name, x in features.items():
        has = [labelled[i] and is_present(present, name, i) for i in range(len(x))]
        mapped = rows(clean(x, has), normalize)
        out[name] = [mapped[i] if has[i] else None for i in range(len(x))]
    return out


def reduce_anchors(per_modality, weight, reduction):
    """`per_modality`: {name: per-anchor list} -> scalar, or (B, M) for "none"."""
    if reduction == "none":
        return np.stack([reduce(v, weight, "none") for v in per_modality.values()], axis=1)
    values = [v for column in per_modality.values() for v in column]
    weights = None if weight is None else list(weight) * len(per_modality)
    return reduce(values, weights, reduction)


def semi_values(features, present, normalize, margin, labelled=None):
    n = len(next(iter(features.values())))
    z = normalized(features, present, labelled or [True] * n, normalize)
    values = {}
    for name in z:
        values[name] = []
        for i in range(n):
            gaps = [
                (float(z[name][i] @ z[other][i]) - margin) ** 2
                for other in z
                if other != name and z[name][i] is not None and z[other][i] is not None
            ]
            values[name].append(math.fsum(gaps) / len(gaps) if gaps else None)
    return values


def semi_contrast(
    features,
    *,
    margin=0.8,
    normalize="softmax",
    present=None,
    weight=None,
    reduction="mean",
    labelled=None,
):
    """HyCon eq 6, the mean over the partners that are there."""
    values = semi_values(features, present, normalize, margin, labelled)
    return reduce_anchors(values, weight, reduction)


def how_many(fraction, batch_size):
    """h = K * fraction, at least one (HyCon 3.4); 90 * 0.7 is 63, whatever floats make of it."""
    return max(1, math.floor(batch_size * fraction + 1e-9))


class FrozenWeights:
    """Inside `with`, the weights of eq 14 and the choice of eq 13 stay what they were at first.

    The gradient is stopped there, which a difference quotient has to be told.
    """

    active = None

    def __init__(self):
        self.kept = []

    def __enter__(self):
        self.calls = iter(range(1_000_000))
        FrozenWeights.active = self

    def __exit__(self, *_):
        FrozenWeights.active = None

    @classmethod
    def hold(cls, compute):
        """The value of the first run's n-th call, whatever this run's would be."""
        if cls.active is None:
            return compute()
        n = next(cls.active.calls)
        if n == len(cls.active.kept):
            cls.active.kept.append(compute())
        return cls.active.kept[n]


def lowest(values, h):
    """Indices of the h smallest, ties by lower index."""
    return FrozenWeights.hold(lambda: sorted(range(len(values)), key=lambda k: (values[k], k))[:h])


def soft_weights(values):
    return FrozenWeights.hold(lambda: softmax_row(values) if values else [])


def contrast_values(pos, neg, *, target, log, selection, refine_on, h):
    """One anchor's (ratio, refinement) from its positives and negatives: [(similarity, weight)]."""
    chosen_pos, pos_weights = [s for s, _ in pos], [w for _, w in pos]
    chosen_neg, neg_weights = [s for s, _ in neg], [w for _, w in neg]
    ratio_pos, ratio_neg = list(pos), list(neg)
    if selection is not None:
        if selection["unselected"] == "mean":
            ratio_pos = [(s, 1 / len(pos)) for s, _ in pos]
            ratio_neg = [(s, 1 / len(neg)) for s, _ in neg]
        if selection["positives"]:
            chosen_pos = [chosen_pos[k] for k in lowest(chosen_pos, h)]
            pos_weights = soft_weights([1 / (s + selection["gamma"]) for s in chosen_pos])
            ratio_pos = list(zip(chosen_pos, pos_weights, strict=True))
        if selection["negatives"]:
            chosen_neg = [chosen_neg[k] for k in lowest([-s for s in chosen_neg], h)]
            neg_weights = soft_weights(chosen_neg)
            ratio_neg = list(zip(chosen_neg, neg_weights, strict=True))
    ratio = None
    if pos and neg:
        ratio = negated_share(
            math.fsum(w * s for s, w in ratio_pos), math.fsum(w * s for s, w in ratio_neg), log
        )
    refinement = None
    if pos:
        if selection is None or refine_on == "all":
            gaps = [(w * (s - target) ** 2, w) for s, w in pos]
        elif refine_on == "weighted":
            gaps = [
                ((w * s - target) ** 2, 1.0) for s, w in zip(chosen_pos, pos_weights, strict=True)
            ]
        else:
            gaps = [((s - target) ** 2, 1.0) for s in chosen_pos]
        refinement = math.fsum(g for g, _ in gaps) / math.fsum(w for _, w in gaps)
    return ratio, refinement


def pair_weights(labels, positives, negatives, n):
    """Two (n, n) lists of weights, and who is known: has a label, or is in any pair, with itself
    at least (as `same_label` says of whoever has a label)."""
    if labels is not None:
        classes = classes_of(labels)
        known = [c is not None for c in classes]
        both = [[i != k and known[i] and known[k] for k in range(n)] for i in range(n)]
        same = [[classes[i] == classes[k] for k in range(n)] for i in range(n)]
        return (
            [[float(both[i][k] and same[i][k]) for k in range(n)] for i in range(n)],
            [[float(both[i][k] and not same[i][k]) for k in range(n)] for i in range(n)],
            known,
        )
    both = (positives, negatives)
    known = [any(m[i][k] > 0 or m[k][i] > 0 for m in both for k in range(n)) for i in range(n)]
    off = [
        [[float(mask[i][k]) if i != k else 0.0 for k in range(n)] for i in range(n)]
        for mask in both
    ]
    return *off, known


def supervised_contrast(
    features,
    labels,
    *,
    inter,
    target,
    refine=True,
    log=False,
    selection=None,
    refine_on="selected",
    positives=None,
    negatives=None,
    normalize="softmax",
    present=None,
    weight=None,
    reduction="mean",
):
    """HyCon eq 7-9 (`inter` False, target 1) and eq 10-12 (`inter` True, target the margin)."""
    n = len(next(iter(features.values())))
    pos_weights, neg_weights, known = pair_weights(labels, positives, negatives, n)
    z = normalized(features, present, known, normalize)
    batch_size = sum(any(z[name][i] is not None for name in z) for i in range(n))
    h = 0
    if selection is not None:
        h = how_many(selection["fraction"], batch_size)
        h *= selection["inter_factor"] if inter else 1
    ratios, refinements = {}, {}
    for name in z:
        ratios[name], refinements[name] = [], []
        partners = [other for other in z if (other != name) == inter]
        for i in range(n):
            pos, neg = [], []
            for other in partners:
                for k in range(n):
                    if k == i or z[name][i] is None or z[other][k] is None:
                        continue
                    similarity = float(z[name][i] @ z[other][k])
                    if pos_weights[i][k] > 0:
                        pos.append((similarity, pos_weights[i][k]))
                    if neg_weights[i][k] > 0:
                        neg.append((similarity, neg_weights[i][k]))
            ratio, refinement = contrast_values(
                pos,
                neg,
                target=target,
                log=log,
                selection=selection,
                refine_on=refine_on,
                h=h,
            )
            ratios[name].append(ratio)
            refinements[name].append(refinement)
    total = reduce_anchors(ratios, weight, reduction)
    if refine:
        total = total + reduce_anchors(refinements, weight, reduction)
    return total


def intra_modal_contrast(features, labels, **options):
    return supervised_contrast(features, labels, inter=False, target=1.0, **options)


def inter_modal_contrast(features, labels, *, margin=0.8, **options):
    return supervised_contrast(features, labels, inter=True, target=margin, **options)


def hybrid_contrast(features, labels, *, margin=0.8, **options):
    """HyCon eq 16 before the weights: {"intra", "inter", "semi"}."""
    shared = {
        key: options[key]
        for key in ("normalize", "present", "weight", "reduction")
        if key in options
    }
    n = len(next(iter(features.values())))
    *_, known = pair_weights(labels, options.get("positives"), options.get("negatives"), n)
    return {
        "intra": intra_modal_contrast(features, labels, **options),
        "inter": inter_modal_contrast(features, labels, margin=margin, **options),
        "semi": semi_contrast(features, margin=margin, labelled=known, **shared),
    }


# --- mining ----------------------------------------------------------------------------------


def select_pairs(similarity, positives, negatives, *, selection, batch_size=None):
    """HyCon eq 13: the h least similar positives and the h most similar negatives per anchor."""
    h = how_many(selection["fraction"], len(similarity) if batch_size is None else batch_size)
    picked = []
    for mask, sign, active in (
        (positives, 1.0, selection["positives"]),
        (negatives, -1.0, selection["negatives"]),
    ):
        out = np.array(mask, dtype=bool)
        if active:
            for i, row in enumerate(mask):
                available = [j for j in range(len(row)) if row[j]]
                scores = [sign * float(similarity[i][j]) for j in available]
                out[i] = False
                for k in lowest(scores, h):
                    out[i][available[k]] = True
        picked.append(out)
    return tuple(picked)


def hardness_weights(similarity, positives, negatives, *, gamma=1.0):
    """HyCon eq 14 over the pairs of each mask."""
    shape = np.asarray(similarity).shape
    pos_weights, neg_weights = np.zeros(shape), np.zeros(shape)
    for i in range(shape[0]):
        for mask, out, hardness in (
            (positives, pos_weights, lambda s: 1 / (s + gamma)),
            (negatives, neg_weights, lambda s: s),
        ):
            chosen = [j for j in range(shape[1]) if mask[i][j]]
            values = soft_weights([hardness(float(similarity[i][j])) for j in chosen])
            for j, w in zip(chosen, values, strict=True):
                out[i][j] = w
    return pos_weights, neg_weights


def hard_negatives(anchors, candidates, k, *, targets=None, allowed=None, normalize="l2"):
    """TeCaFN eq 7 and algorithm 1: [(index, score), ...] per anchor, hardest first."""
    sim = similarities(anchors, candidates, normalize)
    found = []
    for i, row in enumerate(sim):
        own = i if targets is None else int(targets[i])
        pool = [j for j in range(len(row)) if j != own and (allowed is None or allowed[i][j])]
        order = lowest([-row[j] for j in pool], k)
        found.append([(pool[o], row[pool[o]]) for o in order])
    return found


def hard_triplets(anchors, labels, *, normalize="l2"):
    """HyCon 4.5.7: [(anchor, least similar positive, most similar negative), ...].

    An anchor that lacks one of the two is its own.
    """
    sim = similarities(anchors, anchors, normalize)
    classes = classes_of(labels)
    found = []
    for i, row in enumerate(sim):
        others = [j for j in range(len(row)) if j != i and classes[j] is not None]
        pos = [j for j in others if classes[j] == classes[i]]
        neg = [j for j in others if classes[j] != classes[i]]
        if classes[i] is None or not pos or not neg:
            found.append((i, i, i))
            continue
        hardest_pos = pos[lowest([row[j] for j in pos], 1)[0]]
        hardest_neg = neg[lowest([-row[j] for j in neg], 1)[0]]
        found.append((i, hardest_pos, hardest_neg))
    return found


# --- distances, CorMulT 4.3 ------------------------------------------------------------------


def manhattan(x, y):
    return math.fsum(abs(float(a) - float(b)) for a, b in zip(x, y, strict=True))


def chebyshev(x, y):
    return max(abs(float(a) - float(b)) for a, b in zip(x, y, strict=True))


def cosine(x, y):
    """a . b / (|a| |b|), and 0 where one of them has no direction."""
    lengths = math.sqrt(math.fsum(float(a) ** 2 for a in x) * math.fsum(float(b) ** 2 for b in y))
    product = math.fsum(float(a) * float(b) for a, b in zip(x, y, strict=True))
    return product / lengths if lengths else 0.0


def cosine_distance(x, y):
    return 1 - cosine(x, y)


def mahalanobis(covariance):
    """sqrt((A - B) C^-1 (A - B)^T), with the inverse that the library never forms."""
    inverse = np.linalg.inv(np.asarray(covariance, dtype=np.float64))

    def distance(x, y):
        gap = np.asarray(x, dtype=np.float64) - np.asarray(y, dtype=np.float64)
        return math.sqrt(float(gap @ inverse @ gap))

    return distance


def covariance_of(samples, shrinkage=0.0):
    """(1 - a) S + a (tr S / D) I with S over N - 1."""
    n, d = np.shape(samples)
    means = [math.fsum(float(row[k]) for row in samples) / n for k in range(d)]
    s = np.zeros((d, d))
    for j in range(d):
        for k in range(d):
            s[j, k] = math.fsum(
                (float(row[j]) - means[j]) * (float(row[k]) - means[k]) for row in samples
            ) / (n - 1)
    spread = math.fsum(s[k, k] for k in range(d)) / d
    for j in range(d):
        for k in range(d):
            s[j, k] = (1 - shrinkage) * s[j, k] + (shrinkage * spread if j == k else 0.0)
    return s


DISTANCES = {
    "euclidean": euclidean,
    "squared_euclidean": squared_euclidean,
    "manhattan": manhattan,
    "chebyshev": chebyshev,
    "cosine_distance": cosine_distance,
}


def pairwise(distance, x, y):
    return np.array([[distance(a, b) for b in y] for a in x]).reshape(len(x), len(y))


# --- modality correlation, CorMulT 3.2.3 and eq 8 ---------------------------------------------


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


# --- distillation, MFON eq 6 -----------------------------------------------------------------


def log_shares(row, temperature):
    logits = [float(v) / temperature for v in row]
    top = max(logits)
    log_sum = top + math.log(math.fsum(math.exp(v - top) for v in logits))
    return [v - log_sum for v in logits]


def kl_row(student, teacher, temperature, direction):
    log_q, log_p = log_shares(student, temperature), log_shares(teacher, temperature)
    if direction == "student_teacher":
        log_p, log_q = log_q, log_p
    terms = [math.exp(a) * (a - b) for a, b in zip(log_p, log_q, strict=True)]
    return temperature**2 * math.fsum(terms)


def kl_distill(
    student,
    teacher,
    *,
    temperature=1.0,
    direction="teacher_student",
    mask=None,
    weight=None,
    reduction="mean",
):
    values = []
    for i in range(len(student)):
        xs, ys = steps(student[i]), steps(teacher[i])
        shown = [True] * len(xs) if mask is None else np.atleast_1d(mask[i])
        found = [
            kl_row(x, y, temperature, direction)
            for x, y, real in zip(xs, ys, shown, strict=True)
            if real
        ]
        values.append(math.fsum(found) / len(found) if found else None)
    return reduce(values, weight, reduction)


# --- multi-level contrast, MCL-MCF eq 5, 12, 18 and table 7 ------------------------------------


def design_masks(design, n, labels):
    """Table 7 in words (L13): who is positive to whom, and who is compared at all."""
    positives = np.zeros((n, n), dtype=bool)
    kept = np.zeros((n, n), dtype=bool)
    for i in range(n):
        for j in range(n):
            if design == "A":
                positives[i, j] = i == j
                kept[i, j] = True
                continue
            if labels[i] == IGNORE or labels[j] == IGNORE:
                continue
            alike = labels[i] == labels[j]
            positives[i, j] = i == j if design == "B" else alike and i != j
            kept[i, j] = positives[i, j] or not alike
    return positives, kept


def multilevel_contrast(
    levels,
    *,
    pair_design="A",
    labels=None,
    positives=None,
    keep=None,
    symmetric=True,
    **options,
):
    """{level: the sum of Algorithm 1 over its pairs}; a pair's third member says who has it."""
    values = {}
    for name, pairs in levels.items():
        value = 0.0
        for x, y, *present in pairs:
            n = len(x)
            chosen, kept = design_masks(pair_design, n, labels)
            chosen = chosen if positives is None else positives
            for i in range(n):
                for j in range(n):
                    if keep is not None and not keep[i][j]:
                        kept[i, j] = False
                    if present and not (present[0][i] and present[0][j]):
                        kept[i, j] = False
            loss = symmetric_info_nce if symmetric else info_nce
            value = value + loss(x, y, positives=chosen, keep=kept, **options)
        values[name] = value
    return values


# --- chance --------------------------------------------------------------------------------------


def p_value(counts, expected, degrees):
    """How likely a chi-square as large as this one is, if the expected counts are true."""
    gaps = [(c - e) ** 2 / e for c, e in zip(counts, expected, strict=True)]
    halves = torch.tensor([degrees / 2, math.fsum(gaps) / 2], dtype=torch.float64)
    return torch.special.gammaincc(*halves).item()


# --- TeCaFN --------------------------------------------------------------------------------------


def outcome_probabilities(p, modalities):
    """Table 2 for any number of modalities: labels (1 kept, 0 replaced) -> probability."""
    return {
        outcome: math.prod(1 - p if kept else p for kept in outcome)
        for outcome in itertools.product((1, 0), repeat=modalities)
    }


def replacements(indices, valid):
    """For each sample, the others that may replace it."""
    return [
        [int(j) for j, ok in zip(row, marks, strict=True) if ok and int(j) != i]
        for i, (row, marks) in enumerate(zip(indices, valid, strict=True))
    ]


def pair_prediction(logits, paired, *, weight=None, keep=None, reduction="mean"):
    """Eq. 14 through the softmax's own quotient."""
    values = []
    for i, (row, label) in enumerate(zip(logits, paired, strict=True)):
        if label == -100 or (keep is not None and not keep[i]):
            values.append(None)
            continue
        top = max(row)
        shares = [math.exp(z - top) for z in row]
        values.append(-math.log(shares[label] / math.fsum(shares)))
    return reduce(values, weight, reduction)


# --- CorMulT -------------------------------------------------------------------------------------


def real_frames(shape, there, mask, length):
    """(B, T) lists of who is real; a vector is one frame. The mask outranks the length."""
    rows = []
    for i in range(shape[0]):
        if len(shape) == 1:
            row = [True]
        elif mask is not None:
            row = [bool(m) for m in mask[i]]
        elif length is not None:
            row = [t < int(length[i]) for t in range(shape[1])]
        else:
            row = [True] * shape[1]
        rows.append([r and (there is None or bool(there[i])) for r in row])
    return rows


def swap_choices(has, allowed=None):
    """For each sample, what strategy A may do, with its probability: {(modality, partner): p}."""
    choices = []
    for i in range(len(next(iter(has.values())))):
        partners = {}
        for name, who in has.items():
            others = [
                j
                for j in range(len(who))
                if j != i and who[i] and who[j] and (allowed is None or allowed[i][j])
            ]
            if others:
                partners[name] = others
        choices.append(
            {
                (name, j): 1 / len(partners) / len(others)
                for name, others in partners.items()
                for j in others
            }
        )
    return choices


def shifted(frames, real, steps, end):
    """One sequence and its mask, `steps` frames ahead; one real frame stays at least."""
    places = [t for t, r in enumerate(real) if r]
    steps = max(0, min(steps, len(places) - 1))
    moved, mask = list(frames), list(real)
    for rank, t in enumerate(places):
        if rank + steps < len(places):
            moved[t] = frames[places[rank + steps]]
        else:
            moved[t], mask[t] = end, False
    return moved, mask, steps


def deviations(frames, real):
    """Standard deviation of each feature over the real frames of all samples."""
    samples = zip(frames, real, strict=True)
    kept = [f for row, marks in samples for f, r in zip(row, marks, strict=True) if r]
    found = []
    for column in zip(*kept, strict=True):
        mean = math.fsum(column) / len(column)
        found.append(math.sqrt(math.fsum((v - mean) ** 2 for v in column) / len(column)))
    return found


# --- masks -----------------------------------------------------------------------------------


def pair_mask(left, right, related):
    return np.array([[bool(related(a, b)) for b in right] for a in left], dtype=bool).reshape(
        len(left), len(right)
    )


# --- gradients -------------------------------------------------------------------------------


def central_differences(function, x, step=1e-5):
    """d function / d x, one entry at a time; `function` takes a numpy array, returns a number."""
    x = np.array(x, dtype=np.float64)
    gradient = np.zeros_like(x)
    for place in np.ndindex(x.shape):
        up, down = x.copy(), x.copy()
        up[place] += step
        down[place] -= step
        gradient[place] = (function(up) - function(down)) / (2 * step)
    return gradient


# --- TeCaFN: the partner among the hard negatives ------------------------------------------------


def ranked_candidates(anchors, candidates, k, *, targets=None, allowed=None, after, normalize="l2"):
    """TeCaFN algorithm 1: per anchor the k best of the full row, the partner among them.

    With ``after`` the partner's place holds None, as the paper's code drops it when it draws.
    """
    found = []
    for i, row in enumerate(similarities(anchors, candidates, normalize)):
        own = i if targets is None else int(targets[i])
        pool = [j for j in range(len(row)) if allowed is None or allowed[i][j]]
        best = [pool[o] for o in lowest([-row[j] for j in pool], k)]
        found.append([None if after and j == own else (j, row[j]) for j in best])
    return found


# --- SigLIP ----------------------------------------------------------------------------------


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
    for i, row in enumerate(similarities(x, y, normalize)):
        kept = [j for j in range(len(row)) if keep is None or keep[i][j]]
        terms = []
        for j in kept:
            together = i == j if positives is None else bool(positives[i][j])
            z = 1.0 if together else -1.0
            terms.append(softplus(-z * (row[j] / temperature + bias)))
        values.append(math.fsum(terms) if keep is None or kept else None)
    return reduce(values, weight, reduction)
