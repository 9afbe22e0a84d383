"""The probability of counts at least as uneven as these."""

import math

import torch


def p_value(counts, expected, degrees):
    """How likely a chi-square as large as this one is, if the expected counts are true."""
    gaps = [(c - e) ** 2 / e for c, e in zip(counts, expected, strict=True)]
    halves = torch.tensor([degrees / 2, math.fsum(gaps) / 2], dtype=torch.float64)
    return torch.special.gammaincc(*halves).item()
