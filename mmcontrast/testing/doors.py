"""Miners and distances through the door of losses: the same laws' catalogue, report and command."""

from collections.abc import Callable, Mapping
from typing import Any

import torch

from mmcontrast import arguments
from mmcontrast.testing.report import CheckReport
from mmcontrast.testing.suite import report_on
from mmcontrast.testing.traits import DISTANCE, MINED, MINERS, Loss, Traits, as_traits


def check_miner(
    miner: Loss,
    *,
    kind: str = "miner",
    hardest: tuple[str, ...] = MINED,
    distance: Loss | None = None,
    count: Callable[[int], int] | None = None,
    factory: Callable[[int], Loss] | None = None,
    normalized: bool = True,
    rotation_invariant: bool = True,
    permutation_invariant: bool = True,
    relabelling_invariant: bool = True,
    ignore_index: int | None = None,
    deterministic: bool = True,
    features: int | None = None,
    unit: bool = False,
    smallest: int = 1,
    stateful: bool = False,
    dtypes: Mapping[torch.dtype, float | None] | None = None,
    tol: float = 1e-8,
    **options: Any,
) -> CheckReport:
    """Check a miner against the laws that it claims: who may be chosen, the hardest, how many.

    What it returns is read as (N, K) indices of the candidates, alone or as ``.indices`` with a
    bool ``.valid``, as :func:`mmcontrast.hard_negatives` gives them; as index tensors (a, p, n) of
    triplets or (a, p, a, n) of pairs, as pytorch-metric-learning's miners give them; or as bool
    (N, N) masks, of the negatives, or of the positives and of the negatives. A triplet (a, a, a)
    says that the anchor has none.

    Args:
        miner: a function, a Module, or a class, as in :func:`check_contrastive_loss`.
        kind: ``"miner"``, called with anchors and candidates (a, b), both (N, D), whose rows belong
            together; ``"labelled_miner"``, with (z, labels).
        hardest, distance, count, factory, normalized, rotation_invariant, permutation_invariant,
            relabelling_invariant, ignore_index, deterministic, features, unit, smallest, stateful,
            dtypes, tol: the traits that it claims, see :class:`Traits`. A miner that draws says
            ``hardest=()`` and ``deterministic=False``; where its draws depend on the order,
            ``permutation_invariant``, ``normalized`` and ``rotation_invariant`` are False too.
        options: ``checks``, ``exclude``, ``expected_failures``, ``max_examples``, ``seed``,
            ``shrink`` and ``on_fail``, as in :func:`check_contrastive_loss`.

    Raises:
        LawsBroken: an AssertionError, unless every law holds, or with ``on_fail="report"``.
        ValueError: on another kind, an unknown name of a law, or traits that exclude each other.

    Example:
        >>> from functools import partial
        >>> from mmcontrast import hard_negatives, hard_triplets
        >>> two = partial(hard_negatives, k=2)
        >>> check_miner(two, count=lambda possible: min(2, possible), max_examples=5).ok
        True
        >>> check_miner(hard_triplets, kind="labelled_miner", max_examples=5).ok
        True

        One that forgot to leave out the partner:

        >>> def nearest(anchors, candidates):
        ...     return (anchors @ candidates.T).topk(1).indices
        >>> report = check_miner(nearest, max_examples=5, on_fail="report")
        >>> "negatives_are_others" in report.failed
        True
    """
    stated = dict(locals())
    for name in ("miner", "options", "dtypes"):
        del stated[name]
    arguments.one_of("kind", kind, MINERS)
    return report_on(miner, _traits_with(stated, dtypes), **{"on_fail": "raise", **options})


def check_distance(
    distance: Loss,
    *,
    metric: bool = True,
    symmetric: bool = True,
    nonnegative: bool = True,
    translation_invariant: bool = False,
    rotation_invariant: bool = False,
    normalized: bool = False,
    degree: float | None = None,
    bounds: tuple[float, float] | None = None,
    matrix: bool = False,
    features: int | None = None,
    unit: bool = False,
    smooth: bool = True,
    stateful: bool = False,
    reference: Loss | None = None,
    dtypes: Mapping[torch.dtype, float | None] | None = None,
    tol: float = 1e-8,
    **options: Any,
) -> CheckReport:
    """Check a distance of rows against the laws that it claims: axioms, gradient and rounding.

    Args:
        distance: (..., D), (..., D) -> (...), a function, a Module, or a class; with ``matrix``,
            (N, D), (M, D) -> (N, M).
        metric, symmetric, nonnegative, translation_invariant, rotation_invariant, normalized,
            degree, bounds, matrix, features, unit, smooth, stateful, reference, dtypes, tol: the
            traits that it claims, see :class:`Traits`.
        options: ``checks``, ``exclude``, ``expected_failures``, ``max_examples``, ``seed``,
            ``shrink`` and ``on_fail``, as in :func:`check_contrastive_loss`.

    Raises:
        LawsBroken: an AssertionError, unless every law holds, or with ``on_fail="report"``.
        ValueError: on an unknown name of a law.

    Example:
        >>> from mmcontrast import cosine_distance, euclidean
        >>> check_distance(euclidean, degree=1, translation_invariant=True, max_examples=5).ok
        True

        The cosine distance is no metric; squares and roots change that:

        >>> report = check_distance(cosine_distance, max_examples=50, on_fail="report")
        >>> "triangle_inequality" in report.failed
        True
        >>> check_distance(cosine_distance, metric=False, bounds=(0, 2), max_examples=5).ok
        True
    """
    stated = {**locals(), "kind": DISTANCE}
    for name in ("distance", "options", "dtypes"):
        del stated[name]
    return report_on(distance, _traits_with(stated, dtypes), **{"on_fail": "raise", **options})


def _traits_with(
    stated: dict[str, Any], dtypes: Mapping[torch.dtype, float | None] | None
) -> Traits:
    return as_traits(stated if dtypes is None else {**stated, "dtypes": dtypes})
