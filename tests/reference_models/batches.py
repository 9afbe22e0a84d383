"""Small batches and what is done to them, for the tests of the models."""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from reference_models.data.batch import Batch
from reference_models.layers.text_encoder import scratch_text_encoder

THREE = ("text", "audio", "vision")
SIZES = {"text": 6, "audio": 5, "vision": 4}
STEPS = {"text": 5, "audio": 7, "vision": 3}


def small_text_encoder() -> nn.Module:
    """A BERT of one layer for the 20 token ids of ``batch_of(encoded=True)``."""
    return scratch_text_encoder(20, hidden_size=8, layers=1, heads=2, max_length=12)


def without_dropout(module: nn.Module) -> None:
    for part in module.modules():
        if isinstance(part, nn.Dropout):
            part.p = 0.0


def batch_of(
    size: int = 6,
    modalities: Sequence[str] = THREE,
    *,
    encoded: bool = False,
    head: str = "regression",
    seed: int = 1,
    steps: dict[str, int] = STEPS,
    dtype: torch.dtype | None = None,
    scale: tuple[int, int] = (9, 3),
    own: bool = False,
) -> Batch:
    """Random lengths from 1 up, everything present, zeros behind.

    Text is token ids where ``encoded``. Scores are whole numbers of up to ``scale[0]``, over
    ``scale[1]``. A modality's own label is drawn with it where ``own``, else half the score.
    """
    source = torch.Generator().manual_seed(seed)
    features, masks, unimodal = {}, {}, {}
    for m in modalities:
        lengths = torch.randint(1, steps[m] + 1, (size,), generator=source)
        masks[m] = torch.arange(steps[m]) < lengths[:, None]
        if m == "text" and encoded:
            ids = torch.randint(4, 20, (size, steps[m]), generator=source)
            features[m] = ids.masked_fill(~masks[m], 0)
        else:
            x = torch.randn(size, steps[m], SIZES[m], generator=source, dtype=dtype)
            features[m] = x.masked_fill(~masks[m].unsqueeze(-1), 0)
        if own:
            unimodal[m] = torch.randn(size, generator=source)
    scores = torch.randint(-scale[0], scale[0] + 1, (size,), generator=source) / scale[1]
    labels = {
        "regression": scores,
        "classes7": scores,
        "iemocap": torch.randint(0, 2, (size, 4), generator=source),
        "humor": torch.randint(0, 2, (size,), generator=source),
    }
    present = {m: torch.ones(size, dtype=torch.bool) for m in modalities}
    unimodal = unimodal or dict.fromkeys(modalities, scores / 2)
    return Batch(features, masks, present, labels[head], torch.arange(size), unimodal)


def samples(batch: Batch, index: Any) -> Batch:
    """These samples alone, by a slice or a list."""

    def pick(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        return {m: x[index] for m, x in tensors.items()}

    return Batch(
        pick(batch.features),
        pick(batch.masks),
        pick(batch.present),
        batch.labels[index],
        batch.index[index],
        pick(batch.unimodal_labels),
    )


def real(batch: Batch, name: str, row: int) -> tuple[Tensor, Tensor]:
    """One sample's real steps, alone: (1, T, ...) and its mask."""
    x = batch.features[name][row, batch.masks[name][row]].unsqueeze(0)
    return x, torch.ones(x.shape[:2], dtype=torch.bool)


def cast(batch: Batch, dtype: torch.dtype) -> Batch:
    """The same batch in another precision; ids stay."""
    features = {m: x.to(dtype) if x.is_floating_point() else x for m, x in batch.features.items()}
    return replace(batch, features=features)


def longer(batch: Batch, more: int = 4, fill: float = math.nan, word: int = 10_000) -> Batch:
    """The same samples behind more padding, of ``fill`` or, for ids, one that no vocabulary has."""
    features, masks = {}, {}
    for m, x in batch.features.items():
        value = fill if x.is_floating_point() else word
        features[m] = torch.cat([x, x.new_full((len(x), more, *x.shape[2:]), value)], 1)
        masks[m] = torch.cat([batch.masks[m], torch.zeros(len(x), more, dtype=torch.bool)], 1)
    return replace(batch, features=features, masks=masks)


def lacking(batch: Batch, **gaps: int | list[int]) -> Batch:
    """The same batch, in which the samples of ``gaps`` lack the modality of that name."""
    present = {m: x.clone() for m, x in batch.present.items()}
    for m in present:
        present[m][gaps.get(m, [])] = False
    return replace(batch, present=present)


def fill_absent(batch: Batch, fill: float) -> Batch:
    """Other values, or ids that no vocabulary has, where a modality is absent."""
    features = {}
    for m, x in batch.features.items():
        absent = ~batch.present[m].reshape(-1, *[1] * (x.ndim - 1))
        value = fill if x.is_floating_point() else 10_000 if fill else 0
        features[m] = x.masked_fill(absent, value)
    return replace(batch, features=features)


def second_rank(patch: pytest.MonkeyPatch, module: Any) -> list[Tensor]:
    """Let the module's ``gather`` find a second rank with the same rows; what it is given."""
    seen: list[Tensor] = []
    patch.setattr(module, "gather", lambda x: seen.append(x) or torch.cat([x, x]))
    return seen
