"""Batch-hard triplets of rows: one operator under a compiler."""

import math
from typing import Any

import torch
from torch import Tensor

from mmcontrast.collectives import named
from mmcontrast.distances import Distance
from mmcontrast.distributed import joined
from mmcontrast.eager import is_eager, known_finite
from mmcontrast.exact import ranking
from mmcontrast.exact.choose import ranked_at_a_time
from mmcontrast.exact.closeness import MEASURES, all_closeness
from mmcontrast.exact.corpus import Corpus
from mmcontrast.exact.limits import semi_hard_bounds
from mmcontrast.exact.nearest import Among, nearest
from mmcontrast.exact.operators import as_operator_without_gradients
from mmcontrast.masks import ignoring
from mmcontrast.presence import zero_outside
from mmcontrast.wide import widen_products


def _empty_triplets(rows: Tensor, *_: Any) -> tuple[Tensor, Tensor, Tensor]:
    first, second, third = (rows.new_empty(rows.shape[0], dtype=torch.int64) for _ in range(3))
    return first, second, third


@as_operator_without_gradients(_empty_triplets)
def hardest_triplets(
    rows: Tensor,
    labels: Tensor,
    raw: bool,
    chunk_size: int | None,
    group: str,
    measure: int,
    semi_hard: float | None,
) -> tuple[Tensor, Tensor, Tensor]:
    """:func:`hard_triplets` of mapped rows: index tensors (a, p, n), (B,) int64 each.

    Args:
        rows: (B, D) this rank's anchors.
        labels, chunk_size, semi_hard: as in :func:`hard_triplets`.
        raw: whether no row map bounds the rows.
        group: name of the process group; empty without one.
        measure: which of ``MEASURES``.
    """
    return triplets_of(rows, labels, raw, chunk_size, group, MEASURES[measure], semi_hard)


def triplets_of(
    rows: Tensor,
    labels: Tensor,
    raw: bool,
    chunk_size: int | None,
    group: str,
    distance: Distance | None,
    semi_hard: float | None,
) -> tuple[Tensor, Tensor, Tensor]:
    """The same with any distance."""
    ranks = named(group)
    if not known_finite(rows):
        finite = rows.isfinite().all(1)
        rows, labels = zero_outside(rows, finite), ignoring(labels, finite)
    plain = distance is None and semi_hard is None
    if raw and plain:
        rows, _ = widen_products(rows, rows, group=ranks)
    rows, here = joined(rows, ranks)  # (N of all ranks, D)
    labels, _ = joined(labels, ranks)  # (N,) or (N, L)
    own = torch.arange(here.start, here.stop, device=rows.device)  # (B,)
    step = ranked_at_a_time(rows, labels, chunk_size)
    if not plain and is_eager(rows, labels):
        among = own, labels[here], labels
        positive, negative, found = _searched(rows, here, among, distance, semi_hard, chunk_size)
    elif step is None:
        positive, negative, found = ranking.batch_hard_at_once(
            all_closeness(distance, rows[here], rows), labels, here, semi_hard
        )
    else:
        positive, negative, found = ranking.batch_hard(rows, labels, own, step)
    return own, torch.where(found, positive, own), torch.where(found, negative, own)


def _searched(
    rows: Tensor,
    here: slice,
    among: tuple[Tensor, Tensor, Tensor],
    distance: Distance | None,
    semi_hard: float | None,
    chunk_size: int | None,
) -> tuple[Tensor, Tensor, Tensor]:
    """The least close positive, the closest negative that may be one, and whether both exist."""
    own, labels, others = among
    corpus, x = Corpus(rows, None, rows.device), rows[here]
    same, apart = Among(own, None, labels, others, same=True), Among(None, None, labels, others)
    way: Any = {"distance": distance, "chunk_size": chunk_size}
    away, positive = (v[:, 0] for v in nearest(x, corpus, 1, among=same, farthest=True, **way))
    bounds = None if semi_hard is None else semi_hard_bounds(-away, semi_hard)
    close, negative = (v[:, 0] for v in nearest(x, corpus, 1, among=apart, bounds=bounds, **way))
    return positive, negative, (away > -math.inf) & (close > -math.inf)
