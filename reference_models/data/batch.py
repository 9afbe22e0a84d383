"""Samples, batches, and the standardization of features."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import Dataset

from reference_models.data.corpus import Split


@dataclass(frozen=True, eq=False)
class Batch:
    """B samples.

    Attributes:
        features: modality -> (B, T, D) float32; "text" may be token ids, (B, T) int64. Zero where
            the mask is False.
        masks: modality -> (B, T) bool, True = real frame; real frames first.
        present: modality -> (B,) bool.
        labels: (B,) float32 scores, (B, 4) int64 for IEMOCAP, (B,) int64 for humor, or None.
        index: (B,) int64, the row in the split.
        unimodal_labels: modality -> (B,) float32; empty where the file has none.
    """

    features: dict[str, Tensor]
    masks: dict[str, Tensor]
    present: dict[str, Tensor]
    labels: Tensor | None
    index: Tensor
    unimodal_labels: dict[str, Tensor] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.index)

    @property
    def modalities(self) -> tuple[str, ...]:
        """The names of the modalities, in order."""
        return tuple(self.features)

    def to(self, device: torch.device | str, non_blocking: bool = False) -> "Batch":
        """The same batch on another device."""

        def moved(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
            return {m: x.to(device, non_blocking=non_blocking) for m, x in tensors.items()}

        labels = self.labels
        return Batch(
            moved(self.features),
            moved(self.masks),
            moved(self.present),
            None if labels is None else labels.to(device, non_blocking=non_blocking),
            self.index.to(device, non_blocking=non_blocking),
            moved(self.unimodal_labels),
        )


@dataclass(frozen=True, eq=False)
class Standardizer:
    """Zero mean and unit deviation for every feature, as measured on the training split.

    No paper has this step; it is here because utterance statistics such as openSMILE's span five
    orders of magnitude. Statistics are over real frames only; a constant column gets the deviation
    1. The result is clipped, because some columns have outliers of dozens of deviations.

    Attributes:
        mean: modality -> (D,) float64.
        std: modality -> (D,) float64, positive.
        limit: results lie in [-limit, limit]; None: no limit.
    """

    mean: dict[str, np.ndarray] = field(default_factory=dict)
    std: dict[str, np.ndarray] = field(default_factory=dict)
    limit: float | None = 5.0

    @classmethod
    def fit(cls, split: Split, *, limit: float | None = 5.0) -> "Standardizer":
        """Measure every feature column of ``split``, which should be the training split."""
        mean, std = {}, {}
        for modality, frames in split.features.items():
            mean[modality], std[modality] = _moments(frames, split.masks[modality])
        return cls(mean, std, limit)

    def apply(self, modality: str, frames: np.ndarray) -> np.ndarray:
        """Real frames (..., D) of a modality, standardized, as float32.

        Raises:
            ValueError: a modality, or a number of features, that was not measured.
        """
        if modality not in self.mean:
            raise ValueError(f"modality: expected one of {sorted(self.mean)}, got {modality!r}")
        mean, std = self.mean[modality], self.std[modality]
        if frames.shape[-1] != len(mean):
            raise ValueError(
                f"frames: expected {len(mean)} features for {modality!r}, got {frames.shape[-1]}"
            )
        scaled = (frames - mean) / std
        if self.limit is not None:
            scaled = scaled.clip(-self.limit, self.limit)
        return scaled.astype(np.float32)

    def to_dict(self) -> dict[str, Any]:
        """The statistics as plain lists, for a JSON file."""
        return {
            "mean": {m: x.tolist() for m, x in self.mean.items()},
            "std": {m: x.tolist() for m, x in self.std.items()},
            "limit": self.limit,
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "Standardizer":
        """What :meth:`to_dict` wrote."""
        return cls(
            {m: np.array(x, dtype=np.float64) for m, x in values["mean"].items()},
            {m: np.array(x, dtype=np.float64) for m, x in values["std"].items()},
            values["limit"],
        )


def _moments(frames: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and deviation of the real frames; in pieces, as float64 needs twice the memory."""
    size = frames.shape[2]
    pieces = [slice(start, start + 256) for start in range(0, len(frames), 256)]
    count = max(int(mask.sum()), 1)
    low, high = np.full(size, np.inf), np.full(size, -np.inf)
    mean, square = np.zeros(size), np.zeros(size)
    for piece in pieces:
        real = frames[piece][mask[piece]].astype(np.float64)
        mean += real.sum(axis=0) / count
        low = np.minimum(low, real.min(axis=0, initial=np.inf))
        high = np.maximum(high, real.max(axis=0, initial=-np.inf))
    for piece in pieces:
        real = frames[piece][mask[piece]].astype(np.float64)
        square += ((real - mean) ** 2).sum(axis=0) / count
    # Constant columns are found by their range: rounding of the mean makes their deviation nonzero.
    return mean, np.where(high > low, np.sqrt(square), 1.0)


