"""What every corpus is, whatever it was made of: each sentence of the docstrings in ``corpus.py``.

Loaders of pickles make corpora that are so. A converted file states its content, and its checksum
only tells that it was not changed by accident: all of it is checked.
"""

from typing import Any, NoReturn

import numpy as np

from reference_models.data.corpus import (
    EMOTIONS,
    FEATURES,
    SPLITS,
    TASKS,
    Corpus,
    Split,
    check_agreement,
)
from reference_models.data.pickles import DataError
from reference_models.excerpt import excerpt, excerpts

_SLACK = 1e-4  # of scores, as in columns.scores
_LAST_TOKEN = 2**31 - 1  # no vocabulary is that large


def check_promises(corpus: Corpus) -> None:
    """Refuse a corpus that is not as its docstring says.

    Raises:
        DataError: it names the file, the split and the field.
    """
    path = corpus.path
    if tuple(corpus.splits) != SPLITS:
        broken(path, "splits", f"{SPLITS}", excerpts(corpus.splits))
    if corpus.task not in TASKS:
        broken(path, "task", f"one of {', '.join(TASKS)}", excerpt(corpus.task))
    check_text(path, "layout", corpus.layout)
    if not isinstance(corpus.notes, tuple) or not isinstance(corpus.origin, tuple | None):
        broken(path, "notes and origin", "tuples", excerpts([corpus.notes, corpus.origin]))
    for field in ("notes", "origin"):
        check_text(path, field, *(getattr(corpus, field) or ()))
    if corpus.origin is not None and len(corpus.origin) != 2:
        broken(path, "origin", "a name and a SHA-256", excerpts(corpus.origin))
    dropped = corpus.dropped
    if not isinstance(dropped, dict) or not dropped.keys() <= set(SPLITS):
        broken(path, "dropped", "numbers of samples by split", excerpt(dropped))
    if any(type(count) is not int or count < 0 for count in dropped.values()):
        broken(path, "dropped", "numbers from 0 up", excerpts(dropped.values()))
    for name, split in corpus.splits.items():
        _check_split(split, name, corpus.task, f"{path}, split {name!r}")
    check_agreement(corpus.splits, path)


def broken(where: str, field: str, expected: str, got: str) -> NoReturn:
    """Refuse a field."""
    raise DataError(
        f"{where}, {field}: expected {expected}, got {got}; mend it, or convert the data again"
    )


def check_text(where: str, field: str, *values: Any) -> None:
    """Refuse what is not text, or holds halves of characters, which no file can be written with."""
    for value in values:
        if not isinstance(value, str):
            broken(where, field, "text", excerpt(value))
        try:
            value.encode()
        except UnicodeEncodeError:
            broken(where, field, "text of whole characters", excerpt(value))


def check_array(
    where: str, field: str, array: Any, dtype: type, shape: tuple[int | None, ...]
) -> None:
    """Refuse an array of another type or shape, or with numbers that are not finite.

    ``None`` in the shape stands for any number from 1 up.
    """
    sizes = ", ".join("any" if size is None else str(size) for size in shape)
    expected = f"{np.dtype(dtype)} of shape ({sizes})"
    if not isinstance(array, np.ndarray):
        broken(where, field, expected, excerpt(array))
    fits = len(shape) == array.ndim and all(
        got >= 1 if size is None else got == size
        for size, got in zip(shape, array.shape, strict=True)
    )
    if not fits or array.dtype != dtype:
        broken(where, field, expected, f"{array.dtype} of shape {array.shape}")
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        broken(where, field, "finite numbers", "others")


def _check_split(split: Split, name: str, task: str, where: str) -> None:
    count = len(split.ids) if isinstance(split.ids, list) else 0
    if split.name != name:
        broken(where, "name", repr(name), excerpt(split.name))
    if not count:
        broken(where, "ids", "a list of at least one name", excerpt(split.ids))
    check_text(where, "ids", *split.ids)
    if len(set(split.ids)) < count:
        broken(where, "ids", "every name once", f"{count - len(set(split.ids))} of them again")
    if split.raw_text is not None:
        if not isinstance(split.raw_text, list) or len(split.raw_text) != count:
            broken(where, "raw_text", f"a list of {count} sentences", excerpt(split.raw_text))
        check_text(where, "raw_text", *split.raw_text)
    _check_labels(split.labels, count, task, where)
    for part in (split.present, split.features, split.unimodal_labels):
        if tuple(part) != tuple(m for m in FEATURES if m in part):
            broken(where, "modalities", f"some of {FEATURES} in this order", excerpts(part))
    if not split.present or not split.features.keys() <= split.present.keys():
        broken(where, "present", f"all of {excerpts(split.features)}", excerpts(split.present))
    for modality, here in split.present.items():
        check_array(where, f"present {modality}", here, np.bool_, (count,))
    for modality, scores in split.unimodal_labels.items():
        check_array(where, f"unimodal_labels {modality}", scores, np.float32, (count,))
        if task == "sims":
            _check_range(where, f"unimodal_labels {modality}", scores, -1, 1, _SLACK)
    if split.features.keys() != split.masks.keys():
        broken(where, "masks", f"those of {excerpts(split.features)}", excerpts(split.masks))
    for modality, frames in split.features.items():
        check_array(where, f"features {modality}", frames, np.float32, (count, None, None))
        _check_mask(where, f"masks {modality}", split.masks[modality], frames)
    if (split.token_ids is None) != (split.token_mask is None):
        broken(where, "token_ids", "ids and a mask, or neither", "one of them")
    if split.token_ids is not None:
        check_array(where, "token_ids", split.token_ids, np.int64, (count, None))
        _check_range(where, "token_ids", split.token_ids, 0, _LAST_TOKEN)
        _check_mask(where, "token_mask", split.token_mask, split.token_ids)


def _check_labels(labels: Any, count: int, task: str, where: str) -> None:
    if task == "iemocap":
        check_array(where, "labels", labels, np.int64, (count, len(EMOTIONS)))
    else:
        check_array(where, "labels", labels, np.int64 if task == "humor" else np.float32, (count,))
    if task in ("iemocap", "humor"):
        _check_range(where, "labels", labels, 0, 1)
    elif task == "sims":
        _check_range(where, "labels", labels, -1, 1, _SLACK)


def _check_range(
    where: str, field: str, values: np.ndarray, low: int, high: int, slack: float = 0
) -> None:
    if values.min() < low - slack or values.max() > high + slack:
        broken(where, field, f"{low} to {high}", f"{values.min():g} to {values.max():g}")


def _check_mask(where: str, field: str, mask: Any, values: np.ndarray) -> None:
    """A prefix of each row, and zeros in ``values`` after it."""
    check_array(where, field, mask, np.bool_, values.shape[:2])
    if (mask[:, 1:] & ~mask[:, :-1]).any():
        broken(where, field, "True at the start of each row, then False", "another order")
    if values[~mask].any():
        broken(where, field, "zeros where it is False", "other numbers")
