"""A temperature that is learned within bounds."""

import math

import torch
from torch import Tensor, nn

from mmcontrast import arguments
from mmcontrast.eager import is_eager
from mmcontrast.loading import State, all_or_nothing, load_checked
from mmcontrast.rows import upcast


class LearnableTemperature(nn.Module):
    r"""A learned temperature that stays between two bounds by construction.

    .. math:: \log\tau = \log\tau_{\min} + \log(\tau_{\max} / \tau_{\min})\, \sigma(\theta)

    Nothing is clamped and no ``.data`` is written: the gradient is not cut off at a bound, and the
    optimizer's state stays valid. The bounds are in the ``state_dict``, for theta means nothing
    without them, and loading one takes them over; a state without bounds is read with its own.
    theta has shape (1,), as FSDP2 asks of parameters. States of older releases, where it was 0-d,
    load before the module is sharded. Call :func:`mmcontrast.loading.restore_dimensions` with the
    optimizer after ``optimizer.load_state_dict`` of such a state, or its first step fails.

    Args:
        initial: initial value, strictly between the bounds.
        minimum: lower bound, above 0. CLIP's limit on its logit scale, 100, is a minimum of 0.01.
        maximum: upper bound.

    Raises:
        ValueError: unless ``0 < minimum < initial < maximum``; on loading bounds that are none.

    Example:
        >>> temperature = LearnableTemperature(0.07)
        >>> temperature()
        tensor(0.0700, grad_fn=<ExpBackward0>)

    References: CLIP learns the logarithm of 1 / temperature, arXiv:2103.00020, section 2.5.
    """

    load_state_dict = load_checked

    def __init__(self, initial: float = 0.07, *, minimum: float = 0.01, maximum: float = 1.0):
        super().__init__()
        given = (minimum, initial, maximum)
        if not (all(map(arguments.is_number, given)) and 0 < minimum < initial < maximum):
            got = "{}, minimum={}, maximum={}".format(
                *map(arguments.shown, (initial, minimum, maximum))
            )
            arguments.fail("initial", "0 < minimum < initial < maximum", got)
        self.minimum = minimum
        self.maximum = maximum
        share = math.log(initial / minimum) / math.log(maximum / minimum)
        # Shape (1,): FSDP2 shards the first dimension of a parameter, and refuses those without.
        self.theta = nn.Parameter(torch.tensor([math.log(share / (1 - share))]))
        all_or_nothing(self, _refuse_bounds)

    def forward(self) -> Tensor:
        """The temperature, a 0-d tensor with a graph, in float32 at least whatever theta is in."""
        span = math.log(self.maximum / self.minimum)
        theta = arguments.zero_dimensional("theta", upcast(self.theta), "a number")
        return (math.log(self.minimum) + span * theta.sigmoid()).exp()

    def get_extra_state(self) -> Tensor:
        """The bounds, (2,), for the ``state_dict``; a tensor, which safetensors can hold."""
        return torch.tensor([self.minimum, self.maximum], dtype=torch.float64, device="cpu")

    def set_extra_state(self, state: Tensor) -> None:
        """Take over bounds from a ``state_dict``, if it has values: no fake or meta tensors."""
        _refuse_bounds(self, {"extra": state})
        if is_eager(state):
            self.minimum, self.maximum = state.tolist()

    def extra_repr(self) -> str:
        """The bounds."""
        return f"minimum={self.minimum}, maximum={self.maximum}"


def _refuse_bounds(module: nn.Module, state: State) -> None:
    """An extra state that is not two numbers with ``0 < minimum < maximum``."""
    if "extra" not in state:
        return
    bounds = arguments.tensor("bounds", state["extra"])
    arguments.vector("bounds", bounds, 2)
    if not is_eager(bounds):
        return
    minimum, maximum = bounds.tolist()
    if not 0 < minimum < maximum < math.inf:
        arguments.fail("bounds", "0 < minimum < maximum", f"{minimum}, {maximum}")


def current(temperature: float | LearnableTemperature) -> float | Tensor:
    """The value that a loss computes with: the number itself, or the module's output."""
    return temperature() if isinstance(temperature, nn.Module) else temperature
