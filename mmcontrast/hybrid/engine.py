"""Which way HyCon's losses are evaluated: by class moments, or by the pairs themselves."""

from collections.abc import Mapping

import torch
from torch import Tensor

from mmcontrast import arguments, distributed
from mmcontrast.distributed import Group
from mmcontrast.hybrid import moments
from mmcontrast.hybrid.moments import Values
from mmcontrast.hybrid.pairs import Relations, participants, relations
from mmcontrast.hybrid.selection import PairSelection
from mmcontrast.hybrid.similarities import all_pairs, in_blocks, selected_pairs
from mmcontrast.masks import off_diagonal
from mmcontrast.presence import only_present
from mmcontrast.reductions import Reduction
from mmcontrast.rows import RowMap, dot, map_rows

REFINE_ON = ("selected", "all", "weighted")

BLOCK = 2**22
"""Similarities at a time, where they are needed themselves: 16 MB of float32."""


def evaluate(
    features: Mapping[str, Tensor],
    labels: Tensor | None,
    targets: Mapping[str, float],
    *,
    refine: bool,
    log: bool,
    selection: PairSelection | None,
    refine_on: str,
    positives: Tensor | None,
    negatives: Tensor | None,
    normalize: RowMap | None,
    present: Mapping[str, Tensor] | None,
    weight: Tensor | None,
    reduction: str,
    group: Group | None,
) -> dict[str, Tensor]:
    """The terms named "intra", "inter" and "semi", those that are given a target."""
    arguments.one_of("refine_on", refine_on, REFINE_ON)
    arguments.reduction(reduction)
    if selection is not None and not isinstance(selection, PairSelection):
        arguments.fail("selection", "a PairSelection or None", repr(selection))
    related = relations(features, labels, positives, negatives, group)
    taking_part = participants(features, related.known, present)
    if not targets:
        return {}
    supervised = {name: target for name, target in targets.items() if name != "semi"}
    values, own = _values(
        features,
        related,
        taking_part,
        supervised,
        refine=refine,
        log=log,
        selection=selection,
        refine_on=refine_on,
        normalize=normalize,
        group=group,
    )
    reduce = Reduction(reduction, weight, group).reduce
    terms = {}
    for name, (ratio, contrasted, refinement, refined) in values.items():
        terms[name] = reduce(ratio, contrasted)
        if refine:
            terms[name] = terms[name] + reduce(refinement, refined)
    if "semi" in targets:
        if own is None:
            # By a map of their own, whose derivative takes off what is common to a term's gradient
            # before the terms' are added up.
            own = own_similarity(mapped(features, taking_part, normalize))
        here = torch.stack(list(taking_part.values()), dim=1)
        terms["semi"] = reduce(*semi(own, here, targets["semi"]))
    return terms


def _values(
    features: Mapping[str, Tensor],
    related: Relations,
    taking_part: Mapping[str, Tensor],
    targets: Mapping[str, float],
    *,
    refine: bool,
    log: bool,
    selection: PairSelection | None,
    refine_on: str,
    normalize: RowMap | None,
    group: Group | None,
) -> tuple[dict[str, Values], Tensor | None]:
    """Those of "intra" and "inter", and each sample's own similarities where these are known."""
    if not targets:
        return {}, None
    labels = related.labels
    if labels is not None and selection is None and moments.pays(features, labels):
        return moments.values(
            features,
            labels,
            taking_part,
            targets,
            refine=refine,
            log=log,
            normalize=normalize,
            own=related.own,
            group=group,
        )
    local = mapped(features, taking_part, normalize)
    rows, everybody = _of_all_ranks(local, taking_part, group)
    given = rows, everybody, related.masks, targets
    width = len(rows) * len(next(iter(rows.values())))
    if selection is None:
        block = all_pairs(*given, log=log)
        width *= len(rows)
    else:
        block = selected_pairs(*given, log=log, selection=selection, refine_on=refine_on)
    return in_blocks(block, rows, related.own, max(BLOCK // max(width, 1), 1)), None


def _of_all_ranks(
    rows: Mapping[str, Tensor], taking_part: Mapping[str, Tensor], group: Group | None
) -> tuple[Mapping[str, Tensor], Mapping[str, Tensor]]:
    if distributed.active(group) is None:
        return rows, taking_part
    x, _ = distributed.joined(torch.stack(list(rows.values()), dim=1), group)
    here, _ = distributed.joined(torch.stack(list(taking_part.values()), dim=1), group)
    return dict(zip(rows, x.unbind(1), strict=True)), dict(zip(rows, here.unbind(1), strict=True))


def mapped(
    features: Mapping[str, Tensor], taking_part: Mapping[str, Tensor], normalize: RowMap | None
) -> dict[str, Tensor]:
    """Rows that similarities are dot products of; those that take no part are not looked at."""
    rows = only_present(features, taking_part)
    return {name: map_rows(x, normalize) for name, x in rows.items()}


def own_similarity(rows: Mapping[str, Tensor]) -> Tensor:
    """(B, M, M) similarities of each sample's modalities."""
    x = torch.stack(list(rows.values()), dim=1)
    return dot(x, x)


def semi(similarity: Tensor, here: Tensor, margin: float) -> tuple[Tensor, Tensor]:
    """(B, M) losses of the (B, M, M) similarities of each sample's modalities, and who has one."""
    partners = here[:, :, None] & here[:, None, :] & off_diagonal(here.shape[1], here.device)
    number = partners.sum(-1)
    losses = torch.where(partners, (similarity - margin).square(), 0).sum(-1)
    return losses / number.clamp_min(1), number > 0
