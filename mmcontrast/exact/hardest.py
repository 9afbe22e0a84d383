"""The hardest candidates of rows that are mapped already: one operator each under a compiler."""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from mmcontrast import arguments
from mmcontrast.distributed import joined, named
from mmcontrast.eager import is_eager, known, known_finite
from mmcontrast.exact import ranking
from mmcontrast.exact.choose import ranked_at_a_time
from mmcontrast.exact.operators import as_operator_without_gradients
from mmcontrast.exact.ties import tied_dot
from mmcontrast.exact.topk import filled, top_at_once
from mmcontrast.masks import different_label, ignoring
from mmcontrast.presence import zero_outside
from mmcontrast.wide import narrow, widen_products

# --- hard negatives ------------------------------------------------------------------------------


def _empty_candidates(x: Tensor, y: Tensor, k: int, *others: Any) -> tuple[Tensor, Tensor, Tensor]:
    exclude, *_, group = others[4:]
    size = x.shape[0], k if group else _places(k, y.shape[0], exclude)
    scores = x.new_empty(size, dtype=torch.promote_types(x.dtype, y.dtype))
    return x.new_empty(size, dtype=torch.int64), scores, x.new_empty(size, dtype=torch.bool)


@as_operator_without_gradients(_empty_candidates)
def hardest_candidates(
    x: Tensor,
    y: Tensor,
    k: int,
    targets: Tensor | None,
    allowed: Tensor | None,
    labels: Tensor | None,
    candidate_labels: Tensor | None,
    exclude: str,
    raw: bool,
    chunk_size: int | None,
    start: int,
    group: str,
) -> tuple[Tensor, Tensor, Tensor]:
    """:func:`hard_negatives` of mapped rows: indices, scores and which are valid, (B, K) each.

    Args:
        x: (B, D) anchors.
        y: (C, D) candidates.
        k, targets, allowed, labels, candidate_labels, chunk_size: as in :func:`hard_negatives`.
        exclude: when the partner is removed: ``"before"`` the top k are taken, ``"after"``, or
            ``"never"``.
        raw: whether no row map bounds the rows.
        start: which candidate belongs to the first anchor, where there are no targets.
        group: name of the process group whose candidates are still to be gathered. Their number is
            not known beforehand, so K is k then, and places beyond them are not valid.
    """
    theirs = labels if candidate_labels is None else candidate_labels
    ranks = named(group)
    if ranks is not None:
        y, here = joined(y, ranks)
        start = here.start
        theirs = None if theirs is None else joined(theirs, ranks)[0]
    size = x.shape[0], y.shape[0]
    if allowed is not None:
        arguments.mask("allowed", allowed, size)
    count = _places(k, size[1], exclude)
    if x.is_cpu and is_eager(x, y) and not (known_finite(x) and known_finite(y)):
        finite = [rows.isfinite().all(1) for rows in (x, y)]  # (B,), (C,)
        x, y = zero_outside(x, finite[0]), zero_outside(y, finite[1])
        labels, theirs = _labels_of(finite, labels, theirs)
    given = x
    if raw:
        x, y = widen_products(x, y)
    step = ranked_at_a_time(x, y, chunk_size)
    if step is None:
        if labels is not None:
            different = different_label(labels, None if theirs is labels else theirs)
            allowed = different if allowed is None else allowed & different
        scores = tied_dot(x, y)  # (B, C)
        # The partner is usually the most similar candidate: left in, it would take one of the k
        # places. So its score becomes minus infinity before the top k are taken. An anchor without
        # a partner writes candidate 0's score back unchanged, which keeps all shapes fixed.
        if exclude == "before" and targets is None:
            scores.diagonal(start).fill_(-math.inf)
        elif exclude == "before" and size[1] > 0:
            own = _partners(x, targets, start)
            at = own.clamp_min(0)[:, None]  # (B, 1)
            out = torch.where(own[:, None] < 0, scores.gather(1, at), -math.inf)
            scores = scores.scatter(1, at, out)
        if allowed is not None:
            scores = filled(scores, ~allowed, -math.inf)
        scores, indices = top_at_once(scores, count)  # (B, K)
    else:
        banned = _partners(x, targets, start) if exclude == "before" else None
        apart = None if labels is None or theirs is None else (labels, theirs)
        scores, indices = ranking.highest(x, y, count, step, banned, allowed, apart)
    if exclude == "after":
        own = _partners(x, targets, start)
        scores = torch.where(indices != own[:, None], scores, -math.inf)
    if ranks is not None:
        missing = 0, k - count
        scores, indices = F.pad(scores, missing, value=-math.inf), F.pad(indices, missing)
    valid = scores > -math.inf
    if x is not given:
        scores = narrow(torch.where(valid, scores, 0))
    # All valid, the usual case: nothing to mask.
    if is_eager() and known(valid.all()):
        return indices.contiguous(), scores.contiguous(), valid
    return torch.where(valid, indices, 0), torch.where(valid, scores, 0), valid


def _places(k: int, size: int, exclude: str) -> int:
    """How many of so many candidates there are to return."""
    return min(k, max(size - 1, 0) if exclude == "before" else size)


def _labels_of(
    finite: list[Tensor], labels: Tensor | None, candidate_labels: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Labels that keep rows outside the masks (B,) and (C,) apart from everything, by -100."""
    if labels is None or candidate_labels is None:  # any two that differ
        labels, candidate_labels = finite[0].long(), 2 * finite[1].long()
    return ignoring(labels, finite[0]), ignoring(candidate_labels, finite[1])


def _partners(anchors: Tensor, targets: Tensor | None, start: int) -> Tensor:
    """(B,) index of each anchor's partner among all ranks' candidates; negative for none.

    ``start`` is the index of this rank's first candidate.
    """
    if targets is None:
        return torch.arange(start, start + anchors.shape[0], device=anchors.device)
    return torch.where(targets < 0, targets, targets + start) if start else targets


# --- batch-hard triplets -------------------------------------------------------------------------


def _empty_triplets(rows: Tensor, *_: Any) -> tuple[Tensor, Tensor, Tensor]:
    first, second, third = (rows.new_empty(rows.shape[0], dtype=torch.int64) for _ in range(3))
    return first, second, third


@as_operator_without_gradients(_empty_triplets)
def hardest_triplets(
    rows: Tensor, labels: Tensor, raw: bool, chunk_size: int | None, group: str
) -> tuple[Tensor, Tensor, Tensor]:
    """:func:`hard_triplets` of mapped rows: index tensors (a, p, n), (B,) int64 each.

    Args:
        rows: (B, D) this rank's anchors.
        labels, chunk_size: as in :func:`hard_triplets`.
        raw: whether no row map bounds the rows.
        group: name of the process group; empty without one.
    """
    ranks = named(group)
    if not known_finite(rows):
        finite = rows.isfinite().all(1)
        rows, labels = zero_outside(rows, finite), ignoring(labels, finite)
    if raw:
        rows, _ = widen_products(rows, rows, group=ranks)
    rows, here = joined(rows, ranks)  # (N of all ranks, D)
    labels, _ = joined(labels, ranks)  # (N,) or (N, L)
    own = torch.arange(here.start, here.stop, device=rows.device)  # (B,)
    step = ranked_at_a_time(rows, labels, chunk_size)
    if step is None:
        positive, negative, found = ranking.batch_hard_at_once(rows, labels, here)
    else:
        positive, negative, found = ranking.batch_hard(rows, labels, own, step)
    return own, torch.where(found, positive, own), torch.where(found, negative, own)
