"""How many examples of each law: few in ``make test``, 100 with MMCONTRAST_EXAMPLES=100."""

import os

import pytest

from tests.examples import as_many


@pytest.fixture(scope="session")
def examples() -> int:
    return int(os.environ.get("MMCONTRAST_EXAMPLES", as_many(2)))
