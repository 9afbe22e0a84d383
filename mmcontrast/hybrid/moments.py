r"""HyCon's losses of a large batch, exactly and without its similarities: by sums over classes.

What HyCon asks of an anchor a, the sum of its similarities to a set and of their squared distances
from a target t, are two moments of that set,

.. math::
    \sum_k a \cdot x_k = a \cdot C, \qquad
    \sum_k (a \cdot x_k - t)^2 = a^\top G a - 2 t\, a \cdot C + t^2 n, \qquad
    C = \sum_k x_k, \quad G = \sum_k x_k x_k^\top.

The set is the anchor's class, or everybody else. The batch is sorted by class and cut into parts: a
part of a class that is large enough to be worth its moments, or a few small classes together, whose
similarities are taken as they are. So K samples cost O(K D^2) time and O(K D) memory however many
classes there are. What autograd does not know has a backward pass of such operations as it knows,
so that there are derivatives of any order.
"""

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from mmcontrast.distributed import Group, active, joined
from mmcontrast.eager import is_eager
from mmcontrast.hybrid.class_sums import all_but_each, classes, with_numbers
from mmcontrast.hybrid.parts import by_size, cut_large, cut_small, mapped
from mmcontrast.hybrid.ratio import share
from mmcontrast.hybrid.sums import (
    Kinds,
    OneClass,
    Part,
    Sums,
    added,
    of_one_class,
    of_small_classes,
)
from mmcontrast.rows import RowMap

LARGE_BATCH = 200
"""Samples from which moments are faster than pairs."""
LARGE_CLASS = 128
"""Samples from which a class has moments; never below D, or they would outgrow the features."""
PART = 2048
"""Samples at a time, which a processor's cache holds."""


class Values(NamedTuple):
    """HyCon's two terms of each anchor; (B, M), (B,) of one modality, or (k, N, M) of all kinds."""

    ratio: Tensor
    """The positives' share of all similarity, negated."""
    contrasted: Tensor
    """bool: who has a positive and a negative."""
    refinement: Tensor
    """Mean squared distance of the positives' similarities from the target."""
    refined: Tensor
    """bool: who has a positive."""


def pays(features: Mapping[str, Tensor], labels: Tensor) -> bool:
    """Whether there are many labels to sort by, whose values may be read here."""
    if len(labels) < LARGE_BATCH or labels.numel() == 0:
        return False
    tensors = [labels, *features.values()]
    # Where there is no float64, the sums would lose what they are there for.
    return is_eager(*tensors) and all(x.device.type != "mps" for x in tensors)


def values(
    features: Mapping[str, Tensor],
    labels: Tensor,
    taking_part: Mapping[str, Tensor],
    targets: Mapping[str, float],
    *,
    refine: bool,
    log: bool,
    normalize: RowMap | None,
    own: slice,
    group: Group | None,
) -> tuple[dict[str, Values], Tensor]:
    """HyCon's "intra" and "inter", those that are given a target, of all anchors.

    Args:
        features: (B, D) by modality; rows that take no part are not looked at.
        labels: (B, ...) of all ranks; their values are read.
        taking_part: (B,) bool by modality.
        targets: what the positives' similarities are compared with.
        refine: whether the refinement is wanted; else it is void.
        log: the negated logarithm of the ratio.
        normalize: row map before the dot product.
        own: which samples of all ranks are this rank's.
        group: of the ranks, to whom go the sums and the moments of the large classes and the rows
            of the small ones.

    Returns:
        The values, and (B, M, M) similarities between each sample's own modalities.
    """
    batch = _in_parts(features, labels, taking_part, normalize, own, group)
    kinds = kinds_of(batch.small[0].part.rows, len(features), targets)
    found = [of_one_class(*x, kinds, refine) for x in batch.large if len(x.part.rows) > 0]
    for some in batch.small:
        # One at least, where a rank has no samples.
        if not found or len(some.ids[some.anchors]) > 0:
            found.append(checkpoint(of_small_classes, *some, kinds, use_reentrant=False))

    size = len(next(iter(features.values())))

    def unsorted(pieces: list[Tensor]) -> Tensor:
        x = torch.cat(pieces)
        return x.new_zeros(size, *x.shape[1:]).index_copy(0, batch.order, x)

    values = [to_values(summed, log) for _, summed in found]
    pieces = zip((x for x, _ in found), values, strict=True)
    numbers = unsorted([torch.cat([x, v.ratio, v.refinement], dim=1) for x, v in pieces])
    masks = unsorted([torch.cat([v.contrasted, v.refined], dim=1) for v in values])
    for x in batch.exchanged:
        # Backward, ranks exchange again: every rank's loss hangs on it, whatever the rank has.
        numbers = numbers + x.flatten()[:0].sum().to(numbers.dtype)
    similarity, ratio, refinement = torch.split(
        numbers, [len(features), len(targets), len(targets)], dim=1
    )
    contrasted, refined = masks.chunk(2, dim=1)
    each = zip(*(x.unbind(1) for x in (ratio, contrasted, refinement, refined)), strict=True)
    return {name: Values(*x) for name, x in zip(targets, each, strict=True)}, similarity


