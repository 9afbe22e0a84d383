"""A finished run, read back."""

import numpy as np
import pytest
from safetensors.numpy import save_file

from reference_models.tables.finished import Run
from tests.reference_models.tables.test_figures import EMOTIONS, rows_of, run_folder


def test_a_run_is_its_test_split(tmp_path):
    run = Run(run_folder(tmp_path / "a", stage=True))
    rows = rows_of(tmp_path / "a")
    assert run.ids == [row["id"] for row in rows]
    assert run.labels[""].tolist() == [float(row["label"]) for row in rows]
    assert run.predictions[""].tolist() == [float(row["prediction"]) for row in rows]
    assert (len(run.history), list(run.stages), len(run.stages["teacher"])) == (3, ["teacher"], 2)
    assert run.fused.shape == (40, 5)
    four = Run(run_folder(tmp_path / "b", "iemocap"))
    assert tuple(four.labels) == tuple(four.predictions) == EMOTIONS


def test_a_folder_without_a_run_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        Run(tmp_path)


def test_features_of_other_samples_are_an_error(tmp_path):
    folder = run_folder(tmp_path / "a", samples=12)
    save_file({"test": np.zeros((11, 5), np.float32)}, folder / "fused.safetensors")
    with pytest.raises(
        ValueError, match=r"features of as many test samples .* 12, got the shape \(11"
    ):
        Run(folder)
