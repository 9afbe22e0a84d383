"""Sums over the pairs of one part of a batch that is sorted by class.

An anchor's pairs are those within its part and those with all other samples. The latter are never
made: the sum of an anchor's similarities to many rows is its similarity to the sum of the rows.
"""

from typing import Any, NamedTuple

import torch
from einops import rearrange
from torch import Tensor

from mmcontrast.eager import apply, apply_to_several
from mmcontrast.hybrid.pair_sums import Contrasts, PairSums, sum_over_partners
from mmcontrast.hybrid.row_sums import sum_rows, sum_weighted_rows
from mmcontrast.rows import dot

OUTWEIGHED = 64
"""Where what is taken off a sum, the anchor with itself, is more than this many times what is left,
float32 has too few digits left."""


class Part(NamedTuple):
    """Consecutive samples of the batch sorted by class, and the sum of all other classes."""

    rows: Tensor
    """(k, M, D), zero where absent."""
    present: Tensor
    """(k, M) 1 or 0: the modalities that each sample has."""
    others: Tensor
    """(M, D + 1) float64: sum, and number, of the rows of classes without samples in the part."""


class OneClass(NamedTuple):
    """The whole class of a part, over all of its parts and all ranks."""

    total: Tensor
    """(M, D + 1) float64: sum, and number, of its rows."""
    other_parts: Tensor
    """(M, D + 1) float64: the same without this part's rows."""
    moments: Tensor
    """(M, D, D) float64: sum of the outer products of its rows."""


def large_class_sums(
    part: Part, whole: OneClass, contrasts: Contrasts, refine: bool
) -> tuple[Tensor, PairSums]:
    """A part of one large class, without any of its similarities.

    The positives of an anchor a are the class less the anchor's own sample, the negatives are all
    other classes. With the class's sum C, its moments G and the sample's own rows x:

        sum of the positives' similarities    a . (C - x)
        sum of their squares                  a' G a - (a . x)^2

    Returns:
        (k, M, M) similarities between the modalities of each sample, and the sums of its pairs.
    """
    x, present = part.rows, part.present
    partners, targets = contrasts
    total, other_parts, moments = whole
    forms = x.new_zeros(x.shape[1], 0, x.shape[2])
    if refine:
        # For each loss and anchor's modality, the moments of its partners' modalities added up.
        forms = partners.double() @ moments.flatten(1)  # (N, M, D D)
        forms = rearrange(forms, "n m (d e) -> m (n d) e", d=x.shape[2]).to(x.dtype)
    others = part.others[:, :-1]
    found = apply_to_several(
        _LargeClassProducts, x, other_parts[:, :-1], total[:, :-1], others, forms
    )
    own, positives, negatives, squares = found
    positive_sums = sum_over_partners(positives, partners)
    number = total[:, -1].to(x.dtype) - present
    counts = _pair_counts(present, number, part.others[:, -1].to(x.dtype), partners)
    errors = torch.zeros_like(positive_sums)
    # What an anchor adds to the gradient of its class's sum is taken off again for its own sample.
    lengths = own.detach().diagonal(dim1=1, dim2=2).sqrt()  # (k, M)
    itself = sum_over_partners(lengths[..., None] * lengths[:, None], partners)
    certain = itself <= OUTWEIGHED * positive_sums.detach().abs()
    if refine:
        own_squares = sum_over_partners(own.square(), partners)
        among = squares.mT - own_squares
        # sum (s - t)^2 = sum s^2 - 2 t sum s + t^2 n. Rounding may leave it slightly below 0.
        errors = among - 2 * targets * positive_sums + targets.square() * counts[0]
        errors = errors.clamp_min(0)
        certain = certain & (own_squares <= OUTWEIGHED * (errors + counts[0]))
    opposed = sum_over_partners(negatives, partners)
    return own, PairSums(positive_sums, opposed, errors, *counts, certain.detach())


