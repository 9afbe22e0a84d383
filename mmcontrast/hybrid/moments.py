r"""HyCon's losses of a large batch, exactly and without its similarities: by sums over classes.

What HyCon asks of an anchor a, the sum of its similarities to a set and of their squared distances
from a target t, are two moments of that set,

.. math::
    \sum_k a \cdot x_k = a \cdot C, \qquad
    \sum_k (a \cdot x_k - t)^2 = a^\top G a - 2 t\, a \cdot C + t^2 n, \qquad
    C = \sum_k x_k, \quad G = \sum_k x_k x_k^\top.

The set is the anchor's class, or all other classes. Moments of a class cost D^2 for each sample, so
they only pay where the class has more than D samples. Therefore the batch is sorted by class and
cut into parts (``class_parts``): a part holds samples of one large class, to be summed up in
moments (``class_sums``), or several small classes, with similarities inside the part. Either way
the pairs with everything outside the part come from sums (``part_sums``). K samples cost O(K D^2)
time and O(K D) memory for any number of classes.

The autograd functions on the way have backward passes of differentiable operations, so that
derivatives of any order exist.
"""

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from mmcontrast.distributed import Group, active, joined
from mmcontrast.exact import sizes
from mmcontrast.hybrid.class_parts import cut_large, cut_small, mapped_parts, sort_by_size
from mmcontrast.hybrid.class_sums import all_but_each, append_counts, sum_classes
from mmcontrast.hybrid.pair_sums import TermValues, stack_contrasts, term_values
from mmcontrast.hybrid.part_sums import OneClass, Part, large_class_sums, small_class_sums
from mmcontrast.hybrid.row_sums import sum_rows
from mmcontrast.hybrid.settings import Settings
from mmcontrast.rows import RowMap


def values_by_moments(
    features: Mapping[str, Tensor],
    labels: Tensor,
    own: slice,
    taking_part: Mapping[str, Tensor],
    targets: Mapping[str, float | Tensor],
    settings: Settings,
) -> tuple[dict[str, TermValues], Tensor]:
    """The anchors' values of HyCon's "intra" and "inter", of those two that have a target.

    Args:
        features: (B, D) by modality, this rank's; rows that take no part are not read.
        labels: (B of all ranks, ...); their values are read.
        own: which samples of all ranks are this rank's.
        taking_part: (B,) bool by modality.
        targets: what the positives' similarities are compared with.
        settings: without a selection; without ``refine`` the refinement is a placeholder.

    Returns:
        The values, and (B, M, M) similarities between each sample's own modalities.
    """
    group = settings.reduction.group
    batch = _cut_batch(features, labels, taking_part, settings.normalize, own, group)
    contrasts = stack_contrasts(targets, len(features), like=batch.small[0].part.rows)
    # Of each part: (k, M, M) similarities of the samples' own modalities, and PairSums.
    found = [
        large_class_sums(*x, contrasts, settings.refine)
        for x in batch.large
        if len(x.part.rows) > 0
    ]
    for some in batch.small:
        # A rank without any samples evaluates one empty part: the results need a shape and a graph.
        if not found or len(some.ids[some.anchors]) > 0:
            found.append(checkpoint(small_class_sums, *some, contrasts, use_reentrant=False))

    size = len(next(iter(features.values())))

    def unsorted(pieces: list[Tensor]) -> Tensor:
        """The parts joined, in the order of the batch; 0 for samples without a label."""
        x = torch.cat(pieces)
        return x.new_zeros(size, *x.shape[1:]).index_copy(0, batch.order, x)

    values = [term_values(sums, settings) for _, sums in found]
    pieces = zip((own_pairs for own_pairs, _ in found), values, strict=True)
    # (B, M + 2 N, M): one reordering for all of them.
    numbers = unsorted([torch.cat([x, v.ratio, v.refinement], dim=1) for x, v in pieces])
    # (B, 3 N, M)
    masks = unsorted([torch.cat([v.contrasted, v.refined, v.certain], dim=1) for v in values])
    for x in batch.exchanged:
        # The backward pass of an exchange is an exchange, which every rank must reach. So every
        # rank's result depends on it, by an empty sum where nothing else does.
        numbers = numbers + x.flatten()[:0].sum().to(numbers.dtype)
    similarity, ratio, refinement = torch.split(
        numbers, [len(features), len(targets), len(targets)], dim=1
    )
    contrasted, refined, certain = masks.chunk(3, dim=1)
    certain = certain | ~contrasted  # samples without a label are in no part
    columns = ratio, contrasted, refinement, refined, certain
    each = zip(*(x.unbind(1) for x in columns), strict=True)
    return {name: TermValues(*x) for name, x in zip(targets, each, strict=True)}, similarity


