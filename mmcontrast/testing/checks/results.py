"""What a loss returns: a finite number with a graph, also for few samples or none."""

import torch

from mmcontrast.testing.batch import Batch
from mmcontrast.testing.registry import check, one_sample, with_positives
from mmcontrast.testing.subject import LawBroken, Subject, demand, show, tensor_of


@check(batches=with_positives)
def returns_a_scalar(subject: Subject, batch: Batch) -> None:
    """The result is one finite number: a 0-d tensor, or named terms whose total is one.

    A missing reduction gives a vector; `.item()` gives a float without a graph; an overflow gives
    inf or NaN; a loss that takes labels, triplets or a mapping of modalities says so by kind=, and
    of modalities one by one is wrapped: lambda x: loss(*x.values()). The other laws are not tried
    where this one fails.
    """
    subject.value(batch)


@check()
def result_is_no_less_precise(subject: Subject, batch: Batch) -> None:
    """float64 inputs give float64; float32 inputs give float32 or more.

    A constant or a mask of a fixed dtype, `.float()` or `.half()` inside, or a value that was
    converted to a narrower number type on the way.
    """
    for dtype in (torch.float64, torch.float32):
        found = subject.tensor(batch.to(dtype)).dtype
        demand(
            torch.finfo(found).eps <= torch.finfo(dtype).eps,
            f"{dtype} inputs gave a result of {found}",
        )


@check("35, 43")
def gradient_reaches_its_inputs(subject: Subject, batch: Batch) -> None:
    """Each differentiable input gets a finite gradient, and no other input gets any.

    `.item()`, `.detach()`, `.data`, numpy, or a teacher or queue that should have been detached.
    """
    subject.gradients(batch)
    made = batch.leaves()
    value = subject.tensor(made)
    reached = torch.autograd.grad(value, list(made.rows.values()), allow_unused=True)
    expected = subject.differentiable(batch)
    for (name, _), gradient in zip(made.rows.items(), reached, strict=True):
        if name in expected:
            demand(gradient is not None, f"{name} is not in the loss's graph")
        elif gradient is not None and gradient.abs().max() > 0:
            raise LawBroken(f"{name} should get no gradient, but gets {gradient.tolist()}")


@check("1, 41", when=lambda t: t.nonnegative, needs="nonnegative")
def nonnegative(subject: Subject, batch: Batch) -> None:
    """The loss is never below 0 (nor, for InfoNCE, the mutual information bound above log N).

    A wrong sign, a positive that is missing from the denominator, or a missing hinge.
    """
    value = subject.value(batch)
    demand(value >= -subject.allowed(value), f"the loss is {show(value)}, below 0")


@check("45", when=lambda t: t.bounds is not None, needs="bounds")
def within_bounds(subject: Subject, batch: Batch) -> None:
    """The loss lies within the declared bounds.

    A wrong sign, a sum in place of a mean, or a share whose denominator lacks its numerator.
    """
    assert subject.traits.bounds is not None
    low, high = subject.traits.bounds
    value = subject.value(batch)
    subject.at_most(low, value, ("the lower bound", "the loss"))
    subject.at_most(value, high, ("the loss", "the upper bound"))


@check("17", when=lambda t: t.smallest == 1, needs="smallest=1", batches=one_sample)
def single_sample(subject: Subject, batch: Batch) -> None:
    """One sample is finite with finite gradients; a softmax over the batch is 0 there, and flat.

    A division by N - 1, a logarithm of an empty sum, or a squeeze() that removes the batch axis. A
    loss that needs two samples (a variance, negatives alone in a denominator) says smallest=2.
    """
    value, gradients = subject.gradients(batch)
    if subject.traits.form is None:
        return
    subject.same(value, 0.0, ("the loss of one sample", "the loss without negatives"))
    for name, gradient in gradients.items():
        largest = gradient.abs().max()
        if largest > subject.allowed(gradient):
            raise LawBroken(
                f"one sample has no negatives, but the gradient of {name} is {show(largest)}"
            )


@check("63", when=lambda t: t.empty is not None, needs="empty", batches=one_sample)
def empty_batch(subject: Subject, batch: Batch) -> None:
    """A batch of no samples is worth 0, or is refused with a ValueError; never NaN or a crash.

    The mean of an empty tensor is NaN; one batch without samples then turns all weights into NaN.
    """
    nothing = batch.take([])
    policy = subject.traits.empty
    try:
        result = subject.call(nothing.leaves())
    except ValueError as error:
        demand(policy != "zero", f"an empty batch should give 0, but raised: {error}")
        return
    value = tensor_of(result)
    demand(policy != "raise", f"an empty batch should raise ValueError, but gives {value}")
    demand(value.ndim == 0 and bool(value == 0), f"an empty batch gives {value.tolist()}")


@check(when=lambda t: t.reference is not None, needs="reference")
def equals_the_reference(subject: Subject, batch: Batch) -> None:
    """The loss equals the slow reference, in value and gradient.

    Compute the smallest example by hand: one of the two is wrong.
    """
    reference = subject.traits.reference
    value, gradients = subject.gradients(batch)
    expected, slow = subject.gradients(batch, loss=reference)
    what = ("the loss", "the reference")
    subject.same(value, expected, what)
    subject.same_gradients(gradients, slow, what)
