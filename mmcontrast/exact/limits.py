"""Limits of a miner on its scores, as one interval of closeness for each anchor."""

from typing import NamedTuple

import torch
from torch import Tensor

from mmcontrast import arguments

Bounds = tuple[Tensor, Tensor]
"""(B,) the least and the most closeness that a candidate may have."""


class Limits(NamedTuple):
    """What :func:`hard_negatives` asks of a score, by the names of its arguments."""

    below: float | None = None
    above: float | None = None
    margin: float | None = None
    relative_margin: float | None = None
    semi_hard: float | None = None

    def bounds(self, partner: Tensor, has_one: Tensor, distance: bool) -> Bounds:
        """The interval, in the dtype of the partner's closeness.

        An anchor without a partner has no margin to keep, and no semi-hard negative.

        Args:
            partner: (B,) closeness of each anchor's partner: a similarity, or minus a distance.
            has_one: (B,) bool: anchors with a partner.
            distance: whether scores are distances.
        """
        least, most = (self.below, self.above) if distance else (self.above, self.below)
        sign = -1 if distance else 1
        low = torch.full_like(partner, -torch.inf if least is None else sign * least)
        high = torch.full_like(partner, torch.inf if most is None else sign * most)
        if self.margin is not None:
            high = torch.where(has_one, torch.minimum(high, partner - self.margin), high)
        if self.relative_margin is not None:
            share = partner - partner.abs() * self.relative_margin
            high = torch.where(has_one, torch.minimum(high, share), high)
        if self.semi_hard is not None:
            less, most_of_it = just_below(partner), partner - self.semi_hard
            high = torch.where(has_one, torch.minimum(high, less), -torch.inf)
            low = torch.maximum(low, most_of_it)
        return low, high


NO_LIMITS = Limits()


def checked_limits(*values: float | None) -> Limits:
    """Numbers, or None, by the names of :class:`Limits`."""
    for name, value in zip(Limits._fields, values, strict=True):
        if value is not None:
            arguments.number(name, value, "a number or None")
    limits = Limits(*values)
    if limits.semi_hard is not None:
        arguments.positive("semi_hard", limits.semi_hard)
    return limits


def just_below(x: Tensor) -> Tensor:
    """The next lower number of the dtype, so that what is at most that is less than x."""
    return x.nextafter(torch.full_like(x, -torch.inf))


def semi_hard_bounds(positive: Tensor, margin: float) -> Bounds:
    """Farther than the positive, by at most a margin."""
    return Limits(semi_hard=margin).bounds(positive, positive > -torch.inf, False)


def inside(closeness: Tensor, bounds: Bounds) -> Tensor:
    """(B, C) bool: where it is in its row's interval; NaN is not."""
    low, high = (v[:, None] for v in bounds)
    return (closeness >= low) & (closeness <= high)
