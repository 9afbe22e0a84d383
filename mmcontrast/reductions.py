"""From one value for each anchor to a loss: mean, sum or none, with weights and over ranks.

A loss that has all values at hand reduces them (:meth:`Reduction.reduce`). One that is evaluated in
tiles makes its gradients in the same pass as its values, so it has to know beforehand what each
value counts for in the end: its share (:meth:`Reduction.shares`). Both give the same number.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from mmcontrast import arguments
from mmcontrast.distributed import Group, active, total


class Reduction(NamedTuple):
    """How the anchors' values become a loss."""

    how: str
    """``"mean"``, ``"sum"`` or ``"none"``."""
    weight: Tensor | None = None
    """(B,) sample weights; None: 1 each."""
    group: Group | None = None
    """The ranks over which mean and sum are taken; None: this one alone."""

    def reduce(self, values: Tensor, counted: Tensor | None) -> Tensor:
        """Reduce (B, ...) values; ``counted``, of the same shape, masks those that contribute.

        The mean divides by the number (or the weight) of counted values, never by what they are, so
        that a loss that happens to be zero is not mistaken for an absent one. Nothing counted gives
        zero, with a graph; None counts all.
        """
        how, weight, group = self
        if counted is not None:
            values = torch.where(counted, values, 0)
        if weight is not None:
            arguments.vector("weight", weight, len(values))
            weight = weight.to(values.dtype).reshape(-1, *[1] * (values.ndim - 1))
            values = values * weight
        if how == "none":
            return values
        if how == "sum":
            return total(values.sum(), group)
        if counted is None:
            if weight is None and group is None and values.numel() > 0:
                return values.mean()
            counted = torch.ones_like(values, dtype=torch.bool)
        number = (counted if weight is None else counted * weight).sum().to(values.dtype)
        number = total(number, group)
        # Divided here, then summed up: as by a loss in tiles, which may be another rank's path.
        return total(values.sum() / torch.where(number == 0, 1, number), group)

    def shares(self, counted: Tensor, dtype: torch.dtype) -> Tensor | None:
        """(B,) factors whose weighted sum of the values is :meth:`reduce`; None for ``"none"``."""
        how, weight, group = self
        if weight is not None:
            arguments.vector("weight", weight, len(counted))
        if how == "none":
            return None
        factors = counted.to(dtype) if weight is None else torch.where(counted, weight.to(dtype), 0)
        if how == "sum":
            return factors
        number = total(factors.sum(), group)
        return factors / torch.where(number == 0, 1, number)

    def equal_shares(self, rows: Tensor) -> Tensor | None:
        """:meth:`shares` where all of the (B, D) rows count; 0-d where they have no weights."""
        if self.weight is None and active(self.group) is None:
            each = 1 / max(len(rows), 1) if self.how == "mean" else 1.0
            return None if self.how == "none" else rows.new_full((), each)
        every = torch.ones(len(rows), dtype=torch.bool, device=rows.device)
        return self.shares(every, rows.dtype)

    def finish(self, value: Tensor, counted: Tensor | None) -> Tensor:
        """Complete what was evaluated with shares: add up the ranks, or mask and weigh (B,)."""
        return total(value, self.group) if self.how != "none" else self.reduce(value, counted)
