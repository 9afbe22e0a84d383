"""What a finished run has written, read back: refused where it is cut, changed or never was one.

``metrics.json`` holds the SHA-256 of every other file of the run. Whatever is read is compared with
it first, and its structure is checked all the same: a run folder may come from elsewhere.
"""

import csv
import io
import math
import re
from collections.abc import Mapping
from itertools import chain
from pathlib import Path
from typing import Any

from reference_models.data.corpus import file_sha256
from reference_models.running.storage import read_json, regular

CHECKSUMS = "sha256"
WRITTEN = ("*.json", "*.csv", "*.safetensors", "tokenizer/*", "text_encoder/*")
CONFIG = {
    "model": str,
    "seed": int,
    "data": dict,
    "data.sha256": str,
    "modalities": list,
    "text": dict,
    "model_config": dict,
    "training": dict,
}
KINDS = {str: "a text", int: "a whole number", dict: "an object", list: "a list"}
REPAIR = "put the file back, or delete the folder and train again"


def checksums(folder: Path) -> dict[str, str]:
    """The SHA-256 of each file of a run but ``metrics.json``, by its name in the folder."""
    found = sorted(chain.from_iterable(folder.glob(pattern) for pattern in WRITTEN))
    named = {path.relative_to(folder).as_posix(): path for path in found if path.is_file()}
    return {name: file_sha256(path) for name, path in named.items() if name != "metrics.json"}


def written(folder: Path, name: str) -> Path:
    """A file of a finished run, or a folder with its files, as the run wrote them.

    Raises:
        FileNotFoundError: it is not there; ValueError: it was cut or changed.
    """
    path, sums = folder / name, run_metrics(folder).get(CHECKSUMS, {})
    if any(known.startswith(f"{name}/") for known in sums) or path.is_dir():
        for known in sums:
            if known.startswith(f"{name}/"):
                written(folder, known)
    elif name in sums and file_sha256(regular(path)) != sums[name]:
        raise ValueError(
            f"{path}: expected the file that the run wrote, got one that was cut or changed;"
            f" {REPAIR}"
        )
    else:
        regular(path)
    return path


def expect_fields(values: Any, kinds: Mapping[str, type], path: Path) -> None:
    """Check the fields of an object in a JSON file; ``a.b`` is the field b of the field a.

    Raises:
        ValueError: names the file, the field, what was expected and what came.
    """
    for name, kind in kinds.items():
        value: Any = values
        for part in name.split("."):
            value = value.get(part) if isinstance(value, dict) else None
        if not isinstance(value, kind) or isinstance(value, bool):
            raise ValueError(
                f"{path}: expected {KINDS[kind]} as {name}, got {str(value)[:60]!r}; {REPAIR}"
            )


def run_config(folder: Path) -> dict[str, Any]:
    """The content of ``config.json``.

    Raises:
        ValueError: no file, a changed one, or one that lacks what every run has.
    """
    path = written(folder, "config.json")
    config = read_json(path)
    expect_fields(config, CONFIG, path)
    if not all(isinstance(name, str) for name in config["modalities"]):
        raise ValueError(f"{path}: expected names as modalities, got others; {REPAIR}")
    return config


def run_metrics(folder: Path) -> dict[str, Any]:
    """The content of ``metrics.json``.

    Raises:
        ValueError: no file, or one that holds no metrics of the test split.
    """
    path = folder / "metrics.json"
    metrics = read_json(path)
    expect_fields(metrics, {"test": dict}, path)
    sums = metrics.get(CHECKSUMS, {})
    if not _are_numbers(metrics["test"]) or not isinstance(sums, dict):
        raise ValueError(f"{path}: expected metrics by name, got others; {REPAIR}")
    return metrics


def run_history(folder: Path, stage: str = "") -> list[dict[str, Any]]:
    """The content of ``history.json``, or of that of a stage: one row for each epoch.

    Raises:
        ValueError: no file, a changed one, or one without such rows.
    """
    path = written(folder, f"history-{stage}.json" if stage else "history.json")
    rows = read_json(path)
    if not (
        isinstance(rows, list)
        and rows
        and all(isinstance(row, dict) and row.keys() == rows[0].keys() for row in rows)
        and all(_are_numbers(row) and isinstance(row.get("epoch"), int) for row in rows)
    ):
        raise ValueError(f"{path}: expected numbers by name for each epoch, got others; {REPAIR}")
    return rows


def run_predictions(folder: Path) -> list[dict[str, str]]:
    """The rows of ``predictions.csv`` that are of the test split; their ids as the data has them.

    Raises:
        ValueError: no file, a changed or a cut one, or a column that is not of finite numbers.
    """
    path = written(folder, "predictions.csv")
    try:
        text = path.read_bytes().decode("utf-8")
        reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
        rows = list(reader)
        if not text.endswith("\n"):
            raise ValueError("no end of the last line")
        names = reader.fieldnames or []
        kinds = {name.partition("_")[0] for name in names[2:]}
        if names[:2] != ["split", "id"] or not {"label", "prediction"} <= kinds or not rows:
            raise ValueError(f"the columns {', '.join(names):.60}")
        for row in rows:
            if None in row or None in row.values():
                raise ValueError("a row of another length")
            if not all(math.isfinite(float(row[name])) for name in names[2:]):
                raise ValueError("a number that is not finite")
    except (ValueError, csv.Error) as error:
        raise ValueError(
            f"{path}: expected split, id and finite numbers, got something else ({error}); {REPAIR}"
        ) from error
    return [row | {"id": plain_id(row["id"])} for row in rows if row["split"] == "test"]


def quoted_id(name: str) -> str:
    """An id as ``predictions.csv`` has it: no spreadsheet takes it for a formula.

    One that begins like a formula, or with an apostrophe, gets an apostrophe in front, which
    spreadsheets hide and :func:`plain_id` removes. A minus before nothing but letters, digits and
    ``_ - . $`` is left as it is: many videos have such names, and they can call nothing.
    """
    return f"'{name}" if re.match(r"['=+@\s＝＋－＠]|-(?![\w.$-]*\Z)", name) else name


def plain_id(text: str) -> str:
    """The id that :func:`quoted_id` was given."""
    return text.removeprefix("'")


def _are_numbers(values: Any) -> bool:
    """Whether it is an object of numbers or nulls, or of such objects, under plain names."""
    # Plain: a figure's legend would take a $ for the beginning of a formula.
    return isinstance(values, dict) and all(
        re.fullmatch(r"[\w.+-]+", name)
        and (value is None or isinstance(value, int | float) or _are_numbers(value))
        for name, value in values.items()
    )
