"""What stands beside the candidates of InfoNCE in both directions, as in :mod:`beside` for one."""

from typing import NamedTuple

import torch
from torch import Tensor

from mmcontrast.distributed import Group, joined, total
from mmcontrast.exact.beside import without_infinite
from mmcontrast.exact.pair_rules import PairRules, as_tensors
from mmcontrast.gaps import Variant
from mmcontrast.rows import dot


class BothWays(NamedTuple):
    """What makes the variant of both directions, (2, B), and a term of the losses."""

    variant: Variant  # (B,)
    smoothing: float
    temperature: float | Tensor
    group: Group | None

    def or_none(self) -> "BothWays | None":
        """None where there is nothing to make."""
        return None if self.variant.usual and self.smoothing == 0 else self

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
        if self.smoothing == 0 and variant.prior is None:
            return variant.like(x), None
        if rules is None or own is None:
            number = total(x.new_full((), x.shape[0]), self.group)
            sums = total(y.sum(0), self.group), total(x.sum(0), self.group)  # (D,)
            return self.parts(variant, x, y, number.expand(2), sums, None)
        every, _ = joined(y, self.group)  # (C, D)
        keep, bias = without_infinite(*as_tensors(rules, bias, x, every))
        if keep is None:
            keep = torch.ones(x.shape[0], every.shape[0], dtype=torch.bool, device=x.device)
        weights = keep.to(x.dtype)
        counts = torch.stack([weights.sum(1), total(weights.sum(0), self.group)[own]])  # (2, B)
        sums = dot(weights, every.mT), total(dot(weights.mT, x.mT), self.group)[own]  # (B, D)
        added = None
        if bias is not None:
            pairs = bias.diagonal(own.start)
            added = torch.stack([pairs, bias.sum(1), total(bias.sum(0), self.group)[own]])
        return self.parts(variant, x, y, counts, sums, added)

    def parts(
        self,
        variant: Variant,
        x: Tensor,
        y: Tensor,
        number: Tensor,
        sums: tuple[Tensor, Tensor],
        added: Tensor | None,
    ) -> tuple[Variant, Tensor | None]:
        """The results of :meth:`made`.

        Args:
            variant, x, y: as there.
            number: (2,) or (2, B) how many candidates each row of x and of y keeps.
            sums: of these candidates, (D,) or (B, D).
            added: (3, B) biases of the pairs, and their sums by the rows of x and of y.
        """
        number = number if number.ndim == 2 else number[:, None]
        variant = variant.among(number - 1).like(x)
        if self.smoothing == 0:
            return variant, None
        # The mean logit of each row is one product with the mean row of the other side.
        positive = (x * y).sum(1) / self.temperature
        each = torch.stack([(x * sums[0]).sum(1), (y * sums[1]).sum(1)]) / self.temperature
        if added is not None:
            positive, each = positive + added[0], each + added[1:]
        mean = (each / number.clamp_min(1)).mean(0)
        return variant, self.smoothing * (positive - mean)
