"""The one autograd function of all losses with gradients that are written out.

A loss can be evaluated in several ways: at once, in blocks, in tiles, over ranks, by kernels. Each
way is a small record of its settings with three methods:

- ``forward`` computes the value and says which tensors it wants back in the backward pass,
- ``backward`` computes the gradients from those,
- ``plain`` is the same value in operations that autograd can differentiate.

A backward pass that is itself to be differentiated (``create_graph=True``) differentiates ``plain``
instead, in memory of O(B C): for all of these losses, that happens here. (Row maps and HyCon's
class moments have autograd functions of their own, with differentiable backward passes.)
Compilers, functional transforms and forward mode take plain forms, and never come here.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from mmcontrast.eager import apply, full_precision, in_cuda_graph, is_batched, is_eager

Needed = Sequence[bool]
"""For each input, whether its gradient is wanted."""
Gradients = Sequence[Tensor | None]
"""For each input its gradient; None where there is none or none is wanted."""
Kept = Sequence[Tensor | None]
"""Tensors from the forward pass that the backward pass reads."""
Losses = tuple[Tensor, Gradients]
"""(B,) losses, and the gradients of their weighted sum."""


class Way(Protocol):
    """A way to evaluate a loss. Inputs are tensors, numbers, or None where one is left out."""

    def forward(self, needed: Needed, *inputs: Any) -> tuple[Tensor, Kept]:
        """The value, and what ``backward`` reads of it."""

    def backward(self, needed: Needed, kept: Any, upstream: Tensor, *inputs: Any) -> Gradients:
        """The gradients; ``kept`` as ``forward`` returned it, ``upstream`` that by the value."""

    def plain(self, *inputs: Any) -> Tensor:
        """The value again, for autograd."""


class OnePassWay(Protocol):
    """A way that makes its gradients in the same pass as the losses."""

    def losses(self, needed: Needed, weight: Tensor | None, *inputs: Any) -> Losses:
        """(B,) losses, and the gradients of their weighted sum.

        ``weight`` is (B,), or 0-d where all count alike; None where no gradient is wanted.
        """

    def plain(self, *inputs: Any) -> Tensor:
        """The (B,) losses again, for autograd."""


def evaluate(way: Way, *inputs: Any) -> Tensor:
    """The value of a loss, with its gradients. The first input is a tensor."""
    if torch.is_grad_enabled():
        return apply(_Evaluation, way, *inputs)
    with full_precision(inputs[0]):
        return way.forward((False,) * len(inputs), *inputs)[0]


def evaluate_in_one_pass(way: OnePassWay, weight: Tensor | None, *inputs: Any) -> Tensor:
    """The sum of a loss's (B,) values times ``weight``, with gradients from the same pass.

    Args:
        way: makes the losses, and the gradients of their weighted sum.
        weight: (B,) or 0-d factors; None for the (B,) losses themselves. Their gradients take a
            second pass, because only the backward pass knows the factors.
        inputs: of the way, a tensor first.
    """
    return evaluate(_OnePass(way, _without_hooks()), *inputs, weight)


class _Evaluation(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, way: Way, *inputs: Any) -> Tensor:
        with full_precision(inputs[0]):
            value, kept = way.forward(ctx.needs_input_grad[1:], *inputs)
        ctx.way = way
        # Only tensors can be saved: the inputs first, then what the way keeps. Inputs that are
        # numbers stand beside them, and tell `backward` how many inputs there are.
        ctx.numbers = [None if isinstance(x, Tensor) else x for x in inputs]
        tensors = (x if isinstance(x, Tensor) else None for x in inputs)
        ctx.save_for_backward(*tensors, *kept)
        return value

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> Any:
        saved, needed = ctx.saved_tensors, ctx.needs_input_grad[1:]
        # `saved` is longer by what the way has kept.
        inputs = [x if n is None else n for x, n in zip(saved, ctx.numbers, strict=False)]
        # Gradients are enabled inside a backward pass only under create_graph=True. Many upstreams
        # at once are for operations that have batching rules.
        if torch.is_grad_enabled() or is_batched(upstream):
            return None, *_differentiated(ctx.way, inputs, needed, upstream)
        with full_precision(inputs[0]):
            return None, *ctx.way.backward(needed, saved[len(inputs) :], upstream, *inputs)


def _differentiated(
    way: Way, inputs: Sequence[Any], needed: Needed, upstream: Tensor
) -> list[Tensor | None]:
    """The gradients of the plain form, which can be differentiated again."""
    again = torch.is_grad_enabled()
    with torch.enable_grad():
        inputs = views_of(inputs, needed)
        value = way.plain(*inputs)
    wanted = [x for x, w in zip(inputs, needed, strict=True) if w]
    found = iter(torch.autograd.grad(value, wanted, upstream, create_graph=again))
    return [next(found) if wants else None for wants in needed]


def views_of(inputs: Sequence[Any], wanted: Needed) -> list[Any]:
    """Inputs, those with a wanted gradient as views: each then gets its own part of it only.

    One may be made of another, as a log-sum of own negatives is of the rows, or be the same tensor.
    Its gradient by itself would hold that of the other, which autograd adds once more.
    """
    return [x.view_as(x) if w else x for x, w in zip(inputs, wanted, strict=True)]


def as_it_is(x: Any) -> Any:
    """A hook of saved tensors that changes nothing and holds nothing."""
    return x


def _without_hooks() -> bool:
    """Whether what is saved now goes to no hook of the caller's, which could hold or share it."""
    hooks = torch._C._autograd._top_saved_tensors_default_hooks(True)
    return hooks is None or hooks[0] is as_it_is


