"""The loss under test: called, differentiated, compared, and left as it was found."""

import copy
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Any, NoReturn

import torch
from torch import Tensor, nn

from mmcontrast.testing.batch import Batch
from mmcontrast.testing.traits import Loss, Traits


class LawBroken(AssertionError):
    """A law does not hold: the message says what was expected and what came."""


def broken(message: str) -> NoReturn:
    """Say that a law does not hold."""
    raise LawBroken(message)


def demand(condition: bool | Tensor, message: str) -> None:
    """The condition, or the law is broken."""
    if not bool(condition):
        broken(message)


def show(x: Tensor | float) -> str:
    """A number with the digits that matter."""
    return f"{number(x):.10g}"


def number(x: Tensor | float) -> float:
    """A Python number, whatever graph it has."""
    return float(x.detach()) if isinstance(x, Tensor) else float(x)


class Subject:
    """A loss and its traits.

    Every call works on a fresh copy with the same random state, so that a queue, a running mean or
    dropout has no memory from one call to the next, and the caller's own loss is never changed.
    """

    def __init__(self, loss: Loss, traits: Traits):
        self.traits = traits
        self.given = loss
        self.makes = traits.stateful or isinstance(loss, type)
        self.copied = self.makes or _can_be_copied(loss)

    def fresh(self) -> Loss:
        """A loss of its own: made anew, a copy, or a function as it is."""
        if self.makes:
            made: Loss = self.given()
            return made
        return copy.deepcopy(self.given) if self.copied else self.given

    def module(self) -> nn.Module | None:
        """A fresh copy where the loss is a Module."""
        loss = self.fresh()
        return loss if isinstance(loss, nn.Module) else None

    def untouched(self) -> AbstractContextManager[None]:
        """A loss that cannot be copied is afterwards what it was before."""
        return _restored(None if self.copied else self.given)

    def call(self, batch: Batch, loss: Loss | None = None, **options: Any) -> Any:
        """Whatever the loss returns, or another loss in its place."""
        torch.default_generator.manual_seed(0)  # the global function asks for devices, slowly
        with self.untouched() if loss is None else _restored(loss):
            return (self.fresh() if loss is None else loss)(*batch.arguments(), **options)

    def tensor(self, batch: Batch, loss: Loss | None = None, **options: Any) -> Tensor:
        """The result with its graph: a 0-d floating tensor, or the law is broken."""
        value = total(self.call(batch, loss, **options))
        if value.ndim != 0:
            broken(f"the loss returned shape {tuple(value.shape)}, expected a 0-d tensor")
        if not value.is_floating_point():
            broken(f"the loss returned {value.dtype}, expected a floating dtype")
        return value

    def value(self, batch: Batch, loss: Loss | None = None, **options: Any) -> Tensor:
        """The number, finite."""
        value = self.tensor(batch, loss, **options).detach()
        if not value.isfinite():
            broken(f"the loss is {show(value)}")
        return value

    def differentiable(self, batch: Batch) -> tuple[str, ...]:
        """The inputs that get a gradient."""
        chosen = self.traits.differentiable
        return tuple(batch.rows) if chosen is None else chosen

    def gradients(
        self, batch: Batch, loss: Loss | None = None, **options: Any
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The value and the gradient of each differentiable input, zero where it is unused."""
        batch = batch.leaves()
        value = self.tensor(batch, loss, **options)
        if not value.isfinite():
            broken(f"the loss is {show(value)}")
        names = self.differentiable(batch)
        chosen = [batch.rows[name] for name in names]
        if not value.requires_grad:
            broken("the loss has no graph: none of its inputs gets a gradient")
        found = torch.autograd.grad(value, chosen, allow_unused=True)
        gradients = {
            name: torch.zeros_like(x) if g is None else g
            for name, x, g in zip(names, chosen, found, strict=True)
        }
        for name, gradient in gradients.items():
            if not gradient.isfinite().all():
                broken(f"the gradient of {name} is not finite: {gradient.tolist()}")
        return value.detach(), gradients

    def same(
        self,
        left: Tensor | float,
        right: Tensor | float,
        said: tuple[str, str],
        *,
        scale: float = 0,
    ) -> None:
        """Two numbers that shall be equal, up to the rounding of the less precise one."""
        allowed = self.allowed(left, right) * (1 + max(abs(number(left)), scale))
        if not abs(number(left) - number(right)) <= allowed:
            broken(f"{said[0]} = {show(left)} but {said[1]} = {show(right)}")

    def same_gradients(
        self, left: Mapping[str, Tensor], right: Mapping[str, Tensor], said: tuple[str, str]
    ) -> None:
        """Gradients that shall be equal, up to rounding, of the largest entry."""
        for name, gradient in left.items():
            other = right[name]
            if gradient.numel() == 0:
                continue
            allowed = self.allowed(gradient, other) * (1 + gradient.abs().max().item())
            apart = (gradient.double() - other.double()).abs().max().item()
            if not apart <= allowed:
                broken(
                    f"the gradient of {name} is {gradient.tolist()} for {said[0]} "
                    f"but {other.tolist()} for {said[1]}"
                )

    def allowed(self, *values: Tensor | float) -> float:
        """The tolerance of the least precise of some results."""
        found = [self.traits.tolerance(x.dtype) for x in values if isinstance(x, Tensor)]
        return max([self.traits.tol, *found])

    def at_most(self, left: Tensor | float, right: Tensor | float, said: tuple[str, str]) -> None:
        """The left number is not above the right one, up to rounding."""
        slack = self.allowed(left, right) * (1 + abs(number(right)))
        if not number(left) <= number(right) + slack:
            broken(f"{said[0]} = {show(left)} is above {said[1]} = {show(right)}")


def total(result: Any) -> Tensor:
    """The tensor in a result: itself, or the ``.total`` of named terms."""
    value = getattr(result, "total", result)
    if not isinstance(value, Tensor):
        broken(f"the loss returned a {type(result).__name__}, expected a tensor or named terms")
    return value


@contextmanager
def same_random_state() -> Iterator[None]:
    """Whatever is drawn inside, torch's random state afterwards is what it was."""
    before = torch.get_rng_state()
    try:
        yield
    finally:
        torch.set_rng_state(before)


def _can_be_copied(loss: Loss) -> bool:
    try:
        copy.deepcopy(loss)
    except Exception:  # tensors with a graph, locks, open files: whatever a deepcopy refuses
        return False
    return True


@contextmanager
def _restored(loss: Loss | None) -> Iterator[None]:
    """A Module afterwards has the numbers, modes and plain attributes that it had before.

    A buffer that was written to is replaced, and not written to again: a graph may hold it.
    """
    held = []
    for module in loss.modules() if isinstance(loss, nn.Module) else ():
        buffers = {name: (x, _clone(x)) for name, x in module._buffers.items()}
        parameters = [(p, p.detach().clone()) for p in module.parameters(recurse=False)]
        held.append((module, dict(module.__dict__), buffers, parameters))
    try:
        yield
    finally:
        for module, plain, buffers, parameters in held:
            module.__dict__.clear()
            module.__dict__.update(plain)
            module._buffers.clear()
            for name, (x, before) in buffers.items():
                same = x is None or before is None or torch.equal(x, before)
                module._buffers[name] = x if same else before
            for parameter, before in parameters:
                if not torch.equal(parameter, before):
                    parameter.data = before


def _clone(x: Tensor | None) -> Tensor | None:
    return None if x is None else x.detach().clone()
