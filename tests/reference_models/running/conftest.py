"""What the tests of runs share."""

import pytest

from tests.reference_models.running.test_runs import corpus_file


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    return corpus_file(tmp_path_factory.mktemp("data") / "corpus.pkl")
