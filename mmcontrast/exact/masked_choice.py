"""Which way a softmax loss with any positives is evaluated, also as an operator."""

import torch
from torch import Tensor

from mmcontrast.distributed import numbers_of
from mmcontrast.eager import calls_operators, is_eager, takes_ways
from mmcontrast.exact import sizes
from mmcontrast.exact.beside import OneWay, plus
from mmcontrast.exact.choose import mapped, products_in_range, rows_at_a_time, weighted
from mmcontrast.exact.classes import numbered
from mmcontrast.exact.masked_blocks import masked_in_blocks
from mmcontrast.exact.operators import as_operator
from mmcontrast.exact.pair_partners import told
from mmcontrast.exact.partners import Partners
from mmcontrast.exact.plain import plain_contrast
from mmcontrast.exact.tiles import any_of, rows_in_cache, scalar
from mmcontrast.gaps import USUAL, Variant
from mmcontrast.presence import zero_outside
from mmcontrast.reductions import Reduction
from mmcontrast.rows import RowMap, map_rows
from mmcontrast.softmax import contrast


def masked_contrast(
    anchors: Tensor,
    candidates: Tensor,
    partners: Partners,
    bias: Tensor | None = None,
    *,
    form: str = "out",
    temperature: float | Tensor,
    normalize: RowMap | None,
    reduction: Reduction,
    chunk_size: int | None,
    variant: Variant = USUAL,
    beside: OneWay | None = None,
) -> Tensor:
    """The softmax loss of anchors among the candidates of all ranks, with any positives.

    Args:
        anchors: (B, D).
        candidates: (C, D).
        partners: the masks; classes are labels, (B,) or (B, L).
        bias: (B, C), added to the logits.
        form: as in :func:`sup_con`.
        temperature, normalize, chunk_size: as in :func:`info_nce`.
        reduction: of this rank's losses.
        variant: of the losses, see :mod:`mmcontrast.gaps`.
        beside: what makes the variant of the mapped rows, in place of one.
    """
    positives, classes, keep, columns, _, rules = partners
    if keep is not None:
        candidates = zero_outside(candidates, any_of(keep, 0))
    if columns is not None:
        candidates = zero_outside(candidates, columns)
    if rules.has_functions():
        numbers = numbers_of(anchors, reduction.group)
        partners = partners._replace(rules=told(rules, anchors, candidates, None, *numbers))
        if not is_eager(positives):
            mapped_rows = [map_rows(x.detach(), normalize) for x in (anchors, candidates)]
            partners, bias = partners.resolved(mapped_rows[0], mapped_rows[1], bias)
            keep = partners.keep
    # To an operator, masks have no gradient.
    learned = calls_operators() and positives.requires_grad and torch.is_grad_enabled()
    if not takes_ways() or learned:
        anchors, term = anchors if keep is None else zero_outside(anchors, keep.any(1)), None
        if beside is not None:
            anchors, candidates = map_rows(anchors, normalize), map_rows(candidates, normalize)
            normalize, found = None, partners.counted(anchors.dtype, candidates.shape[0], None)
            variant, term = beside.among(anchors, candidates, found, partners, bias)
        losses, found = contrast(
            anchors,
            candidates,
            partners.masks,
            form=form,
            temperature=temperature,
            normalize=normalize,
            chunk_size=rows_at_a_time(anchors.shape[0], candidates.shape[0], chunk_size),
            bias=bias,
            variant=variant,
        )
        return plus(reduction.reduce(losses, found), term, reduction, found)

    x, y, narrow = products_in_range(anchors, candidates, normalize, reduction.group)
    dtype = torch.promote_types(torch.promote_types(x.dtype, y.dtype), torch.float32)
    step = None
    if is_eager(positives):
        step = masked_rows_at_a_time(len(x), len(y), chunk_size)
        if classes is not None:
            positives, classes = numbered(positives, classes, dtype)
            partners = partners._replace(positives=positives, classes=classes)
    counted = partners.counted(dtype, y.shape[0], step)
    x, y = mapped(zero_outside(x, counted), y, normalize, chunk_size)
    counted = counted & partners.still_counted(x, y, bias, step)
    shares = reduction.shares(counted, x)
    if beside is not None:
        variant, _ = beside.among(x, y, counted, partners, bias)
    inputs = x, y, scalar(temperature, x), bias
    if partners.rules.has_functions():
        value = _masked_of_rows(*inputs, shares, partners, chunk_size, form, variant)
    else:
        given = variant.extra, shares, *partners[:5], chunk_size, form
        value = weighted_masked(*inputs, *given, *variant[:3])
    return narrow(reduction.finish(value, counted))


@as_operator
def weighted_masked(
    rows: Tensor,
    columns: Tensor,
    temperature: Tensor,
    bias: Tensor | None,
    extra: Tensor | None,
    weight: Tensor | None,
    positives: Tensor,
    classes: Tensor | None,
    keep: Tensor | None,
    used: Tensor | None,
    own: int | None,
    chunk_size: int | None,
    form: str,
    decoupled: bool,
    prior: Tensor | None,
    number: Tensor | None,
) -> Tensor:
    """The losses of (B, D) rows among (C, D) columns under the masks of :class:`Partners`.

    Args:
        bias: (B, C), added to the logits.
        extra, weight, decoupled, prior, number: as in :func:`weighted_one_way`.
        positives, classes, keep, used, own: the fields of :class:`Partners`; classes may be labels.
        chunk_size, form: as in :func:`sup_con`.
    """
    partners = Partners(positives, classes, keep, used, own)
    inputs = rows, columns, temperature, bias, weight, partners, chunk_size, form
    return _masked_of_rows(*inputs, Variant(decoupled, prior, number, extra))


def _masked_of_rows(
    rows: Tensor,
    columns: Tensor,
    temperature: Tensor,
    bias: Tensor | None,
    weight: Tensor | None,
    partners: Partners,
    chunk_size: int | None,
    form: str,
    variant: Variant,
) -> Tensor:
    positives, classes = partners[:2]
    inputs, readable = (rows, columns, temperature), is_eager(positives)
    if classes is not None and (classes.ndim == 2 or classes.dtype != rows.dtype) and readable:
        given = numbered(positives, classes, rows.dtype)
        partners = partners._replace(positives=given[0], classes=given[1])
    if 0 in (len(rows), len(columns)) or not readable:
        partners, bias = partners.resolved(rows, columns, bias)
        masks = partners.masks(slice(0, len(rows)))
        return weighted(plain_contrast(*inputs, *masks, form, bias, variant), weight)
    step = masked_rows_at_a_time(len(rows), len(columns), chunk_size)
    return masked_in_blocks(*inputs, weight, partners, step, form, bias, variant)


def masked_rows_at_a_time(rows: int, columns: int, chunk_size: int | None) -> int:
    """How many rows of a masked matrix of logits are made at a time."""
    step = rows_at_a_time(rows, columns, chunk_size)
    if chunk_size is None or step is None:
        return min(rows_in_cache(columns, sizes.MASKED), rows)
    return step
