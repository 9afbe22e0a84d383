"""Losses of several modalities, with one mistake each."""

import functools
from collections.abc import Mapping
from itertools import combinations

import torch
from torch import Tensor

from mmcontrast.testing.broken.correct import correct_both_directions, one_direction, unit
from mmcontrast.testing.broken.mistake import Mistake
from mmcontrast.testing.traits import Traits

Features = Mapping[str, Tensor]


def only_beside_the_first(features: Features) -> Tensor:
    """The first modality against the others, declared symmetric."""
    first, *rest = features.values()
    return torch.stack([correct_both_directions(first, x) for x in rest]).sum()


def names_fixed(features: Features) -> Tensor:
    """Text and audio are looked up by name, and other modalities ignored."""
    if "text" in features and "audio" in features:
        return correct_both_directions(features["text"], features["audio"])
    return torch.stack(
        [correct_both_directions(x, y) for x, y in combinations(features.values(), 2)]
    ).sum()


def three_by_hand(features: Features) -> Tensor:
    """Exactly three modalities are unpacked."""
    text, audio, vision = features.values()
    pairs = [(text, audio), (text, vision), (audio, vision)]
    return torch.stack([correct_both_directions(x, y) for x, y in pairs]).sum()


def absent_times_zero(features: Features, present: Mapping[str, Tensor] | None = None) -> Tensor:
    """Absent rows are multiplied by 0, and remain in every denominator."""
    if present is not None:
        features = {k: x * present[k][:, None].to(x.dtype) for k, x in features.items()}
    return torch.stack(
        [correct_both_directions(x, y) for x, y in combinations(features.values(), 2)]
    ).sum()


def divided_by_who_is_present(
    features: Features, present: Mapping[str, Tensor] | None = None
) -> Tensor:
    """A mean over the modalities with masks, over the pairs of modalities without."""
    pairs = [(x, y) for x, y in combinations(features, 2)]
    if present is None:
        present = {name: torch.ones(len(x), dtype=torch.bool) for name, x in features.items()}
        number = 2 * len(pairs)
    else:
        number = len(features)
    total = torch.zeros(())
    for x, y in pairs:
        both = present[x] & present[y]
        rows_x, rows_y = (torch.where(both[:, None], features[name], 0)[both] for name in (x, y))
        total = total + correct_both_directions(rows_x, rows_y)
    return total / number


def one_more_for_each_anchor(features: Features) -> Tensor:
    """Each modality against the product of the others, added up and not averaged."""
    rows = {name: unit(x) for name, x in features.items()}
    losses = []
    for name, x in rows.items():
        others = [other for key, other in rows.items() if key != name]
        with torch.autocast("cpu", enabled=False):
            losses.append(one_direction(x @ functools.reduce(torch.mul, others).T / 0.1))
    return torch.stack(losses).sum()


def softmax_of_one(a: Tensor, b: Tensor) -> Tensor:
    """The softmax of one input is compared with raw rows of the other."""
    return (a.softmax(1) - b).square().sum() / max(len(a), 1)


_CLAIMS = Traits(kind="multimodal", symmetric=True)

MULTIMODAL = (
    Mistake(
        divided_by_who_is_present,
        "another divisor with masks",
        "all_present_is_the_default",
        Traits(kind="multimodal", symmetric=True, present=True),
    ),
    Mistake(
        softmax_of_one,
        "one of two softmaxes left out",
        "row_shift_invariant",
        Traits(
            normalized=False,
            rotation_invariant=False,
            row_shift_invariant=True,
            discriminative=False,
        ),
    ),
    Mistake(
        one_more_for_each_anchor,
        "a sum over the anchors, not their mean",
        "two_modalities_are_the_pairwise_loss",
        Traits(
            kind="multimodal",
            symmetric=True,
            rotation_invariant=False,
            discriminative=False,
            pairwise=correct_both_directions,
        ),
    ),
    Mistake(only_beside_the_first, "the order is a role", "symmetric", _CLAIMS),
    Mistake(names_fixed, "names written into the loss", "names_do_not_matter", _CLAIMS),
    Mistake(three_by_hand, "three modalities, no fewer", "two_modalities_are_enough", _CLAIMS),
    Mistake(
        absent_times_zero,
        "absent rows times 0",
        "absent_rows_reach_nothing",
        Traits(kind="multimodal", symmetric=True, present=True),
    ),
)
