"""Rank-N-Contrast over ranks."""

import math

import torch

import mmcontrast as mm
from tests.ranks import run
from tests.ranks.distributed import batch
from tests.ranks.supervised import compare


def _scores(size):
    """Whole numbers, some equal, one missing."""
    scores = torch.randint(-3, 4, (size,), generator=torch.Generator().manual_seed(7)).double()
    scores[1] = math.nan
    return scores


def among_themselves(rank, world):
    x, _, own = batch(rank, world)
    scores, weight = _scores(len(x)), torch.linspace(0.5, 2, len(x), dtype=torch.float64)
    t = torch.tensor(0.7, dtype=torch.float64)
    for chunk_size in (None, 2):
        for distance in (mm.euclidean, lambda a, b: mm.manhattan(a, b)):

            def loss(i, group, x, t, reduction, chunk_size=chunk_size, distance=distance):
                return mm.rank_n_contrast(
                    x,
                    scores[i],
                    temperature=t,
                    distance=distance,
                    weight=weight[i],
                    reduction=reduction,
                    chunk_size=chunk_size,
                    group=group,
                )

            compare(
                lambda *args, loss=loss: loss(own, "world", *args),
                lambda *args, loss=loss: loss(slice(None), None, *args),
                (x, t),
                own,
                1e-12,
            )


def between(rank, world):
    x, y, own = batch(rank, world)
    scores = _scores(len(x))
    theirs = scores.flip(0)

    def loss(i, group, x, y, reduction):
        return mm.rank_n_contrast(x, scores[i], y, theirs[i], reduction=reduction, group=group)

    compare(
        lambda *args: loss(own, "world", *args),
        lambda *args: loss(slice(None), None, *args),
        (x, y),
        own,
        1e-12,
    )


if __name__ == "__main__":
    run(globals())
