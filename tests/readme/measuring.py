"""What finished runs on CMU-MOSI have predicted, kept as one line of JSON each.

A table of one encoder takes hours to train, on whatever machine is free: its runs are added up
here. Every metric and every difference is a function of labels and predictions, which is all that
is kept of a run, beside what it was trained with.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from reference_models.running import folders
from reference_models.running.storage import write
from reference_models.tables.finished import Run

FILE = Path(__file__).with_name("measured.jsonl")
DIGITS = 4
"""Of predictions, behind the point."""

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
    """What the file has; nothing where there is none."""
    lines = map(json.loads, FILE.read_text().splitlines()) if FILE.exists() else iter(())
    labels: Floats = np.array(next(lines, {"labels": []})["labels"])
    settings, predictions = {}, {}
    for line in lines:
        settings[line["encoder"]] = line["setting"]
        predictions[Key(line["encoder"], line["row"], line["seed"])] = np.array(line["predictions"])
    return Kept(labels, settings, predictions)


def add(encoder: str, folder: Path) -> list[Key]:
    """Keep the finished runs below a folder, ``TABLE/ROW/seed-N`` each, in the place of older ones.

    Raises:
        ValueError: other labels or another training than those that are kept.
    """
    now = kept()
    labels, settings, found = now.labels, dict(now.settings), {}
    for path in sorted(folder.glob("*/*/seed-*")):
        if folders.state(path) != "finished":
            continue
        run = Run(path)
        own, training = run.labels[""].round(DIGITS), trained_with(run.config)
        labels = labels if len(labels) else own
        if not np.array_equal(own, labels):
            raise ValueError(f"{path}: expected the labels of the runs that are kept, got others")
        if training != settings.setdefault(encoder, training):
            raise ValueError(f"{path}: expected {settings[encoder]}, got {training}")
        row = path.parent.relative_to(folder).as_posix()
        found[Key(encoder, row, run.config["seed"])] = run.predictions[""]
    write(FILE, "".join(_lines(labels, settings, now.predictions | found)))
    kept.cache_clear()
    return list(found)


def trained_with(config: Mapping[str, Any]) -> dict[str, Any]:
    """Data and training of a run, which all runs of an encoder must share."""
    return {"data": config["data"]["sha256"], **config["training"]}


def _lines(
    labels: Floats, settings: Mapping[str, Any], predictions: Mapping[Key, Floats]
) -> Iterable[str]:
    def line(values: Mapping[str, Any]) -> str:
        return json.dumps(values) + "\n"

    yield line({"labels": labels.tolist()})
    for key, found in sorted(predictions.items()):
        setting = settings[key.encoder]
        rounded = found.round(DIGITS).tolist()
        yield line({**key._asdict(), "setting": setting, "predictions": rounded})