class ModalDataset(Dataset[dict[str, Any]]):
    """One split as samples.

    Args:
        split: of :func:`load_corpus`.
        modalities: which ones, in this order.
        token_ids: the text as N lists of token ids; None takes the precomputed text features.
        standardizer: scales the features; None leaves them.

    Raises:
        ValueError: a modality that the split lacks, or as many token ids as it has no samples.
    """

    def __init__(
        self,
        split: Split,
        modalities: Sequence[str],
        *,
        token_ids: list[list[int]] | None = None,
        standardizer: Standardizer | None = None,
    ) -> None:
        if not modalities:
            raise ValueError("modalities: expected at least one, got none")
        if token_ids is not None and len(token_ids) != len(split):
            raise ValueError(f"token_ids: expected {len(split)} lists, got {len(token_ids)}")
        self.split = split
        self.modalities = tuple(modalities)
        self.labels = torch.from_numpy(split.labels)
        self._of_one = {m: torch.from_numpy(x) for m, x in split.unimodal_labels.items()}
        self._sequences: dict[str, list[Tensor]] = {}
        for modality in self.modalities:
            if modality == "text" and token_ids is not None:
                here = split.present["text"] if "text" in split.present else [True] * len(split)
                self._sequences[modality] = [
                    torch.tensor(ids if is_here else [], dtype=torch.int64)
                    for ids, is_here in zip(token_ids, here, strict=True)
                ]
            else:
                self._sequences[modality] = _sequences(split, modality, standardizer)

    def __len__(self) -> int:
        return len(self.split)

    def __getitem__(self, index: int) -> dict[str, Any]:
        sample = {
            "features": {m: self._sequences[m][index] for m in self.modalities},
            "label": self.labels[index],
            "index": index,
        }
        if self._of_one:
            sample["unimodal_labels"] = {m: x[index] for m, x in self._of_one.items()}
        return sample


def _sequences(split: Split, modality: str, standardizer: Standardizer | None) -> list[Tensor]:
    if modality not in split.features:
        raise ValueError(
            f"modalities: expected some of {sorted(split.features)} (text also as token ids), "
            f"got {modality!r}"
        )
    here = split.present[modality]
    lengths = split.masks[modality].sum(axis=1) * here
    frames = [x[:n] for x, n in zip(split.features[modality], lengths, strict=True)]
    if standardizer is not None:
        frames = [standardizer.apply(modality, x) for x in frames]
    return [torch.from_numpy(x) for x in frames]


def collate(samples: list[dict[str, Any]]) -> dict[str, Any]:
    """Samples of a :class:`ModalDataset` as the fields of a :class:`Batch`.

    Every modality is padded to its longest sequence in the batch, and to at least one step; an
    empty sequence is an absent modality.
    """
    features, masks, present = {}, {}, {}
    for modality in samples[0]["features"]:
        sequences = [sample["features"][modality] for sample in samples]
        lengths = torch.tensor([len(sequence) for sequence in sequences])
        padded = pad_sequence(sequences, batch_first=True)
        if padded.shape[1] == 0:
            padded = padded.new_zeros(len(samples), 1, *padded.shape[2:])
        features[modality] = padded
        masks[modality] = torch.arange(padded.shape[1]) < lengths[:, None]
        present[modality] = lengths > 0
    fields = {
        "features": features,
        "masks": masks,
        "present": present,
        "labels": torch.stack([sample["label"] for sample in samples]),
        "index": torch.tensor([sample["index"] for sample in samples]),
    }
    if "unimodal_labels" in samples[0]:
        fields["unimodal_labels"] = {
            modality: torch.stack([sample["unimodal_labels"][modality] for sample in samples])
            for modality in samples[0]["unimodal_labels"]
        }
    return fields
