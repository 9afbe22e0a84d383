"""How many examples Hypothesis draws, by the profile that runs.

``dev``, unless something else is asked for: 25 from a random seed. ``ci``, of ``make test`` and
where ``CI`` is set: the same 25 on every run. ``nightly``, of ``make nightly``: 250 from a random
seed, and what failed is kept in ``.hypothesis`` and tried first by every later run of it. The
environment variable HYPOTHESIS_PROFILE or pytest's ``--hypothesis-profile`` names one.
"""

import os
import secrets
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis.database import DirectoryBasedExampleDatabase

USUAL = 25
"""Of a test that says nothing else."""


KEPT = Path(__file__).resolve().parents[1] / ".hypothesis" / "examples"
"""There from any folder, such as one that a test has gone to."""


def register() -> None:
    """The profiles, of which one is loaded."""
    # Each says all: where CI is set, Hypothesis has settings of its own that would be inherited.
    common = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow]}
    kept = DirectoryBasedExampleDatabase(KEPT)
    drawn = {"derandomize": False, "database": kept, **common}
    settings.register_profile("dev", max_examples=USUAL, **drawn)
    settings.register_profile("nightly", max_examples=10 * USUAL, print_blob=True, **drawn)
    settings.register_profile(
        "ci", max_examples=USUAL, derandomize=True, database=None, print_blob=True, **common
    )
    usual = "ci" if os.environ.get("CI") else "dev"
    settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", usual))


def as_many(number: int) -> int:
    """``number`` where the profile draws the usual ones, and ten times as many where it does."""
    return number * settings().max_examples // USUAL


def seed() -> int | None:
    """Of the law suite, which knows no profile: None, the same examples each time, under ``ci``."""
    return None if settings().derandomize else secrets.randbelow(2**32)
