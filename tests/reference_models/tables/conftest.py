"""What the tests of tables share."""

import json
import shutil

import pytest

from reference_models.data import data_sets
from reference_models.running import runs
from tests.reference_models.tables.reproduced import SIZES, corpus_file, leave_blank, run
from tests.reference_models.tables.test_figures import run_folder


@pytest.fixture(scope="session")
def file(tmp_path_factory):
    return corpus_file(tmp_path_factory.mktemp("data") / "corpus.pkl")


@pytest.fixture(scope="session")
def trained(file, tmp_path_factory):
    out = tmp_path_factory.mktemp("trained") / "hycon-alpha"
    with pytest.MonkeyPatch.context() as patch:  # the pages after each but the last
        leave_blank(patch)
        run(file, out)
    run(file, out)
    return out


@pytest.fixture(scope="module")
def finished(trained, tmp_path_factory):
    """A reproduced table of two rows and two seeds, which a module may add to."""
    return shutil.copytree(trained, tmp_path_factory.mktemp("reproduced") / "hycon-alpha")


@pytest.fixture
def no_training(monkeypatch):
    def train(*arguments, **options):
        raise AssertionError("nothing is to be trained")

    monkeypatch.setattr(runs, "train", train)


@pytest.fixture
def as_mosi(monkeypatch):
    """A corpus of this size counts as CMU-MOSI."""
    monkeypatch.setitem(data_sets.SIZES, SIZES, "mosi")


@pytest.fixture(scope="module")
def sweep_folder(tmp_path_factory):
    """Two values of one setting, two seeds each, and a file that is no run."""
    folder = tmp_path_factory.mktemp("sweep")
    for margin in (0.5, 0.9):
        for seed in (1, 2):
            config = {"seed": seed, "model_config": {"margin": margin}}
            place = folder / f"{margin}" / f"seed-{seed}"
            run_folder(place, config=config, samples=12)
            results = json.loads((place / "metrics.json").read_text())
            results["test"]["mae"] = margin + seed
            (place / "metrics.json").write_text(json.dumps(results))
    (folder / "table.md").write_text("a table")
    return folder
