"""What the tests of runs share."""

import pytest

from tests.reference_models.running.test_runs import corpus_file, train


@pytest.fixture(scope="session")
def file(tmp_path_factory):
    return corpus_file(tmp_path_factory.mktemp("data") / "corpus.pkl")


@pytest.fixture(scope="session")
def finished(file, tmp_path_factory):
    """A run's folder, which stays as it is, and what the training returned."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    return folder, train(file, folder)
