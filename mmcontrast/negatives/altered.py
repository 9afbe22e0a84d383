"""The batch that negatives are made of, checked: who has what, and which frames of it are real."""

from collections.abc import Collection, Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from mmcontrast import arguments
from mmcontrast.presence import presence


class Negatives(NamedTuple):
    """A negative batch, and who was altered in it; mappings by modality.

    Example:
        >>> from mmcontrast import swap
        >>> negatives = swap({"text": torch.eye(2), "audio": torch.eye(2)}, modalities=["audio"])
        >>> negatives.altered["text"], negatives.altered["audio"]
        (tensor([False, False]), tensor([True, True]))
    """

    features: dict[str, Tensor]
    """Of the shapes and dtypes that came."""
    altered: dict[str, Tensor]
    """(B,) bool: whose modality is no longer the sample's own as it was."""
    masks: dict[str, Tensor]
    """(B, T) bool, those that came, carried along."""
    lengths: dict[str, Tensor]
    """(B,) integer, those that came, carried along."""


class Batch(NamedTuple):
    """A checked batch, in mappings of its own, and what is real in it."""

    features: dict[str, Tensor]
    masks: dict[str, Tensor]
    lengths: dict[str, Tensor]
    real: dict[str, Tensor]
    """(B, T) bool of a sequence, (B,) of vectors: which frames are there."""
    has: dict[str, Tensor]
    """(B,) bool: who has any of them."""

    def unaltered(self) -> Negatives:
        """The batch as it came."""
        altered = {name: torch.zeros_like(has) for name, has in self.has.items()}
        return Negatives(self.features, altered, self.masks, self.lengths)


def read(
    features: Mapping[str, Tensor],
    modalities: Collection[str] | None,
    present: Mapping[str, Tensor] | None,
    masks: Mapping[str, Tensor] | None,
    lengths: Mapping[str, Tensor] | None,
) -> tuple[Batch, list[str]]:
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
    return Batch(dict(features), masks, lengths, real, has), names


def _check(name: str, x: Tensor) -> None:
    arguments.tensor(f"features[{name!r}]", x)
    axes = (2, 3) if x.is_floating_point() else (2,)
    if x.ndim not in axes or x.dtype == torch.bool or x.is_complex():
        expected, got = "(B, T, D) or (B, D) floating, or (B, T) integer", arguments.shape(x)
        arguments.fail(f"features[{name!r}]", expected, f"{got} {x.dtype}")


def _frames(name: str, x: Tensor, mask: Tensor | None, length: Tensor | None) -> Tensor:
    """(B, T) bool: which frames of a sequence are real. A mask comes before a length."""
    frames = torch.ones(x.shape[:2], dtype=torch.bool, device=x.device)
    if length is not None:
        arguments.vector(f"lengths[{name!r}]", length, len(x))
        if length.is_floating_point() or length.dtype == torch.bool:
            arguments.fail(f"lengths[{name!r}]", "an integer dtype", length.dtype)
        frames = torch.arange(x.shape[1], device=x.device) < length[:, None]
    if mask is not None:
        arguments.mask(f"masks[{name!r}]", mask, tuple(x.shape[:2]))
        frames = mask
    return frames


def _of_sequences(
    name: str, given: Mapping[str, Tensor] | None, features: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Masks or lengths, if any, which only sequences have."""
    sequences = [modality for modality, x in features.items() if is_sequence(x)]
    for modality in {} if given is None else given:
        arguments.one_of(name, modality, sequences)
    return {} if given is None else dict(given)


def is_sequence(x: Tensor) -> bool:
    """(B, T, D) frames or (B, T) token ids, not (B, D) vectors."""
    return x.ndim == 3 or not x.is_floating_point()


def shapes(features: Mapping[str, Tensor]) -> str:
    """What came, for an error."""
    return ", ".join(f"{name!r}: {arguments.shape(x)} {x.dtype}" for name, x in features.items())