def small_class_sums(
    part: Part, ids: Tensor, anchors: Tensor | slice, contrasts: Contrasts
) -> tuple[Tensor, PairSums]:
    """:func:`large_class_sums` of a part of several small classes, from its similarities.

    Args:
        part: all samples of these classes, those of other ranks too.
        ids: (k,) their classes.
        anchors: which of them are anchors.
        contrasts: the losses.
    """
    x, present = part.rows[anchors], part.present[anchors]
    similarity = dot(rearrange(x, "k m d -> (k m) d"), rearrange(part.rows, "c m d -> (c m) d"))
    similarity = similarity.view(*present.shape, *part.present.shape)  # (k, M, c, M)
    place = torch.arange(len(ids), device=ids.device)
    same = ids[anchors, None] == ids
    is_positive = (same & (place[anchors, None] != place)).to(x.dtype)  # (k, c)
    is_negative = (~same).to(x.dtype)
    # Sums of rows first, then one dot product each: autograd keeps no (k, M, c, M) product.
    columns = part.rows.flatten(1).mT  # (M D, c)
    positives = dot(x, dot(is_positive, columns).view_as(x))
    outside = apply(_RowsTimesSums, x, part.others[:, :-1])
    negatives = dot(x, dot(is_negative, columns).view_as(x)) + outside
    errors = []
    for partners, target in zip(*contrasts, strict=True):
        pairs = (is_positive[:, None, :, None] * part.present) * partners[:, None]  # (k, M, c, M)
        errors.append(((similarity - target).square() * pairs).sum((2, 3)))
    partners = contrasts.partners
    number = dot(is_negative, part.present.mT) + part.others[:, -1].to(x.dtype)
    counts = _pair_counts(present, dot(is_positive, part.present.mT), number, partners)
    similar, opposed = (sum_over_partners(y, partners) for y in (positives, negatives))
    return dot(x, x), PairSums(similar, opposed, torch.stack(errors, dim=1), *counts)


def _pair_counts(
    present: Tensor, positives: Tensor, negatives: Tensor, partners: Tensor
) -> tuple[Tensor, Tensor]:
    """How many positives and negatives each anchor has in each loss, (k, N, M) each.

    ``positives`` and ``negatives``: (k, M), or (M,) for all alike, by the partner's modality.
    """
    flat = rearrange(partners, "n m p -> (n m) p")
    shape = len(present), *partners.shape[:2]
    same, other = (dot(x.expand_as(present), flat).view(shape) for x in (positives, negatives))
    return same * present[:, None], other * present[:, None]


