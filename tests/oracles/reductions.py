"""Reductions of values for each anchor, and the sum in log space."""

import math

import numpy as np


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
