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


def limited_candidates(
    anchors,
    candidates,
    k,
    *,
    distance=None,
    targets=None,
    allowed=None,
    skip=0,
    below=None,
    above=None,
    margin=None,
    relative_margin=None,
    semi_hard=None,
):
    """[(index, score), ...] per anchor of raw rows, hardest first, of those that all limits pass.

    Scores are dot products, of which high ones are hard, or distances, of which low ones are.
    """

    def passes(score, partner):
        """By how much the candidate is less close than the partner, which may be None."""
        if (below is not None and score > below) or (above is not None and score < above):
            return False
        if partner is None:
            return semi_hard is None
        closeness, own = (score, partner) if distance is None else (-score, -partner)
        if margin is not None and closeness > own - margin:
            return False
        if relative_margin is not None and closeness > own - relative_margin * abs(own):
            return False
        return semi_hard is None or own - semi_hard <= closeness < own

    found = []
    for i, a in enumerate(anchors):
        own = i if targets is None else int(targets[i])
        scores = [float(a @ c) if distance is None else distance(a, c) for c in candidates]
        partner = scores[own] if own >= 0 else None
        pool = [
            j
            for j, score in enumerate(scores)
            if j != own and (allowed is None or allowed[i][j]) and passes(score, partner)
        ]
        sign = -1 if distance is None else 1
        order = lowest([sign * scores[j] for j in pool], skip + k)[skip:]
        found.append([(pool[o], scores[pool[o]]) for o in order])
    return found


def distant_triplets(rows, labels, distance, *, semi_hard=None):
    """[(anchor, farthest positive, closest negative), ...], (i, i, i) for an anchor without both.

    With ``semi_hard`` the negative is farther than the positive, by at most that.
    """
    classes = classes_of(labels)
    found = []
    for i, a in enumerate(rows):
        away = [distance(a, b) for b in rows]
        others = [j for j in range(len(rows)) if j != i and classes[j] is not None]
        pos = [j for j in others if classes[j] == classes[i]]
        neg = [j for j in others if classes[j] != classes[i]]
        if classes[i] is None or not pos:
            found.append((i, i, i))
            continue
        p = pos[lowest([-away[j] for j in pos], 1)[0]]
        if semi_hard is not None:
            neg = [j for j in neg if away[p] < away[j] <= away[p] + semi_hard]
        n = neg[lowest([away[j] for j in neg], 1)[0]] if neg else None
        found.append((i, i, i) if n is None else (i, p, n))
    return found
