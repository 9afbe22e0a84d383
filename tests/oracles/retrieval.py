"""Retrieval metrics by their definitions: orders of the candidates, one by one."""

from itertools import permutations


def first_rank(scores, positives):
    """Mean rank of the first positive over all orders that equal scores may have; 0 for none."""
    if not any(positives):
        return 0.0
    ranks = []
    for order in permutations(range(len(scores))):
        line = sorted(order, key=lambda j: -scores[j])  # stable: ties stay in this order
        ranks.append(1 + next(k for k, j in enumerate(line) if positives[j]))
    return sum(ranks) / len(ranks)


def expected_rank(score, scores):
    """1 and the number above, and half of the others at it."""
    above = sum(s > score for s in scores)
    return 1 + above + (sum(s == score for s in scores) - 1) / 2


def average_precision(scores, positives):
    """Mean over the positives of the share of positives up to each one's expected rank."""
    own = [s for s, positive in zip(scores, positives, strict=True) if positive]
    shares = [expected_rank(s, own) / expected_rank(s, scores) for s in own]
    return sum(shares) / len(shares) if shares else 0.0


def median(values):
    """The middle one, or the mean of the two in the middle; 0 for none."""
    line = sorted(values)
    if not line:
        return 0.0
    return (line[(len(line) - 1) // 2] + line[len(line) // 2]) / 2
