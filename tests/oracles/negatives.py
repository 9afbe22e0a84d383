"""CorMulT's negative strategies: which frames are real, and what each strategy may do."""

import math


def real_frames(shape, there, mask, length):
    """(B, T) lists of who is real; a vector is one frame. The mask outranks the length."""
    rows = []
    for i in range(shape[0]):
        if len(shape) == 1:
            row = [True]
        elif mask is not None:
            row = [bool(m) for m in mask[i]]
        elif length is not None:
            row = [t < int(length[i]) for t in range(shape[1])]
        else:
            row = [True] * shape[1]
        rows.append([r and (there is None or bool(there[i])) for r in row])
    return rows


def swap_choices(has, allowed=None):
    """For each sample, what strategy A may do, with its probability: {(modality, partner): p}."""
    choices = []
    for i in range(len(next(iter(has.values())))):
        partners = {}
        for name, who in has.items():
            others = [
                j
                for j in range(len(who))
                if j != i and who[i] and who[j] and (allowed is None or allowed[i][j])
            ]
            if others:
                partners[name] = others
        choices.append(
            {
                (name, j): 1 / len(partners) / len(others)
                for name, others in partners.items()
                for j in others
            }
        )
    return choices


def shifted(frames, real, steps, end):
    """One sequence and its mask, `steps` frames ahead; one real frame stays at least."""
    places = [t for t, r in enumerate(real) if r]
    steps = max(0, min(steps, len(places) - 1))
    moved, mask = list(frames), list(real)
    for rank, t in enumerate(places):
        if rank + steps < len(places):
            moved[t] = frames[places[rank + steps]]
        else:
            moved[t], mask[t] = end, False
    return moved, mask, steps


def deviations(frames, real):
    """Standard deviation of each feature over the real frames of all samples."""
    samples = zip(frames, real, strict=True)
    kept = [f for row, marks in samples for f, r in zip(row, marks, strict=True) if r]
    found = []
    for column in zip(*kept, strict=True):
        mean = math.fsum(column) / len(column)
        found.append(math.sqrt(math.fsum((v - mean) ** 2 for v in column) / len(column)))
    return found
