"""What the broken losses are made of, and what they would be without their mistake.

The parts are right: in every dtype, for zero rows, for an empty batch. So a broken loss breaks the
laws of its mistake, and no others.
"""

import torch
import torch.nn.functional as F
from torch import Tensor


def unit(x: Tensor) -> Tensor:
    """Rows of length one, in float32 at least; a row of zeros stays."""
    x = x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
    length = x.norm(dim=1, keepdim=True)
    return x / torch.where(length > 0, length, 1)


def cosines(a: Tensor, b: Tensor) -> Tensor:
    """(N, C) of all rows, out of autocast's reach."""
    with torch.autocast("cpu", enabled=False):
        return unit(a) @ unit(b).T


def mean(x: Tensor) -> Tensor:
    """The mean, 0 of nothing."""
    return x.sum() / max(len(x), 1)


def each(logits: Tensor) -> Tensor:
    """(N,) the loss of picking row i's partner, column i."""
    return logits.logsumexp(1) - logits.diagonal()


def one_way(logits: Tensor) -> Tensor:
    """InfoNCE, rows picking columns."""
    return mean(each(logits))


def both_ways(logits: Tensor) -> Tensor:
    """InfoNCE, the mean of both directions."""
    return (one_way(logits) + one_way(logits.T)) / 2


def right(a: Tensor, b: Tensor, temperature: float = 0.1) -> Tensor:
    """InfoNCE without a mistake."""
    return one_way(cosines(a, b) / temperature)


def right_both_ways(a: Tensor, b: Tensor, temperature: float = 0.1) -> Tensor:
    """Symmetric InfoNCE without a mistake."""
    return both_ways(cosines(a, b) / temperature)


def not_self(n: int) -> Tensor:
    """(N, N) everybody but the anchor."""
    return ~torch.eye(n, dtype=torch.bool)


def mean_share(logits: Tensor, positives: Tensor, candidates: Tensor) -> Tensor:
    """SupCon: over the anchors with a positive, minus the mean log share of their positives."""
    floor = torch.finfo(logits.dtype).min
    shares = logits - logits.masked_fill(~candidates, floor).logsumexp(1, keepdim=True)
    number = positives.sum(1)
    losses = -torch.where(positives, shares, 0).sum(1) / number.clamp_min(1)
    return losses.sum() / (number > 0).sum().clamp_min(1)


def right_by_label(z: Tensor, labels: Tensor, temperature: float = 0.1) -> Tensor:
    """SupCon without a mistake."""
    here = labels != -100
    candidates = not_self(len(z)) & here
    same = (labels[:, None] == labels) & candidates & here[:, None]
    return mean_share(cosines(z, z) / temperature, same, candidates)


def gap(a: Tensor, p: Tensor, n: Tensor) -> Tensor:
    """(N,) how much farther the positive is than the negative."""
    found: Tensor = F.pairwise_distance(a, p, eps=0) - F.pairwise_distance(a, n, eps=0)
    return found


def right_triplet(a: Tensor, p: Tensor, n: Tensor, margin: float = 0.5) -> Tensor:
    """The triplet loss without a mistake."""
    a, p, n = (x.float() if x.dtype in (torch.float16, torch.bfloat16) else x for x in (a, p, n))
    return mean((gap(a, p, n) + margin).relu())
