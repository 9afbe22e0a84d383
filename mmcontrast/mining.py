"""Miners: hard negatives, batch-hard triplets, and drawing one candidate of a mask.

Every miner runs without gradients and returns indices, scores and masks of fixed shapes.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from mmcontrast import arguments
from mmcontrast.distributed import Group, joined, name_of
from mmcontrast.eager import calls_operators
from mmcontrast.exact.hardest import hardest_candidates, hardest_triplets
from mmcontrast.exact.ties import map_equal_rows
from mmcontrast.masks import check_partners
from mmcontrast.rows import RowMap, l2_normalize, map_rows
from mmcontrast.sharded import local_rows

EXCLUDED = {True: "before", "after": "after", False: "never"}
"""When partners are removed, by ``exclude_positive``: before the top k are taken, or after."""


class HardNegatives(NamedTuple):
    """The result of :func:`hard_negatives`, hardest first; shape (B, K) each."""

    indices: Tensor
    """int64 candidates; 0 where not valid."""
    scores: Tensor
    """Similarities of these candidates; 0 where not valid."""
    valid: Tensor
    """bool: False where fewer than K candidates were allowed, and where the partner was among the
    K and ``exclude_positive="after"`` removed it."""


@local_rows
@torch.no_grad()
def hard_negatives(
    anchors: Tensor,
    candidates: Tensor,
    k: int,
    *,
    targets: Tensor | None = None,
    allowed: Tensor | None = None,
    labels: Tensor | None = None,
    candidate_labels: Tensor | None = None,
    exclude_positive: bool | str = True,
    normalize: RowMap | None = l2_normalize,
    chunk_size: int | None = None,
    group: Group | None = None,
) -> HardNegatives:
    """The k most similar candidates of each anchor, without its partner.

    Ties go to the lower index, so the result is deterministic; equal candidates always tie. Mapped
    rows with NaN or infinity take no part, as anchors or candidates, where values can be read, on
    the CPU; elsewhere they may take places of the k, which are then not valid.

    Args:
        anchors: (B, D) one embedding per sample.
        candidates: (C, D) the embeddings to search.
        k: number of negatives, at least 1; at most C - 1 are returned.
        targets: (B,) index of each anchor's partner, which is not returned, -100 for none.
            Default: row ``i`` belongs to anchor ``i``.
        allowed: (B, C) bool: which candidates may be returned. Default: all.
        labels: (B,) classes, or (B, L): candidates with the anchor's labels are not returned, and
            -100 takes no part on either side. The same as
            ``allowed=different_label(labels, candidate_labels)`` without its (B, C) mask.
        candidate_labels: (C,) or (C, L), with labels. Default: the anchors' labels.
        exclude_positive: when the partner is removed: True, before the top k are taken;
            ``"after"``, from the top k, so that its place is not valid and fewer remain; False,
            never.
        normalize: row map before the dot product; None for raw dot products.
        chunk_size: number of anchors at a time, for O(chunk_size C) memory. None: as many as fit
            the cache; all at once for few similarities, and under functional transforms.
        group: a process group, or ``"world"``: the candidates are those of all its ranks, C in all,
            and indices count them in the order of the ranks. Under a compiler K is then k, whatever
            C is, and what is beyond the candidates is not valid.

    Returns:
        :class:`HardNegatives`, without gradient. K = min(k, C - 1) with ``exclude_positive=True``,
        else min(k, C).

    Raises:
        ValueError: on shapes or dtypes that disagree, fewer candidates than anchors without
            targets, labels with fractions, candidate_labels without labels, a k below 1, or another
            ``exclude_positive``.

    Example:
        >>> x = torch.tensor([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0]])
        >>> hard_negatives(x, x, k=1).indices
        tensor([[1],
                [0],
                [1]])

    References: TeCaFN, Multimedia Systems 30(4):228, eq. 7 (the partner is no negative) and
        Algorithm 1, which leaves the partner in (False). Its code is ``"after"``.
    """
    arguments.matrix("anchors", anchors)
    arguments.matrix("candidates", candidates, like=anchors)
    k = arguments.whole("k", k)
    if not isinstance(exclude_positive, bool | str) or exclude_positive not in EXCLUDED:
        got = arguments.shown(exclude_positive)
        arguments.fail("exclude_positive", "True, 'after' or False", got)
    chunk_size = arguments.chunk(chunk_size)
    targets = check_partners(anchors, candidates, targets)
    if labels is not None:
        labels = arguments.labels("labels", labels, anchors.shape[0])
        given = labels if candidate_labels is None else candidate_labels
        candidate_labels = arguments.labels(
            "candidate_labels", given, candidates.shape[0], like=labels
        )
    elif candidate_labels is not None:
        arguments.fail("labels", "labels, as candidate_labels are given", None)
    others = None if candidate_labels is labels else candidate_labels  # None: the anchors'
    ranks, start = name_of(group), 0
    if ranks and not calls_operators():  # an operator gathers them itself
        candidates, here = joined(candidates, group)  # (C of all ranks, D)
        others = None if candidate_labels is None else joined(candidate_labels, group)[0]
        ranks, start = "", here.start
    x, y = map_rows(anchors, normalize), map_equal_rows(candidates, normalize)
    masks = targets, allowed, labels, others, EXCLUDED[exclude_positive]
    return HardNegatives(
        *hardest_candidates(x, y, k, *masks, normalize is None, chunk_size, start, ranks)
    )


@local_rows
@torch.no_grad()
def hard_triplets(
    anchors: Tensor,
    labels: Tensor,
    *,
    normalize: RowMap | None = l2_normalize,
    chunk_size: int | None = None,
    group: Group | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Each anchor's least similar positive and most similar negative: batch-hard triplets.

    Ties go to the lower index; equal rows always tie. Mapped rows with NaN or infinity take no
    part.

    Args:
        anchors: (B, D) one embedding per sample.
        labels: (B,) classes, or (B, L): equal in every column; -100 takes no part.
        normalize: row map before the dot product; None for raw dot products.
        chunk_size: number of anchors at a time, as in :func:`hard_negatives`.
        group: a process group, or ``"world"``: positives and negatives come from all its ranks,
            and indices count their rows in the order of the ranks; a are this rank's rows.

    Returns:
        Index tensors (a, p, n), (B,) int64 each, one triplet for each anchor. An anchor that lacks
        a positive or a negative has p = n = a: ``keep=p != a`` leaves it out of :func:`triplet`.

    Raises:
        ValueError: on shapes or dtypes that disagree, or labels with fractions.

    Example:
        >>> x = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.8, 0.6], [0.9, 0.1]])
        >>> hard_triplets(x, torch.tensor([0, 0, 0, 1]))
        (tensor([0, 1, 2, 3]), tensor([1, 0, 1, 3]), tensor([3, 3, 3, 3]))

    References: batch-hard triplets, arXiv:1703.07737; HyCon, IEEE TAFFC 14(3), section 4.5.7.
    """
    arguments.matrix("anchors", anchors)
    labels = arguments.labels("labels", labels, anchors.shape[0])
    chunk_size = arguments.chunk(chunk_size)
    rows = map_equal_rows(anchors, normalize)
    return hardest_triplets(rows, labels, normalize is None, chunk_size, name_of(group))


