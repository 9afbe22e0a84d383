"""Every public miner and distance of mmcontrast with what it claims, for the suite's door."""

from functools import partial

import torch

import mmcontrast as mm
from mmcontrast.testing import Vary
from mmcontrast.testing.traits import as_traits

DTYPES = dict.fromkeys((torch.float32, torch.bfloat16, torch.float16))


def raw_dot(x, y):
    """Far where the dot product is small, as the similarity of rows without a map."""
    return -(x * y).sum(-1)


def up_to(k):
    return lambda possible: min(k, possible)


def miner(found, **claims):
    return found, as_traits({"kind": "miner", "dtypes": DTYPES, **claims})


def by_label(found, **claims):
    usual = {"kind": "labelled_miner", "dtypes": DTYPES, "ignore_index": -100}
    return found, as_traits({**usual, **claims})


def distance(found, **claims):
    usual = {"kind": "distance", "dtypes": DTYPES, "translation_invariant": True, "degree": 1}
    return found, as_traits({**usual, **claims})


def hardest_pairs(z, labels, *, fraction=0.4):
    """HyCon-v2's pairs, as masks."""
    rows = mm.l2_normalize(z.double())
    there = labels != -100
    return mm.select_pairs(
        rows @ rows.T,
        mm.same_label(labels) & mm.off_diagonal(len(z)),
        mm.different_label(labels),
        selection=mm.PairSelection(fraction),
        batch_size=there.sum(),
    )


def negatives_by_label(z, labels, *, k=2):
    """The k most similar rows of other labels."""
    return mm.hard_negatives(z, z, k, labels=labels, exclude_positive=False)


def drawn_of_the_hardest(a, b):
    return mm.hard_negatives(a, b, 1, sample=3)


def uniform(a, b, *, k=2):
    return mm.uniform_negatives(a, k)


DRAWN = {
    "hardest": (),
    "deterministic": False,
    **dict.fromkeys(("permutation_invariant", "normalized", "rotation_invariant"), False),
}
HARD = {"factory": Vary(mm.hard_negatives, "k"), "count": up_to(2)}
OWN_MINERS = {
    "hard_negatives": miner(partial(mm.hard_negatives, k=2), **HARD),
    "hard_negatives:in chunks": miner(
        partial(mm.hard_negatives, k=2, chunk_size=2), count=up_to(2)
    ),
    "hard_negatives:of raw rows": miner(
        partial(mm.hard_negatives, k=2, normalize=None),
        factory=Vary(mm.hard_negatives, "k", {"normalize": None}),
        distance=raw_dot,
        normalized=False,
    ),
    **{
        f"hard_negatives:{measure.__name__}": miner(
            partial(mm.hard_negatives, k=2, distance=measure),
            factory=Vary(mm.hard_negatives, "k", {"distance": measure}),
            distance=measure,
            normalized=False,
            rotation_invariant=measure is mm.euclidean,
        )
        for measure in (mm.euclidean, mm.manhattan, mm.chebyshev)
    },
    "hard_negatives:afterwards": miner(
        partial(mm.hard_negatives, k=2, exclude_positive="after"), hardest=()
    ),
    "hard_negatives:semi-hard": miner(partial(mm.hard_negatives, k=1, semi_hard=0.3), hardest=()),
    "hard_negatives:skipped": miner(partial(mm.hard_negatives, k=1, skip=1), hardest=()),
    "hard_negatives:drawn": miner(
        drawn_of_the_hardest, **{**DRAWN, "normalized": True}, count=up_to(1)
    ),
    "hard_negatives:by label": by_label(
        negatives_by_label, factory=Vary(negatives_by_label, "k"), count=up_to(2)
    ),
    "hard_triplets": by_label(mm.hard_triplets, count=up_to(1)),
    "hard_triplets:euclidean": by_label(
        partial(mm.hard_triplets, distance=mm.euclidean),
        distance=mm.euclidean,
        normalized=False,
        count=up_to(1),
    ),
    "hard_triplets:semi-hard": by_label(
        partial(mm.hard_triplets, semi_hard=0.3), hardest=("positives",)
    ),
    "uniform_negatives": miner(uniform, factory=Vary(uniform, "k"), count=up_to(2), **DRAWN),
    "select_pairs": by_label(hardest_pairs),
}

COVARIANCE = torch.tensor([[2.0, 0.5, 0.0], [0.5, 1.0, 0.3], [0.0, 0.3, 1.5]])
COSINE = {
    "metric": False,
    "normalized": True,
    "rotation_invariant": True,
    "translation_invariant": False,
    "bounds": (0.0, 2.0),
    "degree": 0,
}
ROUND = {"rotation_invariant": True}


def half_squared_of_unit_rows(x, y):
    """Law 34: 1 - cos is half the squared distance on the sphere."""
    return (mm.l2_normalize(x) - mm.l2_normalize(y)).square().sum(-1) / 2


def root_of_squares(x, y):
    return (x - y).square().sum(-1).sqrt()


def minkowski(x, y, *, order=3.0):
    return torch.linalg.vector_norm(x - y, ord=order, dim=-1)


def angle(x, y):
    """The angle of two rows, a metric on the sphere: law 33."""
    return 2 * ((mm.euclidean(mm.l2_normalize(x), mm.l2_normalize(y))) / 2).clamp(max=1).asin()


OWN_DISTANCES = {
    "euclidean": distance(mm.euclidean, **ROUND, reference=root_of_squares),
    "squared_euclidean": distance(mm.squared_euclidean, **ROUND, metric=False, degree=2),
    "manhattan": distance(mm.manhattan),
    "chebyshev": distance(mm.chebyshev),
    "cosine_distance": distance(mm.cosine_distance, **COSINE, reference=half_squared_of_unit_rows),
    "Mahalanobis": distance(mm.Mahalanobis(COVARIANCE), features=3),
    "Mahalanobis:learned": distance(mm.Mahalanobis.learned(3), features=3, **ROUND),
    "pairwise:euclidean": distance(
        partial(mm.pairwise, mm.euclidean), matrix=True, **ROUND, reference=root_of_squares
    ),
    "pairwise:squared_euclidean": distance(
        partial(mm.pairwise, mm.squared_euclidean), matrix=True, **ROUND, metric=False, degree=2
    ),
    "pairwise:manhattan": distance(partial(mm.pairwise, mm.manhattan), matrix=True),
    "pairwise:chebyshev": distance(partial(mm.pairwise, mm.chebyshev), matrix=True),
    "pairwise:cosine_distance": distance(
        partial(mm.pairwise, mm.cosine_distance), matrix=True, **COSINE
    ),
    "pairwise:Mahalanobis": distance(
        partial(mm.pairwise, mm.Mahalanobis(COVARIANCE)), matrix=True, features=3
    ),
    "pairwise:minkowski": distance(partial(mm.pairwise, minkowski), matrix=True),
}
