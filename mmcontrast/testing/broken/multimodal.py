"""Modalities that are contrasted or compared, with one mistake each."""

from collections.abc import Mapping
from itertools import combinations

import torch
from torch import Tensor

from mmcontrast.testing.broken.mistake import Mistake
from mmcontrast.testing.broken.parts import right_both_ways
from mmcontrast.testing.traits import Traits

Features = Mapping[str, Tensor]


def _both_ways(x: Tensor, y: Tensor) -> Tensor:
    return right_both_ways(x, y)


def only_beside_the_first(features: Features) -> Tensor:
    """The first modality against the others, said to be symmetric."""
    first, *rest = features.values()
    return torch.stack([_both_ways(first, x) for x in rest]).sum()


def names_fixed(features: Features) -> Tensor:
    """Text and audio are called by name; nothing else takes part."""
    if "text" in features and "audio" in features:
        return _both_ways(features["text"], features["audio"])
    return torch.stack([_both_ways(x, y) for x, y in combinations(features.values(), 2)]).sum()


def three_by_hand(features: Features) -> Tensor:
    """Three modalities are unpacked, whatever there is."""
    text, audio, vision = features.values()
    pairs = [(text, audio), (text, vision), (audio, vision)]
    return torch.stack([_both_ways(x, y) for x, y in pairs]).sum()


def absent_times_zero(features: Features, present: Mapping[str, Tensor] | None = None) -> Tensor:
    """Absent rows are multiplied by 0, and stay in every denominator."""
    if present is not None:
        features = {k: x * present[k][:, None].to(x.dtype) for k, x in features.items()}
    return torch.stack([_both_ways(x, y) for x, y in combinations(features.values(), 2)]).sum()


def divided_by_who_is_present(
    features: Features, present: Mapping[str, Tensor] | None = None
) -> Tensor:
    """With masks the mean goes over the modalities, without over the pairs."""
    pairs = [(x, y) for x, y in combinations(features, 2)]
    if present is None:
        present = {name: torch.ones(len(x), dtype=torch.bool) for name, x in features.items()}
        number = 2 * len(pairs)
    else:
        number = len(features)
    total = torch.zeros(())
    for x, y in pairs:
        both = present[x] & present[y]
        rows = [torch.where(both[:, None], features[name], 0)[both] for name in (x, y)]
        total = total + _both_ways(*rows)
    return total / number


def softmax_of_one(a: Tensor, b: Tensor) -> Tensor:
    """Shares compared with rows that never became shares."""
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
