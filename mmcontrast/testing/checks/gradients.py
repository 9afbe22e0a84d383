"""First and second derivatives."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.autograd.gradcheck import GradcheckError

from mmcontrast.testing import draws
from mmcontrast.testing.batch import Batch
from mmcontrast.testing.registry import check, few_samples, generic
from mmcontrast.testing.subject import LawBroken, Subject, demand, show


def _compare(subject: Subject, batch: Batch, tester: Callable[..., bool]) -> None:
    """LawBroken unless numerical and analytical derivatives agree."""
    names = subject.differentiable(batch)

    def function(*moved: Tensor) -> Tensor:
        rows = {**batch.rows, **dict(zip(names, moved, strict=True))}
        return subject.tensor(batch.with_rows(rows))

    leaves = batch.leaves()
    derivatives_agree(function, [leaves.rows[name] for name in names], tester)


def derivatives_agree(
    function: Callable[..., Tensor], leaves: list[Tensor], tester: Callable[..., bool]
) -> None:
    """LawBroken where ``gradcheck`` or ``gradgradcheck`` of torch says so."""
    try:
        tester(function, leaves, fast_mode=True)
    except GradcheckError as error:
        raise LawBroken(
            " ".join(str(error).partition("The above quantities")[0].split())
        ) from error


@check("44", when=lambda t: t.smooth, needs="smooth", batches=few_samples, most=10)
def gradcheck(subject: Subject, batch: Batch) -> None:
    """The gradient equals finite differences.

    A wrong hand-written backward, `.data`, a `.detach()` too many, or float32 inside. A loss that
    detaches weights on purpose says smooth=False.
    """
    _compare(subject, batch, torch.autograd.gradcheck)


@check("44", when=lambda t: t.smooth, needs="smooth", batches=few_samples, most=5)
def gradgradcheck(subject: Subject, batch: Batch) -> None:
    """The second derivative equals finite differences of the gradient.

    A hand-written backward that is not differentiable itself, or a gradient used as a constant.
    """
    _compare(subject, batch, torch.autograd.gradgradcheck)


@check(
    "7", when=lambda t: t.normalized and not t.unit, needs="normalized, not unit", batches=generic
)
def gradient_is_tangent(subject: Subject, batch: Batch) -> None:
    """The gradient of a row is orthogonal to the row: its length does not matter.

    A norm that was detached, or computed with an epsilon that is not small compared with it.
    """
    _, gradients = subject.gradients(batch)
    for name, gradient in gradients.items():
        row = batch.rows[name]
        along = (gradient * row).sum(1).abs().max()
        scale = 1 + (gradient.norm(dim=1) * row.norm(dim=1)).max().item()
        if not along <= subject.allowed(gradient) * scale:
            raise LawBroken(f"the gradient of {name} has the component {show(along)} along a row")


@check(
    "8", when=lambda t: t.normalized and not t.unit, needs="normalized, not unit", batches=generic
)
def gradient_falls_with_length(subject: Subject, batch: Batch) -> None:
    """Rows twice as long get half the gradient.

    A norm that was detached, or a straight-through normalisation.
    """
    _, gradients = subject.gradients(batch)
    _, longer = subject.gradients(batch.map(lambda x: 2 * x))
    halves = {name: g / 2 for name, g in gradients.items()}
    subject.same_gradients(halves, longer, ("the batch, halved,", "rows twice as long"))


@check("64", batches=generic, draws={"name": draws.chosen_name})
def gradient_does_not_depend_on_others(subject: Subject, batch: Batch, name: str) -> None:
    """Whether the other inputs need a gradient changes neither the value nor this one's gradient.

    A branch on `requires_grad`, as in a memory bank that fills in training only.
    """
    if name not in subject.differentiable(batch):
        return
    value, gradients = subject.gradients(batch)
    alone = batch.with_rows({**batch.rows, name: batch.rows[name].clone().requires_grad_()})
    found = subject.tensor(alone)
    subject.same(value, found.detach(), ("the loss", f"where only {name} needs a gradient it"))
    (gradient,) = torch.autograd.grad(found, [alone.rows[name]], allow_unused=True)
    demand(
        gradient is not None,
        f"{name} is not in the loss's graph when only it needs a gradient",
    )
    what = ("all inputs in the graph", f"{name} alone in it")
    subject.same_gradients({name: gradients[name]}, {name: gradient}, what)
