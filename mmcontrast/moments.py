r"""HyCon's losses of a large batch, exactly and without its similarities: by sums over classes.

What HyCon asks of an anchor a, the sum of its similarities to a set and of their squared distances
from a target t, are two moments of that set,

.. math::
    \sum_k a \cdot x_k = a \cdot C, \qquad
    \sum_k (a \cdot x_k - t)^2 = a^\top G a - 2 t\, a \cdot C + t^2 n, \qquad
    C = \sum_k x_k, \quad G = \sum_k x_k x_k^\top.

The set is the anchor's class, or everybody else. The batch is sorted by class and cut into parts: a
part of a class that is large enough to be worth its moments, or a few small classes together, whose
similarities are taken as they are. So K samples cost O(K D^2) time and O(K D) memory however many
classes there are. All steps are plain torch operations; autograd takes every derivative of them.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from mmcontrast.masks import off_diagonal
from mmcontrast.rows import RowMap, dot, map_rows, upcast
from mmcontrast.supervised import share
from mmcontrast.supervised_tiles import by_class, numbers

LARGE_BATCH = 200
"""Samples from which moments are faster than pairs."""
LARGE_CLASS = 128
"""Samples from which a class has moments; never below D, or they would outgrow the features."""
PART = 4096
"""Samples at a time, which a processor's cache holds."""


class Values(NamedTuple):
    """HyCon's two terms of each anchor; (B, M), or (B,) of one modality."""

    ratio: Tensor
    """The positives' share of all similarity, negated."""
    contrasted: Tensor
    """bool: who has a positive and a negative."""
    refinement: Tensor
    """Mean squared distance of the positives' similarities from the target."""
    refined: Tensor
    """bool: who has a positive."""


class Sums(NamedTuple):
    """What an anchor's pairs come to; (k, M) each, 0 where a sample does not take part."""

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


Kinds = list[tuple[Tensor, float]]
"""(M, M) of 1 and 0, which modalities are contrasted, and the refinement's target."""


class Part(NamedTuple):
    """Some neighbours in the batch sorted by class."""

    rows: Tensor
    """(k, M, D), zero where absent."""
    here: Tensor
    """(k, M) 1 or 0: who has which modality."""
    ids: Tensor
    """(k,) classes."""
    beside: Tensor
    """(M, D + 1) float64: sum, and number, of the same class's rows in other parts."""
    others: Tensor
    """(M, D + 1) float64: sum, and number, of the rows of other parts' classes."""
    moments: Tensor | None
    """(M, D, D) of the whole class; None where these are several small classes."""


def possible(features: Mapping[str, Tensor], labels: Tensor | None) -> bool:
    """Whether there are labels to sort by, whose values may be read here, and many of them."""
    if labels is None or len(labels) < LARGE_BATCH or labels.numel() == 0:
        return False
    tensors = [labels, *features.values()]
    # Where there is no float64, the sums would lose what they are there for.
    return numbers(*tensors) and all(x.device.type != "mps" for x in tensors)


def values(
    features: Mapping[str, Tensor],
    labels: Tensor,
    taking_part: Mapping[str, Tensor],
    targets: Mapping[str, float],
    *,
    refine: bool,
    log: bool,
    normalize: RowMap | None,
) -> tuple[dict[str, Values], Tensor]:
    """HyCon's "intra" and "inter", those that are given a target, of all anchors.

    Args:
        features: (B, D) by modality; rows that take no part are not looked at.
        labels: (B,) or (B, L), whose values are read.
        taking_part: (B,) bool by modality.
        targets: what the positives' similarities are compared with.
        refine: whether the refinement is wanted; else it is void.
        log: the negated logarithm of the ratio.
        normalize: row map before the dot product.

    Returns:
        The values, and (B, M, M) similarities between each sample's own modalities.
    """
    order, ids, counts = by_class(labels)
    here = torch.stack(list(taking_part.values()), dim=1)[order]
    rows = _mapped(features, order, here, normalize)
    kinds = [(_partners(rows, name), target) for name, target in targets.items()]
    found = []
    for part in _parts(rows, here, ids, counts.tolist()):
        if part.moments is not None:
            found.append(_of_one_class(part, kinds, refine))
        else:
            found.append(checkpoint(_of_small_classes, part, kinds, use_reentrant=False))

    def unsorted(x: Tensor) -> Tensor:
        return x.new_zeros(len(labels), *x.shape[1:]).index_copy(0, order, x)

    own, *columns = (unsorted(torch.cat(pieces)) for pieces in zip(*found, strict=True))
    width = len(Sums._fields)
    sums = [Sums(*columns[k * width : (k + 1) * width]) for k in range(len(targets))]
    return {name: _values(x, log) for name, x in zip(targets, sums, strict=True)}, own