class _LargeClassProducts(torch.autograd.Function):
    """Dot products of one class's rows with each other, with sums and with the class's moments.

    Autograd would keep (k, M, N D) of intermediate results, and would differentiate the sums in
    float32. This keeps the inputs only, and adds up what cancels in float64.

    Args:
        x: (k, M, D).
        other_parts: (M, D) float64, sums of the class's rows in other parts.
        total: (M, D) float64, sums of the whole class: the other parts' and those of x.
        others: (M, D) float64, sums of the other classes.
        forms: (M, N D, D) symmetric matrices A, N for each modality, one below the other.

    Returns:
        (k, M, M) products of a sample's own rows; (k, M, M) of its rows with the sums of its class
        less itself; (k, M, M) of its rows with the sums of the other classes; (k, M, N) x' A x.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, other_parts: Tensor, total: Tensor, others: Tensor, forms: Tensor
    ) -> tuple[Tensor, ...]:
        top = x.max(0, keepdim=True).indices  # (1, M, D)
        rest = other_parts + sum_rows(x.scatter(0, top, 0))
        ctx.save_for_backward(x, total, others, forms, top, rest)
        by_modality = x.transpose(0, 1)  # (M, k, D)
        images = dot(by_modality, forms)
        images = images.view(*images.shape[:2], -1, x.shape[2])  # (M, k, N, D)
        squares = images.mul_(by_modality[:, :, None]).sum(-1).transpose(0, 1)
        remaining = apply(_RestOfClass, x, total, top, rest)
        return dot(x, x), dot(x, remaining), dot(x, others.to(x.dtype)), squares

    @staticmethod
    def backward(
        ctx: Any, to_own: Tensor, to_positives: Tensor, to_negatives: Tensor, to_squares: Tensor
    ) -> tuple[Tensor | None, ...]:
        x, total, others, forms, top, rest = ctx.saved_tensors
        by_modality = x.transpose(0, 1)
        weighted = by_modality[:, :, None] * to_squares.transpose(0, 1)[..., None]
        weighted = weighted.flatten(2)  # (M, k, N D)
        to_forms = dot(weighted.mT, by_modality.mT)
        to_sums = torch.cat([to_positives, to_negatives], 2)  # (k, M, 2 M)
        to_total, to_others = sum_weighted_rows(to_sums, x).chunk(2)
        to_rows, to_other_parts, to_fellows = to_own + to_own.mT, None, None
        if x.dtype == torch.float64:
            to_fellows, to_other_parts, to_total = _of_fellows(to_positives, x)
        else:
            to_rows = to_rows - to_positives.mT
        # The gradients through the positives' and the negatives' sums nearly cancel and outweigh
        # all else, so they are added in float64 and rounded once. Where one row makes up most of
        # a feature's total, that feature stays in the float32 product below instead: for the row
        # itself, the rest of its class is small there.
        common = torch.where(rest.abs() > total.abs() / 2, total, 0).detach()
        remaining = apply(_RestOfClass, x, total - common, top, rest - common)
        found = dot(to_rows, x.mT) + dot(to_positives, remaining.mT)
        found = found if to_fellows is None else found + to_fellows
        found = found + dot(weighted, 2 * forms.mT).transpose(0, 1)
        found = found + dot(to_sums.double(), torch.cat([common, others]).mT)
        return found.to(x.dtype), to_other_parts, to_total, to_others, to_forms


def _of_fellows(to_positives: Tensor, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients of each row from the other rows of its class, which it is a positive of.

    They are the sum of what all rows say, less what the row itself says. Where one row says far
    more than all others, as an anchor almost without similar positives does, nothing would be left
    of the others in its own gradient. So the largest saying in each feature stays out of the sum,
    and is added to all rows but its own, as in :class:`_RestOfClass`.

    Returns:
        (k, M, D) gradients of the rows of this part, but for what the others of (M, D) that is
        added to all rows of the class; the (M, D) of rows of other parts, likewise; that sum.
    """
    said = dot(to_positives.mT, x.mT)  # (k, M, D), to the partner's modality
    top = said.abs().max(0, keepdim=True).indices  # (1, M, D)
    largest = said.gather(0, top)
    rest = said.scatter(0, top, 0)
    return largest.expand_as(said).scatter(0, top, 0) - rest, largest[0], rest.sum(0)


class _RestOfClass(torch.autograd.Function):
    """For each sample the sum of its class's other rows, (k, M, D), (M, D) float64 -> (k, M, D).

    The class's total less the sample's own row has accurate digits unless that row makes up most of
    the total. In each feature this can only be so for the largest entry: ``top``, (1, M, D), is its
    sample and ``rest``, (M, D), the sum of all others, added up without it.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, total: Tensor, top: Tensor, rest: Tensor) -> Tensor:
        return (total.to(x.dtype) - x).scatter_(0, top, rest.to(x.dtype)[None])

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None, None]:
        return -gradient, sum_rows(gradient), None, None


class _RowsTimesSums(torch.autograd.Function):
    """Dot products of rows with float64 sums, (k, M, D), (P, D) -> (k, M, P).

    The gradients of the sums through positives and negatives nearly cancel, so they are accumulated
    in float64, as in :class:`_LargeClassProducts`.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, sums: Tensor) -> Tensor:
        ctx.save_for_backward(x, sums)
        return dot(x, sums.to(x.dtype))

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor]:
        x, sums = ctx.saved_tensors
        return dot(gradient, sums.to(x.dtype).mT), sum_weighted_rows(gradient, x)
