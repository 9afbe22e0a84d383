"""The anchors' values of HyCon's "intra" and "inter", in the way that suits their number.

By class moments, or by the similarities of all pairs, which selection needs. Moments read the
labels, so under a compiler values by label are an operator, which picks its way when it is run.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from mmcontrast.collectives import named
from mmcontrast.distributed import Group, active, joined, name_of
from mmcontrast.eager import calls_operators
from mmcontrast.exact.choose import anchors_of_a_block, moments_suit
from mmcontrast.exact.operators import as_operator_run_twice
from mmcontrast.exact.tiles import scalar
from mmcontrast.hybrid.moments import values_by_moments
from mmcontrast.hybrid.pair_sums import TermValues
from mmcontrast.hybrid.pairs import Relations, map_modalities, related_by_label
from mmcontrast.hybrid.settings import Settings
from mmcontrast.hybrid.similarities import all_pairs, in_blocks, selected_pairs
from mmcontrast.reductions import Reduction
from mmcontrast.rows import ROW_MAPS, upcast


def contrasted_values(
    features: Mapping[str, Tensor],
    related: Relations,
    taking_part: Mapping[str, Tensor],
    targets: Mapping[str, float | Tensor],
    settings: Settings,
) -> tuple[dict[str, TermValues], Tensor | None]:
    """Values of those two that have a target, and the samples' own similarities if they came along.

    Args:
        features: (B, D) by modality, this rank's; rows that take no part are not read.
        related: the masks, or the labels, of all ranks.
        taking_part: (B,) bool by modality.
        targets: what the positives' similarities are compared with.
        settings: of the terms.
    """
    if not targets:
        return {}, None
    labels, selection = related.labels, settings.selection
    if labels is not None and selection is None:
        if calls_operators():
            return _by_operator(features, related, taking_part, targets, settings), None
        if moments_suit(features, labels):
            return values_by_moments(features, labels, related.own, taking_part, targets, settings)
    local = map_modalities(features, taking_part, settings.normalize)
    rows, everywhere = _of_all_ranks(local, taking_part, related.size, settings.reduction.group)
    # The similarities that one anchor needs at a time, which say how many anchors fit a block.
    width = len(rows) * next(iter(rows.values())).shape[0]
    if selection is None:
        block = all_pairs(rows, everywhere, related.masks, targets, settings)
        width *= len(rows)
    else:
        block = selected_pairs(rows, everywhere, related.masks, targets, selection, settings)
    return in_blocks(block, rows, related.own, anchors_of_a_block(width)), None


def _of_all_ranks(
    rows: Mapping[str, Tensor], taking_part: Mapping[str, Tensor], size: int, group: Group | None
) -> tuple[Mapping[str, Tensor], Mapping[str, Tensor]]:
    """The rows and masks of all ranks, in one exchange each."""
    if active(group) is None:
        return rows, taking_part
    x, here = (torch.stack(list(each.values()), dim=1) for each in (rows, taking_part))
    x, here = (joined(each, group, size=size)[0] for each in (x, here))  # (size, M, D), (size, M)
    return dict(zip(rows, x.unbind(1), strict=True)), dict(zip(rows, here.unbind(1), strict=True))


# --- under a compiler ----------------------------------------------------------------------------


def _by_operator(
    features: Mapping[str, Tensor],
    related: Relations,
    taking_part: Mapping[str, Tensor],
    targets: Mapping[str, float | Tensor],
    settings: Settings,
) -> dict[str, TermValues]:
    """:func:`contrasted_values` by labels, through :func:`values_by_label` as an operator."""
    kind = -1
    if settings.normalize in ROW_MAPS:
        kind = ROW_MAPS.index(settings.normalize)
    else:  # a row map of the caller's own is traced, outside of the operator
        features = map_modalities(features, taking_part, settings.normalize)
    x = torch.stack([upcast(rows) for rows in features.values()], dim=1)  # (B, M, D)
    here = torch.stack(list(taking_part.values()), dim=1)
    aims = torch.stack([scalar(aim, x) for aim in targets.values()])
    samples = x, here, related.labels, related.own.start
    group = name_of(settings.reduction.group)
    numbers, masks = _values_by_operator(
        *samples, " ".join(targets), aims, settings.refine, settings.log, kind, group
    )
    ratios, refinements = numbers.chunk(2, dim=1)
    contrasted, refined, certain = masks.chunk(3, dim=1)
    columns = ratios, contrasted, refinements, refined, certain
    each = zip(*(column.unbind(1) for column in columns), strict=True)
    return {name: TermValues(*values) for name, values in zip(targets, each, strict=True)}


def values_by_label(
    x: Tensor,
    here: Tensor,
    labels: Tensor,
    start: int,
    names: str,
    aims: Tensor,
    refine: bool,
    log: bool,
    kind: int,
    group: str,
) -> tuple[Tensor, Tensor]:
    """:func:`contrasted_values` of all pairs, in tensors and numbers only.

    Args:
        x: (B, M, D) of this rank.
        here: (B, M) bool, which take part.
        labels: (B of all ranks, ...).
        start: which of those is this rank's first.
        names, aims: of the N targets.
        refine, log: as in :class:`Settings`.
        kind: which of ``ROW_MAPS``; -1 where the rows are mapped.
        group: name of the process group; empty without one.

    Returns:
        (B, 2 N, M) ratios and refinements of N terms, and (B, 3 N, M) bool: which anchors have the
        one and the other, and which are certain.
    """
    reduction = Reduction("none", None, named(group))
    normalize = ROW_MAPS[kind] if kind >= 0 else None
    settings = Settings(refine, log, None, "selected", normalize, reduction)
    targets: Any = dict(zip(names.split(), aims, strict=True))
    modalities = [str(m) for m in range(x.shape[1])]
    features, taking_part = (dict(zip(modalities, z.unbind(1), strict=True)) for z in (x, here))
    related = related_by_label(labels, slice(start, start + len(x)))
    values, _ = contrasted_values(features, related, taking_part, targets, settings)
    each = list(values.values())
    masks = [v.contrasted for v in each] + [v.refined for v in each] + [v.certain for v in each]
    numbers = [v.ratio for v in each] + [v.refinement for v in each]
    return torch.stack(numbers, dim=1), torch.stack(masks, dim=1)


def _shapes(
    x: Tensor, here: Tensor, labels: Tensor, start: int, names: str, *_: Any
) -> list[Tensor]:
    number = len(names.split())
    size, modalities = here.shape
    numbers = x.new_empty(size, 2 * number, modalities)
    return [numbers, here.new_empty(size, 3 * number, modalities)]


_values_by_operator = as_operator_run_twice(values_by_label, _shapes)
