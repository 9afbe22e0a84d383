"""What stands beside the candidates of InfoNCE: own negatives, and the mean logit of smoothing.

Both are made of the rows as they are compared. The ways of evaluation see neither: own negatives
reach them as one more log-sum for each anchor, and smoothing is added to the losses.
"""

from typing import NamedTuple

from torch import Tensor

from mmcontrast.distributed import Group, total
from mmcontrast.exact.own_negatives import OwnNegatives, partners_rows
from mmcontrast.exact.pair_rules import PairRules, as_tensors, at_partners
from mmcontrast.exact.partners import Partners
from mmcontrast.gaps import Variant
from mmcontrast.masks import checked_partners
from mmcontrast.reductions import Reduction
from mmcontrast.rows import dot
from mmcontrast.softmax import mask_and_bias, with_finite_bias


def plus(
    value: Tensor, term: Tensor | None, reduction: Reduction, counted: Tensor | None
) -> Tensor:
    """A reduced loss, and a term of its losses, reduced alike."""
    return value if term is None else value + reduction.reduce(term, counted)


class OneWay(NamedTuple):
    """What makes the variant of one direction, and a term of the losses, of mapped rows."""

    variant: Variant
    own: OwnNegatives | None
    smoothing: float
    temperature: float | Tensor
    targets: Tensor | None  # (B,) index of each anchor's partner among the columns, -100 for none
    group: Group | None  # the ranks that share the columns; None where each has all of them

    def or_none(self) -> "OneWay | None":
        """None where there is nothing to make."""
        nothing = self.variant.usual and self.own is None and self.smoothing == 0
        return None if nothing else self

    def made(
        self,
        rows: Tensor,
        columns: Tensor,
        counted: Tensor | None = None,
        rules: PairRules | None = None,
        bias: Tensor | None = None,
    ) -> tuple[Variant, Tensor | None]:
        """The variant, and (B,) what smoothing adds to the losses.

        Args:
            rows: (B, D).
            columns: (C, D) of this rank; of all ranks where there are rules.
            counted: (B,) bool, anchors with a positive; None where own negatives know it already.
            rules, bias: of the pairs.
        """
        keep = None
        if rules is not None and (self.smoothing > 0 or self.variant.prior is not None):
            keep, bias = tensors_of_pairs(rules, bias, rows, columns)
        own = None if self.own is None else self.own.of(counted)
        logits = None if own is None else own.logits(rows)
        if keep is not None:
            number = keep.sum(1)
        else:
            number = total(columns.new_full((), columns.shape[0]), self.group)
        further: Tensor | int = 0 if own is None else own.number()
        variant = self.variant.among(number - 1 + further)
        if own is not None and logits is not None:
            variant = variant._replace(extra=own.log_sums(logits))
        if self.smoothing == 0:
            return variant.like(rows), None
        # The mean logit is one product with the mean candidate.
        middle = total(columns.sum(0), self.group)  # (D,)
        if keep is not None:
            middle = dot(keep.to(columns.dtype), columns.mT)  # (B, D)
        sums = (rows * middle).sum(1) / self.temperature  # (B,)
        partners = checked_partners(rows, self.targets)
        positive = (rows * partners_rows(columns, partners)).sum(1) / self.temperature
        if bias is not None and bias.shape[1] > 0:
            sums = sums + bias.sum(1)
            positive = positive + at_partners(bias, partners)
        if own is not None and logits is not None:
            sums = sums + own.sums(logits)
        mean = sums / (number + further).clamp_min(1)
        # Own negatives may be in float64 for their range. What is not finite is widened as a whole.
        return variant.like(rows), (self.smoothing * (positive - mean)).to(rows.dtype)

    def among(
        self,
        rows: Tensor,
        columns: Tensor,
        counted: Tensor,
        partners: Partners,
        bias: Tensor | None,
    ) -> tuple[Variant, Tensor | None]:
        """:meth:`made` where there may be several positives, without smoothing if there are."""
        own, variant = None if self.own is None else self.own.of(counted), self.variant
        if variant.prior is not None or self.targets is not None:
            partners, bias = partners.resolved(rows, columns, bias)
        if self.targets is not None:
            return self.made(rows, columns, counted, PairRules(partners.keep), bias)
        if variant.prior is not None:
            positives, keep = partners.masks(slice(0, rows.shape[0]))
            keep = with_finite_bias(keep, bias)
            rest = positives <= 0 if keep is None else keep & (positives <= 0)
            variant = variant.among(rest.sum(1) + (0 if own is None else own.number()))
        if own is not None:
            variant = variant._replace(extra=own.log_sums(own.logits(rows)))
        return variant.like(rows), None


def tensors_of_pairs(
    rules: PairRules, bias: Tensor | None, rows: Tensor, columns: Tensor
) -> tuple[Tensor | None, Tensor | None]:
    """The (B, C) mask and bias of all pairs, see :func:`mask_and_bias`."""
    if not rules.has_functions():  # as they are: a compiler would compare the sizes of a slice
        return mask_and_bias(rules.keep, bias)
    return mask_and_bias(*as_tensors(rules, bias, rows, columns))
