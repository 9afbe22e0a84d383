"""What distances are tried on: a covariance, and a sum over pairs."""

import torch

from tests.mmcontrast.strategies import numpy, orthogonal


def covariance(seed, d):
    """Symmetric, its eigenvalues from 0.5 to 2.5."""
    q = orthogonal(seed, d)
    spread = torch.linspace(0.5, 2.5, d, dtype=torch.float64)
    return q * spread @ q.T


def paired(distance, x, y):
    return [distance(a, b) for a, b in zip(numpy(x), numpy(y), strict=True)]
