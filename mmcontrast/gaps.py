r"""The loss of an anchor as a function of its gap, for the variants of InfoNCE, and its slopes.

With N the sum of the negatives' e^s and p the positive's logit, the gap is log N - p, and InfoNCE
is softplus(gap) = log(1 + N e^-p). What the variants change about it, in this order:

* further negatives, whose log-sum e comes from elsewhere: :math:`N \leftarrow N + e^e`;
* a prior, the probability :math:`\tau^+` that one of n negatives is a positive in truth:
  :math:`N \leftarrow \max((N - n \tau^+ e^p) / (1 - \tau^+), n e^{-1/t})`
  (arXiv:2007.00224, eq. 7 and 8, with one sample from the positives);
* decoupled: the gap itself is the loss, for the positive leaves the denominator
  (arXiv:2110.06848, eq. 6); 0 where there is no negative.

With several positives, p is the log of their sum, and the prior takes their mean in place of it.
"""

import math
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor


class Variant(NamedTuple):
    """Which variant of InfoNCE; each tensor has an entry for each anchor, or broadcasts."""

    decoupled: bool = False
    prior: Tensor | None = None  # in [0, 1)
    number: Tensor | None = None  # how many negatives an anchor has; where there is a prior
    extra: Tensor | None = None  # the log-sum of further negatives; minus infinity for none

    def at(self, index: Any) -> "Variant":
        """That of some of the anchors."""
        return Variant(self.decoupled, *(None if x is None else x[index] for x in self[1:]))

    def like(self, rows: Tensor) -> "Variant":
        """In the dtype of some rows."""
        return Variant(self.decoupled, *(None if x is None else x.to(rows.dtype) for x in self[1:]))

    def among(self, number: Tensor | int) -> "Variant":
        """With so many negatives for each anchor, where a prior asks for it."""
        if self.prior is None:
            return self
        return self._replace(number=(torch.zeros_like(self.prior) + number).clamp_min(0))

    @property
    def usual(self) -> bool:
        """Whether it is InfoNCE itself."""
        return not self.decoupled and self.one_slope

    @property
    def one_slope(self) -> bool:
        """Whether the derivative by the positive's logit is minus that by the negatives' sum."""
        return self.prior is None and self.extra is None

    def without_negatives(self, gap: Tensor) -> Tensor:
        """Where there is no negative at all: neither in a gap nor further ones."""
        none = gap == -math.inf
        return none if self.extra is None else none & (self.extra == -math.inf)


USUAL = Variant()


class Slopes(NamedTuple):
    """The derivatives of the losses, each of the shape of the gaps."""

    push: Tensor  # by the log of the sum of the negatives that the gap is made of
    pull: Tensor  # by the positive's logit, times -1, where the negatives' sum is held fixed
    extra: Tensor | None  # by the log-sum of further negatives
    inverse: Tensor | None  # by 1 / temperature where no logit changes with it


def losses_of_gaps(
    gap: Tensor,
    positive: Tensor,
    temperature: float | Tensor,
    variant: Variant,
    several: Tensor | int = 1,
) -> Tensor:
    """The losses, in operations that autograd knows, of gaps that may be minus infinity.

    Args:
        gap: one for each anchor.
        positive: the positive's logit, or the log-sum of several.
        temperature: above 0.
        variant: of these anchors.
        several: how many positives there are, where there may be more than one.
    """
    if variant.extra is not None:
        further = variant.extra - positive
        # The log of a sum of two, of which either may be 0: there its derivatives would be NaN.
        none, others = gap == -math.inf, further == -math.inf
        both = torch.logaddexp(gap.masked_fill(none, 0), further.masked_fill(others, 0))
        gap = torch.where(others, gap, torch.where(none, further, both))
    if variant.prior is not None and variant.number is not None:
        chance = (variant.prior * variant.number / several).log()
        beyond = gap > chance
        # Where the difference is not positive, the floor holds, and any number will do.
        excess = -torch.expm1(torch.where(beyond, chance - gap, -1.0))
        corrected = gap + excess.log() - torch.log1p(-variant.prior)
        floor = _floor(gap, positive, temperature, variant.number)
        gap = torch.where(beyond & (corrected > floor), corrected, floor)
    if variant.decoupled:
        return torch.where(_none(gap, positive), 0, gap)
    return F.softplus(gap, threshold=50)


def losses_and_slopes(
    gap: Tensor,
    positive: Tensor,
    temperature: float | Tensor,
    variant: Variant,
    several: Tensor | int = 1,
) -> tuple[Tensor, Slopes]:
    """:func:`losses_of_gaps`, and their derivatives written out."""
    part = share = corrected = None
    if variant.extra is not None:
        # The parts that the gap's own negatives and the further ones have in the sum of both.
        # Minus infinity is a sum of nothing; the difference of two of them would be NaN.
        further, empty = variant.extra - positive, variant.extra == -math.inf
        part = torch.where(empty, 1, (gap - further).sigmoid())
        share = torch.where(empty, 0, (further - gap).sigmoid())
        gap = torch.logaddexp(gap, further)
    if variant.prior is not None and variant.number is not None:
        # With r = n tau e^p / N, the gap of (N - n tau e^p) / (1 - tau) is gap + log(1 - r) and a
        # constant. Its derivative by log N is 1 / (1 - r), and that by p is minus the same. Below
        # the floor, only that by p is left, which is -1.
        excess = -torch.expm1((variant.prior * variant.number / several).log() - gap)  # 1 - r
        found = gap + excess.log() - torch.log1p(-variant.prior)  # NaN where r > 1
        floor = _floor(gap, positive, temperature, variant.number)
        corrected = found > floor
        gap = torch.where(corrected, found, floor)
    if variant.decoupled:
        none = _none(gap, positive)
        losses, slope = torch.where(none, 0, gap), (~none).to(gap.dtype)
    else:
        losses, slope = F.softplus(gap, threshold=50), gap.sigmoid()
    push = pull = slope
    inverse = None
    if corrected is not None:
        push = torch.where(corrected, slope / excess, 0)
        pull = torch.where(corrected, push, slope)
        inverse = torch.where(corrected, 0, -slope)
    if part is None or share is None:
        return losses, Slopes(push, pull, None, inverse)
    return losses, Slopes(push * part, pull, push * share, inverse)


def _none(gap: Tensor, positive: Tensor) -> Tensor:
    """Where no negative is; not where the positive's logit is beyond the largest float."""
    return (gap == -math.inf) & (positive < math.inf)


def _floor(gap: Tensor, positive: Tensor, temperature: float | Tensor, number: Tensor) -> Tensor:
    """The least gap of so many negatives; NaN where it is, so that no overflow is hidden."""
    return torch.where(gap.isnan(), gap, number.log() - 1 / temperature - positive)
