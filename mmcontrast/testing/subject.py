"""The loss under test: calling it, differentiating it, and comparing its results."""

import copy
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Any, TypeGuard

import torch
from torch import Tensor, nn

from mmcontrast.testing.batch import Batch
from mmcontrast.testing.traits import Loss, Traits


class LawBroken(AssertionError):
    """A law does not hold: the message gives the expected and the actual result."""


def demand(condition: bool | Tensor, message: str) -> None:
    """Raise LawBroken unless the condition holds."""
    if not bool(condition):
        raise LawBroken(message)


def demand_close(value: Tensor, exact: Tensor, tolerance: float, message: str) -> None:
    """Raise LawBroken unless the value is within the tolerance, relative to 1 + ``exact``."""
    apart = abs(float(value) - float(exact))
    demand(apart <= tolerance * (1 + abs(float(exact))), message)


def show(x: Tensor | float) -> str:
    """A number with ten significant digits, for messages."""
    return f"{_as_float(x):.10g}"


def one_line(error: BaseException, most: int = 300) -> str:
    """An exception's type and message in one line; the message alone of a broken law."""
    text = " ".join(str(error).split())
    text = text if len(text) <= most else text[: most - 3] + "..."
    return text if isinstance(error, LawBroken) else f"it raised {type(error).__name__}: {text}"


