"""Distances of CorMulT 4.3 and the Euclidean ones, one pair of rows at a time."""

import math

import numpy as np


def euclidean(x, y):
    return math.sqrt(squared_euclidean(x, y))


def squared_euclidean(x, y):
    return math.fsum((float(a) - float(b)) ** 2 for a, b in zip(x, y, strict=True))


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
