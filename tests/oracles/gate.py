"""TeCaFN's replacement gate and its pair prediction."""

import itertools
import math

from tests.oracles.reductions import reduce


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
