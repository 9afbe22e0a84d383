"""A loss as a function of one of its arguments."""

import functools
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from mmcontrast.testing.traits import Loss


@dataclass(frozen=True)
class Vary:
    """A callable that returns the loss with a given value for one of its arguments.

    For the traits ``factory``, ``reductions`` and ``chunked``; reports can print it as code.

    Args:
        loss: a function, or a class of Modules.
        argument: the name of the argument.
        settings: other arguments, by name.

    Example:
        >>> import torch
        >>> from mmcontrast import info_nce
        >>> Vary(info_nce, "temperature")(1.0)(torch.eye(3), torch.eye(3))
        tensor(0.5514)
    """

    loss: Loss
    argument: str
    settings: Mapping[str, Any] = field(default_factory=dict)

    def __call__(self, value: Any) -> Loss:
        """The loss with this value."""
        stated = {**self.settings, self.argument: value}
        if isinstance(self.loss, type):
            made: Loss = self.loss(**stated)
            return made
        return functools.partial(self.loss, **stated)
