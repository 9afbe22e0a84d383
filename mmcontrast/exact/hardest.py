"""The hardest candidates of rows: one operator each under a compiler."""

import math
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from mmcontrast import arguments
from mmcontrast.collectives import named
from mmcontrast.distances import Distance
from mmcontrast.distributed import joined
from mmcontrast.eager import is_eager, known, known_finite
from mmcontrast.exact import ranking, sizes
from mmcontrast.exact.choose import ranked_at_a_time
from mmcontrast.exact.closeness import MEASURES, all_closeness, of_pairs, widest
from mmcontrast.exact.corpus import Corpus
from mmcontrast.exact.limits import NO_LIMITS, Limits, inside
from mmcontrast.exact.nearest import Among, nearest
from mmcontrast.exact.operators import as_operator_without_gradients
from mmcontrast.exact.tiles import slices
from mmcontrast.exact.topk import filled, top_at_once
from mmcontrast.masks import different_label, ignoring
from mmcontrast.presence import zero_outside
from mmcontrast.wide import narrow, widen_products


class Search(NamedTuple):
    """What is asked for; the words are those of :func:`hard_negatives`."""

    k: int
    skip: int
    targets: Tensor | None
    allowed: Tensor | None
    labels: Tensor | None
    candidate_labels: Tensor | None
    exclude: str
    """When the partner is removed: ``"before"`` or ``"after"`` the top k are taken, or never."""
    raw: bool
    """Whether no row map bounds the rows."""
    chunk_size: int | None
    start: int
    """Which candidate belongs to the first anchor, where there are no targets."""
    distance: Distance | None
    limits: Limits

    def partners(self, x: Tensor) -> Tensor:
        """(B,) index of each anchor's partner among all ranks' candidates; negative for none."""
        targets, start = self.targets, self.start
        if targets is None:
            return torch.arange(start, start + x.shape[0], device=x.device)
        return torch.where(targets < 0, targets, targets + start) if start else targets

    def plain(self) -> bool:
        """Whether only dot products are compared."""
        return self.distance is None and self.limits == NO_LIMITS


def _empty_candidates(
    x: Tensor, y: Tensor, k: int, skip: int, *others: Any
) -> tuple[Tensor, Tensor, Tensor]:
    exclude, group = others[4], others[8]
    size = x.shape[0], k if group else places(k, y.shape[0], skip, exclude)
    scores = x.new_empty(size, dtype=torch.promote_types(x.dtype, y.dtype))
    return x.new_empty(size, dtype=torch.int64), scores, x.new_empty(size, dtype=torch.bool)


@as_operator_without_gradients(_empty_candidates)
def hardest_candidates(
    x: Tensor,
    y: Tensor,
    k: int,
    skip: int,
    targets: Tensor | None,
    allowed: Tensor | None,
    labels: Tensor | None,
    candidate_labels: Tensor | None,
    exclude: str,
    raw: bool,
    chunk_size: int | None,
    start: int,
    group: str,
    measure: int,
    below: float | None,
    above: float | None,
    margin: float | None,
    relative_margin: float | None,
    semi_hard: float | None,
) -> tuple[Tensor, Tensor, Tensor]:
    """:func:`hard_negatives` of mapped rows: indices, scores and which are valid, (B, K) each.

    Args:
        x: (B, D) anchors.
        y: (C, D) candidates.
        k, skip, targets, allowed, labels, candidate_labels, exclude, raw, chunk_size, start: of
            a :class:`Search`.
        group: name of the process group over which y is gathered here; empty where y has all
            candidates already. A compiler does not know how many come, so K is k with a group, and
            places beyond the number of candidates are not valid.
        measure: which of ``MEASURES``.
        below, above, margin, relative_margin, semi_hard: of :class:`Limits`.
    """
    theirs = labels if candidate_labels is None else candidate_labels
    ranks = named(group)
    if ranks is not None:
        y, here = joined(y, ranks)
        start = here.start
        theirs = None if theirs is None else joined(theirs, ranks)[0]
    measured = MEASURES[measure], Limits(below, above, margin, relative_margin, semi_hard)
    hardest = k, skip, targets, allowed, labels, theirs
    search = Search(*hardest, exclude, raw, chunk_size, start, *measured)
    indices, scores, valid = hardest_of(x, Corpus(y, None, x.device), search)
    if ranks is not None:
        missing = 0, k - indices.shape[1]
        indices, scores, valid = (F.pad(part, missing) for part in (indices, scores, valid))
    return indices, scores, valid


def hardest_of(x: Tensor, corpus: Corpus, search: Search) -> tuple[Tensor, Tensor, Tensor]:
    """The same of all ranks' candidates, mapped or not, and with any distance."""
    size = x.shape[0], corpus.rows.shape[0]
    if search.allowed is not None:
        arguments.mask("allowed", search.allowed, size)
    count = places(search.skip + search.k, size[1], 0, search.exclude)
    if _searched_in_blocks(x, corpus, search.plain()):
        scores, indices = _in_blocks(x, corpus, count, search)
    else:
        scores, indices = _among_all(x, corpus.whole(), count, search)
    if search.skip:  # in memory of their own, as an operator's results are
        scores, indices = (part[:, search.skip :].clone() for part in (scores, indices))
    if search.exclude == "after":
        scores = torch.where(indices != search.partners(x)[:, None], scores, -math.inf)
    valid = scores > -math.inf
    scores = scores if search.distance is None else -scores
    # All valid, the usual case: nothing to mask.
    if not (is_eager() and known(valid.all())):
        indices, scores = torch.where(valid, indices, 0), torch.where(valid, scores, 0)
    wide = x.dtype == torch.float64 or corpus.is_wide()
    scores = scores if wide else narrow(scores)
    return indices.contiguous(), scores.contiguous(), valid.contiguous()


