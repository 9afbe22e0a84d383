"""The MMSA layout: a pickle of ``{"train" | "valid" | "test": {column: array or list}}``.

Whatever a file does (padding before or after the frames, NaN, lists for arrays, text_bert either
way round, missing modalities), what comes out has one form: float32, real frames first, zeros after
them, and masks that say which is which.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from reference_models.data.pickles import DataError, load_pickle

SPLITS = ("train", "valid", "test")
FEATURES = ("text", "audio", "vision")
LABELS = "regression_labels"
# Printed in the README of thuiar/MMSA.
KNOWN_FILES = {
    "78e0f8b5ef8ff71558e7307848fc1fa929ecb078203f565ab22b9daab2e02524": "MMSA MOSI unaligned_50",
    "d3994fd25681f9c7ad6e9c6596a6fe9b4beb85ff7d478ba978b124139002e5f9": "MMSA MOSI aligned_50",
    "ad8b23d50557045e7d47959ce6c5b955d8d983f2979c7d9b7b9226f6dd6fec1f": "MMSA MOSEI unaligned_50",
    "45eccfb748a87c80ecab9bfac29582e7b1466bf6605ff29d3b338a75120bf791": "MMSA MOSEI aligned_50",
    "c9e20c13ec0454d98bb9c1e520e490c75146bfa2dfeeea78d84de047dbdd442f": "MMSA SIMS unaligned_39",
}
# Text that a BERT vocabulary wraps around every sentence: alone, they are a sentence of no words.
_PAD_CLS_SEP = (0, 101, 102)


@dataclass(frozen=True, eq=False)
class Split:
    """One split of N samples, cleaned.

    Attributes:
        name: "train", "valid" or "test".
        ids: N names.
        labels: (N,) float32 scores.
        raw_text: N sentences, or None.
        token_ids: (N, L) int64 from text_bert, zeros after the tokens, or None.
        token_mask: (N, L) bool, True = real token, or None.
        features: modality -> (N, T, D) float32, zeros after the real frames; "text" is the
            precomputed column.
        masks: modality -> (N, T) bool, True = real frame; a prefix of each row.
        present: modality -> (N,) bool; "text" is there when any column holds text.
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

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def modalities(self) -> tuple[str, ...]:
        """The modalities that the file has, in the order text, audio, vision."""
        return tuple(self.present)


@dataclass(frozen=True, eq=False)
class Corpus:
    """A file's three splits, and which file it is.

    Attributes:
        path: where it was read from.
        sha256: of the file, in hexadecimal.
        known_as: the public file with that SHA-256, or None.
        splits: "train", "valid" and "test".
    """

    path: str
    sha256: str
    known_as: str | None
    splits: dict[str, Split]

    @property
    def modalities(self) -> tuple[str, ...]:
        """The modalities that the file has, in the order text, audio, vision."""
        return self.splits["train"].modalities


def load_mmsa(
    path: str | Path, *, label_range: tuple[float, float] = (-3.0, 3.0), nan: str = "zero"
) -> Corpus:
    """Read a file of the MMSA layout.

    A frame is padding where it is zero and nothing but zeros stands before it, or after it; zero
    frames between real ones are real. Where the file has lengths, or an attention mask for
    word-aligned frames, they say which of the zero frames at the end are real.

    Args:
        path: the pickle.
        label_range: lowest and highest legal ``regression_labels``.
        nan: "zero" puts 0 for NaN and infinities in the features, "raise" refuses them.

    Raises:
        DataError: on a file that is no such pickle, lacks a split or a column, or holds columns
            that disagree; it names file, split, column, what was expected, what came and the fix.
        ValueError: on another ``nan``, or a ``label_range`` that is empty.
    """
    if nan not in ("zero", "raise"):
        raise ValueError(f"nan: expected 'zero' or 'raise', got {nan!r}")
    if not label_range[0] < label_range[1]:
        raise ValueError(f"label_range: expected (lowest, highest), got {label_range!r}")
    return corpus_of(load_pickle(path), path, file_sha256(path), label_range=label_range, nan=nan)


def corpus_of(
    content: Any,
    path: str | Path,
    sha256: str,
    *,
    label_range: tuple[float, float] = (-3.0, 3.0),
    nan: str = "zero",
) -> Corpus:
    """:func:`load_mmsa` on content that is already read; takes the splits out of ``content``."""
    if not isinstance(content, dict):
        raise DataError(
            f"{path}: expected a dict with the splits {SPLITS}, got {type(content).__name__}; "
            "save it in the MMSA layout"
        )
    missing = [name for name in SPLITS if not isinstance(content.get(name), dict)]
    if missing:
        raise DataError(
            f"{path}: expected the splits {SPLITS}, each a dict of columns, got "
            f"{[str(name) for name in content]}; add {', '.join(missing)}"
        )
    splits = {}
    for name in SPLITS:
        where = f"{path}, split {name!r}"
        splits[name] = _split(name, content.pop(name), where, label_range, nan)
        _check_agreement(splits["train"], splits[name], where)
    return Corpus(str(path), sha256, KNOWN_FILES.get(sha256), splits)


