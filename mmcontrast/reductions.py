"""From one value for each anchor to a loss: mean, sum or none, with weights and over ranks.

A loss with all values in memory reduces them (:meth:`Reduction.reduce`). A loss that is evaluated
in tiles computes gradients in the same pass as values, so it needs each value's factor in the final
loss beforehand: its share (:meth:`Reduction.shares`). Both ways give the same number.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from mmcontrast import arguments
from mmcontrast.distributed import Group, active, total
from mmcontrast.eager import known_finite
from mmcontrast.rows import capped


class Reduction(NamedTuple):
    """How the anchors' values become a loss."""

    how: str
    """``"mean"``, ``"sum"`` or ``"none"``."""
    weight: Tensor | None = None
    """(B,) sample weights; None: 1 each."""
    group: Group | None = None
    """The ranks over which mean and sum are taken; None: this rank alone."""

    def reduce(self, values: Tensor, counted: Tensor | None) -> Tensor:
        """Reduce (B, ...) values; ``counted``, of the same shape, masks those that contribute.

        The mean divides by the number (or total weight) of counted values. Which ones count depends
        on the mask, never on the values: a loss of exactly zero still counts. With none counted the
        result is zero, with a graph. ``counted=None`` counts all.
        """
        how, weight, group = self
        if counted is not None:
            values = torch.where(counted, values, 0)
        if weight is not None:
            arguments.vector("weight", weight, values.shape[0])
            weight = weight.to(values.dtype).reshape(-1, *[1] * (values.ndim - 1))
            if counted is not None:  # (B, ...): what is masked counts for nothing, even if NaN
                weight = torch.where(counted, weight, 0)
            values = values * weight
        if how == "none":
            return values
        if how == "sum":
            return total(_quotient(values.sum(), values, 1), group)
        if counted is None:
            if weight is None and group is None and values.numel() > 0:
                return _quotient(values.mean(), values, values.numel())
            counted = torch.ones_like(values, dtype=torch.bool)
        number = (counted if weight is None else weight.expand_as(values)).sum().to(values.dtype)
        number = total(number, group)
        # Divide, then sum over ranks, as shares and finish do: another rank may be on that path,
        # and every rank must reach the same collectives in the same order.
        number = torch.where(number == 0, 1, number)
        return total(_quotient(values.sum() / number, values, number), group)

    def shares(self, counted: Tensor | None, rows: Tensor) -> Tensor | None:
        """Factors whose weighted sum of the (B,) values is :meth:`reduce`; None for ``"none"``.

        (B,) in the dtype of the rows, or 0-d where all of the (B, D) rows count alike.
        """
        how, weight, group = self
        if counted is None and weight is None and active(group) is None:
            if how == "none":
                return None
            # Divided as a tensor: a compiler would start again for a number that depends on a size.
            return rows.new_ones(()) / (max(rows.shape[0], 1) if how == "mean" else 1)
        if counted is None:
            counted = torch.ones(rows.shape[0], dtype=torch.bool, device=rows.device)
        if weight is not None:
            arguments.vector("weight", weight, counted.shape[0])
        if how == "none":
            return None
        factors = counted.to(rows.dtype)
        if weight is not None:
            factors = torch.where(counted, weight.to(rows.dtype), 0)
        if how == "sum":
            return factors
        number = total(factors.sum(), group)
        return factors / torch.where(number == 0, 1, number)

    def finish(self, value: Tensor, counted: Tensor | None) -> Tensor:
        """The loss from a value computed with shares: sum over ranks, or mask and weight (B,)."""
        return total(value, self.group) if self.how != "none" else self.reduce(value, counted)


def _quotient(found: Tensor, values: Tensor, number: Tensor | int) -> Tensor:
    """``found``, the sum of values over a number, also where the sum of finite values overflowed.

    As far as values can be read, which elsewhere would wait for the device.
    """
    if known_finite(found) or not known_finite(values):
        return found
    unit = 2.0**64
    return capped((values / unit).sum() / number, torch.finfo(found.dtype).max / unit) * unit