def places(k: int, size: int, skip: int, exclude: str) -> int:
    """How many of so many candidates there are to return; the hardest ones skipped are not."""
    # As a number, for some compilers cannot take a bool from a size.
    return min(k, max(size - skip - int(exclude == "before"), 0))


def _searched_in_blocks(x: Tensor, corpus: Corpus, plain: bool) -> bool:
    """Whether by :func:`nearest`: other than plain products of a moderate number of candidates."""
    rows = corpus.rows
    if not isinstance(rows, Tensor):
        return True
    return (not plain or rows.shape[0] >= sizes.CORPUS) and is_eager(x, rows)


def _in_blocks(x: Tensor, corpus: Corpus, count: int, search: Search) -> tuple[Tensor, Tensor]:
    """Closeness (B, K), minus infinity for none, and candidates."""
    x = widest(x) if corpus.is_wide() else x  # the wider of both, as in a product of tensors
    partners, distance = search.partners(x), search.distance
    banned = partners if search.exclude == "before" else None
    bounds = None
    if search.limits != NO_LIMITS:
        closeness, there = _partners_closeness(x, corpus, partners, distance)
        bounds = search.limits.bounds(closeness, there, distance is not None)
    return nearest(
        x,
        corpus,
        count,
        among=Among(banned, search.allowed, search.labels, search.candidate_labels),
        distance=distance,
        bounds=bounds,
        chunk_size=search.chunk_size,
    )


def _partners_closeness(
    x: Tensor, corpus: Corpus, partners: Tensor, distance: Distance | None
) -> tuple[Tensor, Tensor]:
    """(B,) closeness of each anchor and its partner, and bool: where there is one; else it is 0."""
    found = widest(torch.zeros_like(x[:, 0]))
    there = partners >= 0
    for i in slices(len(x) if len(corpus.rows) else 0, max(sizes.EXACT // x.shape[1], 1)):
        y = corpus.part(partners[i].clamp_min(0), x)
        there[i] &= x[i].isfinite().all(1) & y.isfinite().all(1)
        rows = [zero_outside(z, there[i]) for z in (x[i], y)]
        found[i] = of_pairs(distance, rows[0], rows[1][:, None])[:, 0]
    return found, there


def _among_all(x: Tensor, y: Tensor, count: int, search: Search) -> tuple[Tensor, Tensor]:
    """The same of mapped candidates, by sorting; with limits or a distance under a tracer only."""
    allowed, labels, theirs = search.allowed, search.labels, search.candidate_labels
    if x.is_cpu and is_eager(x, y) and not (known_finite(x) and known_finite(y)):
        finite = [rows.isfinite().all(1) for rows in (x, y)]  # (B,), (C,)
        x, y = zero_outside(x, finite[0]), zero_outside(y, finite[1])
        labels, theirs = _labels_of(finite, labels, theirs)
    if search.raw:
        x, y = widen_products(x, y)
    before = search.exclude == "before"
    step = ranked_at_a_time(x, y, search.chunk_size)
    if step is not None:
        banned = search.partners(x) if before else None
        apart = None if labels is None or theirs is None else (labels, theirs)
        return ranking.highest(x, y, count, step, banned, allowed, apart)
    if labels is not None:
        different = different_label(labels, None if theirs is labels else theirs)
        allowed = different if allowed is None else allowed & different
    scores = all_closeness(search.distance, x, y)  # (B, C)
    if search.limits != NO_LIMITS and y.shape[0] > 0:
        own = search.partners(x)
        partners = scores.gather(1, own.clamp_min(0)[:, None])[:, 0]
        bounds = search.limits.bounds(partners, own >= 0, search.distance is not None)
        within = inside(scores, bounds)
        allowed = within if allowed is None else allowed & within
    # The partner is usually the most similar candidate: left in, it would take one of the k
    # places. So its score becomes minus infinity before the top k are taken. An anchor without
    # a partner writes candidate 0's score back unchanged, which keeps all shapes fixed.
    if before and search.targets is None:
        scores.diagonal(search.start).fill_(-math.inf)
    elif before and y.shape[0] > 0:
        own = search.partners(x)
        at = own.clamp_min(0)[:, None]  # (B, 1)
        out = torch.where(own[:, None] < 0, scores.gather(1, at), -math.inf)
        scores = scores.scatter(1, at, out)
    if allowed is not None:
        scores = filled(scores, ~allowed, -math.inf)
    return top_at_once(scores, count)  # (B, K)


def _labels_of(
    finite: list[Tensor], labels: Tensor | None, candidate_labels: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Labels that keep rows outside the masks (B,) and (C,) apart from everything, by -100."""
    if labels is None or candidate_labels is None:  # any two that differ
        labels, candidate_labels = finite[0].long(), 2 * finite[1].long()
    return ignoring(labels, finite[0]), ignoring(candidate_labels, finite[1])