def file_sha256(path: str | Path) -> str:
    """SHA-256 of a file, in hexadecimal, read in pieces."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def numbers(values: Any, where: str, *, dtype: type = np.float32) -> np.ndarray:
    """Lists or arrays as a numeric array of its own; where they are none, a DataError says so."""
    if isinstance(values, np.ndarray) and values.dtype == object:
        values = values.tolist()
    try:
        with np.errstate(over="ignore"):  # beyond float32 becomes infinite, and is seen as such
            return np.array(values, dtype=dtype, order="C")
    except (TypeError, ValueError, OverflowError):
        raise DataError(
            f"{where}: expected numbers of one shape for every sample, got "
            f"{_kinds(values)}; pad sequences to one length with zeros"
        ) from None


def frame_extent(frames: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """First real frame, and one past the last, of each row of a (N, T) bool array; 0, 0 if none."""
    first = frames.argmax(axis=1)
    stop = frames.shape[1] - frames[:, ::-1].argmax(axis=1)
    return first, np.where(frames.any(axis=1), stop, 0)


def _kinds(values: Any) -> str:
    if not isinstance(values, list | tuple):
        return type(values).__name__
    shapes = sorted(
        {str(np.shape(v)) if not isinstance(v, list) else "list" for v in values[:1000]}
    )
    return f"{len(values)} samples of shapes {', '.join(shapes[:3])}"


def _split(
    name: str,
    columns: dict[str, Any],
    where: str,
    label_range: tuple[float, float],
    nan: str,
) -> Split:
    columns = dict(columns)  # emptied column by column, to free memory; splits may share theirs
    if not {"raw_text", "text_bert", *FEATURES} & columns.keys():
        raise DataError(
            f"{where}: expected at least one of the columns raw_text, text_bert, "
            f"{', '.join(FEATURES)}, got {sorted(map(str, columns))}; add one"
        )
    labels = _labels(columns, where, label_range)
    count = len(labels)
    ids = _words(
        columns.get("id", [f"{name}/{row}" for row in range(count)]), count, f"{where}, column 'id'"
    )
    raw_text = None
    if "raw_text" in columns:
        raw_text = _words(columns["raw_text"], count, f"{where}, column 'raw_text'", text=True)
    tokens = token_mask = None
    if "text_bert" in columns:
        tokens, token_mask = _tokens(columns["text_bert"], count, f"{where}, column 'text_bert'")
    features, masks, present = {}, {}, {}
    for modality in FEATURES:
        if modality in columns:
            column = f"{where}, column {modality!r}"
            frames = _frames(columns.pop(modality), count, column, nan)
            lengths = _lengths(columns, modality, count, where)
            if (
                lengths is None
                and token_mask is not None
                and token_mask.shape[1] == frames.shape[1]
            ):
                lengths = token_mask.sum(axis=1)
            features[modality], masks[modality] = _to_front(frames, lengths)
            present[modality] = masks[modality].any(axis=1)
    if raw_text is not None:
        present["text"] = np.array([bool(sentence.strip()) for sentence in raw_text])
    elif tokens is not None:
        present["text"] = (token_mask & ~np.isin(tokens, _PAD_CLS_SEP)).any(axis=1)
    present = {m: present[m] for m in FEATURES if m in present}
    return Split(name, ids, labels, raw_text, tokens, token_mask, features, masks, present)


def _column(columns: dict[str, Any], name: str, where: str) -> Any:
    if name not in columns:
        raise DataError(
            f"{where}: expected the column {name!r}, got {sorted(map(str, columns))}; add it"
        )
    return columns[name]


def _check_count(got: int, count: int, where: str) -> None:
    if got != count:
        raise DataError(
            f"{where}: expected {count} samples as in {LABELS!r}, got {got}; "
            "make all columns of a split equally long"
        )


def _labels(columns: dict[str, Any], where: str, label_range: tuple[float, float]) -> np.ndarray:
    values = _column(columns, LABELS, where)
    where = f"{where}, column {LABELS!r}"
    labels = numbers(values, where)
    if labels.ndim == 0 or labels.size != len(labels):
        raise DataError(
            f"{where}: expected shape (N,), got {labels.shape}; give one score a sample"
        )
    if not len(labels):
        raise DataError(f"{where}: expected at least one sample, got none; fill the split")
    labels = labels.reshape(-1)
    low, high = label_range
    slack = 1e-4  # rounding of scores that are stored in half or single precision
    bad = np.flatnonzero(~((labels >= low - slack) & (labels <= high + slack)))
    if len(bad):
        raise DataError(
            f"{where}: expected scores in [{low:g}, {high:g}], got {labels[bad[0]]:g} in row "
            f"{bad[0]} ({len(bad)} such rows); mend or drop them, or give another label_range"
        )
    return labels


def _words(values: Any, count: int, where: str, *, text: bool = False) -> list[str]:
    values = values.tolist() if isinstance(values, np.ndarray) else values
    if not isinstance(values, list | tuple):
        raise DataError(f"{where}: expected a list or an array, got {type(values).__name__}")
    _check_count(len(values), count, where)
    words = []
    for row, value in enumerate(values):
        if isinstance(value, bytes):
            value = value.decode("utf-8", errors="replace")
        if text and not isinstance(value, str):
            raise DataError(
                f"{where}: expected sentences, got {type(value).__name__} in row {row}; "
                "put an empty sentence where there is none"
            )
        words.append(str(value))
    return words


def _tokens(values: Any, count: int, where: str) -> tuple[np.ndarray, np.ndarray]:
    table = numbers(values, where, dtype=np.float64)
    _check_count(len(table) if table.ndim else 0, count, where)
    if table.ndim == 3 and table.shape[1] != 3 and table.shape[2] == 3:
        table = table.transpose(0, 2, 1)
    if table.ndim != 3 or table.shape[1] != 3:
        raise DataError(
            f"{where}: expected shape (N, 3, L) or (N, L, 3), got {table.shape}; "
            "stack ids, attention mask and token types"
        )
    ids, mask = table[:, 0], table[:, 1]
    whole = np.isfinite(ids).all() and (ids == np.round(ids)).all() and (ids >= 0).all()
    if not whole or not np.isin(mask, (0, 1)).all():
        raise DataError(
            f"{where}: expected token ids 0, 1, 2, ... and a mask of 0 and 1, got other numbers; "
            "stack ids, attention mask and token types in this order"
        )
    # The attention mask plays the part that non-zero frames play elsewhere.
    mask = mask.astype(bool)
    moved, real = _moved(ids[..., None], *frame_extent(mask))
    return moved[..., 0].astype(np.int64), real


def _frames(values: Any, count: int, where: str, nan: str) -> np.ndarray:
    frames = numbers(values, where)
    _check_count(len(frames) if frames.ndim else 0, count, where)
    if frames.ndim != 3 or 0 in frames.shape:
        raise DataError(
            f"{where}: expected shape (N, T, D), got {frames.shape}; give features of a whole "
            "utterance a time axis of one step: x[:, None, :]"
        )
    strange = ~np.isfinite(frames)
    if strange.any():
        if nan == "raise":
            raise DataError(
                f"{where}: expected finite numbers, got {strange.sum()} NaN or infinite in "
                f"{strange.any(axis=(1, 2)).sum()} samples; mend them, or pass nan='zero'"
            )
        frames[strange] = 0
    return frames


def _lengths(columns: dict[str, Any], modality: str, count: int, where: str) -> np.ndarray | None:
    name = f"{modality}_lengths"
    if name not in columns:
        return None
    where = f"{where}, column {name!r}"
    lengths = numbers(columns[name], where, dtype=np.float64).reshape(-1)
    _check_count(len(lengths), count, where)
    if not (np.isfinite(lengths) & (lengths >= 0)).all():
        raise DataError(f"{where}: expected lengths from 0 up, got {lengths.min():g}; mend them")
    return lengths.astype(np.int64)


def _to_front(frames: np.ndarray, lengths: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """Real frames moved to the front, and their mask.

    Lengths are believed where the frames outside them are zero: at the end, or else at the front;
    one beyond the last step (the sequence was cut) means all steps. Otherwise they are wrong (some
    were counted to the first zero frame), and the frames decide.
    """
    start, stop = frame_extent((frames != 0).any(axis=2))
    if lengths is not None:
        total = frames.shape[1]
        real = stop > 0
        padded_after = real & (stop <= lengths)
        padded_before = real & (start >= total - lengths)
        start = np.where(padded_after, 0, np.where(padded_before, total - lengths, start))
        stop = np.where(padded_after, lengths, np.where(padded_before, total, stop))
    return _moved(frames, start, stop)


def _moved(
    frames: np.ndarray, start: np.ndarray, stop: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Frames start to stop of each row moved to its front, zeros after them, and their mask."""
    total = frames.shape[1]
    mask = np.arange(total) < (stop - start)[:, None]
    for row in np.flatnonzero(start):
        length = stop[row] - start[row]
        frames[row, :length] = frames[row, start[row] : stop[row]]
    frames[~mask] = 0
    return frames, mask


def _check_agreement(train: Split, split: Split, where: str) -> None:
    for what, expected, got in (
        ("modalities", train.modalities, split.modalities),
        ("raw_text", train.raw_text is not None, split.raw_text is not None),
        ("text_bert", train.token_ids is not None, split.token_ids is not None),
        ("the column text", "text" in train.features, "text" in split.features),
        *(
            (f"column {m!r}", train.features[m].shape[2], split.features[m].shape[2])
            for m in train.features.keys() & split.features.keys()
        ),
    ):
        if expected != got:
            raise DataError(
                f"{where}, {what}: expected {expected} as in 'train', got {got}; "
                "give every split the same columns"
            )
