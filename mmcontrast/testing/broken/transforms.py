"""InfoNCE with the right value, but wrong for autograd, compilers or unusual tensors."""

from typing import Any

import torch
from torch import Tensor

from mmcontrast.eager import apply
from mmcontrast.testing.broken.correct import correct, one_direction, unit
from mmcontrast.testing.broken.mistake import Mistake
from mmcontrast.testing.traits import Loss, Traits


def detached_candidates(a: Tensor, b: Tensor) -> Tensor:
    """The second encoder gets no gradient."""
    return correct(a, b.detach())


def detached_norm(a: Tensor, b: Tensor) -> Tensor:
    """The rows are divided by a detached norm."""
    a, b = (
        x * (unit(x).norm(dim=1) / x.norm(dim=1)).nan_to_num(1).detach()[:, None] for x in (a, b)
    )
    return one_direction(a @ b.T / 0.1)


def writes_to_its_inputs(a: Tensor, b: Tensor) -> Tensor:
    """The rows are normalised in place."""
    with torch.no_grad():
        a /= a.norm(dim=1, keepdim=True).clamp_min(1e-6)
    return correct(a, b)


def loses_the_graph(a: Tensor, b: Tensor) -> Tensor:
    """The result is converted to a Python number and back."""
    return torch.tensor(correct(a, b).item(), dtype=a.dtype)


def scaled_gradient(a: Tensor, b: Tensor) -> Tensor:
    """The value is right, and the gradient half of what it should be."""
    value = correct(a, b)
    return value / 2 + (value / 2).detach()


def float32_inside(a: Tensor, b: Tensor) -> Tensor:
    """All inputs are converted to float32."""
    return correct(a.float(), b.float())


def second_derivative_lost(a: Tensor, b: Tensor) -> Tensor:
    """A linear function with the value and the gradient of the loss."""
    value = correct(a, b)
    if not value.requires_grad or not torch.is_grad_enabled():
        return value
    here = [x for x in (a, b) if x.requires_grad]
    slopes = torch.autograd.grad(value, here)
    steps = [(slope * (x - x.detach())).sum() for slope, x in zip(slopes, here, strict=True)]
    return value.detach() + torch.stack(steps).sum()


def half_without_gradient(a: Tensor, b: Tensor) -> Tensor:
    """A different value where only one input needs a gradient, as in some memory banks."""
    return correct(a, b) if a.requires_grad == b.requires_grad else correct(a, b) / 2


def gradient_penalty(a: Tensor, b: Tensor) -> Tensor:
    """A gradient is computed inside, which fails under no_grad."""
    rows = a.detach().requires_grad_()
    (slope,) = torch.autograd.grad(correct(rows, b), rows)
    return correct(a, b) + 0 * slope.square().sum()


def views_its_inputs(a: Tensor, b: Tensor) -> Tensor:
    """`.view()` of rows that may be a slice or a transpose."""
    return correct(a.view(-1).view(a.shape), b)


def branches_on_a_value(a: Tensor, b: Tensor) -> Tensor:
    """An `if` on the value of a tensor, which cannot be traced."""
    value = correct(a, b)
    return value if bool(value.detach() > 0) else value * 1


class _OldStyle(torch.autograd.Function):
    """The identity, as an autograd function that torch.func cannot transform."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx: Any, slope: Tensor) -> Tensor:
        return slope


def old_style_function(a: Tensor, b: Tensor) -> Tensor:
    """An autograd function without setup_context."""
    return apply(_OldStyle, correct(a, b))


def _info_nce(
    loss: Loss, wrong: str, law: str, *, traceable: bool = False, functional: bool = False
) -> Mistake:
    claims = Traits(form="info_nce", temperature=0.1, traceable=traceable, functional=functional)
    return Mistake(loss, wrong, law, claims)


TRANSFORMS = (
    _info_nce(detached_candidates, "one input detached", "gradient_reaches_its_inputs"),
    _info_nce(detached_norm, "a norm without gradient", "gradient_is_tangent"),
    _info_nce(writes_to_its_inputs, "an input overwritten", "inputs_are_not_written"),
    _info_nce(loses_the_graph, "`.item()`", "gradient_reaches_its_inputs"),
    _info_nce(scaled_gradient, "a gradient that is not the value's", "gradcheck"),
    _info_nce(float32_inside, "`.float()` inside", "result_is_no_less_precise"),
    _info_nce(second_derivative_lost, "a constant gradient", "gradgradcheck"),
    _info_nce(
        half_without_gradient,
        "a branch on requires_grad",
        "gradient_does_not_depend_on_others",
    ),
    _info_nce(gradient_penalty, "a gradient taken inside", "works_without_gradients"),
    _info_nce(views_its_inputs, "`.view()`", "strides_do_not_matter"),
    _info_nce(branches_on_a_value, "`if` on a value", "compiles_into_one_graph", traceable=True),
    _info_nce(
        old_style_function,
        "an autograd function of the old style",
        "functional_gradient",
        functional=True,
    ),
)
