"""One finished run, read back from its folder."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from reference_models.running.records import (
    REPAIR,
    expect_fields,
    run_config,
    run_history,
    run_metrics,
    run_predictions,
    written,
)
from reference_models.running.storage import read_tensors


def columns_by_output(columns: Iterable[str], kind: str) -> dict[str, str]:
    """Output -> its column of one kind, "label" or "prediction", among those of predictions.csv.

    >>> columns_by_output(["id", "label_happy", "prediction_happy", "label_sad"], "label")
    {'happy': 'label_happy', 'sad': 'label_sad'}
    """
    own = (column for column in columns if column.startswith(kind))
    return {column.removeprefix(kind).lstrip("_"): column for column in own}


class Run:
    """The test split of a finished run, as the figures need it.

    Attributes:
        folder: where it lies.
        config, metrics, history: the three JSON files.
        stages: name -> the history of a part that was trained before the network.
        ids: N names.
        labels, predictions: output -> (N,); the single output of a regression, or of one yes or no,
            is called "".
        fused: (N, D) the inputs of the last layer.

    Raises:
        ValueError: a folder that holds no finished run, or one whose files are cut or changed.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.config, self.metrics = run_config(folder), run_metrics(folder)
        expect_fields(self.metrics, {"best_epoch": int}, folder / "metrics.json")
        self.history = run_history(folder)
        names = (p.stem.removeprefix("history-") for p in sorted(folder.glob("history-*.json")))
        self.stages = {name: run_history(folder, name) for name in names}
        rows = run_predictions(folder)
        self.ids = [row["id"] for row in rows]
        self.labels, self.predictions = (
            {
                output: np.array([float(row[column]) for row in rows])
                for output, column in columns_by_output(rows[0], kind).items()
            }
            for kind in ("label", "prediction")
        )
        if self.labels.keys() != self.predictions.keys() or (self.scores and "" not in self.labels):
            raise ValueError(
                f"{folder / 'predictions.csv'}: expected labels and predictions of the same"
                f" outputs, got those of {', '.join(self.labels)!r} and of"
                f" {', '.join(self.predictions)!r}; {REPAIR}"
            )
        tensors = read_tensors(written(folder, "fused.safetensors"))
        self.fused = tensors["test"].numpy() if "test" in tensors else np.zeros(0)
        if self.fused.ndim != 2 or len(self.fused) != len(rows) or not rows:
            raise ValueError(
                f"{folder}: expected features of as many test samples as predictions.csv has,"
                f" {len(rows)}, got the shape {self.fused.shape}; {REPAIR}"
            )

    @property
    def scores(self) -> bool:
        """Whether it predicts scores, and not classes."""
        return "mae" in self.metrics["test"]