def _mapped(
    features: Mapping[str, Tensor], order: Tensor, here: Tensor, normalize: RowMap | None
) -> Tensor:
    """(n, M, D) rows in the order of the classes, zero where absent."""
    x = torch.stack([upcast(x) for x in features.values()], dim=1).index_select(0, order)
    absent = None if here.all() else ~here[..., None]
    if absent is not None:
        x = x.masked_fill(absent, 0)  # whatever stands there
    rows = map_rows(x.flatten(0, 1), normalize)
    rows = rows.view(*x.shape[:2], rows.shape[-1])
    return rows if absent is None else rows.masked_fill(absent, 0)  # a map may fill them again


def _values(sums: Sums, log: bool) -> Values:
    refined, opposed = sums.has > 0, sums.lacks > 0
    none = torch.zeros_like(refined)
    similarity = torch.stack([sums.positives, sums.negatives], dim=-1)
    masks = torch.stack([refined, none], dim=-1), torch.stack([none, opposed], dim=-1)
    ratio, contrasted = share(similarity, *masks, log=log)
    return Values(ratio, contrasted, sums.errors / torch.where(refined, sums.has, 1), refined)


def _partners(rows: Tensor, name: str) -> Tensor:
    """(M, M) 1 or 0: which modalities an anchor's modality is contrasted with."""
    same = torch.eye(rows.shape[1], dtype=rows.dtype, device=rows.device)
    return 1 - same if name == "inter" else same


def _parts(rows: Tensor, here: Tensor, ids: Tensor, counts: list[int]) -> Iterator[Part]:
    """Cut the batch, and tell each part what there is outside it."""
    large = max(LARGE_CLASS, rows.shape[-1])
    sizes, owners = _cuts(counts, large)
    pieces = torch.split(rows, sizes)
    present = torch.split(here.to(rows.dtype), sizes)
    moments: dict[int, Tensor] = {}
    for x, owner in zip(pieces, owners, strict=True):
        if owner >= 0:
            moment: Tensor = _Gram.apply(x.transpose(0, 1)).double()  # type: ignore[no-untyped-call]
            moments[owner] = moments[owner] + moment if owner in moments else moment
    sums = torch.stack(
        [
            torch.cat([x.sum(0, dtype=torch.float64), there.sum(0)[:, None]], dim=1)
            for x, there in zip(pieces, present, strict=True)
        ]
    )
    shares = list(Counter(owners).values())
    groups = torch.split(sums, shares)
    beside = torch.cat([_all_but_each(group) for group in groups])
    others = _all_but_each(torch.stack([group.sum(0) for group in groups]))
    others = torch.cat(
        [x.expand(n, -1, -1) for x, n in zip(torch.split(others, 1), shares, strict=True)]
    )
    labels = torch.split(ids, sizes)
    for k, owner in enumerate(owners):
        yield Part(pieces[k], present[k], labels[k], beside[k], others[k], moments.get(owner))


def _all_but_each(x: Tensor) -> Tensor:
    """For each entry of the first axis the sum of all others.

    What comes before and what comes after: a total less the entry itself would lose every digit of
    a small class beside a large one.
    """
    none = torch.zeros_like(x[:1])
    before = torch.cat([none, x[:-1]]).cumsum(0)
    after = torch.cat([x[1:], none]).flip(0).cumsum(0).flip(0)
    return before + after


