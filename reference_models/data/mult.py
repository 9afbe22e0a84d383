"""The files of MulT, also of MMIM, TeCaFN and MCL-MCF: MOSI, MOSEI and IEMOCAP.

A pickle of ``{"train" | "valid" | "test": {"vision", "text", "audio", "labels", "id"}}`` with GloVe
vectors for the text. Sequences are padded in front; MMIM counts zero frames and keeps as many
frames at the end, so that a zero frame between real ones shifts its window. Here only the zeros in
front (or at the end) are padding.
"""

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from reference_models.data import columns as clean
from reference_models.data import wording
from reference_models.data.corpus import (
    EMOTIONS,
    FEATURES,
    KNOWN_FILES,
    SPLITS,
    Corpus,
    Split,
    check_agreement,
    file_sha256,
    splits_of,
)
from reference_models.data.pickles import DataError
from reference_models.data.transcripts import read_transcripts, transcribe
from reference_models.excerpt import excerpt, excerpts

LABELS = "labels"


def mult_corpus(
    content: Any, path: str | Path, sha256: str, *, labels: str | Path | None = None, nan: str
) -> Corpus:
    """MOSI or MOSEI from the content of the pickle, which is emptied to save memory.

    Args:
        content: of the pickle; labels are (N, 1, 1), or 7 columns of which the first counts.
        path: for messages.
        sha256: of the file.
        labels: a csv with ``video_id``, ``clip_id`` and ``text``, for ``raw_text``; None: no
            sentences.
        nan: "zero" or "raise".

    Raises:
        DataError: a column that is missing or of another shape; a csv that does not fit.
    """
    parts = splits_of(content, path, dict)
    splits, names = {}, {}
    for name in SPLITS:
        columns, where = dict(parts.pop(name)), f"{path}, split {name!r}"
        scores = _scores(_label_column(columns, where), f"{where}, column {LABELS!r}")
        names[name] = _names(columns, len(scores), where)
        splits[name] = _mult_split(name, columns, scores, where, nan)
    texts, notes = None, ()
    if labels is not None:
        scores = {name: split.labels for name, split in splits.items()}
        texts = transcribe(read_transcripts(labels), names, scores, f"{labels}")
        of_labels = file_sha256(labels)
        notes = (f"the sentences are those of {Path(labels).name}, SHA-256 {of_labels}",)
    # In MOSEI several clips have the same name, that of the video: there, times are part of the id.
    every = [row[0] for rows in names.values() for row in rows or ()]
    whole = len(set(every)) < len(every)
    for name, split in splits.items():
        if names[name] is not None:
            found = ["_".join(row) if whole else row[0] for row in names[name]]
            split.ids[:] = wording.distinct(found)
        if texts is not None:
            splits[name] = _with_text(split, texts[name])
    check_agreement(splits, path)
    known = KNOWN_FILES.get(sha256)
    if labels is not None:  # other sentences are other data
        sha256 = hashlib.sha256(f"{sha256} {of_labels}".encode()).hexdigest()
    return Corpus(str(path), sha256, known, splits, "sentiment", "mult", notes=notes)


