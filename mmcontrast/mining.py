"""Hard negatives: the most similar candidates of each anchor, without gradients."""

from typing import NamedTuple

import torch
from torch import Tensor

from mmcontrast import arguments
from mmcontrast.distances import Distance, checked_distance, euclidean
from mmcontrast.distributed import Group, joined, name_of
from mmcontrast.eager import calls_operators
from mmcontrast.exact.closeness import MEASURES
from mmcontrast.exact.corpus import Corpus, Rows
from mmcontrast.exact.hardest import Search, hardest_candidates, hardest_of
from mmcontrast.exact.limits import checked_limits
from mmcontrast.mahalanobis import Mahalanobis
from mmcontrast.masks import check_partners
from mmcontrast.picking import sample_some
from mmcontrast.rows import RowMap, l2_normalize, map_rows
from mmcontrast.sharded import local_rows

EXCLUDED = {True: "before", "after": "after", False: "never"}
"""When partners are removed, by ``exclude_positive``: before the top k are taken, or after."""


class HardNegatives(NamedTuple):
    """The result of :func:`hard_negatives`, hardest first; shape (B, K) each.

    Fields:
        indices: int64 candidates; 0 where not valid.
        scores: Similarities of these candidates, or distances; 0 where not valid.
        valid: bool: False where fewer than K candidates were allowed, and where the partner was
            among the K and ``exclude_positive="after"`` removed it.
    """

    indices: Tensor
    scores: Tensor
    valid: Tensor


