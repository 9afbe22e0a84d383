"""Sentences for files that have none: a csv with ``video_id``, ``clip_id`` and ``text``."""

import csv
import re
from pathlib import Path

import numpy as np

from reference_models.data.pickles import DataError
from reference_models.excerpt import excerpt, excerpts, printable

COLUMNS = ("video_id", "clip_id", "text")
# Such tables round scores to one or two decimals.
LABEL_TOLERANCE = 0.01


def read_transcripts(path: str | Path) -> list[dict[str, str]]:
    """The rows of the csv, which may have other columns, too; UTF-8, with or without a BOM.

    Raises:
        DataError: no such file, no csv, or one without those columns.
    """
    if Path(path).exists() and not Path(path).is_file():  # a pipe would be waited for
        raise DataError(f"{path}: expected a csv file in UTF-8, got another kind; give one")
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
            f"{printable(', '.join(names)) or 'an empty file'}, {len(rows)} rows; give the "
            "label.csv of the data set"
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
    names: dict[str, list[list[str]] | None],
    labels: dict[str, np.ndarray],
    where: str,
) -> dict[str, list[str]]:
    """Split -> its sentences.

    Samples with names are found by them, in any order of the rows: by ``video_clip``, split at the
    last underscore, or by the video, where each is one sample and one row. Spaces around a name,
    zeros in front of a number and ``.0`` behind it, which spreadsheets add and drop, do not count.

    Where several samples have the name of their video (MOSEI), or samples have no names, the rows
    must be those of the samples in their order, train, valid and test: there must be as many, each
    of the same video, and with the same label; or, without labels, with the start for a clip.

    Args:
        rows: of :func:`read_transcripts`.
        names: split -> the name of each sample, and its start and end if there are any; or None.
        labels: split -> (N,) scores.
        where: the csv's name, for messages.

    Raises:
        DataError: names that are not found, or that several rows have; rows that do not fit the
            samples, or that nothing shows to be in their order.
    """
    named = [name for part in names.values() for name in part or ()]
    if named and None in names.values():
        raise DataError(
            f"{where}: expected names in every split, or in none, got some without; "
            "give every split the column id"
        )
    found = _by_name(rows, [name[0] for name in named], where) if named else None
    if found is None:
        _check_order(rows, named, np.concatenate(list(labels.values())), where)
        found = [row["text"] for row in rows]
    texts = iter(found)
    return {split: [next(texts) for _ in part] for split, part in labels.items()}


def _by_name(rows: list[dict[str, str]], names: list[str], where: str) -> list[str] | None:
    """The sentence of each sample; None where the names are those of videos with several."""
    exact = {(row["video_id"], row["clip_id"]): row["text"] for row in rows}
    clips = {(_normal(video), _normal(clip)): text for (video, clip), text in exact.items()}
    lost = names
    for table, form in ((exact, str), (clips, _normal)):
        keys = [tuple(map(form, _clip_of(name))) for name in names]
        lost = [name for name, key in zip(names, keys, strict=True) if key not in table]
        if not lost and len(table) < len(rows):
            raise DataError(
                f"{where}: expected every video_id with a clip_id once, got "
                f"{len(rows) - len(table)} rows more; drop the repeated ones"
            )
        if not lost:
            return [table[key] for key in keys]
    if len(lost) < len(names):
        raise DataError(
            f"{where}: expected a row for every sample, got none for {printable(lost[0])} "
            f"({len(lost)} of {len(names)} samples); give the csv of the same data set"
        )
    videos = {_normal(row["video_id"]): row["text"] for row in rows}
    keys = [_normal(name) for name in names]
    if not videos.keys() & set(keys):
        raise DataError(
            f"{where}: expected rows of the samples, such as {excerpt(names[0])}, got none with "
            f"such a video_id and clip_id (the first are {excerpt(rows[0]['video_id'])} and "
            f"{excerpt(rows[0]['clip_id'])}); give the csv of the same data set"
        )
    once = len(videos) == len(rows) and len(set(keys)) == len(keys)
    return [videos[key] for key in keys] if once and videos.keys() >= set(keys) else None


def _clip_of(name: str) -> tuple[str, str]:
    video, _, clip = name.rpartition("_")
    return video.removesuffix("$"), clip.removeprefix("$")  # MMSA's video$_$clip, too


def _normal(name: str) -> str:
    """A name without what spreadsheets change: spaces around it, ``007`` and ``7.0`` for 7."""
    name = name.strip()
    number = re.fullmatch(r"0*([0-9]+)(\.0*)?", name)
    return number[1] if number else name


def _check_order(
    rows: list[dict[str, str]], names: list[list[str]], scores: np.ndarray, where: str
) -> None:
    if len(rows) != len(scores):
        raise DataError(
            f"{where}: expected {len(scores)} rows, in the order of the samples, as no sample is "
            f"named video_clip, got {len(rows)}; give the csv of the same data set"
        )
    if names:
        videos = [_normal(name[0]) for name in names]
        _check_rows([_normal(r["video_id"]) == v for r, v in zip(rows, videos, strict=True)], where)
    if "label" in rows[0]:
        try:
            stated = np.array([float(row["label"]) for row in rows])
        except (TypeError, ValueError):
            raise DataError(
                f"{where}, column 'label': expected numbers, got others; mend or drop the column"
            ) from None
        _check_rows((np.abs(stated - scores) <= LABEL_TOLERANCE).tolist(), where)
        return
    starts = [_normal(name[1]) if len(name) > 1 else None for name in names]
    if not names or any(_normal(r["clip_id"]) != s for r, s in zip(rows, starts, strict=True)):
        raise DataError(
            f"{where}: expected the column 'label', as only labels show whether the rows are in the"
            f" order of the samples, got {excerpts(rows[0])}; add it"
        )


def _check_rows(agree: list[bool], where: str) -> None:
    if not all(agree):
        raise DataError(
            f"{where}: expected the rows in the order of the samples, got another video or label "
            f"in row {agree.index(False)} ({agree.count(False)} such rows); sort them"
        )