class Subject:
    """A loss and its traits.

    Every call uses a fresh copy and the same random seed, so that no state (a queue, a running
    mean) carries over from one call to the next, and the caller's own loss is never changed.
    """

    def __init__(self, loss: Loss, traits: Traits):
        self.traits = traits
        self.loss = loss
        self.is_constructor = traits.stateful or isinstance(loss, type)
        self.is_copied = self.is_constructor or _can_be_copied(loss)

    def fresh(self, dtype: torch.dtype = torch.float64) -> Loss:
        """A new loss: constructed, deep-copied, or the given one where it cannot be copied.

        The parameters of a new Module are those for rows of ``dtype``; see :func:`_meets`.
        """
        if not self.is_copied:
            return self.loss
        made = self.loss() if self.is_constructor else copy.deepcopy(self.loss)
        return made.to(dtype) if _meets(made, dtype) else made

    def module(self) -> nn.Module | None:
        """A fresh copy if the loss is a Module, else None."""
        loss = self.fresh()
        return loss if isinstance(loss, nn.Module) else None

    def from_factory(self, value: float) -> Loss:
        """The loss that the traits' factory makes for a temperature, or for a margin."""
        assert self.traits.factory is not None
        return self.traits.factory(value)

    def untouched(self) -> AbstractContextManager[None]:
        """A context that restores the state of a loss that cannot be copied."""
        return _restored(None if self.is_copied else self.loss)

    def call(self, batch: Batch, loss: Loss | None = None, **options: Any) -> Any:
        """What the loss returns for the batch; ``loss`` is called instead where it is given."""
        # torch.manual_seed would also query all devices, which is slow.
        torch.default_generator.manual_seed(0)
        dtype = next(iter(batch.rows.values())).dtype
        if loss is not None and _meets(loss, dtype):
            loss = copy.deepcopy(loss).to(dtype)
        with self.untouched() if loss is None else _restored(loss):
            return (self.fresh(dtype) if loss is None else loss)(*batch.arguments(), **options)

    def tensor(self, batch: Batch, loss: Loss | None = None, **options: Any) -> Tensor:
        """The result with its graph; LawBroken unless it is a 0-d floating tensor."""
        value = tensor_of(self.call(batch, loss, **options))
        if value.ndim != 0:
            raise LawBroken(f"the loss returned shape {tuple(value.shape)}, expected a 0-d tensor")
        if not value.is_floating_point():
            raise LawBroken(f"the loss returned {value.dtype}, expected a floating dtype")
        return value

    def value(self, batch: Batch, loss: Loss | None = None, **options: Any) -> Tensor:
        """The detached result; LawBroken unless it is finite."""
        value = self.tensor(batch, loss, **options).detach()
        if not value.isfinite():
            raise LawBroken(f"the loss is {show(value)}")
        return value

    def differentiable(self, batch: Batch) -> tuple[str, ...]:
        """The names of the inputs that get a gradient."""
        chosen = self.traits.differentiable
        return tuple(batch.rows) if chosen is None else chosen

    def gradients(
        self, batch: Batch, loss: Loss | None = None, **options: Any
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The value, and the gradient of each differentiable input; zero for unused inputs."""
        batch = batch.leaves()
        value = self.tensor(batch, loss, **options)
        if not value.isfinite():
            raise LawBroken(f"the loss is {show(value)}")
        names = self.differentiable(batch)
        chosen = [batch.rows[name] for name in names]
        if not value.requires_grad:
            noun = self.traits.noun
            raise LawBroken(f"the {noun} has no graph: none of its inputs gets a gradient")
        found = torch.autograd.grad(value, chosen, allow_unused=True)
        gradients = {
            name: torch.zeros_like(x) if g is None else g
            for name, x, g in zip(names, chosen, found, strict=True)
        }
        for name, gradient in gradients.items():
            if not gradient.isfinite().all():
                raise LawBroken(f"the gradient of {name} is not finite: {gradient.tolist()}")
        return value.detach(), gradients

    def same(
        self,
        left: Tensor | float,
        right: Tensor | float,
        what: tuple[str, str],
        *,
        scale: float = 0,
    ) -> None:
        """LawBroken unless two numbers are equal, up to the rounding of the less precise one.

        ``what`` describes the two in the message. The tolerance is relative to 1 + the larger of
        ``left`` and ``scale``.
        """
        allowed = self.allowed(left, right) * (1 + max(abs(_as_float(left)), scale))
        if not abs(_as_float(left) - _as_float(right)) <= allowed:
            raise LawBroken(f"{what[0]} is {show(left)} but {what[1]} is {show(right)}")

    def same_gradients(
        self, left: Mapping[str, Tensor], right: Mapping[str, Tensor], what: tuple[str, str]
    ) -> None:
        """LawBroken unless gradients are equal, up to rounding of their largest entry."""
        for name, gradient in left.items():
            other = right[name]
            if gradient.numel() == 0:
                continue
            allowed = self.allowed(gradient, other) * (1 + gradient.abs().max().item())
            apart = (gradient.double() - other.double()).abs().max().item()
            if not apart <= allowed:
                raise LawBroken(
                    f"the gradient of {name} is {gradient.tolist()} for {what[0]} "
                    f"but {other.tolist()} for {what[1]}"
                )

    def allowed(self, *values: Tensor | float) -> float:
        """The tolerance for the least precise of some results."""
        found = [self.traits.tolerance(x.dtype) for x in values if isinstance(x, Tensor)]
        return max([self.traits.tol, *found])

    def at_most(self, left: Tensor | float, right: Tensor | float, what: tuple[str, str]) -> None:
        """LawBroken if the left number exceeds the right one by more than rounding."""
        slack = self.allowed(left, right) * (1 + abs(_as_float(right)))
        if not _as_float(left) <= _as_float(right) + slack:
            raise LawBroken(f"{what[0]}, {show(left)}, is above {what[1]}, {show(right)}")


def tensor_of(result: Any) -> Tensor:
    """The tensor in a loss's result: the result itself, or the ``.total`` of named terms."""
    value = getattr(result, "total", result)
    if not isinstance(value, Tensor):
        raise LawBroken(
            f"the loss returned a {type(result).__name__}, expected a tensor or named terms"
        )
    return value


@contextmanager
def same_random_state() -> Iterator[None]:
    """Restore torch's random state on exit."""
    before = torch.get_rng_state()
    try:
        yield
    finally:
        torch.set_rng_state(before)


def _as_float(x: Tensor | float) -> float:
    """A Python float; a tensor is detached first."""
    return float(x.detach()) if isinstance(x, Tensor) else float(x)


def _meets(loss: Loss, dtype: torch.dtype) -> TypeGuard[nn.Module]:
    """Whether a Module has weights of another dtype, that would meet rows of ``dtype``.

    Matrices are converted to any dtype, as ``model.to(torch.bfloat16)`` does, since torch does not
    multiply those of two dtypes; numbers, such as a temperature, to float64 alone.
    """
    if not isinstance(loss, nn.Module):
        return False
    held = [x for x in (*loss.parameters(), *loss.buffers()) if x.is_floating_point()]
    return any(x.dtype != dtype and (x.ndim > 1 or dtype == torch.float64) for x in held)


def _can_be_copied(loss: Loss) -> bool:
    try:
        copy.deepcopy(loss)
    except Exception:  # deepcopy refuses tensors with a graph, locks, open files, ...
        return False
    return True


@contextmanager
def _restored(loss: Loss | None) -> Iterator[None]:
    """Restore a Module's parameters, buffers, modes and plain attributes on exit.

    A modified buffer is replaced, not overwritten, since an autograd graph may refer to it.
    """
    saved = []
    for module in loss.modules() if isinstance(loss, nn.Module) else ():
        buffers = {name: (x, _clone(x)) for name, x in module._buffers.items()}
        parameters = [(p, p.detach().clone()) for p in module.parameters(recurse=False)]
        saved.append((module, dict(module.__dict__), buffers, parameters))
    try:
        yield
    finally:
        for module, plain, buffers, parameters in saved:
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
