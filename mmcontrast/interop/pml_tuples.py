"""pytorch-metric-learning's index tuples as masks and back; nothing of the library is needed.

Its tuples are int64 index vectors: triplets ``(a, p, n)``, or pairs ``(a1, p, a2, n)``, anchors
with positives and anchors with negatives. A mask (B, C) holds the same pairs.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from mmcontrast import arguments
from mmcontrast.masks import different_label, off_diagonal, same_label


def to_pml_tuple(
    positives: Tensor, negatives: Tensor, *, triplets: bool = False
) -> tuple[Tensor, ...]:
    """Masks as an index tuple, for ``loss(embeddings, labels, indices_tuple)``.

    Args:
        positives: (B, C) bool.
        negatives: (B, C) bool.
        triplets: every positive of an anchor with every negative of it, ``(a, p, n)``; an anchor
            that lacks either is left out. Otherwise the pairs, ``(a1, p, a2, n)``.

    Returns:
        Three or four int64 vectors, sorted by anchor.

    Raises:
        ValueError: on masks that are not (B, C) bool, or not of one shape.

    Example:
        >>> to_pml_tuple(torch.tensor([[True, False, False]]), torch.tensor([[False, True, True]]))
        (tensor([0]), tensor([0]), tensor([0, 0]), tensor([1, 2]))
    """
    if arguments.tensor("positives", positives).ndim != 2:
        arguments.fail("positives", "shape (B, C)", arguments.shape(positives))
    arguments.mask("positives", positives, tuple(positives.shape))
    arguments.mask("negatives", negatives, tuple(positives.shape))
    a1, p = positives.nonzero(as_tuple=True)
    a2, n = negatives.nonzero(as_tuple=True)
    if not triplets:
        return a1, p, a2, n
    # The negatives are sorted by anchor, so those of one anchor are a range of ``n``. Each positive
    # pair is repeated for the range of its anchor, and ``place`` counts through all of them.
    count = negatives.sum(1)
    each = count[a1]
    ends = each.cumsum(0)
    place = torch.arange(int(each.sum()), device=a1.device)
    within = place - (ends - each).repeat_interleave(each)
    start = (count.cumsum(0) - count)[a1].repeat_interleave(each)
    return a1.repeat_interleave(each), p.repeat_interleave(each), n[start + within]


def from_pml_tuple(indices: Sequence[Tensor], anchors: int, candidates: int) -> tuple[Tensor, ...]:
    """An index tuple as masks, for ``positives=`` and ``keep=`` of our losses.

    Args:
        indices: ``(a, p, n)`` or ``(a1, p, a2, n)``; repeated pairs count once.
        anchors: B, how many anchors there are.
        candidates: C, how many candidates; B where the anchors are the candidates.

    Returns:
        positives and negatives, (B, C) bool each.

    Raises:
        ValueError: on another number of vectors.

    Example:
        >>> pairs = torch.tensor([0]), torch.tensor([1]), torch.tensor([0]), torch.tensor([2])
        >>> from_pml_tuple(pairs, 1, 3)
        (tensor([[False,  True, False]]), tensor([[False, False,  True]]))
    """
    if len(indices) == 3:
        a, p, n = indices
        indices = a, p, a, n
    elif len(indices) != 4:
        arguments.fail("indices", "3 or 4 index vectors", len(indices))
    a1, p, a2, n = (x.long() for x in indices)  # as an index, uint8 would be a mask
    positives = torch.zeros(anchors, candidates, dtype=torch.bool, device=p.device)
    negatives = torch.zeros_like(positives)
    positives[a1, p] = True
    negatives[a2, n] = True
    return positives, negatives


def label_masks(labels: Tensor, ref_labels: Tensor, itself: bool) -> tuple[Tensor, Tensor]:
    """Positives and negatives by label; a label of -100 is neither.

    Args:
        labels: (B,) the anchors' classes.
        ref_labels: (C,) the candidates' classes.
        itself: the candidates are the anchors, and none is its own positive.
    """
    positives = same_label(labels, ref_labels)
    if itself:
        positives = positives & off_diagonal(len(labels), labels.device)
    return positives, different_label(labels, ref_labels)
