"""The result of every loader: three splits of cleaned samples, and the identity of the file."""

import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from reference_models.data.pickles import DataError
from reference_models.excerpt import excerpts

SPLITS = ("train", "valid", "test")
FEATURES = ("text", "audio", "vision")
TASKS = ("sentiment", "sims", "iemocap", "humor")
EMOTIONS = ("neutral", "happy", "sad", "angry")
# Printed in the README of thuiar/MMSA.
KNOWN_FILES = {
    "78e0f8b5ef8ff71558e7307848fc1fa929ecb078203f565ab22b9daab2e02524": "MMSA MOSI unaligned_50",
    "d3994fd25681f9c7ad6e9c6596a6fe9b4beb85ff7d478ba978b124139002e5f9": "MMSA MOSI aligned_50",
    "ad8b23d50557045e7d47959ce6c5b955d8d983f2979c7d9b7b9226f6dd6fec1f": "MMSA MOSEI unaligned_50",
    "45eccfb748a87c80ecab9bfac29582e7b1466bf6605ff29d3b338a75120bf791": "MMSA MOSEI aligned_50",
    "c9e20c13ec0454d98bb9c1e520e490c75146bfa2dfeeea78d84de047dbdd442f": "MMSA SIMS unaligned_39",
}


@dataclass(frozen=True, eq=False)
class Split:
    """One split of N samples, N at least 1, cleaned. Text has whole characters only.

    Attributes:
        name: "train", "valid" or "test".
        ids: N names, each once: one that the file has several times is followed by its row.
        labels: (N,) float32 scores; (N, 4) int64 for the task "iemocap", 1 = the emotion is there;
            (N,) int64 for "humor", 1 = funny.
        raw_text: N sentences, or None.
        token_ids: (N, L) int64 from text_bert, zeros after the tokens, or None.
        token_mask: (N, L) bool, True = real token, or None.
        features: modality -> (N, T, D) float32, zeros after the real frames; "text" is the
            precomputed column.
        masks: modality -> (N, T) bool, True = real frame; a prefix of each row.
        present: modality -> (N,) bool; "text" is present if any column holds text.
        unimodal_labels: modality -> (N,) float32, the score of that modality; empty if the file
            has none.
    """

    name: str
    ids: list[str]
    labels: np.ndarray
    raw_text: list[str] | None
    token_ids: np.ndarray | None
    token_mask: np.ndarray | None
    features: dict[str, np.ndarray]
    masks: dict[str, np.ndarray]
    present: dict[str, np.ndarray]
    unimodal_labels: dict[str, np.ndarray] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def modalities(self) -> tuple[str, ...]:
        """The modalities that the file has, in the order text, audio, vision."""
        return tuple(self.present)


@dataclass(frozen=True, eq=False)
class Corpus:
    """The three splits of a file, and its identity.

    Attributes:
        path: where it was read from.
        sha256: of the file, in hexadecimal; of a folder, over its files; with the sentences of a
            table beside the file, over the two SHA-256.
        known_as: the public file with that SHA-256, or None.
        splits: "train", "valid" and "test".
        task: "sentiment" (scores in [-3, 3], or in the range asked for), "sims" (scores in
            [-1, 1]), "iemocap" or "humor".
        layout: how the file is laid out, a key of ``LAYOUTS`` in ``data/loading.py``.
        dropped: split -> samples of the file that are left out, as their sequences disagree.
        notes: remarks on the data, in sentences.
        origin: name and SHA-256 of the file that a converted one was made of, or None.
    """

    path: str
    sha256: str
    known_as: str | None
    splits: dict[str, Split]
    task: str = "sentiment"
    layout: str = "mmsa"
    dropped: dict[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    origin: tuple[str, str] | None = None

    @property
    def modalities(self) -> tuple[str, ...]:
        """The modalities that the file has, in the order text, audio, vision."""
        return self.splits["train"].modalities

    @property
    def classes(self) -> tuple[int, ...]:
        """Which of 7 and 5 classes of rounded scores the labels have, both outermost ones included.

        Labels that do not reach from -3 to 3 make Acc-7 easier than it is elsewhere.
        """
        rounded = np.round(np.concatenate([part.labels.ravel() for part in self.splits.values()]))
        return tuple(n for n in (7, 5) if rounded.min() <= -(n // 2) and rounded.max() >= n // 2)


def file_sha256(path: str | Path) -> str:
    """SHA-256 of a file, in hexadecimal, read in pieces; of a folder, over its files by name."""
    path = Path(path)
    if path.is_dir():
        files = sorted(f for f in path.iterdir() if f.suffix == ".pkl" and f.is_file())
        listing = "".join(f"{file_sha256(file)}  {file.name}\n" for file in files)
        return hashlib.sha256(listing.encode()).hexdigest()
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def splits_of(content: Any, path: str | Path, kind: type) -> dict[str, Any]:
    """The splits in the content of a pickle, in which "valid" may be called "dev"."""
    names = {name: name for name in SPLITS}
    if not isinstance(content.get("valid"), kind):
        names["valid"] = "dev"
    missing = [
        name
        for name, there in names.items()
        if not isinstance(content.get(there), kind) or not len(content[there])
    ]
    if missing:
        raise DataError(
            f"{path}: expected the splits {SPLITS}, each a {kind.__name__}, got "
            f"{excerpts(content)}; add {', '.join(missing)}"
        )
    return {name: content.pop(there) for name, there in names.items()}


def check_agreement(splits: dict[str, Split], path: str | Path) -> None:
    """Refuse splits with different columns, or different numbers of features."""
    train = splits["train"]
    for name, split in splits.items():
        for what, expected, got in (
            ("modalities", train.modalities, split.modalities),
            ("raw_text", train.raw_text is not None, split.raw_text is not None),
            ("text_bert", train.token_ids is not None, split.token_ids is not None),
            ("the column text", "text" in train.features, "text" in split.features),
            ("unimodal labels", tuple(train.unimodal_labels), tuple(split.unimodal_labels)),
            *(
                (f"column {m!r}", train.features[m].shape[2], split.features[m].shape[2])
                for m in train.features.keys() & split.features.keys()
            ),
        ):
            if expected != got:
                raise DataError(
                    f"{path}, split {name!r}, {what}: expected {expected} as in 'train', got {got};"
                    " give every split the same columns"
                )
