"""The broken losses without their mistakes, and the parts that they are made of.

The parts are correct in every dtype, for zero rows and for an empty batch, so that a broken loss
breaks only the laws that its mistake concerns.
"""

import torch
import torch.nn.functional as F
from torch import Tensor


def unit(x: Tensor) -> Tensor:
    """Rows of length one, in at least float32; zero rows stay zero."""
    x = x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
    length = x.norm(dim=1, keepdim=True)
    return x / torch.where(length > 0, length, 1)


def cosines(a: Tensor, b: Tensor) -> Tensor:
    """(N, C) cosines of all pairs of rows, with autocast off."""
    with torch.autocast("cpu", enabled=False):
        return unit(a) @ unit(b).T


def mean(x: Tensor) -> Tensor:
    """The mean; 0 of an empty tensor."""
    return x.sum() / max(len(x), 1)


def each(logits: Tensor) -> Tensor:
    """(N,) cross-entropies of the rows; the target of row i is column i."""
    return logits.logsumexp(1) - logits.diagonal()


def one_direction(logits: Tensor) -> Tensor:
    """InfoNCE from rows to columns."""
    return mean(each(logits))


def both_directions(logits: Tensor) -> Tensor:
    """The mean of InfoNCE in both directions."""
    return (one_direction(logits) + one_direction(logits.T)) / 2


def correct(a: Tensor, b: Tensor, temperature: float = 0.1) -> Tensor:
    """InfoNCE without a mistake."""
    return one_direction(cosines(a, b) / temperature)


def correct_both_directions(a: Tensor, b: Tensor, temperature: float = 0.1) -> Tensor:
    """Symmetric InfoNCE without a mistake."""
    return both_directions(cosines(a, b) / temperature)


def not_self(n: int) -> Tensor:
    """(N, N), False on the diagonal."""
    return ~torch.eye(n, dtype=torch.bool)


def mean_share(logits: Tensor, positives: Tensor, candidates: Tensor) -> Tensor:
    """SupCon: minus the mean log share of the positives, over the anchors that have one."""
    floor = torch.finfo(logits.dtype).min
    shares = logits - logits.masked_fill(~candidates, floor).logsumexp(1, keepdim=True)
    number = positives.sum(1)
    losses = -torch.where(positives, shares, 0).sum(1) / number.clamp_min(1)
    return losses.sum() / (number > 0).sum().clamp_min(1)


def correct_by_label(z: Tensor, labels: Tensor, temperature: float = 0.1) -> Tensor:
    """SupCon without a mistake."""
    here = labels != -100
    candidates = not_self(len(z)) & here
    same = (labels[:, None] == labels) & candidates & here[:, None]
    return mean_share(cosines(z, z) / temperature, same, candidates)


def distance_gap(a: Tensor, p: Tensor, n: Tensor) -> Tensor:
    """(N,) distance to the positive minus distance to the negative."""
    found: Tensor = F.pairwise_distance(a, p, eps=0) - F.pairwise_distance(a, n, eps=0)
    return found


def correct_triplet(a: Tensor, p: Tensor, n: Tensor, margin: float = 0.5) -> Tensor:
    """The triplet loss without a mistake."""
    a, p, n = (x.float() if x.dtype in (torch.float16, torch.bfloat16) else x for x in (a, p, n))
    return mean((distance_gap(a, p, n) + margin).relu())
