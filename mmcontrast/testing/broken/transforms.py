"""InfoNCE that is right as a number, and wrong for autograd, compilers or unusual tensors."""

from typing import Any

import torch
from torch import Tensor

from mmcontrast.eager import apply
from mmcontrast.testing.broken.mistake import Mistake
from mmcontrast.testing.broken.parts import right
from mmcontrast.testing.traits import Loss, Traits


def float32_inside(a: Tensor, b: Tensor) -> Tensor:
    """Whatever comes is converted to float32."""
    return right(a.float(), b.float())


def second_derivative_lost(a: Tensor, b: Tensor) -> Tensor:
    """A linear function that has the value and the slope of the loss."""
    value = right(a, b)
    if not value.requires_grad or not torch.is_grad_enabled():
        return value
    here = [x for x in (a, b) if x.requires_grad]
    slopes = torch.autograd.grad(value, here)
    steps = [(slope * (x - x.detach())).sum() for slope, x in zip(slopes, here, strict=True)]
    return value.detach() + torch.stack(steps).sum()


def half_without_gradient(a: Tensor, b: Tensor) -> Tensor:
    """Another loss where one input needs no gradient, as banks have that fill in training only."""
    return right(a, b) if a.requires_grad == b.requires_grad else right(a, b) / 2


def gradient_penalty(a: Tensor, b: Tensor) -> Tensor:
    """A gradient is taken inside, which no_grad forbids."""
    rows = a.detach().requires_grad_()
    (slope,) = torch.autograd.grad(right(rows, b), rows)
    return right(a, b) + 0 * slope.square().sum()


def views_its_inputs(a: Tensor, b: Tensor) -> Tensor:
    """`.view()` of rows that may be a slice or a transpose."""
    return right(a.view(-1).view(a.shape), b)


def branches_on_a_value(a: Tensor, b: Tensor) -> Tensor:
    """An `if` on a number that only a run knows."""
    value = right(a, b)
    return value if bool(value.detach() > 0) else value * 1


class _OldStyle(torch.autograd.Function):
    """Square root of the square, with a context that transforms cannot use."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx: Any, slope: Tensor) -> Tensor:
        return slope


def old_style_function(a: Tensor, b: Tensor) -> Tensor:
    """An autograd function without setup_context."""
    return apply(_OldStyle, right(a, b))


def _wrong(
    loss: Loss, wrong: str, law: str, *, traceable: bool = False, functional: bool = False
) -> Mistake:
    claims = Traits(form="info_nce", temperature=0.1, traceable=traceable, functional=functional)
    return Mistake(loss, wrong, law, claims)


TRANSFORMS = (
    _wrong(float32_inside, "`.float()` inside", "result_is_no_less_precise"),
    _wrong(second_derivative_lost, "a constant gradient", "gradgradcheck"),
    _wrong(
        half_without_gradient,
        "a branch on requires_grad",
        "gradient_does_not_depend_on_others",
    ),
    _wrong(gradient_penalty, "a gradient taken inside", "works_without_gradients"),
    _wrong(views_its_inputs, "`.view()`", "strides_do_not_matter"),
    _wrong(branches_on_a_value, "`if` on a value", "compiles_into_one_graph", traceable=True),
    _wrong(
        old_style_function,
        "an autograd function of the old style",
        "functional_gradient",
        functional=True,
    ),
)
