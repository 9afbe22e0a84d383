"""Multi-level contrast, MCL-MCF eq 5, 12, 18 and table 7, by loops."""

import numpy as np

from tests.oracles.infonce import info_nce, symmetric_info_nce
from tests.oracles.masks import IGNORE


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
