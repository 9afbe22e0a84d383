"""Distillation, MFON eq 6, by loops."""

import math

import numpy as np

from tests.oracles.correlation import steps
from tests.oracles.reductions import reduce


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
