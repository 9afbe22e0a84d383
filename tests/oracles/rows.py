"""Rows: the row maps as loops, similarities, and rows of whom nothing may be read."""

import math

import numpy as np


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


def is_present(present, name, i):
    return present is None or name not in present or bool(present[name][i])


def clean(x, has):
    """Absent rows may hold anything: replace them, so that a stray use stays finite here."""
    x = np.array(x, dtype=np.float64)
    for i, there in enumerate(has):
        if not there:
            x[i] = 1.0
    return x
