"""HyCon's terms from features and labels: their anchors' values, reduced."""

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from mmcontrast.distributed import check_names
from mmcontrast.eager import known_finite
from mmcontrast.hybrid.contrasts import contrasted_values
from mmcontrast.hybrid.pair_sums import TermValues
from mmcontrast.hybrid.pairs import Relations, map_modalities, participation, relations
from mmcontrast.hybrid.semi import own_similarities, semi_losses
from mmcontrast.hybrid.settings import Settings
from mmcontrast.learned import replicated_module
from mmcontrast.wide import may_widen, narrow, widen


def terms_by_name(
    features: Mapping[str, Tensor],
    labels: Tensor | None,
    targets: Mapping[str, float | Tensor],
    settings: Settings,
    *,
    positives: Tensor | None,
    negatives: Tensor | None,
    present: Mapping[str, Tensor] | None,
) -> dict[str, Tensor]:
    """The terms "intra", "inter" and "semi", those that have a target similarity.

    All arguments are checked here, whichever terms are evaluated.
    """
    check_names("features", features, settings.reduction.group)
    settings.check()
    shared = replicated_module(settings.normalize, settings.reduction.group)
    settings = settings._replace(normalize=shared)
    related = relations(features, labels, positives, negatives, settings.reduction.group)
    taking_part = participation(features, related.known, present)
    if not targets:
        return {}
    found = _anchor_values(features, related, taking_part, targets, settings)
    normalize, group = settings.normalize, settings.reduction.group
    if may_widen(*features.values(), normalize=normalize, group=group) and not found.in_range():
        wide = _anchor_values(widen(features), related, taking_part, targets, settings)
        found = _AnchorValues(*narrow(wide))
    reduce = settings.reduction.reduce
    terms = {}
    for name, (ratio, contrasted, refinement, refined, _) in found.supervised.items():
        terms[name] = reduce(ratio, contrasted)
        if settings.refine:
            terms[name] = terms[name] + reduce(refinement, refined)
    if found.semi is not None:
        terms["semi"] = reduce(*found.semi)
    return terms


class _AnchorValues(NamedTuple):
    """The anchors' values of all terms."""

    supervised: dict[str, TermValues]
    semi: tuple[Tensor, Tensor] | None

    def in_range(self) -> bool:
        """Whether no number on the way was too large, or too near 0, for its dtype."""
        numbers = [x.refinement for x in self.supervised.values()]
        numbers += [] if self.semi is None else [self.semi[0]]
        certain = [x.certain for x in self.supervised.values()]
        return all(bool(x.all()) for x in certain) and all(map(known_finite, numbers))


def _anchor_values(
    features: Mapping[str, Tensor],
    related: Relations,
    taking_part: Mapping[str, Tensor],
    targets: Mapping[str, float | Tensor],
    settings: Settings,
) -> _AnchorValues:
    supervised = {name: target for name, target in targets.items() if name != "semi"}
    values, similarity = contrasted_values(features, related, taking_part, supervised, settings)
    if "semi" not in targets:
        return _AnchorValues(values, None)
    if similarity is None:
        # Rows mapped once more, for this term alone. The backward pass of the softmax subtracts
        # what is common to a gradient's features; it loses less in a term by itself than in the
        # sum of the terms.
        similarity = own_similarities(map_modalities(features, taking_part, settings.normalize))
    here = torch.stack(list(taking_part.values()), dim=1)  # (B, M)
    return _AnchorValues(values, semi_losses(similarity, here, targets["semi"]))
