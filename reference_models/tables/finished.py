"""One finished run, read back from its folder."""

import csv
import json
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file


class Run:
    """The test split of a finished run, as the figures need it.

    Attributes:
        config, metrics, history: the three JSON files.
        stages: name -> the history of a part that was trained before the network.
        ids: N names.
        labels, predictions: output -> (N,); the single output of a regression, or of one yes or no,
            is called "".
        fused: (N, D) the inputs of the last layer.

    Raises:
        FileNotFoundError: a folder that holds no finished run.
    """

    def __init__(self, folder: Path) -> None:
        self.config, self.metrics, self.history = (
            json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))
            for name in ("config", "metrics", "history")
        )
        self.stages = {
            path.stem.removeprefix("history-"): json.loads(path.read_text(encoding="utf-8"))
            for path in sorted(folder.glob("history-*.json"))
        }
        with (folder / "predictions.csv").open(encoding="utf-8", newline="") as file:
            rows = [row for row in csv.DictReader(file) if row["split"] == "test"]
        self.ids = [row["id"] for row in rows]
        self.labels, self.predictions = (
            {
                column.removeprefix(kind).lstrip("_"): np.array(
                    [float(row[column]) for row in rows]
                )
                for column in rows[0]
                if column.startswith(kind)
            }
            for kind in ("label", "prediction")
        )
        self.fused = load_file(folder / "fused.safetensors")["test"]

    @property
    def scores(self) -> bool:
        """Whether it predicts scores, and not classes."""
        return "mae" in self.metrics["test"]
