"""Sentences for files that have none: a csv with ``video_id``, ``clip_id`` and ``text``."""

import csv
from pathlib import Path

import numpy as np

from reference_models.data.pickles import DataError

COLUMNS = ("video_id", "clip_id", "text")
# Such tables round scores to one or two decimals.
LABEL_TOLERANCE = 0.01


def read_transcripts(path: str | Path) -> list[dict[str, str]]:
    """The rows of the csv, which may have other columns, too; UTF-8, with or without a BOM.

    Raises:
        DataError: no such file, no csv, or one without those columns.
    """
    try:
        with Path(path).open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, strict=True)
            names, rows = reader.fieldnames or [], list(reader)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: expected a csv file in UTF-8, got {error}; give one") from None
    missing = [name for name in COLUMNS if name not in names]
    if missing or not rows:
        raise DataError(
            f"{path}: expected rows with the columns {', '.join(COLUMNS)}, got "
            f"{', '.join(names) or 'an empty file'}, {len(rows)} rows; give the label.csv of the "
            "data set"
        )
    short = [place for place, row in enumerate(rows) if None in [row[name] for name in COLUMNS]]
    if short:
        raise DataError(
            f"{path}: expected {len(names)} fields in every row, got fewer in row {short[0]}; "
            "mend the file"
        )
    return rows


def transcribe(
    rows: list[dict[str, str]],
    names: dict[str, list[str] | None],
    labels: dict[str, np.ndarray],
    where: str,
) -> dict[str, list[str]]:
    """Split -> its sentences.

    Names of the form ``video_clip`` are looked up, split at the last underscore. If there are no
    names, or none is in the csv (MOSEI names the video alone), rows are matched by their order:
    train, valid and test, one after the other. There must then be as many rows as samples, and
    their videos and labels must agree.

    Args:
        rows: of :func:`read_transcripts`.
        names: split -> name of each sample, or None.
        labels: split -> (N,) scores.
        where: the csv's name, for messages.

    Raises:
        DataError: names of which only some are found, or rows that do not fit the samples.
    """
    clips = {(row["video_id"], row["clip_id"]): row["text"] for row in rows}
    keys = {split: [_key(name) for name in part or ()] for split, part in names.items()}
    every = [key for part in keys.values() for key in part]
    lost = [key for key in every if key not in clips]
    if every and not lost:
        if len(clips) < len(rows):
            raise DataError(
                f"{where}: expected every video_id with a clip_id once, got "
                f"{len(rows) - len(clips)} rows more; drop the repeated ones"
            )
        return {split: [clips[key] for key in part] for split, part in keys.items()}
    if len(lost) < len(every):
        raise DataError(
            f"{where}: expected a row for every sample, got none for {'_'.join(lost[0])} "
            f"({len(lost)} of {len(every)} samples); give the csv of the same data set"
        )
    _check_order(rows, names, labels, where)
    texts = iter(rows)
    return {
        split: [row["text"] for _, row in zip(part, texts, strict=False)]
        for split, part in labels.items()
    }


def _key(name: str) -> tuple[str, str]:
    video, _, clip = name.rpartition("_")
    return video, clip


def _check_order(
    rows: list[dict[str, str]],
    names: dict[str, list[str] | None],
    labels: dict[str, np.ndarray],
    where: str,
) -> None:
    scores = np.concatenate(list(labels.values()))
    if len(rows) != len(scores):
        raise DataError(
            f"{where}: expected {len(scores)} rows, in the order of the samples, as no sample is "
            f"named video_clip, got {len(rows)}; give the csv of the same data set"
        )
    videos = [name for part in names.values() for name in part or ()]
    if set(videos) & {row["video_id"] for row in rows}:
        _check_rows([row["video_id"] == v for row, v in zip(rows, videos, strict=True)], where)
    if "label" in rows[0]:
        try:
            stated = np.array([float(row["label"]) for row in rows])
        except (TypeError, ValueError):
            raise DataError(
                f"{where}, column 'label': expected numbers, got others; mend or drop the column"
            ) from None
        _check_rows((np.abs(stated - scores) <= LABEL_TOLERANCE).tolist(), where)


def _check_rows(agree: list[bool], where: str) -> None:
    if not all(agree):
        raise DataError(
            f"{where}: expected the rows in the order of the samples, got another video or label "
            f"in row {agree.index(False)} ({agree.count(False)} such rows); sort them"
        )
