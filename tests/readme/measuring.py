"""What finished runs on CMU-MOSI have predicted: a file for each text encoder and seed, in kept.

A table of one encoder takes hours to train, on whatever machine is free: its runs are added up
here. Every metric and every difference is a function of labels and predictions, which is all that
is kept of a run, beside what all runs of an encoder were trained with.
"""

import json
from base64 import b64decode, b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from reference_models.running import folders
from reference_models.running.storage import write
from reference_models.tables.finished import Run

FOLDER = Path(__file__).with_name("kept")
DIGITS = 4
"""Of labels, behind the point."""

Floats = NDArray[np.float64]


class Key(NamedTuple):
    encoder: str
    row: str
    """The folder of the table and of its row: "tecafn/wo_contrast"."""
    seed: int


@dataclass(frozen=True)
class Kept:
    """All runs, and what those of an encoder have in common."""

    labels: Floats
    settings: dict[str, dict[str, Any]]
    predictions: dict[Key, Floats]

    def row(self, encoder: str, row: str) -> dict[int, Floats]:
        """Seed -> (N,) predictions."""
        found = {k.seed: x for k, x in self.predictions.items() if k[:2] == (encoder, row)}
        return dict(sorted(found.items()))


@cache
def kept() -> Kept:
    """What the files have; nothing where there are none."""
    labels: Floats = np.array([])
    settings, predictions = {}, {}
    for path in sorted(FOLDER.glob("*.jsonl")):
        head, *rows = map(json.loads, path.read_text().splitlines())
        labels, encoder = np.array(head["labels"]), head["encoder"]
        settings[encoder] = head["setting"]
        for row in rows:
            values = np.frombuffer(b64decode(row["predictions"]), "<f4")
            predictions[Key(encoder, row["row"], head["seed"])] = values.astype(np.float64)
    return Kept(labels, settings, predictions)


def add(encoder: str, folder: Path) -> list[Key]:
    """Keep the finished runs below a folder, ``TABLE/ROW/seed-N`` each, in the place of older ones.

    Raises:
        ValueError: other labels or another training than those that are kept; a run of another
            model than its table's, one of two of a seed, or one with other settings of the model,
            modalities or text encoder than another run of its row.
    """
    now = kept()
    labels, setting = now.labels, now.settings.get(encoder)
    found: dict[Key, Floats] = {}
    rows: dict[str, dict[str, Any]] = {}
    for path in sorted(folder.glob("*/*/seed-*")):
        if folders.state(path) != "finished":
            continue
        run = Run(path)
        own, training = run.labels[""].round(DIGITS), trained_with(run.config)
        labels = labels if len(labels) else own
        if not np.array_equal(own, labels):
            raise ValueError(f"{path}: expected the labels of the runs that are kept, got others")
        setting = setting or training
        if training != setting:
            raise ValueError(f"{path}: expected {setting}, got {training}")
        row = path.parent.relative_to(folder).as_posix()
        own_row = rows.setdefault(row, of_a_row(run.config))
        model = row.split("/")[0].removesuffix("-residual")
        if own_row != of_a_row(run.config) or model != run.config["model"]:
            raise ValueError(f"{path}: expected {own_row} below {row}, got {of_a_row(run.config)}")
        key = Key(encoder, row, run.config["seed"])
        if key in found:
            raise ValueError(f"{path}: expected one run of its seed in {row}, got two")
        found[key] = run.predictions[""]
    if found:
        store(labels, now.settings | {encoder: setting}, now.predictions | found)
    return list(found)


def store(
    labels: Floats, settings: Mapping[str, Mapping[str, Any]], predictions: Mapping[Key, Floats]
) -> None:
    """Write all files."""
    files: dict[str, list[dict[str, Any]]] = {}
    for key, found in sorted(predictions.items()):
        common = {"labels": labels.tolist(), "setting": settings[key.encoder]}
        head = {"encoder": key.encoder, "seed": key.seed, **common}
        values = b64encode(found.astype("<f4").tobytes()).decode()  # to the last bit
        lines = files.setdefault(f"{key.encoder}-{key.seed}.jsonl", [head])
        lines.append({"row": key.row, "predictions": values})
    FOLDER.mkdir(exist_ok=True)
    for name, lines in files.items():
        write(FOLDER / name, "".join(json.dumps(line) + "\n" for line in lines))
    kept.cache_clear()


def of_a_row(config: Mapping[str, Any]) -> dict[str, Any]:
    """What runs of a row have in common, wherever the text encoder lay."""
    encoder = Path(config["text"]["encoder"] or "").name
    own = {key: config[key] for key in ("model", "model_config", "modalities")}
    return own | {"text encoder": encoder}


def trained_with(config: Mapping[str, Any]) -> dict[str, Any]:
    """Data and training of a run, which all runs of an encoder must share."""
    return {"data": config["data"]["sha256"], **config["training"]}