@local_rows
@torch.no_grad()
def sample_one(mask: Tensor, *, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
    """Draw one True entry of each row, uniformly.

    Args:
        mask: (B, C) bool.
        generator: source of randomness, on the mask's device; None: torch's default generator.

    Returns:
        (B,) int64 index, 0 for a row without True, and (B,) bool: rows with a True entry.

    Raises:
        ValueError: on a mask that is not (B, C) bool.

    Example:
        >>> sample_one(torch.tensor([[False, True], [False, False]]))
        (tensor([1, 0]), tensor([ True, False]))
    """
    if arguments.tensor("mask", mask).ndim != 2:
        arguments.fail("mask", "shape (B, C)", arguments.shape(mask))
    # Of independent uniform draws, each True entry's is the largest with equal probability.
    return extreme(uniform_draws(mask.shape, mask.device, generator), mask, largest=True)


def uniform_draws(
    shape: tuple[int, ...], device: torch.device, generator: torch.Generator | None
) -> Tensor:
    """Draws from [0, 1), in float32 where torch's default dtype is lower.

    A bfloat16 has 256 values there: most draws would tie, and the lower index would win.
    """
    arguments.generator(generator)
    dtype = torch.promote_types(torch.get_default_dtype(), torch.float32)
    return torch.rand(shape, generator=generator, device=device, dtype=dtype)


@local_rows
@torch.no_grad()
def extreme(similarity: Tensor, mask: Tensor, *, largest: bool) -> tuple[Tensor, Tensor]:
    """The most or the least similar candidate of each anchor among those in the mask.

    Args:
        similarity: (B, C).
        mask: (B, C) bool.
        largest: True for the most similar, False for the least.

    Returns:
        (B,) int64 index, 0 for a row without True, and (B,) bool: rows with a True entry. Ties go
        to the lower index. A NaN counts as outside the mask.

    Raises:
        ValueError: on shapes or dtypes that disagree.

    Example:
        >>> mask = torch.tensor([[True, False, True]])
        >>> extreme(torch.tensor([[0.9, 0.2, 0.5]]), mask, largest=False)
        (tensor([2]), tensor([True]))
    """
    arguments.table("similarity", similarity)
    arguments.flag("largest", largest)
    arguments.mask("mask", mask, tuple(similarity.shape))
    if similarity.shape[1] == 0:
        return mask.new_zeros(len(mask), dtype=torch.int64), mask.any(-1)
    mask = mask & ~similarity.isnan()
    # Infinities in the mask become the largest finite numbers: what is outside is beyond them.
    similarity = similarity.nan_to_num()
    if largest:  # argmax and argmin return the first of several equal entries
        first = torch.where(mask, similarity, -math.inf).argmax(-1)
    else:
        first = torch.where(mask, similarity, math.inf).argmin(-1)
    valid = mask.any(-1)
    return torch.where(valid, first, 0), valid
