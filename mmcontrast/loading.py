"""Loading a module's state: all of it, or nothing.

torch copies what fits and raises afterwards, so that a refused load leaves a mixture. What is here
looks at the state before anything of a module is copied.
"""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from mmcontrast import arguments

State = Mapping[str, Any]
"""A module's own entries of a state dict, by their names without prefix."""

COUNTERS = ("step", "mu_product", "mu", "eta")
"""What torch's optimizers hold that is 0-d for parameters of any shape."""


def all_or_nothing(module: nn.Module, check: Callable[[nn.Module, State], None]) -> None:
    """Make a module refuse, before anything is copied, entries that do not fit it.

    It holds wherever the module is, inside other modules as well.

    Args:
        module: with all its parameters and buffers.
        check: a function of a file, which raises ValueError on values that mean nothing; called
            with tensors of the right shapes and kinds, and with an extra state as it comes.
    """
    register: Any = module.register_load_state_dict_pre_hook
    register(_Guard(check))


def any_values(module: nn.Module, state: State) -> None:
    """The check of a module that takes all numbers: it refuses none."""


def load_checked(
    self: nn.Module, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False
) -> Any:
    """torch's ``load_state_dict``, which with ``strict`` also refuses other names beforehand.

    A class takes it as its own method. torch does not tell a module's hooks about ``strict``.
    """
    if strict:
        expected = set(self.state_dict())
        # An extra state may be missing: saved before there was one.
        needed = {name for name in expected if not name.endswith("_extra_state")}
        if not needed <= set(state_dict) <= expected:
            arguments.fail("state_dict", f"the entries {sorted(needed)}", sorted(state_dict))
    return nn.Module.load_state_dict(self, state_dict, strict, assign)


def restore_dimensions(optimizer: torch.optim.Optimizer) -> None:
    """Give an optimizer's loaded averages the dimension that their parameters have by now.

    Parameters of shape (1,) were 0-d in older releases, and so are an optimizer's averages of their
    gradients in a state of that time. The modules here read their own old states by themselves;
    this is for the optimizer, after ``optimizer.load_state_dict``, or as its
    ``register_load_state_dict_post_hook``. Without it the first step is torch's RuntimeError.

    Example:
        >>> parameter = nn.Parameter(torch.ones(1))
        >>> optimizer = torch.optim.SGD([parameter], lr=0.1, momentum=0.9)
        >>> old = {"state": {0: {"momentum_buffer": torch.tensor(2.0)}}}
        >>> optimizer.load_state_dict(optimizer.state_dict() | old)
        >>> restore_dimensions(optimizer)
        >>> optimizer.state[parameter]["momentum_buffer"]
        tensor([2.])
    """
    for parameter, state in optimizer.state.items():
        for name, x in state.items():
            if name not in COUNTERS and isinstance(x, Tensor):
                state[name] = _with_dimension(x, parameter)


class _Guard:
    """The hook; a class, so that modules can be pickled and copied."""

    def __init__(self, check: Callable[[nn.Module, State], None]):
        self.check = check

    def __call__(
        self,
        module: nn.Module,
        entries: dict[str, Any],
        prefix: str,
        *_: Any,
    ) -> None:
        own = _own(module)
        state = {name: entries[prefix + name] for name in own if prefix + name in entries}
        for name, x in state.items():
            if name in module._parameters:
                entries[prefix + name] = state[name] = x = _with_dimension(x, own[name])
            _refuse_another_kind(name, x, own[name])
        extra = prefix + "_extra_state"
        if extra in entries:
            state["extra"] = entries[extra]
        elif state and type(module).get_extra_state is not nn.Module.get_extra_state:
            entries[extra] = module.get_extra_state()  # saved before there was one
        self.check(module, state)
        for name, x in state.items():
            if name in module._buffers and x.is_floating_point():
                _widen(module, name, x.dtype)


def _own(module: nn.Module) -> dict[str, Tensor | None]:
    """The module's own parameters and buffers that are saved; None for those that it lacks."""
    saved = {
        k: x for k, x in module._buffers.items() if k not in module._non_persistent_buffers_set
    }
    return {**module._parameters, **saved}


def _with_dimension(x: Any, own: Tensor | None) -> Any:
    """A 0-d tensor for a parameter of shape (1,), which older releases saved so, in that shape."""
    if own is None or own.shape != (1,) or not isinstance(x, Tensor) or x.ndim != 0:
        return x
    return x.reshape(1)


def _refuse_another_kind(name: str, x: object, own: Tensor | None) -> None:
    """Another shape, or floating, integer and bool in each other's place."""
    if own is None:
        arguments.fail(name, "no such entry: this module does not learn it", type(x).__name__)
    given = arguments.tensor(name, x)
    # torch takes (1,) for a 0-d tensor.
    if given.shape != own.shape and not (own.ndim == 0 and given.shape == (1,)):
        arguments.fail(name, f"shape {arguments.shape(own)}", arguments.shape(given))
    if _kind(given) != _kind(own):
        arguments.fail(name, str(own.dtype), given.dtype)


def _kind(x: Tensor) -> tuple[bool, ...]:
    return x.is_floating_point(), x.is_complex(), x.dtype == torch.bool


def _widen(module: nn.Module, name: str, dtype: torch.dtype) -> None:
    """A buffer in a dtype that also holds what comes, so that nothing is rounded on arrival."""
    own = getattr(module, name)
    setattr(module, name, own.to(torch.promote_types(own.dtype, dtype)))
