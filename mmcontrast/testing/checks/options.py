"""Reductions, chunks, masks and soft targets: several ways to compute the same number."""

import torch

from mmcontrast.testing import draws
from mmcontrast.testing.batch import Batch
from mmcontrast.testing.registry import check, generic, one_to_spare
from mmcontrast.testing.subject import LawBroken, Subject, demand, tensor_of


def _with_partners(batch: Batch) -> Batch:
    """A batch with labels gets every sample twice, so that each anchor has a positive."""
    if batch.labels is None:
        return batch
    n = len(batch)
    return batch.take([*range(n)] * 2).with_labels(torch.arange(n).repeat(2))


def _reduced(subject: Subject, batch: Batch, how: str) -> torch.Tensor:
    assert subject.traits.reductions is not None
    return tensor_of(subject.call(batch, loss=subject.traits.reductions(how))).detach()


@check("21", when=lambda t: t.reductions is not None, needs="reductions", batches=generic)
def mean_of_each_is_the_mean(subject: Subject, batch: Batch) -> None:
    """If each anchor has a positive, the mean of reduction="none" is reduction="mean".

    A mean over pairs or over values above 0, or a weight in one of the two only.
    """
    batch = _with_partners(batch)
    each = _reduced(subject, batch, "none")
    if each.ndim == 0:
        raise LawBroken('reduction="none" gave a single number')
    subject.same(_reduced(subject, batch, "mean"), each.mean(), ("the mean", "the mean of each"))


@check("21", when=lambda t: t.reductions is not None, needs="reductions")
def sum_of_each_is_the_sum(subject: Subject, batch: Batch) -> None:
    """The sum of reduction="none" is reduction="sum".

    Anchors without positives whose loss is not 0, or a sum that is scaled.
    """
    each = _reduced(subject, batch, "none")
    subject.same(_reduced(subject, batch, "sum"), each.sum(), ("the sum", "the sum of each"))


@check(
    "4",
    when=lambda t: t.reductions is not None and t.permutation_invariant,
    needs="reductions, permutation_invariant",
    batches=generic,
    draws={"order": draws.orders},
)
def each_permutes_along(subject: Subject, batch: Batch, order: list[int]) -> None:
    """Permuting the samples permutes the losses of reduction="none".

    Losses in another order than the samples, or a loss credited to another anchor.
    """
    each = _reduced(subject, batch, "none")
    moved = _reduced(subject, batch.take(order), "none")
    if len(each) != len(batch):  # one for each view
        return
    subject.same_gradients({"each": each[order]}, {"each": moved}, ("the batch", "the order"))


@check("19", when=lambda t: t.chunked is not None, needs="chunked")
def chunks_are_exact(subject: Subject, batch: Batch) -> None:
    """In chunks of any size the loss has the same value and gradients.

    A smaller last chunk, a mean of means, or a diagonal that restarts in each chunk.
    """
    assert subject.traits.chunked is not None
    value, gradients = subject.gradients(batch)
    for size in range(1, len(batch) + 1):
        found, slopes = subject.gradients(batch, loss=subject.traits.chunked(size))
        what = ("the loss", f"in chunks of {size} it")
        subject.same(value, found, what)
        subject.same_gradients(gradients, slopes, what)


@check("25", when=lambda t: t.keep, needs="keep", batches=one_to_spare, draws={"i": draws.sample})
def masked_sample_is_removed(subject: Subject, batch: Batch, i: int) -> None:
    """Masking a sample's row and column equals removing it, and it gets no gradient.

    A mask on the numerator only, or on the denominator only, or a mean that still counts it.
    """
    n = len(batch)
    keep = torch.ones(n, n, dtype=torch.bool)
    keep[i] = keep[:, i] = False
    value, gradients = subject.gradients(batch, keep=keep)
    what = (f"with sample {i} masked the loss", "without it")
    subject.same(value, subject.value(batch.without(i)), what)
    for name, gradient in gradients.items():
        demand((gradient[i] == 0).all(), f"the masked row of {name} gets a gradient")


@check("42", when=lambda t: t.positives, needs="positives")
def hard_targets_are_the_default(subject: Subject, batch: Batch) -> None:
    """Soft targets equal to the identity matrix are the default.

    Targets that are scaled twice, transposed, or used as logits.
    """
    eye = torch.eye(len(batch), dtype=torch.float64)
    what = ("the loss", "with the identity as targets it")
    subject.same(subject.value(batch), subject.value(batch, positives=eye), what)


@check(
    "42",
    when=lambda t: t.positives and not t.symmetric,
    needs="positives, not symmetric",
    draws={"targets": draws.soft_targets},
)
def soft_targets_mix(subject: Subject, batch: Batch, targets: list[list[float]]) -> None:
    """The loss is linear in targets that sum to 1: mixed targets give the mean of the losses.

    A divergence in place of a cross-entropy, or weights that are not scaled to sum to 1.
    """
    soft = torch.tensor(targets, dtype=torch.float64)
    soft = soft / soft.sum(1, keepdim=True)
    flat = torch.full_like(soft, 1 / len(batch))
    ends = [subject.value(batch, positives=t) for t in (soft, flat)]
    middle = subject.value(batch, positives=(soft + flat) / 2)
    subject.same(sum(ends) / 2, middle, ("the mean of the two losses", "for mixed targets it"))


@check(
    "42",
    when=lambda t: t.positives and t.form is not None,
    needs="positives and form",
)
def uniform_targets_cost_log_n(subject: Subject, batch: Batch) -> None:
    """With uniform targets the loss is at least log N, their entropy.

    Targets that are cast to bool, or a positive that is missing from the denominator.
    """
    n = len(batch)
    flat = torch.full((n, n), 1 / n, dtype=torch.float64)
    least = torch.tensor(float(n), dtype=torch.float64).log()
    subject.at_most(least, subject.value(batch, positives=flat), ("log N", "with uniform targets"))
