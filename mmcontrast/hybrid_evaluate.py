"""Which way HyCon's losses are evaluated: by class moments, or by the pairs themselves."""

from collections.abc import Mapping
from functools import partial

import torch
from torch import Tensor

from mmcontrast import _checks, moments
from mmcontrast.hybrid_pairs import all_pairs, in_blocks, selected_pairs
from mmcontrast.masks import off_diagonal, only_present
from mmcontrast.mining import PairSelection
from mmcontrast.moments import Values
from mmcontrast.pairs import participants, relations
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
) -> dict[str, Tensor]:
    """The terms named "intra", "inter" and "semi", those that are given a target."""
    related, known = relations(features, labels, positives, negatives)
    taking_part = participants(features, known, present)
    _checks.one_of("refine_on", refine_on, REFINE_ON)
    _checks.reduction(reduction)
    if selection is not None and not isinstance(selection, PairSelection):
        _checks.fail("selection", "a PairSelection or None", repr(selection))
    if not targets:
        return {}
    supervised = {name: target for name, target in targets.items() if name != "semi"}
    values: dict[str, Values] = {}
    if (
        labels is not None
        and supervised
        and selection is None
        and moments.possible(features, labels)
    ):
        values, own = moments.values(
            features, labels, taking_part, supervised, refine=refine, log=log, normalize=normalize
        )
    else:
        rows = mapped(features, taking_part, normalize)
        if supervised:
            given = rows, taking_part, related, supervised
            width = len(rows)
            if selection is None:
                block = all_pairs(*given, log=log)
                width = width**2
            else:
                block = selected_pairs(*given, log=log, selection=selection, refine_on=refine_on)
            values = in_blocks(block, rows, max(BLOCK // max(len(known) * width, 1), 1))
        own = own_similarity(rows)
    reduce = partial(_checks.reduce, weight=weight, reduction=reduction)
    terms = {}
    for name, (ratio, contrasted, refinement, refined) in values.items():
        terms[name] = reduce(ratio, contrasted)
        if refine:
            terms[name] = terms[name] + reduce(refinement, refined)
    if "semi" in targets:
        here = torch.stack(list(taking_part.values()), dim=1)
        terms["semi"] = reduce(*semi(own, here, targets["semi"]))
    return terms


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
