"""The modalities of a batch as sequences with masks: the input of every network."""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from torch import Tensor
from transformers import PreTrainedModel

from reference_models.data.batch import Batch
from reference_models.layers.text_encoder import read_text

MODALITIES = ("text", "audio", "vision")
COUNTS = {1: "one", 2: "two", 3: "three"}  # of modalities, in words


class Sequence(NamedTuple):
    """One modality of a batch.

    Attributes:
        steps: (B, T, D), zero on padding.
        mask: (B, T) bool, True = a real step; all False where a sample lacks the modality.
    """

    steps: Tensor
    mask: Tensor

    @property
    def present(self) -> Tensor:
        """(B,) bool: True where a sample has the modality."""
        return self.mask.any(1)


def check_sizes(
    sizes: Mapping[str, int], text_encoder: PreTrainedModel | None, *, fewest: int = 2
) -> None:
    """Refuse modalities that no network can be built on.

    Raises:
        ValueError: fewer than ``fewest``, unknown ones, or a text encoder without text.
    """
    if len(sizes) < fewest or not set(sizes) <= set(MODALITIES):
        raise ValueError(
            f"sizes: expected {COUNTS[fewest]} or more of {MODALITIES}, got {tuple(sizes)}"
        )
    if text_encoder is not None and "text" not in sizes:
        raise ValueError(f"sizes: expected text, for its encoder, got {tuple(sizes)}")


def widths(sizes: Mapping[str, int], text_encoder: PreTrainedModel | None) -> dict[str, int]:
    """The features of a step of each :class:`Sequence`: text as its encoder gives it."""
    if text_encoder is None:
        return dict(sizes)
    return {**sizes, "text": text_encoder.config.hidden_size}


def sequences(
    batch: Batch, modalities: Iterable[str], text_encoder: PreTrainedModel | None
) -> dict[str, Sequence]:
    """The modalities of a batch; text passes its encoder where there is one.

    Raises:
        ValueError: a modality that the batch lacks, or text of the other kind.
    """
    found = {}
    for name in modalities:
        if name not in batch.features:
            expected, got = tuple(modalities), tuple(batch.features)
            raise ValueError(f"batch: expected modalities {expected}, got {got}")
        steps = batch.features[name]
        mask = batch.masks[name] & batch.present[name].unsqueeze(1)
        if name == "text" and text_encoder is not None:
            found[name] = Sequence(read_text(text_encoder, steps, mask), mask)
        elif steps.ndim != 3 or not steps.is_floating_point():
            raise ValueError(
                f"features[{name!r}]: expected features of shape (B, T, D),"
                f" got {steps.dtype} of shape {tuple(steps.shape)}"
            )
        else:
            found[name] = Sequence(steps.masked_fill(~mask.unsqueeze(-1), 0), mask)
    return found
