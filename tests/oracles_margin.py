"""Loops in float64 for distances, modality correlation, distillation and multi-level contrast.

Written from the equations of CorMulT, MFON and MCL-MCF, beside `tests/oracles.py` and under its
rules: nothing is vectorised beyond a dot product, and nothing is imported from `mmcontrast`.
"""

import math

import numpy as np

from tests.oracles import (
    IGNORE,
    euclidean,
    info_nce,
    is_present,
    reduce,
    squared_euclidean,
    symmetric_info_nce,
)

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
