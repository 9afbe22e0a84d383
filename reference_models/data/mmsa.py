"""The MMSA layout: a pickle of ``{"train" | "valid" | "test": {column: array or list}}``.

``"valid"`` may be called ``"dev"``.

Files differ (padding before or after the frames, NaN, lists for arrays, either order of the axes of
text_bert, missing modalities). The result has one form: float32, real frames first, zeros after
them, and masks of the real frames.
"""

from pathlib import Path
from typing import Any

import numpy as np

from reference_models.data import columns as clean
from reference_models.data import wording
from reference_models.data.corpus import (
    FEATURES,
    KNOWN_FILES,
    SPLITS,
    Corpus,
    Split,
    check_agreement,
    file_sha256,
    splits_of,
)
from reference_models.data.pickles import DataError, load_pickle
from reference_models.excerpt import excerpt, excerpts

LABELS = "regression_labels"
UNIMODAL = {"text": f"{LABELS}_T", "audio": f"{LABELS}_A", "vision": f"{LABELS}_V"}
# Padding, [CLS] and [SEP] of a BERT vocabulary: a sentence of these alone has no words.
_PAD_CLS_SEP = (0, 101, 102)


def load_mmsa(
    path: str | Path,
    *,
    label_range: tuple[float, float] | None = None,
    nan: str = "zero",
) -> Corpus:
    """Read a file of the MMSA layout.

    A frame is padding if it is zero and all frames before it, or all after it, are zero, too; zero
    frames between real ones are real. If the file has lengths, or an attention mask for
    word-aligned frames, these decide which of the zero frames at the end are real.

    A file with scores of single modalities (``regression_labels_T``, ``_A`` or ``_V``) is read as
    CH-SIMS: its task is "sims", with scores in [-1, 1], unless a wider ``label_range`` is given.
    The task of every other file is "sentiment".

    Args:
        path: the pickle.
        label_range: lowest and highest legal ``regression_labels``; None: the task's.
        nan: "zero" puts 0 for NaN and infinities in the features, "raise" refuses them.

    Raises:
        DataError: on a file that is no such pickle, lacks a split or a column, or holds columns
            that disagree; it names file, split, column, what was expected, what came and the fix.
        ValueError: on another ``nan``, or a ``label_range`` that is empty.
    """
    if nan not in ("zero", "raise"):
        raise ValueError(f"nan: expected 'zero' or 'raise', got {nan!r}")
    return mmsa_corpus(load_pickle(path), path, file_sha256(path), label_range=label_range, nan=nan)


def mmsa_corpus(
    content: Any,
    path: str | Path,
    sha256: str,
    *,
    label_range: tuple[float, float] | None = None,
    nan: str = "zero",
) -> Corpus:
    """:func:`load_mmsa` on content that is already read; removes the splits from ``content``."""
    if label_range is not None and not label_range[0] < label_range[1]:
        raise ValueError(f"label_range: expected (lowest, highest), got {label_range!r}")
    if not isinstance(content, dict):
        raise DataError(
            f"{path}: expected a dict with the splits {SPLITS}, got {type(content).__name__}; "
            "save it in the MMSA layout"
        )
    parts = splits_of(content, path, dict)
    sims = any(column in part for part in parts.values() for column in UNIMODAL.values())
    if label_range is None:
        label_range = (-1.0, 1.0) if sims else (-3.0, 3.0)
    splits = {}
    for name in SPLITS:
        where = f"{path}, split {name!r}"
        splits[name] = _split(name, parts.pop(name), where, label_range, nan)
    check_agreement(splits, path)
    task = "sims" if sims and label_range[0] >= -1 and label_range[1] <= 1 else "sentiment"
    return Corpus(str(path), sha256, KNOWN_FILES.get(sha256), splits, task, "mmsa")


def _split(
    name: str,
    columns: dict[str, Any],
    where: str,
    label_range: tuple[float, float],
    nan: str,
) -> Split:
    columns = dict(columns)  # emptied while it is read, to free memory; splits may share one
    if not {"raw_text", "text_bert", *FEATURES} & columns.keys():
        raise DataError(
            f"{where}: expected at least one of the columns raw_text, text_bert, "
            f"{', '.join(FEATURES)}, got {excerpts(sorted(columns, key=excerpt))}; add one"
        )
    if LABELS not in columns:
        raise DataError(
            f"{where}: expected the column {LABELS!r}, got "
            f"{excerpts(sorted(columns, key=excerpt))}; add it"
        )
    labels, of_one = _labels(columns, where, label_range)
    count = len(labels)
    ids = wording.words(
        columns.get("id", [f"{name}/{row}" for row in range(count)]), count, f"{where}, column 'id'"
    )
    raw_text = None
    if "raw_text" in columns:
        here = f"{where}, column 'raw_text'"
        raw_text = wording.words(columns["raw_text"], count, here, text=True)
    tokens = token_mask = None
    if "text_bert" in columns:
        here = f"{where}, column 'text_bert'"
        tokens, token_mask = clean.tokens(columns["text_bert"], count, here)
    features, masks = _frames(columns, count, where, nan, token_mask)
    present = {modality: mask.any(axis=1) for modality, mask in masks.items()}
    if raw_text is not None:
        present["text"] = np.array([bool(sentence.strip()) for sentence in raw_text])
    elif tokens is not None:
        present["text"] = (token_mask & ~np.isin(tokens, _PAD_CLS_SEP)).any(axis=1)
    present = {m: present[m] for m in FEATURES if m in present}
    return Split(name, ids, labels, raw_text, tokens, token_mask, features, masks, present, of_one)


def _labels(
    columns: dict[str, Any], where: str, label_range: tuple[float, float]
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """The scores of the samples, and those of single modalities."""
    unimodal = {m: column for m, column in UNIMODAL.items() if column in columns}
    fix = ", or give another label_range"
    if unimodal:
        fix += f" ({', '.join(unimodal.values())}: the file is taken for CH-SIMS)"
    labels = clean.scores(columns[LABELS], f"{where}, column {LABELS!r}", label_range, fix=fix)
    of_one = {}
    for modality, column in unimodal.items():
        here = f"{where}, column {column!r}"
        of_one[modality] = clean.scores(columns[column], here, label_range, fix=fix)
        clean.check_count(len(of_one[modality]), len(labels), here)
    return labels, of_one


def _frames(
    columns: dict[str, Any], count: int, where: str, nan: str, token_mask: np.ndarray | None
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Features with the real frames first, and their masks; removes them from the columns."""
    features, masks = {}, {}
    for modality in FEATURES:
        if modality not in columns:
            continue
        column = f"{where}, column {modality!r}"
        frames = clean.frames(columns.pop(modality), count, column, nan)
        lengths = clean.lengths(columns, modality, count, where)
        aligned = token_mask is not None and token_mask.shape[1] == frames.shape[1]
        if lengths is None and aligned:
            lengths = token_mask.sum(axis=1)
        features[modality], masks[modality] = clean.to_front(frames, lengths)
    return features, masks
