"""Distances on rows: any callable (..., D), (..., D) -> (...) serves where one is asked for."""

from collections.abc import Callable

import torch
from torch import Tensor

from mmcontrast.rows import upcast

Distance = Callable[[Tensor, Tensor], Tensor]


def euclidean(x: Tensor, y: Tensor) -> Tensor:
    r"""Euclidean distance :math:`\|x - y\|_2`; its gradient at distance 0 is 0.

    Args:
        x: (..., D).
        y: (..., D).

    Returns:
        (...) in float32, or float64 for float64 input.

    Example:
        >>> euclidean(torch.tensor([3.0, 0.0]), torch.tensor([0.0, 4.0]))
        tensor(5.)
    """
    distance: Tensor = torch.linalg.vector_norm(upcast(x) - upcast(y), dim=-1)
    return distance


def squared_euclidean(x: Tensor, y: Tensor) -> Tensor:
    r"""Squared Euclidean distance :math:`\|x - y\|_2^2`.

    Args:
        x: (..., D).
        y: (..., D).

    Returns:
        (...) in float32, or float64 for float64 input.

    Example:
        >>> squared_euclidean(torch.tensor([3.0, 0.0]), torch.tensor([0.0, 4.0]))
        tensor(25.)
    """
    return (upcast(x) - upcast(y)).square().sum(-1)
