"""Losses as operators of PyTorch, so that a compiler sees one node and runs what eager mode runs.

A compiler cannot choose between tiles, blocks and kernels: it traces one path for all sizes, with
values that it does not know. So under ``torch.compile`` and ``torch.export`` a loss is one operator
of the namespace ``mmcontrast``, whose body is the eager evaluation of the given tensors. In eager
mode the function itself is called, without an operator in between.

The operator makes the value and, in the same pass, the gradients that were asked for when it was
traced. Its backward pass scales them, or calls the operator again where they could not be known:
for (B,) losses, whose upstream gradient comes with the backward pass, and for an exported program
that is trained though it was exported without gradients.
"""

import functools
import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, ParamSpec, TypeVar

import torch
from torch import Tensor

from mmcontrast import arguments
from mmcontrast.eager import TAGS, calls_operators
from mmcontrast.exact.evaluation import as_it_is, views_of
from mmcontrast.masks import IGNORE

RECORDS = [
    getattr(torch._C.DispatchKey, name)
    for name in ("AutogradFunctionality", "AutogradOther", "AutogradNestedTensor")
]
"""What PyTorch switches off while it runs the body of an operator, so that no graph is made."""

P = ParamSpec("P")
R = TypeVar("R")


def as_operator(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """A function that is an operator of its name under compilers, and itself elsewhere.

    Args:
        function: of positional arguments: floating tensors, first of all one of B rows; ``weight``,
            (B,) or 0-d, or None; and then anything of an operator's types, tensors without
            gradient, numbers and strings. With a weight, it returns the sum of B losses times it;
            with None, the (B,) losses.
    """
    # The weight's gradient is the losses: it is the last of those that have one.
    differentiable = list(inspect.signature(function).parameters).index("weight") + 1

    def body(*inputs: Any) -> list[Tensor]:
        *given, needed = inputs
        return _with_gradients(_checking(function), given, needed)

    def shapes(*inputs: Any) -> list[Tensor]:
        *given, needed = inputs
        first, weight = given[0], given[differentiable - 1]
        value = first.new_empty(first.shape[0] if weight is None else ())
        return [value, *(_like(x) for x, wants in zip(given, needed, strict=False) if wants)]

    def keep(ctx: Any, inputs: tuple[Any, ...], output: list[Tensor]) -> None:
        *given, ctx.needed = inputs
        ctx.numbers = [None if isinstance(x, Tensor) else x for x in given]
        tensors = (x if isinstance(x, Tensor) else None for x in given)
        ctx.save_for_backward(*tensors, *output[1:])

    def backward(ctx: Any, upstreams: Sequence[Tensor]) -> Any:
        saved, upstream, needed = ctx.saved_tensors, upstreams[0], ctx.needed
        given = [x if n is None else n for x, n in zip(saved, ctx.numbers, strict=False)]
        wanted = list(ctx.needs_input_grad[:differentiable])
        if torch.is_grad_enabled():  # only under create_graph=True: eager mode can go on from there
            given[:differentiable] = views_of(given[:differentiable], wanted)
            value = function(*given)
            leaves = [x for x, wants in zip(given, wanted, strict=False) if wants]
            made = torch.autograd.grad(
                value, leaves, upstream, create_graph=True, materialize_grads=True
            )
            return *_at_inputs(made, wanted, len(given)), None
        if given[differentiable - 1] is None:
            # The gradient of (B,) losses is that of their sum, weighted by what comes from above.
            given[differentiable - 1] = upstream
            made = operator(*given, wanted)[1:]
            return *_at_inputs(made, wanted, len(given)), None
        kept = saved[len(given) :]
        if any(wants and not made for wants, made in zip(wanted, needed, strict=True)):
            kept, needed = operator(*given, wanted)[1:], wanted
        return *_at_inputs([x * upstream for x in kept], needed, len(given)), None

    # One more argument than the function, and one more result for each gradient.
    schema = torch.library.infer_schema(function, mutates_args=())
    schema = schema.replace(") -> Tensor", ", bool[] needed) -> Tensor[]")
    name = f"mmcontrast::{function.__name__}"
    operator: Any = torch.library.custom_op(name, body, mutates_args=(), schema=schema, tags=TAGS)
    operator.register_fake(shapes)
    operator.register_autograd(backward, setup_context=keep)

    @functools.wraps(function)
    def call(*inputs: Any) -> Tensor:
        if not calls_operators():
            return function(*inputs)
        # Without a weight there are gradients only in the backward pass, which knows one.
        known = torch.is_grad_enabled() and inputs[differentiable - 1] is not None
        needed = [
            known and isinstance(x, Tensor) and x.requires_grad for x in inputs[:differentiable]
        ]
        value: Tensor = operator(*inputs, needed)[0]
        return value

    return call


def as_operator_run_twice(
    function: Callable[..., Sequence[Tensor]], shapes: Callable[..., Sequence[Tensor]]
) -> Callable[..., Sequence[Tensor]]:
    """An operator that evaluates its function once more in its backward pass.

    Args:
        function: of anything of an operator's types. The first argument is a tensor, the only one
            with a gradient, and so is the first result.
        shapes: the results' shapes and dtypes, as empty tensors.
    """
    schema = torch.library.infer_schema(function, mutates_args=())
    name = f"mmcontrast::{function.__name__}"
    operator: Any = torch.library.custom_op(
        name, _checking(function), mutates_args=(), schema=schema, tags=TAGS
    )
    operator.register_fake(shapes)

    def slope(upstream: Tensor, *inputs: Any) -> Tensor:
        with recording():
            x = inputs[0].detach().requires_grad_()
            value = function(x, *inputs[1:])[0]
            (made,) = torch.autograd.grad(value, x, upstream, materialize_grads=True)
        slopes: Tensor = made.contiguous()
        return slopes

    again = "(Tensor upstream, " + schema[1:].rpartition(" -> ")[0] + " -> Tensor"
    gradient: Any = torch.library.custom_op(
        f"{name}_slope", slope, mutates_args=(), schema=again, tags=TAGS
    )
    gradient.register_fake(lambda upstream, x, *_: _like(x))

    def keep(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        ctx.numbers = [None if isinstance(x, Tensor) else x for x in inputs]
        ctx.save_for_backward(*(x if isinstance(x, Tensor) else None for x in inputs))

    def backward(ctx: Any, upstream: Tensor, *_: Any) -> Any:
        pairs = zip(ctx.saved_tensors, ctx.numbers, strict=True)
        given = [x if n is None else n for x, n in pairs]
        if torch.is_grad_enabled():  # as above
            given[:1] = views_of(given[:1], [True])
            value = function(*given)[0]
            (made,) = torch.autograd.grad(value, given[:1], upstream, create_graph=True)
        else:
            made = gradient(upstream, *given)
        return made, *[None] * (len(given) - 1)

    operator.register_autograd(backward, setup_context=keep)
    called: Callable[..., Sequence[Tensor]] = operator
    return called


def as_operator_without_gradients(
    shapes: Callable[..., R],
) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Make a function an operator under compilers, and itself elsewhere; it has no gradients.

    Args:
        shapes: of the function's arguments, makes empty tensors like its results.
    """

    def decorated(function: Callable[P, R]) -> Callable[P, R]:
        name = f"mmcontrast::{function.__name__}"
        operator: Any = torch.library.custom_op(
            name, _checking(function), mutates_args=(), tags=TAGS
        )
        operator.register_fake(shapes)

        @functools.wraps(function)
        def call(*args: P.args, **kwargs: P.kwargs) -> R:
            found: R = (operator if calls_operators() else function)(*args, **kwargs)
            return found

        return call

    return decorated


def _checking(function: Callable[P, R]) -> Callable[P, R]:
    """A function for an operator's body: it refuses values that no compiler could have read.

    By the names of its arguments: ``targets`` index the second one, ``labels`` and ``classes`` are
    whole numbers, and ``positives`` are weights of at least 0 where no classes come with them.
    """
    names = list(inspect.signature(function).parameters)

    @functools.wraps(function)
    def checked(*args: P.args, **kwargs: P.kwargs) -> R:
        given: dict[str, Any] = {**dict(zip(names, args, strict=False)), **kwargs}
        if given.get("targets") is not None:
            rows, columns = given[names[0]], given[names[1]]
            arguments.targets("targets", given["targets"], len(rows), len(columns), ignore=IGNORE)
        for name in ("labels", "candidate_labels", "classes"):
            if given.get(name) is not None:
                arguments.classes(name, given[name])
        positives = given.get("positives")
        if positives is not None and given.get("classes") is None:
            arguments.weights("positives", positives, tuple(positives.shape), given.get("keep"))
        return function(*args, **kwargs)

    return checked


def _with_gradients(
    function: Callable[..., Tensor], inputs: Sequence[Any], needed: Sequence[bool]
) -> list[Tensor]:
    """The value of a function and the wanted gradients of it, without a graph."""
    if not any(needed):
        return [function(*inputs)]
    wants = [*needed, *[False] * (len(inputs) - len(needed))]
    with recording():
        given = [
            x.detach().requires_grad_(wanted) if isinstance(x, Tensor) else x
            for x, wanted in zip(inputs, wants, strict=True)
        ]
        leaves = [x for x, wanted in zip(given, wants, strict=True) if wanted]
        value = function(*given)
        made = torch.autograd.grad(value, leaves, materialize_grads=True)
    return [value.detach(), *(x.contiguous() for x in made)]


@contextmanager
def recording() -> Iterator[None]:
    """A graph of what is done inside, also in the body of an operator."""
    off = [torch._C._dispatch_tls_is_dispatch_key_excluded(key) for key in RECORDS]
    for key in RECORDS:
        torch._C._dispatch_tls_set_dispatch_key_excluded(key, False)
    try:
        # Hooks of the caller's, as of a checkpoint around the operator, are for its own graph.
        with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(as_it_is, as_it_is):
            yield
    finally:
        for key, was in zip(RECORDS, off, strict=True):
            torch._C._dispatch_tls_set_dispatch_key_excluded(key, was)


def _like(x: Tensor) -> Tensor:
    return x.new_empty(x.shape)


def _at_inputs(made: Sequence[Tensor], wanted: Sequence[bool], number: int) -> list[Tensor | None]:
    """Gradients at the places of their inputs, None at all others of so many."""
    each = iter(made)
    found = [next(each) if wants else None for wants in wanted]
    return [*found, *[None] * (number - len(found))]
