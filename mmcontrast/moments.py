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
classes there are. All steps are plain torch operations; autograd takes every derivative of them.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from mmcontrast import hybrid_sums
from mmcontrast.hybrid_parts import Cuts, cut, mapped
from mmcontrast.hybrid_sums import Kinds, Part, Sums, added, of_one_class, of_small_classes
from mmcontrast.ratio import share
from mmcontrast.rows import RowMap
from mmcontrast.supervised_tiles import by_class, numbers

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


def possible(features: Mapping[str, Tensor], labels: Tensor | None) -> bool:
    """Whether there are labels to sort by, whose values may be read here, and many of them."""
    if labels is None or len(labels) < LARGE_BATCH or labels.numel() == 0:
        return False
    tensors = [labels, *features.values()]
    # Where there is no float64, the sums would lose what they are there for.
    return numbers(*tensors) and all(x.device.type != "mps" for x in tensors)


def values(
    features: Mapping[str, Tensor],
    labels: Tensor,
    taking_part: Mapping[str, Tensor],
    targets: Mapping[str, float],
    *,
    refine: bool,
    log: bool,
    normalize: RowMap | None,
) -> tuple[dict[str, Values], Tensor]:
    """HyCon's "intra" and "inter", those that are given a target, of all anchors.

    Args:
        features: (B, D) by modality; rows that take no part are not looked at.
        labels: (B,) or (B, L), whose values are read.
        taking_part: (B,) bool by modality.
        targets: what the positives' similarities are compared with.
        refine: whether the refinement is wanted; else it is void.
        log: the negated logarithm of the ratio.
        normalize: row map before the dot product.

    Returns:
        The values, and (B, M, M) similarities between each sample's own modalities.
    """
    order, ids, counts = by_class(labels)
    here = torch.stack(list(taking_part.values()), dim=1)[order]
    width = next(iter(features.values())).shape[1]
    cuts = cut(counts.tolist(), large=max(LARGE_CLASS, width), part=PART)
    pieces = mapped(features, order, here, cuts.sizes, normalize)
    kinds = kinds_of(pieces[0], len(features), targets)
    numbers, masks = [], []
    for part in _parts(pieces, here, ids, cuts):
        if part.moments is not None:
            own, sums = of_one_class(part, kinds, refine)
        else:
            own, sums = checkpoint(of_small_classes, part, kinds, use_reentrant=False)
        ratio, contrasted, refinement, refined = to_values(sums, log)
        numbers.append(torch.cat([own, ratio, refinement], dim=1))
        masks.append(torch.cat([contrasted, refined], dim=1))

    def unsorted(pieces: list[Tensor]) -> Tensor:
        x = torch.cat(pieces)
        return x.new_zeros(len(labels), *x.shape[1:]).index_copy(0, order, x)

    own, ratio, refinement = torch.split(
        unsorted(numbers), [len(features), len(targets), len(targets)], dim=1
    )
    contrasted, refined = unsorted(masks).chunk(2, dim=1)
    columns = zip(*(x.unbind(1) for x in (ratio, contrasted, refinement, refined)), strict=True)
    return {name: Values(*x) for name, x in zip(targets, columns, strict=True)}, own


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
    return Kinds(torch.stack(partners), rows.new_tensor(list(targets.values()))[:, None])


def _parts(pieces: list[Tensor], here: Tensor, ids: Tensor, cuts: Cuts) -> Iterator[Part]:
    """The parts of the batch, and what there is outside each."""
    sizes, owners = cuts
    present = torch.split(here.to(pieces[0].dtype), sizes)
    moments: dict[int, Tensor] = {}
    sums = []
    for x, there, owner in zip(pieces, present, owners, strict=True):
        if owner >= 0:
            total, squares = hybrid_sums.moments(x)
            moments[owner] = moments[owner] + squares if owner in moments else squares
        else:
            total = added(x)
        sums.append(torch.cat([total, there.sum(0)[:, None]], dim=1))
    shares = list(Counter(owners).values())
    groups = torch.split(torch.stack(sums), shares)
    beside = torch.cat([_all_but_each(group) for group in groups])
    totals = torch.stack([group.sum(0) for group in groups])
    others = _all_but_each(totals)
    labels = torch.split(ids, sizes)
    whose = [k for k, share in enumerate(shares) for _ in range(share)]
    for k, owner in enumerate(owners):
        outside = beside[k], totals[whose[k]], others[whose[k]]
        yield Part(pieces[k], present[k], labels[k], *outside, moments.get(owner))


def _all_but_each(x: Tensor) -> Tensor:
    """For each entry of the first axis the sum of all others.

    What comes before and what comes after: a total less the entry itself would lose every digit of
    a small class beside a large one.
    """
    none = torch.zeros_like(x[:1])
    before = torch.cat([none, x[:-1]]).cumsum(0)
    after = torch.cat([x[1:], none]).flip(0).cumsum(0).flip(0)
    return before + after
