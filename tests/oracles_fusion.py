"""Cross-sample fusion and negative batches as plain loops, one sample and one frame at a time."""

import itertools
import math

import torch

from tests.oracles import reduce

# --- chance --------------------------------------------------------------------------------------


def p_value(counts, expected, degrees):
    """How likely a chi-square as large as this one is, if the expected counts are true."""
    gaps = [(c - e) ** 2 / e for c, e in zip(counts, expected, strict=True)]
    halves = torch.tensor([degrees / 2, math.fsum(gaps) / 2], dtype=torch.float64)
    return torch.special.gammaincc(*halves).item()


# --- TeCaFN --------------------------------------------------------------------------------------


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


# --- CorMulT -------------------------------------------------------------------------------------


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
    kept = [f for row, marks in zip(frames, real, strict=True) for f, r in zip(row, marks) if r]  # noqa: B905
    found = []
    for column in zip(*kept, strict=True):
        mean = math.fsum(column) / len(column)
        found.append(math.sqrt(math.fsum((v - mean) ** 2 for v in column) / len(column)))
    return found
