"""The content of a data file, also of one that cannot be loaded, so that it can be repaired."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from reference_models.data import mmsa, mult
from reference_models.data.columns import frame_extent, numbers
from reference_models.data.corpus import FEATURES, KNOWN_FILES, Corpus, Split, file_sha256
from reference_models.data.loading import corpus_of, read, recognise
from reference_models.data.pickles import DataError
from reference_models.excerpt import excerpt, printable


@dataclass(frozen=True)
class ColumnReport:
    """One column of a split.

    Attributes:
        name: as in the file.
        shape: N first.
        dtype: of the array, or "text", or the type of what cannot be made an array.
        minimum: lowest finite number; None where there is none.
        maximum: highest finite number.
        nan: how many NaN.
        inf: how many infinite numbers.
        padding: for sequences of frames, the side of zero frames, and in how many samples: "none",
            "front (70)", "end (12)" or "front (70), end (2)"; else "".
        absent: samples of nothing but zeros, or empty sentences; None for other columns.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    minimum: float | None = None
    maximum: float | None = None
    nan: int = 0
    inf: int = 0
    padding: str = ""
    absent: int | None = None


@dataclass(frozen=True)
class FileReport:
    """One file.

    Attributes:
        path: as given.
        size: in bytes.
        sha256: in hexadecimal; of a folder, over its files.
        known_as: the public file with that SHA-256, or None.
        splits: name -> its columns; where the file has none, those of the corpus made of it.
        other_keys: top-level keys that are no splits.
        label_range: lowest and highest label of all splits, or None.
        problem: why :func:`load_corpus` refuses the file; None where it reads it.
        layout: as recognised, a key of ``LAYOUTS`` in ``data/loading.py``, or None.
        corpus: what the file is read as, or None.
    """

    path: str
    size: int
    sha256: str
    known_as: str | None
    splits: dict[str, list[ColumnReport]]
    other_keys: list[str]
    label_range: tuple[float, float] | None
    problem: str | None
    layout: str | None = None
    corpus: Corpus | None = None


def inspect_file(path: str | Path) -> FileReport:
    """Examine every column of a file of a known layout, or close to one.

    Raises:
        DataError: there is no file of that name, or it is a pipe.
    """
    path = Path(path)
    if not (path.is_file() or path.is_dir()):
        kind = "a pipe or a device" if path.exists() else "nothing there"
        raise DataError(f"{path}: expected a file, got {kind}; give the path of one")
    splits: dict[str, list[ColumnReport]] = {}
    other_keys: list[str] = []
    problem = layout = corpus = None
    try:
        content = read(path)
        if type(content) is dict:
            for name, columns in content.items():
                if name != "config" and isinstance(columns, dict):
                    splits[_title(name)] = [_column(_title(key), x) for key, x in columns.items()]
                elif not isinstance(columns, list):
                    other_keys.append(_title(name))
        layout = recognise(content, path)
        corpus = corpus_of(content, path, layout)
        if not splits:
            splits = {name: _columns(split) for name, split in corpus.splits.items()}
    except DataError as error:
        problem = str(error)
    labels = [
        score
        for columns in splits.values()
        for column in columns
        for score in (column.minimum, column.maximum)
        if column.name in (mmsa.LABELS, mult.LABELS) and score is not None
    ]
    sha256 = file_sha256(path)
    return FileReport(
        path=str(path),
        size=sum(file.stat().st_size for file in (path.iterdir() if path.is_dir() else (path,))),
        sha256=sha256,
        known_as=KNOWN_FILES.get(sha256) if corpus is None else corpus.known_as,
        splits=splits,
        other_keys=other_keys,
        label_range=(min(labels), max(labels)) if labels else None,
        problem=problem,
        layout=layout,
        corpus=corpus,
    )


def _title(key: Any) -> str:
    """A key as it is printed; keys of a pickle may be anything, as long as it likes."""
    return printable(key, 60) if isinstance(key, str) else excerpt(key)


def _columns(split: Split) -> list[ColumnReport]:
    """Columns from a split, for layouts without columns in the file."""
    columns = {"id": split.ids, mult.LABELS: split.labels, "raw_text": split.raw_text}
    columns |= {f"{mult.LABELS} of {m}": x for m, x in split.unimodal_labels.items()}
    columns |= {"token_ids": split.token_ids, **split.features}
    return [_column(name, x) for name, x in columns.items() if x is not None]