def iemocap_corpus(
    content: Any, path: str | Path, sha256: str, *, present_index: int = 1, nan: str
) -> Corpus:
    """IEMOCAP: labels (N, 4, 2), one-hot for each of neutral, happy, sad and angry.

    In MulT's code column 1 means that the emotion is present; another file is said to use column 0.
    The notes of the corpus have the share of each emotion, and a warning if it looks wrong.

    Args:
        content: of the pickle; samples have no names, and are called "train/0" and so on.
        path: for messages.
        sha256: of the file.
        present_index: the column that means "there".
        nan: "zero" or "raise".

    Raises:
        DataError: a column that is missing or of another shape; labels that are not one-hot.
        ValueError: another ``present_index`` than 0 and 1.
    """
    if present_index not in (0, 1):
        raise ValueError(f"present_index: expected 0 or 1, got {present_index!r}")
    parts, splits = splits_of(content, path, dict), {}
    for name in SPLITS:
        columns, where = dict(parts.pop(name)), f"{path}, split {name!r}"
        table = _label_column(columns, where)
        if table.shape[1:] != (4, 2) or not _one_hot(table):
            raise DataError(
                f"{where}, column {LABELS!r}: expected one-hot numbers (N, 4, 2), got "
                f"{table.shape}{' with others' if table.shape[1:] == (4, 2) else ''}; give two "
                f"columns for each of {', '.join(EMOTIONS)}"
            )
        there = (table[..., present_index] == 1).astype(np.int64)
        splits[name] = _mult_split(name, columns, there, where, nan)
    check_agreement(splits, path)
    share = splits["train"].labels.mean(axis=0)
    listing = ", ".join(f"{e} {s:.0%}" for e, s in zip(EMOTIONS, share, strict=True))
    notes = [f"column {present_index} of the labels is taken for 'there': {listing} of train"]
    if (share > 0.5).sum() > len(EMOTIONS) / 2:
        notes.append(
            "most emotions are there more often than not, so the other column may be meant: "
            f"pass present_index={1 - present_index}"
        )
    known = KNOWN_FILES.get(sha256)
    return Corpus(str(path), sha256, known, splits, "iemocap", "iemocap", notes=tuple(notes))


def _label_column(columns: dict[str, Any], where: str) -> np.ndarray:
    if LABELS not in columns or not set(FEATURES) & columns.keys():
        raise DataError(
            f"{where}: expected the column {LABELS!r} and some of {', '.join(FEATURES)}, got "
            f"{excerpts(sorted(columns, key=excerpt))}; add what is missing"
        )
    return clean.numbers(columns[LABELS], f"{where}, column {LABELS!r}")


def _scores(table: np.ndarray, where: str) -> np.ndarray:
    # MOSEI has the sentiment alone, or followed by six emotions.
    if table.ndim == 0 or table.size not in (len(table), 7 * len(table)):
        raise DataError(
            f"{where}: expected shape (N, 1, 1) or seven columns, got {table.shape}; "
            "give one score a sample"
        )
    first = table.reshape(len(table), -1)[:, 0] if len(table) else table.reshape(-1)
    return clean.scores(first, where, (-3.0, 3.0))


def _one_hot(table: np.ndarray) -> bool:
    return bool(np.isin(table, (0, 1)).all() and (table.sum(axis=-1) == 1).all())


def _names(columns: dict[str, Any], count: int, where: str) -> list[list[str]] | None:
    """The column ``id`` by sample: a name, or a name, a start and an end."""
    if "id" not in columns:
        return None
    values, where = columns["id"], f"{where}, column 'id'"
    if not isinstance(values, list | tuple | np.ndarray) or getattr(values, "ndim", 1) == 0:
        raise DataError(f"{where}: expected a list or an array, got {type(values).__name__}")
    clean.check_count(len(values), count, where, by=LABELS)
    rows = [
        x.tolist()
        if isinstance(x, np.ndarray) and x.ndim
        else x
        if isinstance(x, list | tuple)
        else [x]
        for x in values
    ]
    if not all(rows):
        raise DataError(f"{where}: expected a name for each sample, got an empty one; drop it")
    return [[wording.text_of(word, where) for word in row] for row in rows]


def _mult_split(
    name: str, columns: dict[str, Any], labels: np.ndarray, where: str, nan: str
) -> Split:
    features, masks, present = {}, {}, {}
    for modality in FEATURES:
        if modality in columns:
            here = f"{where}, column {modality!r}"
            frames = clean.frames(columns.pop(modality), len(labels), here, nan, by=LABELS)
            features[modality], masks[modality] = clean.to_front(frames)
            present[modality] = masks[modality].any(axis=1)
    ids = [f"{name}/{row}" for row in range(len(labels))]
    return Split(name, ids, labels, None, None, None, features, masks, present)


def _with_text(split: Split, texts: list[str]) -> Split:
    here = np.array([bool(text.strip()) for text in texts])
    present = split.present | {"text": here}
    return replace(split, raw_text=texts, present={m: present[m] for m in FEATURES if m in present})
