"""A temperature that is learned within bounds."""

import math

import torch
from torch import Tensor, nn

from mmcontrast import arguments


class LearnableTemperature(nn.Module):
    r"""A learned temperature that stays between two bounds by construction.

    .. math:: \log\tau = \log\tau_{\min} + \log(\tau_{\max} / \tau_{\min})\, \sigma(\theta)

    Nothing is clamped and no ``.data`` is written: the gradient is not cut off at a bound, and the
    optimizer's state stays valid.

    Args:
        initial: initial value, strictly between the bounds.
        minimum: lower bound, above 0. CLIP's limit on its logit scale, 100, is a minimum of 0.01.
        maximum: upper bound.

    Raises:
        ValueError: unless ``0 < minimum < initial < maximum``.

    Example:
        >>> temperature = LearnableTemperature(0.07)
        >>> temperature()
        tensor(0.0700, grad_fn=<ExpBackward0>)

    References: CLIP learns the logarithm of 1 / temperature, arXiv:2103.00020, section 2.5.
    """

    def __init__(self, initial: float = 0.07, *, minimum: float = 0.01, maximum: float = 1.0):
        super().__init__()
        if not 0 < minimum < initial < maximum:
            arguments.fail(
                "initial", "0 < minimum < initial < maximum", f"{minimum}, {initial}, {maximum}"
            )
        self.minimum = minimum
        self.maximum = maximum
        share = math.log(initial / minimum) / math.log(maximum / minimum)
        self.theta = nn.Parameter(torch.tensor(math.log(share / (1 - share))))

    def forward(self) -> Tensor:
        """The temperature, a 0-d tensor with a graph."""
        span = math.log(self.maximum / self.minimum)
        return (math.log(self.minimum) + span * self.theta.sigmoid()).exp()

    def extra_repr(self) -> str:
        """The bounds."""
        return f"minimum={self.minimum}, maximum={self.maximum}"


def current(temperature: float | LearnableTemperature) -> float | Tensor:
    """The value that a loss computes with: the number itself, or the module's output."""
    return temperature() if isinstance(temperature, nn.Module) else temperature
