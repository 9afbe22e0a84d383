"""Hard negatives and hard triplets, by sorting."""

from tests.oracles.masks import classes_of
from tests.oracles.rows import similarities
from tests.oracles.selection import lowest


def hard_negatives(anchors, candidates, k, *, targets=None, allowed=None, normalize="l2"):
    """TeCaFN eq 7 and algorithm 1: [(index, score), ...] per anchor, hardest first."""
    sim = similarities(anchors, candidates, normalize)
    found = []
    for i, row in enumerate(sim):
        own = i if targets is None else int(targets[i])
        pool = [j for j in range(len(row)) if j != own and (allowed is None or allowed[i][j])]
        order = lowest([-row[j] for j in pool], k)
        found.append([(pool[o], row[pool[o]]) for o in order])
    return found


def hard_triplets(anchors, labels, *, normalize="l2"):
    """HyCon 4.5.7: [(anchor, least similar positive, most similar negative), ...].

    An anchor that lacks one of the two is its own.
    """
    sim = similarities(anchors, anchors, normalize)
    classes = classes_of(labels)
    found = []
    for i, row in enumerate(sim):
        others = [j for j in range(len(row)) if j != i and classes[j] is not None]
        pos = [j for j in others if classes[j] == classes[i]]
        neg = [j for j in others if classes[j] != classes[i]]
        if classes[i] is None or not pos or not neg:
            found.append((i, i, i))
            continue
        hardest_pos = pos[lowest([row[j] for j in pos], 1)[0]]
        hardest_neg = neg[lowest([-row[j] for j in neg], 1)[0]]
        found.append((i, hardest_pos, hardest_neg))
    return found


def ranked_candidates(anchors, candidates, k, *, targets=None, allowed=None, after, normalize="l2"):
    """TeCaFN algorithm 1: per anchor the k best of the full row, the partner among them.

    With ``after`` the partner's place holds None, as the paper's code drops it when it draws.
    """
    found = []
    for i, row in enumerate(similarities(anchors, candidates, normalize)):
        own = i if targets is None else int(targets[i])
        pool = [j for j in range(len(row)) if allowed is None or allowed[i][j]]
        best = [pool[o] for o in lowest([-row[j] for j in pool], k)]
        found.append([None if after and j == own else (j, row[j]) for j in best])
    return found
