"""How many examples of each law: few in ``make test``, 100 with MMCONTRAST_EXAMPLES=100; and which.

The profiles of tests/examples.py say both.
"""

import os

import pytest

from tests import examples as profiles


@pytest.fixture(scope="session")
def examples() -> int:
    return int(os.environ.get("MMCONTRAST_EXAMPLES", profiles.as_many(2)))


@pytest.fixture(scope="session")
def seed() -> int | None:
    return profiles.seed()
