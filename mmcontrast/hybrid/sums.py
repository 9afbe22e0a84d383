"""HyCon's sums over the pairs of some samples: their own pairs, and those with all others."""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from mmcontrast.eager import apply, apply_to_several
from mmcontrast.rows import dot

RUN = 64
"""Samples whose products are added up in the rows' own precision, before float64 takes over."""


class Sums(NamedTuple):
    """What an anchor's pairs come to; (k, N, M) each, 0 where a sample does not take part."""

    positives: Tensor
    """Sum of the similarities to its positives."""
    negatives: Tensor
    """Sum of the similarities to its negatives."""
    errors: Tensor
    """Sum of the squared distances of the positives' similarities from the target."""
    has: Tensor
    """How many positives."""
    lacks: Tensor
    """How many negatives."""


class Kinds(NamedTuple):
    """The N ways in which modalities are contrasted."""

    partners: Tensor
    """(N, M, M) of 1 and 0: which modalities an anchor's modality is contrasted with."""
    targets: Tensor
    """(N, 1), what the positives' similarities are compared with."""


class Part(NamedTuple):
    """Some neighbours in the batch sorted by class, and what there is outside them."""

    rows: Tensor
    """(k, M, D), zero where absent."""
    here: Tensor
    """(k, M) 1 or 0: who has which modality."""
    others: Tensor
    """(M, D + 1) float64: sum, and number, of the rows of all classes that are not in it."""


class OneClass(NamedTuple):
    """What there is of a part's class."""

    total: Tensor
    """(M, D + 1) float64: sum, and number, of its rows in all parts."""
    beside: Tensor
    """(M, D + 1) float64: that of its rows in other parts, without a gradient."""
    moments: Tensor
    """(M, D, D) float64 of its rows in all parts."""


def of_one_class(part: Part, whole: OneClass, kinds: Kinds, refine: bool) -> tuple[Tensor, Sums]:
    """(k, M, M) similarities of each sample's own modalities, and its sums."""
    x, here = part.rows, part.here
    partners, targets = kinds
    total, beside, moments = whole
    forms = x.new_zeros(x.shape[1], 0, x.shape[2])
    if refine:
        forms = partners.double() @ moments.flatten(1)
        forms = forms.view(*partners.shape[:2], *moments.shape[1:]).transpose(0, 1)
        forms = forms.flatten(1, 2).to(x.dtype)
    others = part.others[:, :-1]
    found = apply_to_several(_Contrasted, x, beside[:, :-1], total[:, :-1], others, forms)
    own, positives, negatives, squares = found
    drawn = over(positives, partners)
    number = total[:, -1].to(x.dtype) - here
    has, lacks = _numbers(here, number, part.others[:, -1].to(x.dtype), partners)
    errors = torch.zeros_like(drawn)
    if refine:
        among = squares.mT - over(own.square(), partners)
        # Rounding may take a sum of squares that is all but zero below it.
        errors = (among - 2 * targets * drawn + targets.square() * has).clamp_min(0)
    return own, Sums(drawn, over(negatives, partners), errors, has, lacks)


def of_small_classes(
    part: Part, ids: Tensor, anchors: Tensor | slice, kinds: Kinds
) -> tuple[Tensor, Sums]:
    """The same for some anchors of a part of several classes, (k,), from the similarities."""
    x, here = part.rows[anchors], part.here[anchors]
    flat = x.flatten(0, 1), part.rows.flatten(0, 1)
    similarity = dot(*flat).view(*here.shape, *part.here.shape)
    place = torch.arange(len(ids), device=ids.device)
    same = ids[anchors, None] == ids
    alike = (same & (place[anchors, None] != place)).to(x.dtype)
    unlike = (~same).to(x.dtype)
    # Sums of rows first: no products of all pairs are kept.
    columns = part.rows.flatten(1).mT
    positives = dot(x, dot(alike, columns).view_as(x))
    beyond = apply(_Products, x, part.others[:, :-1])
    negatives = dot(x, dot(unlike, columns).view_as(x)) + beyond
    errors = []
    for partners, target in zip(*kinds, strict=True):
        pairs = (alike[:, None, :, None] * part.here) * partners[:, None]
        errors.append(((similarity - target).square() * pairs).sum((2, 3)))
    partners = kinds.partners
    opposed = dot(unlike, part.here.mT) + part.others[:, -1].to(x.dtype)
    has, lacks = _numbers(here, dot(alike, part.here.mT), opposed, partners)
    drawn, pushed = over(positives, partners), over(negatives, partners)
    return dot(x, x), Sums(drawn, pushed, torch.stack(errors, dim=1), has, lacks)


def over(x: Tensor, partners: Tensor) -> Tensor:
    """(k, M, M) of an anchor's and a partner's modality, summed over the partners: (k, N, M)."""
    number, size, _ = partners.shape
    chosen = torch.diag_embed(partners.mT, dim1=1, dim2=2).flatten(2)
    # (N M, M M), zero but where it is the anchor's own modality: a product of matrices, because
    # broadcasts over axes this short are slow.
    return dot(x.flatten(1), chosen.flatten(0, 1)).view(-1, number, size)


def _numbers(here: Tensor, has: Tensor, lacks: Tensor, partners: Tensor) -> tuple[Tensor, Tensor]:
    """How many positives and negatives each anchor has in its partners' modalities."""
    either = [dot(x.expand_as(here), partners.flatten(0, 1)) for x in (has, lacks)]
    shape = len(here), *partners.shape[:2]
    return either[0].view(shape) * here[:, None], either[1].view(shape) * here[:, None]