def _last(x: Tensor) -> bool:
    """Whether no later pass reads what the graph has kept."""
    # PyTorch frees a graph after its backward pass, unless it was told that another may come. A
    # pass that is recorded on a GPU is run again without it.
    return not torch._C._autograd._get_current_graph_task_keep_graph() and not in_cuda_graph(x)


class _OnePass(NamedTuple):
    """A one-pass way as a way of the weighted sum; the weight is the last input."""

    way: OnePassWay
    own: bool  # whether the graph alone holds what is kept

    def forward(self, needed: Needed, *given: Any) -> tuple[Tensor, Kept]:
        *inputs, weight = given
        # The gradient of sum(weight * losses) can be made in the forward pass only if the weight is
        # known here. Without one the (B,) losses are returned, and no gradient is made yet.
        wanted = needed[:-1] if weight is not None else (False,) * len(inputs)
        losses, gradients = self.way.losses(wanted, weight, *inputs)
        if weight is None:
            return losses, ()
        # The losses themselves are the gradient by the weights, and so are kept where it is wanted.
        return (losses * weight).sum(), (losses if needed[-1] else None, *gradients)

    def backward(self, needed: Needed, kept: Kept, upstream: Tensor, *given: Any) -> Gradients:
        *inputs, weight = given
        if weight is None:
            # The gradient of (B,) losses, given their upstream, is that of their sum weighted by
            # it: the same pass once more, now with a known weight.
            return *self.way.losses(needed[:-1], upstream, *inputs)[1], None
        # The value is a scalar, so its upstream is 0-d and only scales what the forward pass has
        # made.
        losses, *gradients = kept
        return [None if x is None else self.times(x, upstream) for x in (*gradients, losses)]

    def times(self, x: Tensor, upstream: Tensor) -> Tensor:
        """What was kept, times the 0-d upstream: in place where no later pass reads it."""
        # A 0-d gradient, of a temperature or a bias, may be on another device than the upstream.
        simple = self.own and x.ndim > 0 and is_eager(x, upstream)
        return x.mul_(upstream) if simple and _last(x) else x * upstream

    def plain(self, *given: Any) -> Tensor:
        *inputs, weight = given
        losses = self.way.plain(*inputs)
        return losses if weight is None else (losses * weight).sum()
