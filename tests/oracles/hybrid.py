"""HyCon's terms, eq 6 to 16, by loops over anchors and pairs."""

import math

import numpy as np

from tests.oracles.masks import classes_of
from tests.oracles.ratio import negated_share
from tests.oracles.reductions import reduce
from tests.oracles.rows import clean, is_present, rows
from tests.oracles.selection import how_many, lowest, soft_weights


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
