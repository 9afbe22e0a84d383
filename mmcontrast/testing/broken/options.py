"""InfoNCE whose options are wrong: reductions, chunks, masks, soft targets, extra candidates."""

import torch
from torch import Tensor

from mmcontrast.testing.broken.correct import correct, cosines, each, mean, one_direction
from mmcontrast.testing.broken.mistake import Mistake
from mmcontrast.testing.traits import Loss, Traits
from mmcontrast.testing.vary import Vary


def mean_by_n_plus_one(a: Tensor, b: Tensor, reduction: str = "mean") -> Tensor:
    """A mean over one anchor too many."""
    losses = each(cosines(a, b) / 0.1)
    return {"none": losses, "sum": losses.sum(), "mean": losses.sum() / (len(a) + 1)}[reduction]


def sum_is_a_mean(a: Tensor, b: Tensor, reduction: str = "mean") -> Tensor:
    """The mean where the sum is asked for."""
    losses = each(cosines(a, b) / 0.1)
    return losses if reduction == "none" else mean(losses)


def sorted_losses(a: Tensor, b: Tensor, reduction: str = "mean") -> Tensor:
    """The losses of the anchors, sorted by size."""
    losses = each(cosines(a, b) / 0.1).sort().values
    return {"none": losses, "sum": losses.sum(), "mean": mean(losses)}[reduction]


def mean_of_chunk_means(a: Tensor, b: Tensor, chunk_size: int = 1000) -> Tensor:
    """A smaller last chunk has the same weight as the others."""
    losses = each(cosines(a, b) / 0.1)
    chunks = torch.split(losses, chunk_size)
    return torch.stack([mean(chunk) for chunk in chunks]).mean()


def masked_but_counted(a: Tensor, b: Tensor, keep: Tensor | None = None) -> Tensor:
    """Masked anchors have loss 0, but still count in the mean."""
    logits = cosines(a, b) / 0.1
    if keep is None:
        return one_direction(logits)
    kept = logits.masked_fill(~keep, torch.finfo(logits.dtype).min)
    return mean(torch.where(keep.diagonal(), each(kept), 0))


def masked_rows_pulled(a: Tensor, b: Tensor, keep: Tensor | None = None) -> Tensor:
    """Masked anchors add nothing to the value, and a gradient of their own."""
    logits = cosines(a, b) / 0.1
    if keep is None:
        return one_direction(logits)
    here = keep.diagonal()
    kept = logits.masked_fill(~keep, torch.finfo(logits.dtype).min)
    pulled = logits.diagonal()[~here].sum()
    return each(kept)[here].sum() / here.sum().clamp_min(1) + pulled - pulled.detach()


def _with_targets(a: Tensor, b: Tensor, positives: Tensor | None) -> tuple[Tensor, Tensor]:
    shares = (cosines(a, b) / 0.1).log_softmax(1)
    eye = torch.eye(len(a), dtype=shares.dtype)
    return shares, eye if positives is None else positives.to(shares.dtype)


def targets_smoothed(a: Tensor, b: Tensor, positives: Tensor | None = None) -> Tensor:
    """Given targets are smoothed, the default ones are not."""
    shares, targets = _with_targets(a, b, positives)
    if positives is not None:
        targets = 0.9 * targets + 0.1 / len(a)
    return mean(-(targets * shares).sum(1))


def divergence_for_cross_entropy(a: Tensor, b: Tensor, positives: Tensor | None = None) -> Tensor:
    """The entropy of the targets is subtracted."""
    shares, targets = _with_targets(a, b, positives)
    return mean((torch.xlogy(targets, targets) - targets * shares).sum(1))


def targets_as_bool(a: Tensor, b: Tensor, positives: Tensor | None = None) -> Tensor:
    """Every candidate with a weight above 0 is a positive, and the shares are added."""
    shares, targets = _with_targets(a, b, positives)
    return mean(-shares.masked_fill(targets == 0, torch.finfo(shares.dtype).min).logsumexp(1))


def divided_by_candidates(a: Tensor, b: Tensor) -> Tensor:
    """A mean over the candidates: wrong where there are more of them than anchors."""
    return each(cosines(a, b) / 0.1).sum() / max(len(b), 1)


def hardly_the_temperature(a: Tensor, b: Tensor) -> Tensor:
    """A slightly different temperature."""
    return correct(a, b, 0.1001)


def denominator_detached(a: Tensor, b: Tensor, temperature: float = 1.0) -> Tensor:
    """Raw dot products; the negatives get no gradient."""
    logits = a @ b.T / temperature
    return mean(logits.logsumexp(1).detach() - logits.diagonal())


def clamped_dot_products(a: Tensor, b: Tensor, temperature: float = 1.0) -> Tensor:
    """Raw dot products, clamped to [-50, 50] against overflow."""
    return one_direction((a @ b.T / temperature).clamp(-50, 50))


def margin_before_the_temperature(a: Tensor, b: Tensor, temperature: float = 1.0) -> Tensor:
    """A margin on raw dot products, before the division by the temperature."""
    table = a @ b.T
    return one_direction((table - 0.2 * torch.eye(*table.shape, dtype=table.dtype)) / temperature)


def _reduction(loss: Loss, wrong: str, law: str) -> Mistake:
    return Mistake(loss, wrong, law, Traits(reductions=Vary(loss, "reduction")))


def _masked(loss: Loss, wrong: str) -> Mistake:
    traits = Traits(form="info_nce", temperature=0.1, keep=True)
    return Mistake(loss, wrong, "masked_sample_is_removed", traits)


def _soft_targets(loss: Loss, wrong: str, law: str) -> Mistake:
    return Mistake(loss, wrong, law, Traits(form="info_nce", temperature=0.1, positives=True))


def _not_normalized(loss: Loss, wrong: str, law: str) -> Mistake:
    made = Vary(loss, "temperature")
    traits = Traits(form="info_nce", temperature=1.0, normalized=False, factory=made)
    return Mistake(loss, wrong, law, traits)


OPTIONS = (
    _reduction(mean_by_n_plus_one, "the mean divides by N + 1", "mean_of_each_is_the_mean"),
    _reduction(sum_is_a_mean, "a mean for a sum", "sum_of_each_is_the_sum"),
    _reduction(sorted_losses, "losses in another order", "each_permutes_along"),
    Mistake(
        mean_of_chunk_means,
        "a mean of the chunks' means",
        "chunks_are_exact",
        Traits(chunked=Vary(mean_of_chunk_means, "chunk_size")),
    ),
    _masked(masked_but_counted, "masked anchors in the mean"),
    _masked(masked_rows_pulled, "a gradient to masked anchors"),
    _soft_targets(targets_smoothed, "targets smoothed", "hard_targets_are_the_default"),
    _soft_targets(
        divergence_for_cross_entropy, "a divergence for a cross-entropy", "soft_targets_mix"
    ),
    _soft_targets(targets_as_bool, "soft targets read as bool", "uniform_targets_cost_log_n"),
    Mistake(
        divided_by_candidates,
        "divided by the candidates",
        "ranks_agree",
        Traits(form="info_nce", temperature=0.1, rectangular=True),
    ),
    Mistake(
        hardly_the_temperature,
        "0.1001 for 0.1",
        "equals_the_reference",
        Traits(reference=correct),
    ),
    _not_normalized(denominator_detached, "negatives without gradient", "logit_gradients"),
    _not_normalized(clamped_dot_products, "dot products clamped", "logit_shift_invariant"),
    _not_normalized(
        margin_before_the_temperature, "a margin in another unit", "only_the_quotient_matters"
    ),
)