class _OfOneClass(NamedTuple):
    part: Part
    whole: OneClass


class _OfSmallClasses(NamedTuple):
    part: Part
    ids: Tensor
    """(k,) their classes."""
    anchors: Tensor | slice
    """Which of them are this rank's."""


class _Batch(NamedTuple):
    """A batch in parts, one of small classes at least."""

    large: list[_OfOneClass]
    small: list[_OfSmallClasses]
    order: Tensor
    """(B,) this rank's samples as they stand in the parts."""
    exchanged: list[Tensor]
    """What came from all ranks, with a graph."""


def _in_parts(
    features: Mapping[str, Tensor],
    labels: Tensor,
    taking_part: Mapping[str, Tensor],
    normalize: RowMap | None,
    own: slice,
    group: Group | None,
) -> _Batch:
    """Sorted and cut, each part with what there is outside it; see :func:`values`."""
    least = max(LARGE_CLASS, next(iter(features.values())).shape[1])
    ranks = active(group) is not None
    samples = by_size(labels, own, least)
    cuts = cut_large(samples.large_counts, PART)
    rest = samples.small[samples.own] - own.start
    # Ranks send theirs as they stand in the batch, and sort all of them afterwards.
    sent = rest.sort().values if ranks else rest
    lengths = [*cuts.sizes, len(sent)]
    places = torch.cat([samples.large, sent])
    here = torch.stack(list(taking_part.values()), dim=1)[places]
    *rows, small = mapped(features, places, here, lengths, normalize)
    *present, small_here = torch.split(here.to(small.dtype), lengths)
    exchanged: list[Tensor] = []
    if ranks and samples.small_counts:
        small, small_here = (joined(x, group)[0] for x in (small, small_here))
        exchanged.append(small)
        back = samples.small.argsort().argsort()
        small, small_here = small[back], small_here[back]
    sums: list[Tensor] = []
    if rows:
        whole = classes(rows, present, cuts.shares, group)
        sums += whole.totals
        exchanged += [whole.totals, whole.moments]
        about = list(zip(whole.totals.unbind(), whole.moments.unbind(), strict=True))

    sizes = cut_small(samples.small_counts, least) or [0]
    split = [torch.split(x, sizes) for x in (small, small_here, samples.ids, samples.own)]
    sums += [with_numbers(added(x), there) for x, there, _, _ in zip(*split, strict=True)]
    others = all_but_each(torch.stack(sums)).unbind()
    large_parts, small_parts = [], []
    whose = [k for k, share in enumerate(cuts.shares) for _ in range(share)]
    for place, (k, x, there) in enumerate(zip(whose, rows, present, strict=True)):
        of_class = OneClass(about[k][0], whole.beside[place], about[k][1])
        large_parts.append(_OfOneClass(Part(x, there, others[k]), of_class))
    for elsewhere, x, there, ids, mine in zip(others[len(cuts.shares) :], *split, strict=True):
        anchors = mine.nonzero()[:, 0] if ranks else slice(None)
        small_parts.append(_OfSmallClasses(Part(x, there, elsewhere), ids, anchors))
    order = torch.cat([samples.large, rest])
    return _Batch(large_parts, small_parts, order, exchanged if ranks else [])


def to_values(sums: Sums, log: bool) -> Values:
    """(k, N, M) each."""
    refined, opposed = sums.has > 0, sums.lacks > 0
    none = torch.zeros_like(refined)
    similarity = torch.stack([sums.positives, sums.negatives], dim=-1)
    masks = torch.stack([refined, none], dim=-1), torch.stack([none, opposed], dim=-1)
    ratio, contrasted = share(similarity, *masks, log=log)
    return Values(ratio, contrasted, sums.errors / torch.where(refined, sums.has, 1), refined)


def kinds_of(rows: Tensor, size: int, targets: Mapping[str, float]) -> Kinds:
    """ "intra" and "inter", those that are given a target."""
    same = torch.eye(size, dtype=rows.dtype, device=rows.device)
    partners = [1 - same if name == "inter" else same for name in targets]
    aims = [rows.new_full((1,), target) for target in targets.values()]
    return Kinds(torch.stack(partners), torch.stack(aims))