def moments(x: Tensor) -> tuple[Tensor, Tensor]:
    """Float64 sums over the samples, (k, M, D) -> (M, D) of x, (M, D, D) of x' x."""
    of_x, of_products = apply_to_several(_Moments, x)
    return of_x, of_products


class _Moments(torch.autograd.Function):
    """One product backwards where autograd's rule takes two."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(x)
        columns = x.transpose(0, 1).mT
        return added(x), dot(columns, columns).double()

    @staticmethod
    def backward(ctx: Any, to_sum: Tensor, to_squares: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        form = (to_squares + to_squares.mT).to(x.dtype)
        found = dot(x.transpose(0, 1), form) + to_sum[:, None].to(x.dtype)
        return found.transpose(0, 1)


class _Contrasted(torch.autograd.Function):
    """Rows of one class with themselves, their class, the other classes and the class's moments.

    Args:
        x: (k, M, D).
        beside: (M, D) float64, sums of the class's rows elsewhere; they take no gradient.
        total: (M, D) float64, sums of the whole class.
        others: (M, D) float64, sums of the other classes.
        forms: (M, N D, D) symmetric matrices A, N for each modality, one below the other.

    Returns:
        (k, M, M) products of a sample's own rows, (k, M, M) of its rows with the sums of its class
        less itself, (k, M, M) with the sums of the other classes, and (k, M, N) x' A x. Of all that
        is between, nothing is kept for the backward pass.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, beside: Tensor, total: Tensor, others: Tensor, forms: Tensor
    ) -> tuple[Tensor, ...]:
        top = x.max(0, keepdim=True).indices
        rest = beside + added(x.scatter(0, top, 0))
        ctx.save_for_backward(x, total, others, forms, top, rest)
        images = dot(x.transpose(0, 1), forms)
        images = images.view(*images.shape[:2], -1, x.shape[2])
        squares = images.mul_(x.transpose(0, 1)[:, :, None]).sum(-1).transpose(0, 1)
        fellows = apply(_Fellows, x, total, top, rest)
        return dot(x, x), dot(x, fellows), dot(x, others.to(x.dtype)), squares

    @staticmethod
    def backward(
        ctx: Any, to_own: Tensor, to_positives: Tensor, to_negatives: Tensor, to_squares: Tensor
    ) -> tuple[Tensor | None, ...]:
        x, total, others, forms, top, rest = ctx.saved_tensors
        by_modality = x.transpose(0, 1)
        weighted = by_modality[:, :, None] * to_squares.transpose(0, 1)[..., None]
        weighted = weighted.flatten(2)
        to_forms = dot(weighted.mT, by_modality.mT)
        to_sums = torch.cat([to_positives, to_negatives], 2)
        to_total, to_others = _added_up(to_sums, x).chunk(2)
        # The sums of many rows outweigh all else and cancel: float64, and rounded once. A feature
        # that is most of all one row's stays with that row's fellows, who are little beside it.
        common = torch.where(rest.abs() > total.abs() / 2, total, 0).detach()
        fellows = apply(_Fellows, x, total - common, top, rest - common)
        to_rows = to_own + to_own.mT - to_positives.mT
        found = dot(to_rows, x.mT) + dot(to_positives, fellows.mT)
        found = found + dot(weighted, 2 * forms.mT).transpose(0, 1)
        found = found + dot(to_sums.double(), torch.cat([common, others]).mT)
        return found.to(x.dtype), None, to_total, to_others, to_forms


class _Fellows(torch.autograd.Function):
    """For each sample the sum of its class's other rows, (k, M, D), (M, D) float64 -> (k, M, D).

    The class's sum less one's own row keeps its digits where others contribute as much. Where the
    row is the ``top`` of all in a feature, (1, M, D), the others' sum by itself is the ``rest``.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, total: Tensor, top: Tensor, rest: Tensor) -> Tensor:
        return (total.to(x.dtype) - x).scatter_(0, top, rest.to(x.dtype)[None])

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None, None]:
        return -gradient, added(gradient), None, None


class _Products(torch.autograd.Function):
    """Rows times float64 sums, (k, M, D), (P, D) -> (k, M, P).

    The gradients of the positives' sum and of the negatives' all but cancel, so that what a row
    says to the sums is added up in float64 too.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, sums: Tensor) -> Tensor:
        ctx.save_for_backward(x, sums)
        return dot(x, sums.to(x.dtype))

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor]:
        x, sums = ctx.saved_tensors
        return dot(gradient, sums.to(x.dtype).mT), _added_up(gradient, x)


def added(x: Tensor) -> Tensor:
    """Sums over the samples, (k, M, D) -> (M, D) float64."""
    ends = len(x) // RUN * RUN
    runs = x[:ends].view(-1, RUN, *x.shape[1:]).sum(1)
    return x[ends:].sum(0) + runs.sum(0, dtype=torch.float64)


def _added_up(weights: Tensor, x: Tensor) -> Tensor:
    """Weighted sums of rows, (k, M, P), (k, M, D) -> (P, D) float64.

    What a modality's weights have in common is given to its rows' sum instead: it is most of them.
    """
    common = weights.detach().sum(0) / max(len(x), 1)
    sums = dot(common.mT.double(), added(x).mT)
    ends = len(x) // RUN * RUN
    both = weights - common, x
    runs, rows = (y[:ends].reshape(-1, RUN * y.shape[1], y.shape[2]) for y in both)
    last, last_rows = (y[ends:].flatten(0, 1) for y in both)
    sums = sums + dot(runs.mT, rows.mT).sum(0, dtype=torch.float64)
    return sums + dot(last.mT, last_rows.mT)
