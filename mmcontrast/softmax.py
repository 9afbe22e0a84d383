"""Masked softmax and log-sum-exp, and the cross-entropy that all softmax losses share."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from mmcontrast import arguments
from mmcontrast.gaps import USUAL, Variant, losses_of_gaps
from mmcontrast.rows import RowMap, dot, exact_number, map_rows, ordinary_scale
from mmcontrast.wide import widen_products

Masks = Callable[[slice], tuple[Tensor, Tensor | None]]
"""Returns, for some rows, the positives and the mask of who takes part, None for all: (R, C)."""


def masked_logsumexp(logits: Tensor, keep: Tensor, *, empty: float = -math.inf) -> Tensor:
    """Log of the sum of exponentials of the kept entries, (..., C) -> (...).

    A row with no kept entry gives ``empty``, with zero gradient, not NaN.
    """
    return torch.where(keep.any(-1), _kept(logits, keep).logsumexp(-1), empty)


def masked_softmax(logits: Tensor, keep: Tensor) -> Tensor:
    """Softmax over the kept entries, zero elsewhere; all zero in a row with no kept entry."""
    return torch.where(keep, _kept(logits, keep).softmax(-1), 0)


def masked_log_softmax(logits: Tensor, keep: Tensor) -> Tensor:
    """Log-softmax over the kept entries, zero elsewhere; all zero in a row with no kept entry."""
    return torch.where(keep, _kept(logits, keep).log_softmax(-1), 0)


def _kept(logits: Tensor, keep: Tensor) -> Tensor:
    """Logits with minus infinity outside the mask; all zero in a row with no kept entry.

    The zeros are a finite placeholder, masked by the caller: a softmax of minus infinities alone is
    NaN, and so is its gradient, which a mask on the result would not stop (0 * NaN).
    """
    fill = torch.where(keep.any(-1, keepdim=True), -math.inf, 0.0)  # (..., 1)
    return torch.where(keep, logits, fill.to(logits.dtype))


def with_finite_bias(keep: Tensor | None, bias: Tensor | None) -> Tensor | None:
    """The mask without the pairs whose bias is minus infinity; None where all pairs take part."""
    if bias is None:
        return keep
    there = bias != -math.inf
    return there if keep is None else keep & there


def biased(
    logits: Tensor, keep: Tensor | None, bias: Tensor | None
) -> tuple[Tensor, Tensor | None]:
    """Logits with a (B, C) bias added, and the mask of :func:`mask_and_bias`."""
    keep, bias = mask_and_bias(keep, bias)
    return logits if bias is None else logits + bias.to(logits.dtype), keep


def mask_and_bias(keep: Tensor | None, bias: Tensor | None) -> tuple[Tensor | None, Tensor | None]:
    """:func:`with_finite_bias`, and the bias, 0 outside this mask."""
    keep = with_finite_bias(keep, bias)
    return keep, None if bias is None or keep is None else torch.where(keep, bias, 0)


def contrast(
    anchors: Tensor,
    candidates: Tensor,
    masks: Masks,
    *,
    temperature: float | Tensor,
    normalize: RowMap | None,
    chunk_size: int | None,
    form: str = "out",
    bias: Tensor | None = None,
    variant: Variant = USUAL,
) -> tuple[Tensor, Tensor]:
    """:func:`log_share` of the similarities over the temperature, a chunk of anchors at a time.

    ``bias``, (B, C), is added to them.

    Each chunk is checkpointed: its (rows, C) tensors are freed and recomputed in the backward pass.
    For transforms, and for compilers where the positives' weights have a gradient; elsewhere
    :mod:`mmcontrast.exact.masked_blocks` makes the same numbers in one pass.
    """
    if normalize is None:  # a product beyond float32 would give the gradient 0 * inf
        x, y = widen_products(anchors, candidates)
        if x is not anchors:
            losses, counted = contrast(
                x,
                y,
                masks,
                temperature=temperature,
                normalize=None,
                chunk_size=chunk_size,
                form=form,
                bias=bias,
                variant=variant,
            )
            return losses.float(), counted  # infinite where too large: the caller tries again
    temperature = exact_number(temperature)
    choices = map_rows(candidates, normalize)  # (C, D), once for all chunks

    def block(rows: slice) -> tuple[Tensor, Tensor]:
        logits = dot(map_rows(anchors[rows], normalize), choices) / temperature  # (rows, C)
        positives, keep = masks(rows)
        logits, keep = biased(logits, keep, None if bias is None else bias[rows])
        further: Any = {"variant": variant.at(rows), "temperature": temperature}
        return log_share(logits, positives, keep, form=form, **further)

    if chunk_size is None:
        return block(slice(0, len(anchors)))
    arguments.whole("chunk_size", chunk_size)
    starts = range(0, max(len(anchors), 1), chunk_size)
    blocks = [checkpoint(block, slice(i, i + chunk_size), use_reentrant=False) for i in starts]
    each, which = zip(*blocks, strict=True)
    return torch.cat(each), torch.cat(which)


def log_share(
    logits: Tensor,
    positives: Tensor,
    keep: Tensor | None,
    *,
    form: str = "out",
    variant: Variant = USUAL,
    temperature: float | Tensor = 1.0,
) -> tuple[Tensor, Tensor]:
    r"""Cross-entropy between the positives' weights and the softmax of the kept logits.

    With P the positives and Q the other kept candidates, the loss
    :math:`\mathrm{lse}_{P \cup Q} - \sum_P w s` is computed as two gaps,

    .. math:: \Big(\mathrm{lse}_P - \sum_P w s\Big)
              + \mathrm{softplus}(\mathrm{lse}_Q - \mathrm{lse}_P).

    The first is exactly zero for a single positive, and so is its gradient. The second stays exact
    where the positive leads by far. The plain difference :math:`\mathrm{lse}_{P \cup Q} - s` does
    not: in float32 it is 0 from a lead of 17 on, which a temperature of 0.01 easily gives.

    Args:
        logits: (B, C) finite.
        positives: (B, C) bool, equal weights; or floating weights, scaled here to sum to one.
        keep: (B, C) bool: which candidates take part; None for all.
        form: ``"out"`` as above; ``"in"``, minus the log of the positives' summed share, is the
            second gap alone, where weights do not matter.
        variant: what takes the place of softplus, see :mod:`mmcontrast.gaps`.
        temperature: that the logits are divided by; only a prior's floor depends on it.

    Returns:
        (B,) losses and (B,) bool, anchors with a positive. The loss of an anchor without one is a
        finite placeholder, masked by the caller.
    """
    weights = positives.to(logits.dtype)
    if keep is not None:
        weights = torch.where(keep, weights, 0)
    is_positive = weights > 0  # (B, C): P
    counted = is_positive.any(-1)  # (B,)
    if positives.is_floating_point() and positives.shape[1] > 0:
        # Only their shares matter; a sum of large ones could overflow, and 1 / sum of tiny ones.
        weights = weights * ordinary_scale(weights.detach().amax(-1, keepdim=True))
    total = weights.sum(-1, keepdim=True)
    weights = weights / torch.where(total > 0, total, 1)
    rest = ~is_positive if keep is None else keep & ~is_positive  # (B, C): Q

    # Second gap. Above the threshold, F.softplus returns its argument: exact in float64 from 50 on,
    # but not from its default of 20. Without negatives lse_Q is minus infinity, and the gap is 0.
    best = masked_logsumexp(logits, is_positive, empty=0.0)  # (B,): lse_P
    gap = masked_logsumexp(logits, rest) - best
    several = 1 if variant.prior is None else is_positive.sum(-1).clamp_min(1)
    against_rest = losses_of_gaps(gap, best, temperature, variant, several)
    if form == "in":
        return against_rest, counted
    # First gap, as the mean of -log_softmax over P. Its backward pass computes softmax - w in one
    # step, exactly 0 for a single positive. Written as lse_P - sum(w s), the two terms of order 1
    # would be added to the second gap's small gradient one after the other, and round it away.
    among_positives = -(weights * masked_log_softmax(logits, is_positive)).sum(-1)
    if variant.decoupled:  # without a negative there is no loss at all
        among_positives = torch.where(variant.without_negatives(gap), 0, among_positives)
    return among_positives + against_rest, counted
