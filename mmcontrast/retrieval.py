"""Retrieval metrics: ranks, recall, MRR, mean average precision, exactly and without sorting."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from mmcontrast import arguments
from mmcontrast.distributed import Group, joined, total
from mmcontrast.exact import sizes
from mmcontrast.exact.choose import ranked_at_a_time
from mmcontrast.exact.counting import partner_ranks, partner_ranks_in_tiles, positive_ranks
from mmcontrast.exact.ranking import score_blocks
from mmcontrast.exact.ties import first_equal, map_equal_rows, tied_dot
from mmcontrast.exact.tiles import any_of
from mmcontrast.masks import IGNORE, check_partners, checked_partners, columns_of
from mmcontrast.presence import refuse_not_finite
from mmcontrast.rows import RowMap, l2_normalize, map_rows
from mmcontrast.sharded import local_rows
from mmcontrast.wide import widen_products


class Retrieval(NamedTuple):
    """The result of :func:`retrieval`: of each anchor, and means over all that have a positive.

    Fields:
        ranks: (B,) rank of the anchor's first positive, from 1; 0 without one.
        average_precision: (B,) mean of the precisions at the ranks of its positives; 1 / rank
            of a single one.
        counted: (B,) bool: anchors with a positive.
        recall: By k: share of the anchors with a positive among the k most similar candidates,
            0-d.
        mrr: Mean of 1 / rank, 0-d.
        mean_average_precision: 0-d.
        median_rank: 0-d.
    """

    ranks: Tensor
    average_precision: Tensor
    counted: Tensor
    recall: dict[int, Tensor]
    mrr: Tensor
    mean_average_precision: Tensor
    median_rank: Tensor

    def summary(self) -> str:
        """The means as text, one line for each."""
        rows = [(f"recall at {k}", f"{share:.1%}") for k, share in self.recall.items()]
        rows += [("mean reciprocal rank", f"{self.mrr:.4f}")]
        rows += [("mean average precision", f"{self.mean_average_precision:.4f}")]
        rows += [("median rank", f"{self.median_rank:g}")]
        return "\n".join(f"{name:<23} {value}" for name, value in rows)


@local_rows
@torch.no_grad()
def retrieval(
    anchors: Tensor,
    candidates: Tensor,
    targets: Tensor | None = None,
    *,
    positives: Tensor | None = None,
    ks: Sequence[int] = (1, 5, 10),
    normalize: RowMap | None = l2_normalize,
    chunk_size: int | None = None,
    group: Group | None = None,
) -> Retrieval:
    r"""How well anchors find their partners: ranks, recall at k, MRR, mAP and the median rank.

    With s the similarities and p an anchor's positive,

    .. math:: \mathrm{rank}_i = 1 + |\{j : s_{ij} > s_{ip}\}|
              + \tfrac12 |\{j \ne p : s_{ij} = s_{ip}\}|,

    the expected rank where ties are broken at random, so that a collapsed model gets the rank of
    chance, (C + 1) / 2, and not 1. Candidates that are equal always tie. The rank is a count:
    candidates are not sorted, and in eager mode no (B, C) matrix exists.

    With several positives the rank is that of the first one found, as recall is counted for images
    with five captions, and average precision is the mean over an anchor's positives of the share of
    positives up to that one's rank.

    Args:
        anchors: (B, D) one embedding per sample.
        candidates: (C, D) what each anchor searches.
        targets: (B,) index of each anchor's partner, -100 for none. Default: row ``i`` belongs to
            anchor ``i``.
        positives: instead of targets, (B, C) bool for several positives: of images and their
            captions, ``same_label(image_ids, image_ids_of_captions)``.
        ks: for each, the recall among so many.
        normalize: row map before the dot product; None for raw dot products.
        chunk_size: number of anchors at a time, for O(chunk_size C) memory. None: what the cache
            holds.
        group: a process group, or ``"world"``: candidates and means are those of all its ranks;
            positives are then (B of this rank, C of all), targets index this rank's candidates.

    Returns:
        :class:`Retrieval`, without gradient. A mean over no anchors is 0.

    Raises:
        ValueError: on shapes or dtypes that disagree, targets and positives both given, fewer
            candidates than anchors with neither, a k below 1, or mapped rows with NaN or infinity.
            A compiler cannot read them: there, what is no number comes before the positives.

    Example:
        >>> x = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.6, 0.8]])
        >>> found = retrieval(x, x.flip(0), ks=(1, 2))
        >>> found.ranks, found.recall[1]
        (tensor([2., 1., 3.]), tensor(0.3333))

    References: recall at k over images and captions, arXiv:1411.2539, section 3; ranks that ties
        do not flatter, arXiv:1911.03903.
    """
    arguments.matrix("anchors", anchors)
    arguments.matrix("candidates", candidates, like=anchors)
    if isinstance(ks, str | Tensor) or not isinstance(ks, Sequence):
        arguments.fail("ks", "several ints of at least 1", arguments.shown(ks))
    ks = [arguments.whole("ks", k) for k in ks]
    chunk_size = arguments.chunk(chunk_size)
    if positives is None:
        own = checked_partners(anchors, check_partners(anchors, candidates, targets))
    elif targets is not None:
        arguments.fail("targets", "None where positives are given", arguments.shown(targets))
    candidates, here = joined(candidates, group, size=columns_of(positives))  # (C of all ranks, D)
    if positives is not None:
        arguments.mask("positives", positives, (anchors.shape[0], candidates.shape[0]))
        counted = any_of(positives, 1)
    else:
        counted = own != IGNORE
        own = torch.where(counted, own + here.start, 0)
    x, y = map_rows(anchors, normalize), map_equal_rows(candidates, normalize)
    refuse_not_finite("anchors", x)
    refuse_not_finite("candidates", y)
    if normalize is None:
        x, y = widen_products(x, y, group=group)
    found = []
    step = ranked_at_a_time(x, y, chunk_size)
    in_tiles = step is not None and chunk_size is None and positives is None
    if in_tiles and x.is_cpu and first_equal(y) is None:
        ranks = partner_ranks_in_tiles(x, y, own, sizes.WIDE)
        found = [(ranks, 1 / ranks)]
        blocks: Iterable[tuple[slice, Tensor]] = ()
    else:
        blocks = score_blocks(x, y, step) if step else [(slice(None), tied_dot(x, y))]
    for i, scores in blocks:  # (R, C)
        if positives is not None:
            found.append(positive_ranks(scores, positives[i]))
        else:
            ranks = partner_ranks(scores, own[i])
            found.append((ranks, 1 / ranks))
    found = found or [(x.new_zeros(0), x.new_zeros(0))]
    columns = (torch.cat(column) for column in zip(*found, strict=True))
    ranks, precision = (torch.where(counted, column, 0) for column in columns)
    number = total(counted.sum(), group).clamp_min(1)

    def mean(values: Tensor) -> Tensor:
        return total(torch.where(counted, values, 0).sum(), group) / number

    return Retrieval(
        ranks=ranks,
        average_precision=precision,
        counted=counted,
        recall={k: mean((ranks <= k).to(ranks.dtype)) for k in ks},
        mrr=mean(1 / torch.where(counted, ranks, 1)),
        mean_average_precision=mean(precision),
        median_rank=median_rank(joined(ranks, group)[0]),
    )


def median_rank(ranks: Tensor) -> Tensor:
    """0-d, of the ranks above 0; between two, the middle; 0 for none."""
    ranks = F.pad(ranks.sort().values, (1, 0))  # the ranks, behind the zeros of which one is here
    number = (ranks > 0).sum()
    first = ranks.shape[0] - number
    middle = torch.stack([first + (number - 1).clamp_min(0) // 2, first + number // 2])
    return ranks[middle.clamp_max(ranks.shape[0] - 1)].mean()
