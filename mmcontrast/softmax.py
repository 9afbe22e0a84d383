"""The masked softmax under every softmax-style loss."""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from mmcontrast import arguments
from mmcontrast.rows import RowMap, dot, map_rows

Mask = Callable[[slice], Tensor | None]
"""The rows of a (B, C) mask: made where they are needed, so that a chunk holds only its own."""


def masked_logsumexp(logits: Tensor, keep: Tensor, *, empty: float = -math.inf) -> Tensor:
    """Log of the sum of exponentials of the kept entries, (..., C) -> (...).

    A row that keeps nothing gives ``empty`` and a gradient of zero, not NaN.
    """
    return torch.where(keep.any(-1), _kept(logits, keep).logsumexp(-1), empty)


def masked_softmax(logits: Tensor, keep: Tensor) -> Tensor:
    """Softmax over the kept entries, zero elsewhere; a row that keeps nothing is all zero."""
    return torch.where(keep, _kept(logits, keep).softmax(-1), 0)


def masked_log_softmax(logits: Tensor, keep: Tensor) -> Tensor:
    """Log-softmax over the kept entries, zero elsewhere and in a row that keeps nothing."""
    return torch.where(keep, _kept(logits, keep).log_softmax(-1), 0)


def _kept(logits: Tensor, keep: Tensor) -> Tensor:
    """Minus infinity outside the mask; a row that keeps nothing is a finite stand-in instead."""
    fill = torch.where(keep.any(-1, keepdim=True), -math.inf, 0.0)
    return torch.where(keep, logits, fill.to(logits.dtype))


def contrast(
    anchors: Tensor,
    candidates: Tensor,
    positives: Callable[[slice], Tensor],
    keep: Mask,
    *,
    temperature: float | Tensor,
    normalize: RowMap | None,
    chunk_size: int | None,
    form: str = "out",
) -> tuple[Tensor, Tensor]:
    """:func:`log_share` of the similarities over the temperature, a chunk of anchors at a time.

    A chunk keeps none of its (rows, C) tensors for the backward pass, which makes them again.
    """
    choices = map_rows(candidates, normalize)

    def block(rows: slice) -> tuple[Tensor, Tensor]:
        logits = dot(map_rows(anchors[rows], normalize), choices) / temperature
        return log_share(logits, positives(rows), keep(rows), form=form)

    if chunk_size is None:
        return block(slice(None))
    arguments.whole("chunk_size", chunk_size)
    starts = range(0, max(len(anchors), 1), chunk_size)
    blocks = [checkpoint(block, slice(i, i + chunk_size), use_reentrant=False) for i in starts]
    losses, counted = zip(*blocks, strict=True)
    return torch.cat(losses), torch.cat(counted)


def log_share(
    logits: Tensor, positives: Tensor, keep: Tensor | None, *, form: str = "out"
) -> tuple[Tensor, Tensor]:
    r"""Cross-entropy between the positives' weights and the softmax of the kept logits.

    With P the positives and Q the other kept candidates, the loss
    :math:`\mathrm{lse}_{P \cup Q} - \sum_P w s` is computed as two gaps,

    .. math:: \Big(\mathrm{lse}_P - \sum_P w s\Big)
              + \mathrm{softplus}(\mathrm{lse}_Q - \mathrm{lse}_P).

    The first is exactly zero for a single positive, its gradient too, and the second never
    subtracts two nearly equal numbers: :math:`\mathrm{lse}_{P \cup Q} - s` loses every digit in
    float32 once the positive leads by 17, which a temperature of 0.01 does.

    Args:
        logits: (B, C) finite.
        positives: (B, C) bool, equal weights; or floating weights, scaled here to sum to one.
        keep: (B, C) bool, who takes part; None for all.
        form: ``"out"`` as above; ``"in"``, the log of the positives' summed share, is the second
            gap alone (their weights do not matter then).

    Returns:
        (B,) losses and (B,) bool, who has a positive; the loss of the others is finite but void.
    """
    weights = positives.to(logits.dtype)
    if keep is not None:
        weights = torch.where(keep, weights, 0)
    is_positive = weights > 0
    counted = is_positive.any(-1)
    total = weights.sum(-1, keepdim=True)
    weights = weights / torch.where(total > 0, total, 1)
    rest = ~is_positive if keep is None else keep & ~is_positive

    best = masked_logsumexp(logits, is_positive, empty=0.0)
    # Beyond 50 the softplus is its argument to the last bit of a float64; the default of 20 is not.
    against_rest = F.softplus(masked_logsumexp(logits, rest) - best, threshold=50)
    if form == "in":
        return against_rest, counted
    # log_softmax takes its gradient's difference in one step. Written as lse - s, the two halves
    # would meet the second gap's gradient one by one, and round it away.
    among_positives = -(weights * masked_log_softmax(logits, is_positive)).sum(-1)
    return among_positives + against_rest, counted
