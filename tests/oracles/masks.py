"""Labels, and masks by loops over pairs."""

import numpy as np

IGNORE = -100


def classes_of(labels):
    """Labels (B,) or (B, L) as a list of tuples; None where a sample has no label."""
    labels = np.asarray(labels)
    labels = labels[:, None] if labels.ndim == 1 else labels
    rows_of_labels = [tuple(row.tolist()) for row in labels]
    return [None if any(unlabelled(v) for v in row) else row for row in rows_of_labels]


def unlabelled(value):
    return value == IGNORE or value != value  # the second: NaN


def both_labelled(a, b):
    return not unlabelled(a) and not unlabelled(b)


def pair_mask(left, right, related):
    return np.array([[bool(related(a, b)) for b in right] for a in left], dtype=bool).reshape(
        len(left), len(right)
    )
