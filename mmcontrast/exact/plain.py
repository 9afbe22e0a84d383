"""Each loss in a few operations that autograd knows: what every other way must equal.

Second derivatives differentiate these. They make all logits at once.
"""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from mmcontrast.distributed import joined
from mmcontrast.gaps import USUAL, Variant
from mmcontrast.rows import dot
from mmcontrast.softmax import biased, log_share


def plain_one_way(
    anchors: Tensor,
    candidates: Tensor,
    targets: Tensor | None,
    temperature: float | Tensor,
    keep: Tensor | None = None,
    bias: Tensor | None = None,
    variant: Variant = USUAL,
) -> Tensor:
    """(B,) InfoNCE of (B, D) anchors among (C, D) candidates, those in a (B, C) mask.

    ``bias``, (B, C), is added to the logits. Without targets, candidate i belongs to anchor i. An
    anchor with a negative target has a finite placeholder for a loss, masked by the caller.
    ``variant``: see :mod:`mmcontrast.gaps`.
    """
    columns = torch.arange(len(candidates), device=candidates.device)
    own = columns[: len(anchors)] if targets is None else targets
    logits = dot(anchors, candidates) / temperature  # (B, C)
    logits, keep = biased(logits, keep, bias)
    further: Any = {"variant": variant, "temperature": temperature}
    return log_share(logits, columns == own[:, None], keep, **further)[0]


def plain_contrast(
    anchors: Tensor,
    candidates: Tensor,
    temperature: float | Tensor,
    positives: Tensor,
    keep: Tensor | None,
    form: str,
    bias: Tensor | None = None,
    variant: Variant = USUAL,
) -> Tensor:
    """(B,) losses by :func:`log_share` of (B, D) anchors among (C, D) candidates."""
    logits, keep = biased(dot(anchors, candidates) / temperature, keep, bias)
    settings: Any = {"form": form, "variant": variant, "temperature": temperature}
    return log_share(logits, positives, keep, **settings)[0]


def plain_symmetric(
    x: Tensor,
    y: Tensor,
    temperature: float | Tensor,
    own: slice,
    group: Any,
    keep: Tensor | None = None,
    bias: Tensor | None = None,
    variant: Variant = USUAL,
) -> Tensor:
    """(B,) InfoNCE of two views, averaged over both directions.

    Args:
        x: (B, D) one view, this rank's.
        y: (C, D) the other view, of all ranks.
        temperature: above 0.
        own: which rows of ``y`` are this rank's.
        group: the ranks; None for this one alone.
        keep: (B, C) bool, which pairs take part; None for all.
        bias: (B, C), added to the logits.
        variant: of both directions, (2, B): see :mod:`mmcontrast.gaps`.
    """
    every = x if group is None else joined(x, group)[0]  # (C, D)
    columns = torch.arange(len(y), device=x.device)
    pairs = columns == columns[own, None]  # (B, C)
    # Rows of x choose among all y, then this rank's rows of y among all x. The pairs are the same
    # matrix for both, because x[i] and y[own][i] have the same index over all ranks.
    losses = []
    for k, (a, b) in enumerate(((x, y), (y[own], every))):
        masks = (_turned(z, own, group) if k == 1 else z for z in (keep, bias))  # (B, C)
        logits, kept = biased(dot(a, b) / temperature, *masks)
        further: Any = {"variant": variant.at(k), "temperature": temperature}
        losses.append(log_share(logits, pairs, kept, **further)[0])
    return (losses[0] + losses[1]) / 2


def _turned(z: Tensor | None, own: slice, group: Any) -> Tensor | None:
    """(B, C) of pairs of x and y: those of this rank's rows of y and all of x."""
    return None if z is None else joined(z, group)[0][:, own].mT


def plain_sup_con(
    rows: Tensor, temperature: float | Tensor, positives: Tensor, keep: Tensor
) -> Tensor:
    """(N,) SupCon, the "out" form, of (N, D) rows among themselves; 0 without a positive.

    ``positives`` and ``keep`` are (N, N) bool; ``keep`` excludes the diagonal.
    """
    losses, counted = log_share(dot(rows, rows) / temperature, positives, keep)
    return torch.where(counted, losses, 0)


def plain_sigmoid(
    x: Tensor,
    y: Tensor,
    temperature: float | Tensor,
    bias: float | Tensor,
    positives: Tensor | None,
    keep: Tensor | None,
    start: int,
    pair_bias: Tensor | None = None,
) -> Tensor:
    """(B,) sigmoid losses of (B, D) rows with all (C, D) columns.

    Positives are the (B, C) mask, or without one the pairs (i, start + i); ``keep`` is (B, C), and
    so is ``pair_bias``, which is added to ``bias``.
    """
    logits, keep = biased(dot(x, y) / temperature + bias, keep, pair_bias)
    if positives is None:
        columns = torch.arange(len(y), device=x.device)
        positives = columns == columns[start : start + len(x), None]
    # -log sigmoid(z s) = softplus(-z s), with z = 1 for a positive and -1 for a negative pair.
    logits = torch.where(positives, -logits, logits)
    if keep is not None:
        # softplus(-inf) is 0, and so is its slope: an excluded pair adds nothing.
        logits = torch.where(keep, logits, -math.inf)
    return F.softplus(logits, threshold=50).sum(1)
