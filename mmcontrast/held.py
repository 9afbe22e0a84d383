"""Checks of the settings that a Module holds, when it is made and not at its first batch."""

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from mmcontrast import arguments
from mmcontrast.distances import checked_distance
from mmcontrast.distributed import checked_group
from mmcontrast.rows import MAPS


def check_settings(module: nn.Module) -> None:
    """Check the attributes of a Module that have the names of the losses' shared arguments."""
    for name, check in CHECKS.items():
        if hasattr(module, name):
            check(name, getattr(module, name))


def held_temperature(name: str, value: Any) -> None:
    """A number above 0, a tensor of shape () or (1,), or a Module that returns either."""
    if isinstance(value, Tensor) or not isinstance(value, nn.Module):
        arguments.temperature(value)
    elif not arguments.takes(value, 0):
        expected = f"a number above 0, {arguments.SCALAR}, or a LearnableTemperature"
        arguments.fail(name, expected, arguments.shown(value))


def held_map(name: str, value: Any) -> None:
    """A callable of rows, or None."""
    if value is not None:
        arguments.accepting(name, value, MAPS, 1)


CHECKS: dict[str, Callable[[str, Any], object]] = {
    "temperature": held_temperature,
    "margin": arguments.number_or_scalar,
    "distance": lambda _, value: checked_distance(value),
    "normalize": held_map,
    "reduction": lambda _, value: arguments.reduction(value),
    "chunk_size": lambda _, value: arguments.chunk(value),
    "group": lambda _, value: checked_group(value),
    **dict.fromkeys(("prior", "smoothing"), arguments.below_one),
    **dict.fromkeys(("refine", "log", "symmetric", "hinge", "skip_unaltered"), arguments.flag),
    **dict.fromkeys(("decoupled", "in_batch", "within", "swap", "soft"), arguments.flag),
}
