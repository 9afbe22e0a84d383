"""InfoNCE between all pairs of modalities, with one mistake each."""

from collections.abc import Mapping
from itertools import combinations

import torch
import torch.nn.functional as F
from torch import Tensor

from mmcontrast.testing.broken.mistake import Mistake
from mmcontrast.testing.traits import Traits

Features = Mapping[str, Tensor]


def _both_ways(x: Tensor, y: Tensor) -> Tensor:
    logits = F.normalize(x, dim=-1) @ F.normalize(y, dim=-1).T / 0.1
    targets = torch.arange(len(x))
    each = [F.cross_entropy(s, targets, reduction="sum") for s in (logits, logits.T)]
    return (each[0] + each[1]) / (2 * max(len(x), 1))


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


_CLAIMS = Traits(kind="multimodal", symmetric=True)

MULTIMODAL = (
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