def format_report(report: FileReport) -> str:
    """The report as plain text with aligned columns."""
    labels = "none"
    if report.label_range is not None:
        labels = "{:g} to {:g}".format(*report.label_range)
    lines = [
        printable(Path(report.path).name),
        f"  path      {printable(report.path, 1000)}",
        f"  size      {report.size:,} bytes",
        f"  SHA-256   {report.sha256}",
        f"  known as  {report.known_as or 'not a known public file'}",
        f"  layout    {printable(report.layout or 'unknown')}",
        f"  labels    {labels}",
        f"  loads     {'yes' if report.problem is None else 'no'}",
    ]
    if report.problem is not None:
        lines.append(f"  problem   {printable(report.problem, 2000)}")
    if report.corpus is not None:
        lines += _facts(report.corpus)
    if report.other_keys:
        lines.append(f"  also has  {', '.join(report.other_keys)}")
    # The same widths in all splits, so that their columns line up.
    tables = {name: [_cells(c) for c in columns] for name, columns in report.splits.items()}
    widths = [
        max(len(row[place]) for rows in ([_HEAD], *tables.values()) for row in rows)
        for place in range(len(_HEAD))
    ]
    for name, rows in tables.items():
        sizes = sorted({c.shape[0] for c in report.splits[name] if c.shape})
        samples = " or ".join(map(str, sizes)) or "no"
        lines += ["", f"{name}, {samples} samples"]
        lines += [_line(row, widths) for row in (_HEAD, *rows)]
    return "\n".join(lines) + "\n"


def _facts(corpus: Corpus) -> list[str]:
    lines = [f"  task      {corpus.task}"]
    unimodal = corpus.splits["train"].unimodal_labels
    if unimodal:
        lines.append(f"  one each  labels of {', '.join(unimodal)} alone")
    if corpus.origin is not None:
        name, sha256 = (printable(word) for word in corpus.origin)
        lines.append(f"  made of   {name} (SHA-256 {sha256})")
    if any(corpus.dropped.values()):
        counts = ", ".join(f"{count} of {name}" for name, count in corpus.dropped.items())
        lines.append(f"  left out  {counts}")
    return [*lines, *(f"  note      {printable(note)}" for note in corpus.notes)]


_HEAD = ("column", "shape", "dtype", "min", "max", "NaN", "inf", "absent", "padding")
_RIGHT = ("min", "max", "NaN", "inf", "absent")


def _cells(column: ColumnReport) -> tuple[str, ...]:
    numeric = column.minimum is not None or column.nan or column.inf

    def number(value: float | None) -> str:
        return "" if value is None else f"{value:.4g}"

    return (
        column.name,
        " x ".join(map(str, column.shape)),
        column.dtype,
        number(column.minimum),
        number(column.maximum),
        str(column.nan) if numeric else "",
        str(column.inf) if numeric else "",
        number(column.absent),
        column.padding,
    )


def _line(cells: tuple[str, ...], widths: list[int]) -> str:
    padded = (
        cell.rjust(width) if head in _RIGHT else cell.ljust(width)
        for cell, width, head in zip(cells, widths, _HEAD, strict=True)
    )
    return ("  " + "  ".join(padded)).rstrip()


def _column(name: str, values: Any) -> ColumnReport:
    array = values
    if not isinstance(array, np.ndarray) or array.dtype == object:
        items = list(values) if isinstance(values, list | tuple | np.ndarray) else None
        if items is None:
            return ColumnReport(name, (), type(values).__name__)
        if all(isinstance(item, str | bytes) for item in items):
            return ColumnReport(name, (len(items),), "text", absent=_blank(name, items))
        try:
            array = numbers(items, name, dtype=np.float64)
        except DataError:
            return ColumnReport(name, (len(items),), "ragged or mixed")
    if array.dtype.kind in "US":
        return ColumnReport(name, array.shape, "text", absent=_blank(name, array.ravel().tolist()))
    finite = np.isfinite(array)
    low = high = None
    if finite.any():
        # Booleans and integers are finite, and have no infinity as the initial value.
        bounds = (np.inf, -np.inf) if array.dtype.kind == "f" else (array.max(), array.min())
        low = float(array.min(where=finite, initial=bounds[0]))
        high = float(array.max(where=finite, initial=bounds[1]))
    padding, absent = "", None
    if name in FEATURES and array.ndim == 3 and array.shape[1]:
        padding, absent = _padding(finite & (array != 0))
    nan = int(np.isnan(array).sum())
    dtype = str(array.dtype) if array is values else f"{type(values).__name__} of numbers"
    return ColumnReport(
        name, array.shape, dtype, low, high, nan, int((~finite).sum()) - nan, padding, absent
    )


def _padding(real: np.ndarray) -> tuple[str, int]:
    """The sides with zero frames in (N, T, D), and the number of samples without real frames."""
    frames = real.any(axis=2)
    start, stop = frame_extent(frames)
    here = stop > 0
    sides = {"front": (start[here] > 0).sum(), "end": (stop[here] < frames.shape[1]).sum()}
    padding = ", ".join(f"{side} ({count})" for side, count in sides.items() if count)
    return padding or "none", int((~here).sum())


def _blank(name: str, items: list[str | bytes]) -> int | None:
    return sum(not item.strip() for item in items) if name == "raw_text" else None