def _cuts(counts: list[int], large: int) -> tuple[list[int], list[int]]:
    """Sizes of the parts, and whose they are: a class's, or a negative number where several's."""
    sizes: list[int] = []
    owners: list[int] = []
    for owner, count in enumerate(counts):
        if count >= large:
            number = -(-count // PART)
            sizes += [count // number + (k < count % number) for k in range(number)]
            owners += [owner] * number
        elif owners and owners[-1] < 0 and sizes[-1] + count <= large:
            sizes[-1] += count
        else:
            sizes.append(count)
            owners.append(-1 - owner)
    return (sizes, owners) if sizes else ([0], [-1])


def _of_one_class(part: Part, kinds: Kinds, refine: bool) -> tuple[Tensor, ...]:
    """(k, M, M) similarities of each sample's own modalities, then each kind's five sums."""
    x, here = part.rows, part.here
    # A sample's positives sum to C - x, which keeps its digits where others contribute as much as
    # x. Where x is the largest of all in a feature, the others are summed by themselves.
    top = x.detach().max(0, keepdim=True).indices
    rest = part.beside[:, :-1] + x.scatter(0, top, 0).sum(0, dtype=torch.float64)
    total = rest + x.gather(0, top)[0]
    # The broadcast is of the float64 sum, so that its gradient is added up in float64.
    fellows = (total.expand(x.shape).to(x.dtype) - x).scatter(0, top, rest.to(x.dtype)[None])
    positives, own = dot(x, fellows), dot(x, x)
    negatives: Tensor = _Products.apply(x, part.others[:, :-1])  # type: ignore[no-untyped-call]
    number = (part.beside[:, -1] + here.sum(0)).to(x.dtype) - here
    found = [own]
    for partners, target in kinds:
        drawn = _over(positives, partners)
        has, lacks = _numbers(part, number, part.others[:, -1].to(x.dtype), partners)
        errors = torch.zeros_like(drawn)
        if refine and part.moments is not None:
            form = (partners.double() @ part.moments.flatten(1)).view_as(part.moments).to(x.dtype)
            squares: Tensor = _QuadraticForm.apply(  # type: ignore[no-untyped-call]
                x.transpose(0, 1), form
            ).mT
            squares = squares - _over(own.square(), partners)
            # Rounding may take a sum of squares that is all but zero below it.
            errors = (squares - 2 * target * drawn + target**2 * has).clamp_min(0)
        found += Sums(drawn, _over(negatives, partners), errors, has, lacks)
    return tuple(found)


class _Gram(torch.autograd.Function):
    """X' X, (M, k, D) -> (M, D, D); one product backwards where autograd's rule takes two."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return dot(x.mT, x.mT)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return dot(x, gradient + gradient.mT)


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
        flat = gradient.flatten(0, 1).double().mT, x.flatten(0, 1).double().mT
        return dot(gradient, sums.to(x.dtype).mT), dot(*flat)


class _QuadraticForm(torch.autograd.Function):
    """x' A x of every row x and a symmetric A, (M, k, D), (M, D, D) -> (M, k); keeps no A x."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, form: Tensor) -> Tensor:
        ctx.save_for_backward(x, form)
        return (dot(x, form) * x).sum(-1)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor]:
        x, form = ctx.saved_tensors
        weighted = gradient[..., None] * x
        return 2 * dot(weighted, form), dot(x.mT, weighted.mT)


def _of_small_classes(part: Part, kinds: Kinds) -> tuple[Tensor, ...]:
    """The same, from the similarities of the part's samples."""
    x, here = part.rows, part.here
    flat = x.flatten(0, 1)
    similarity = dot(flat, flat).view(*here.shape, *here.shape)
    same = part.ids[:, None] == part.ids
    alike = (same & off_diagonal(len(x), x.device)).to(x.dtype)
    unlike = (~same).to(x.dtype)
    positives = (similarity * alike[:, None, :, None]).sum(2)
    negatives = (similarity * unlike[:, None, :, None]).sum(2)
    beyond: Tensor = _Products.apply(x, part.others[:, :-1])  # type: ignore[no-untyped-call]
    negatives = negatives + beyond
    number = dot(alike, here.mT)
    opposed = dot(unlike, here.mT) + part.others[:, -1].to(x.dtype)
    found = [dot(x, x)]
    for partners, target in kinds:
        pairs = (alike[:, None, :, None] * here) * partners[:, None]
        errors = ((similarity - target).square() * pairs).sum((2, 3))
        has, lacks = _numbers(part, number, opposed, partners)
        found += Sums(_over(positives, partners), _over(negatives, partners), errors, has, lacks)
    return tuple(found)


def _over(x: Tensor, partners: Tensor) -> Tensor:
    """(k, M, M) of an anchor's and a partner's modality, summed over the partners."""
    return (x * partners).sum(-1)


def _numbers(part: Part, has: Tensor, lacks: Tensor, partners: Tensor) -> tuple[Tensor, Tensor]:
    """How many positives and negatives each anchor has in its partners' modalities."""
    return dot(has, partners) * part.here, dot(lacks, partners) * part.here
