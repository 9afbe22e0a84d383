"""What stands beside the candidates of InfoNCE in both directions, as in :mod:`beside` for one."""

from typing import NamedTuple

import torch
from torch import Tensor

from mmcontrast.distributed import Group, joined, part, total
from mmcontrast.exact.log_sums import weighted_log_sums
from mmcontrast.exact.pair_rules import PairRules, as_tensors, at_partners
from mmcontrast.exact.tiles import scalar
from mmcontrast.gaps import Variant
from mmcontrast.masks import columns_of
from mmcontrast.rows import dot
from mmcontrast.softmax import mask_and_bias


class BothWays(NamedTuple):
    """What makes the variant of both directions, (2, B), and a term of the losses."""

    variant: Variant  # (B,)
    smoothing: float
    temperature: float | Tensor
    group: Group | None
    within: bool = False  # whether the other rows of a side are negatives, too
    chunk_size: int | None = None  # of the log-sums of these

    def or_none(self) -> "BothWays | None":
        """None where there is nothing to make."""
        nothing = self.variant.usual and self.smoothing == 0 and not self.within
        return None if nothing else self

    def made(
        self,
        x: Tensor,
        y: Tensor,
        own: slice | None = None,
        rules: PairRules | None = None,
        bias: Tensor | None = None,
    ) -> tuple[Variant, Tensor | None]:
        """The variant, and (B,) what smoothing adds to the mean of both directions.

        Args:
            x, y: (B, D) mapped, of this rank.
            own: which of all ranks' rows they are; needed with rules.
            rules, bias: of the pairs, (B of this rank, B of all).
        """
        variant = self.variant
        if variant.prior is not None:
            variant = variant._replace(prior=variant.prior.expand(2, -1))
        keep = back = None
        alone = self.smoothing == 0 and variant.prior is None  # whether no candidates are counted
        if rules is not None and isinstance(own, slice) and (self.within or not alone):
            every, _ = joined(y, self.group, size=columns_of(rules.keep, bias))  # (C, D)
            keep, bias = mask_and_bias(*as_tensors(rules, bias, x, every))
            if keep is not None:
                everywhere, _ = joined(keep, self.group, size=every.shape[0])
                back = part(everywhere, own, 1).mT  # (B, C)
        if self.within:
            sides = ((x, keep), (y, back))
            variant = variant._replace(extra=torch.stack([self.others(*side) for side in sides]))
        if alone:
            return variant.like(x), None
        ways = self.sums(x, y, keep), self.sums(y, x, back)
        number = torch.stack([number for number, _ in ways])  # (2, B)
        variant = variant.among(number - 1).like(x)
        if self.smoothing == 0:
            return variant, None
        positive = (x * y).sum(1) / self.temperature
        sums = torch.stack([found for _, found in ways]) / self.temperature
        if bias is not None and isinstance(own, slice):
            positive = positive + _of_partners(bias, own)
            theirs = part(total(bias.sum(0), self.group), own)
            sums = sums + torch.stack([bias.sum(1), theirs])
        mean = (sums / number.clamp_min(1)).mean(0)
        return variant, self.smoothing * (positive - mean)

    def others(self, x: Tensor, keep: Tensor | None) -> Tensor:
        """(B,) log-sums of the rows' similarities to the others of their side."""
        every, own = joined(x, self.group, size=columns_of(keep))
        inputs = x, every, scalar(self.temperature, x), None
        return weighted_log_sums(*inputs, keep, own.start, self.chunk_size)

    def sums(self, x: Tensor, y: Tensor, keep: Tensor | None) -> tuple[Tensor, Tensor]:
        """(B,) how many candidates each row of x keeps, and the sum of its products with them.

        The sum is one product with the sum of the candidates.
        """
        sides = [y, x] if self.within else [y]
        if keep is None:
            number = total(x.new_full((), x.shape[0]), self.group).expand(x.shape[0])
            middle = sum(total(side.sum(0), self.group) for side in sides)  # (D,)
            itself = torch.ones_like(number)
        else:
            weights = keep.to(x.dtype)
            number = weights.sum(1)
            every = [joined(side, self.group, size=keep.shape[1]) for side in sides]
            middle = sum(dot(weights, side.mT) for side, _ in every)  # (B, D)
            itself = _of_partners(weights, every[0][1])
        found = (x * middle).sum(1)
        if not self.within:
            return number, found
        return 2 * number - itself, found - itself * x.square().sum(1)


def _of_partners(x: Tensor, own: slice) -> Tensor:
    """(B,) entries of (B, C) pairs: of each row with that of its own sample."""
    columns = torch.arange(own.start, own.stop, device=x.device)
    return at_partners(x, columns)