@local_rows
@torch.no_grad()
def hard_negatives(
    anchors: Tensor,
    candidates: Rows,
    k: int,
    *,
    targets: Tensor | None = None,
    allowed: Tensor | None = None,
    labels: Tensor | None = None,
    candidate_labels: Tensor | None = None,
    exclude_positive: bool | str = True,
    distance: Distance | None = None,
    skip: int = 0,
    below: float | None = None,
    above: float | None = None,
    margin: float | None = None,
    relative_margin: float | None = None,
    semi_hard: float | None = None,
    sample: int | None = None,
    generator: torch.Generator | None = None,
    normalize: RowMap | None = l2_normalize,
    chunk_size: int | None = None,
    group: Group | None = None,
) -> HardNegatives:
    """The k most similar candidates of each anchor, or the closest ones, without its partner.

    Ties go to the lower index, so the result is deterministic; equal candidates always tie. Mapped
    rows with NaN or infinity take no part, as anchors or candidates, where values can be read, on
    the CPU; elsewhere they may take places of the k, which are then not valid.

    What limits the candidates holds together: a candidate is taken if all of ``allowed``, the
    labels, ``below``, ``above`` and the margins let it pass. Only then are they ranked, and
    ``skip`` and ``sample`` count what passed.

    Args:
        anchors: (B, D) one embedding per sample.
        candidates: (C, D) the embeddings to search: a tensor, or a NumPy array, which may be a
            memory-mapped file. Arrays, and tensors of many rows, are read, mapped and ranked block
            by block, in memory of O(B k) beyond the rows.
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
        distance: instead of the dot product of mapped rows, a distance of rows as they are, such as
            :func:`euclidean`, or a callable (..., D), (..., D) -> (...). Scores are then distances,
            and the hardest are the closest.
        skip: how many of the hardest are left out, as they may be positives that nobody marked:
            from the (skip + 1)-th on.
        below: scores of at most this: a similarity, or a distance.
        above: scores of at least this.
        margin: at least so much less similar than the partner, or farther. An anchor without a
            partner has no margin to keep.
        relative_margin: the same as a share of the partner's score: 0.05 takes similarities of at
            most 95 % of a positive one.
        semi_hard: less similar than the partner, or farther, but by at most this margin. Where
            there is none, nothing is valid.
        sample: how many of the hardest the k are drawn from, uniformly, without one of them twice.
            None: the k hardest.
        generator: of ``sample``, on the anchors' device; None is torch's own.
        normalize: row map before the dot product; None for raw dot products.
        chunk_size: number of anchors at a time, for O(chunk_size C) memory. None: as many as fit
            the cache; all at once for few similarities, and under functional transforms.
        group: a process group, or ``"world"``: the candidates are those of all its ranks, C in all,
            and indices count them in the order of the ranks. Under a compiler K is then k, whatever
            C is, and what is beyond the candidates is not valid.

    Returns:
        :class:`HardNegatives`, without gradient. K = min(k, C - 1 - skip) with
        ``exclude_positive=True``, else min(k, C - skip), and at least 0. Compilers take K = 1 for
        another program: export a k above 1 for batches of k + skip + 1 or more.

    Raises:
        ValueError: on shapes or dtypes that disagree, fewer candidates than anchors without
            targets, labels with fractions, candidate_labels without labels, a k below 1, another
            ``exclude_positive``, a row map beside a distance, a sample of fewer than k, a negative
            margin for ``semi_hard``, or an array of candidates with a group.

    Example:
        >>> x = torch.tensor([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0]])
        >>> hard_negatives(x, x, k=1).indices
        tensor([[1],
                [0],
                [1]])

        As each anchor's own negatives in a loss, where not all of them found two:

        >>> from mmcontrast import info_nce
        >>> found = hard_negatives(x, x, k=2, margin=0.5)
        >>> found.valid
        tensor([[ True, False],
                [ True, False],
                [ True,  True]])
        >>> own = {"own_negatives": x[found.indices], "own_keep": found.valid}  # (B, K, D), (B, K)
        >>> info_nce(x, x, temperature=1.0, **own)
        tensor(0.9928)

        FaceNet's triplets: for all pairs of a class, the semi-hard negative.

        >>> from mmcontrast import off_diagonal, same_label, squared_euclidean
        >>> classes = torch.tensor([0, 0, 1])
        >>> a, p = (same_label(classes) & off_diagonal(3)).nonzero(as_tuple=True)
        >>> found = hard_negatives(
        ...     x[a], x, k=1, targets=p, labels=classes[a], candidate_labels=classes,
        ...     distance=squared_euclidean, semi_hard=2.0,
        ... )
        >>> found.indices[:, 0], found.valid[:, 0]
        (tensor([2, 2]), tensor([True, True]))

    Note:
        The limits are those of sentence-transformers' ``mine_hard_negatives``: ``range_min`` is
        ``skip``, ``range_max`` ``skip + sample``, ``max_score`` ``below``, ``min_score`` ``above``,
        ``absolute_margin`` ``margin``. It looks for them among its ``range_max`` hardest only.
        ``semi_hard`` has its strict and its other limit as pytorch-metric-learning's
        ``TripletMarginMiner(type_of_triplets="semihard")``, which leaves out what has none as well;
        TensorFlow Addons' ``triplet_semihard_loss`` takes the farthest negative there.

    References: TeCaFN, Multimedia Systems 30(4):228, eq. 7 (the partner is no negative) and
        Algorithm 1, which leaves the partner in (False). Its code is ``"after"``. Semi-hard:
        FaceNet, arXiv:1503.03832, section 3.2. Margins to the partner: NV-Retriever,
        arXiv:2407.15831.
    """
    arguments.matrix("anchors", anchors)
    arguments.rows_or_array("candidates", candidates, anchors)
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
    normalize, distance = measures(normalize, distance)
    limits = checked_limits(below, above, margin, relative_margin, semi_hard)
    skip = arguments.whole("skip", skip, least=0)
    pool = k if sample is None else arguments.whole("sample", sample, least=k)
    arguments.generator(generator)
    ranks, start = name_of(group), 0
    others = None if candidate_labels is labels else candidate_labels  # None: the anchors'
    operator = calls_operators() and distance in MEASURES and isinstance(candidates, Tensor)
    if ranks and not operator:  # an operator gathers them itself
        if not isinstance(candidates, Tensor):
            arguments.fail("group", "None where candidates are an array", arguments.shown(group))
        candidates, here = joined(candidates, group)  # (C of all ranks, D)
        others = None if candidate_labels is None else joined(candidate_labels, group)[0]
        ranks, start = "", here.start
    x = map_rows(anchors, normalize)
    corpus = Corpus(candidates, normalize, anchors.device)
    hardest = pool, skip, targets, allowed, labels
    way = EXCLUDED[exclude_positive], normalize is None, chunk_size, start
    found: tuple[Tensor, ...]
    if operator:
        measure = MEASURES.index(distance)
        found = hardest_candidates(
            x, corpus.whole(), *hardest, others, *way, ranks, measure, *limits
        )
    else:
        theirs = labels if others is None else others
        found = hardest_of(x, corpus, Search(*hardest, theirs, *way, distance, limits))
    if sample is not None:
        places = sample_some(found[2], k, generator)
        found = tuple(part.gather(1, places) for part in found)
    return HardNegatives(*found)


def measures(
    normalize: RowMap | None, distance: Distance | None
) -> tuple[RowMap | None, Distance | None]:
    """A miner's row map and distance: no map beside a distance, which measures rows as they are.

    The Mahalanobis distance is the Euclidean one of whitened rows.
    """
    if distance is None:
        return normalize, None
    checked_distance(distance)
    if normalize is not None and normalize is not l2_normalize:
        expected = "None beside a distance, which measures rows as they are"
        arguments.fail("normalize", expected, arguments.shown(normalize))
    if isinstance(distance, Mahalanobis):
        return distance.whiten, euclidean
    return None, distance