class _LargeClassPart(NamedTuple):
    part: Part
    whole: OneClass


class _SmallClassesPart(NamedTuple):
    part: Part
    ids: Tensor
    """(k,) the samples' classes."""
    anchors: Tensor | slice
    """Which of the samples are this rank's."""


class _CutBatch(NamedTuple):
    """A batch in parts, with at least one part of small classes, which may be empty."""

    large: list[_LargeClassPart]
    small: list[_SmallClassesPart]
    order: Tensor
    """This rank's samples in the order of the parts."""
    exchanged: list[Tensor]
    """Tensors from all ranks, with a graph."""


def _cut_batch(
    features: Mapping[str, Tensor],
    labels: Tensor,
    taking_part: Mapping[str, Tensor],
    normalize: RowMap | None,
    own: slice,
    group: Group | None,
) -> _CutBatch:
    """Sort a batch by class and cut it; each part with the sums of all other classes.

    Ranks exchange sums and moments of the large classes, and the rows of the small ones.
    """
    least = max(sizes.MOMENTS_CLASS, next(iter(features.values())).shape[1])
    ranks = active(group) is not None
    samples = sort_by_size(labels, own, least)
    cuts = cut_large(samples.large_counts, sizes.MOMENTS_PART)
    rest = samples.small[samples.own] - own.start
    # Ranks send the rows of small classes in the order of their batches, to be sorted afterwards.
    sent = rest.sort().values if ranks else rest
    lengths = [*cuts.sizes, len(sent)]
    order = torch.cat([samples.large, sent])
    present = torch.stack(list(taking_part.values()), dim=1)[order]  # (k, M)
    *large, small = mapped_parts(features, order, present, lengths, normalize)
    *large_present, small_present = torch.split(present.to(small.dtype), lengths)
    exchanged: list[Tensor] = []
    if ranks and samples.small_counts:
        small, small_present = (joined(x, group)[0] for x in (small, small_present))
        exchanged.append(small)
        # From the order of the ranks' batches to the order by class: the place of each in it.
        by_class = samples.small.argsort().argsort()
        small, small_present = small[by_class], small_present[by_class]

    # The sums of each large class and of each part of small classes; for each, that of all others.
    sums: list[Tensor] = []
    if large:
        classes = sum_classes(large, large_present, cuts.shares, group)
        sums += classes.totals
        exchanged += [classes.totals, classes.moments]
        about = list(zip(classes.totals.unbind(), classes.moments.unbind(), strict=True))
    part_sizes = cut_small(samples.small_counts, least) or [0]
    split = [torch.split(x, part_sizes) for x in (small, small_present, samples.ids, samples.own)]
    sums += [append_counts(sum_rows(x), here) for x, here, _, _ in zip(*split, strict=True)]
    others = all_but_each(torch.stack(sums)).unbind()

    large_parts, small_parts = [], []
    class_of_part = [k for k, share in enumerate(cuts.shares) for _ in range(share)]
    for place, (k, x, here) in enumerate(zip(class_of_part, large, large_present, strict=True)):
        whole = OneClass(about[k][0], classes.other_parts[place], about[k][1])
        large_parts.append(_LargeClassPart(Part(x, here, others[k]), whole))
    for outside, x, here, ids, mine in zip(others[len(cuts.shares) :], *split, strict=True):
        anchors = mine.nonzero()[:, 0] if ranks else slice(None)
        small_parts.append(_SmallClassesPart(Part(x, here, outside), ids, anchors))
    order = torch.cat([samples.large, rest])
    return _CutBatch(large_parts, small_parts, order, exchanged if ranks else [])
