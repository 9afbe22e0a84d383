"""The batch that negatives are made from, checked, and the negative batch that is returned."""

from collections.abc import Collection, Mapping
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from mmcontrast import arguments
from mmcontrast.presence import presence


class Negatives(NamedTuple):
    """A negative batch, and which samples were altered in it; mappings by modality.

    Fields:
        features: Of the shapes and dtypes that were passed.
        altered: (B,) bool: samples with a modality that differs from the one passed.
        masks: (B, T) bool, altered with the features, of the modalities that had one.
        lengths: (B,) integer, altered with the features, of the modalities that had them.

    Example:
        >>> from mmcontrast import swap
        >>> negatives = swap({"text": torch.eye(2), "audio": torch.eye(2)}, modalities=["audio"])
        >>> negatives.altered["text"], negatives.altered["audio"]
        (tensor([False, False]), tensor([True, True]))
    """

    features: dict[str, Tensor]
    altered: dict[str, Tensor]
    masks: dict[str, Tensor]
    lengths: dict[str, Tensor]


class CheckedBatch(NamedTuple):
    """A checked batch, in new mappings, and what is real in it."""

    features: dict[str, Tensor]
    masks: dict[str, Tensor]
    lengths: dict[str, Tensor]
    real: dict[str, Tensor]
    """(B, T) bool of a sequence, (B,) of vectors: which frames are real."""
    has: dict[str, Tensor]
    """(B,) bool: which samples have a real frame."""

    def unaltered(self) -> Negatives:
        """The batch itself as negatives, with nothing altered."""
        altered = {name: torch.zeros_like(has) for name, has in self.has.items()}
        return Negatives(self.features, altered, self.masks, self.lengths)


def read_batch(
    features: Mapping[str, Tensor],
    modalities: Collection[str] | None,
    present: Mapping[str, Tensor] | None,
    masks: Mapping[str, Tensor] | None,
    lengths: Mapping[str, Tensor] | None,
) -> tuple[CheckedBatch, list[str]]:
    """The batch, checked, and the names of the modalities that may be altered, in its order."""
    if not isinstance(features, Mapping):
        arguments.fail("features", "a mapping of modality to tensor", type(features).__name__)
    if not features:
        arguments.fail("features", "at least one modality", "none")
    for name, x in features.items():
        _check(name, x)
    rows = len(next(iter(features.values())))
    for name, x in features.items():
        if len(x) != rows:
            arguments.fail(f"features[{name!r}]", f"{rows} samples", len(x))
    if isinstance(modalities, str | Tensor | np.ndarray) or not isinstance(
        modalities, Collection | None
    ):
        arguments.fail("modalities", "a list of names, or None", arguments.shown(modalities))
    for name in () if modalities is None else modalities:
        arguments.one_of("modalities", name, list(features))
    names = [name for name in features if modalities is None or name in modalities]
    if not names:
        arguments.fail("modalities", f"some of {list(features)}", "none")
    masks = _of_sequences("masks", masks, features)
    lengths = _of_sequences("lengths", lengths, features)
    real, has = {}, {}
    for name, there in presence(features, present).items():
        real[name] = has[name] = there
        if is_sequence(features[name]):
            frames = _frames(name, features[name], masks.get(name), lengths.get(name))
            real[name] = frames & there[:, None]
            has[name] = real[name].any(-1)
    return CheckedBatch(dict(features), masks, lengths, real, has), names


def _check(name: str, x: Tensor) -> None:
    """Refuse what is neither a sequence nor a vector for each sample."""
    arguments.tensor(f"features[{name!r}]", x)
    axes = (2, 3) if x.is_floating_point() else (2,)
    if x.ndim not in axes or x.dtype == torch.bool or x.is_complex():
        expected, got = "(B, T, D) or (B, D) floating, or (B, T) integer", arguments.shape(x)
        arguments.fail(f"features[{name!r}]", expected, f"{got} {x.dtype}")


def _frames(name: str, x: Tensor, mask: Tensor | None, length: Tensor | None) -> Tensor:
    """(B, T) bool: which frames of a sequence are real. A mask has precedence over a length."""
    frames = torch.ones(x.shape[:2], dtype=torch.bool, device=x.device)
    if length is not None:
        arguments.vector(f"lengths[{name!r}]", length, len(x))
        if length.is_floating_point() or length.dtype == torch.bool:
            arguments.fail(f"lengths[{name!r}]", "an integer dtype", length.dtype)
        frames = torch.arange(x.shape[1], device=x.device) < length.long()[:, None]
    if mask is not None:
        arguments.mask(f"masks[{name!r}]", mask, tuple(x.shape[:2]))
        frames = mask
    return frames


def _of_sequences(
    name: str, given: Mapping[str, Tensor] | None, features: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Masks or lengths by modality; an error for a modality that is no sequence."""
    if given is not None:
        arguments.mapping(name, given, "modality to tensor")
    sequences = [modality for modality, x in features.items() if is_sequence(x)]
    given = {} if given is None else given
    for modality in given:
        arguments.one_of(name, modality, sequences)
        arguments.tensor(f"{name}[{modality!r}]", given[modality])
    return {} if given is None else dict(given)


def is_sequence(x: Tensor) -> bool:
    """(B, T, D) frames or (B, T) token ids, not (B, D) vectors."""
    return x.ndim == 3 or not x.is_floating_point()


def feature_shapes(features: Mapping[str, Tensor]) -> str:
    """The features' shapes and dtypes, as an error message shows them."""
    return ", ".join(f"{name!r}: {arguments.shape(x)} {x.dtype}" for name, x in features.items())
