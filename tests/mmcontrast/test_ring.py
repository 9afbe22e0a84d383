"""Candidates that go round the ranks, in real processes."""

import pytest

from tests.mmcontrast.test_distributed import launch


@pytest.mark.slow
@pytest.mark.parametrize("world", [2, 3, 4])
def test_candidates_go_round(world):
    done = launch(
        world, "both_ways", "one_way", "twice", "memory", "chosen", module="ring_programs"
    )
    assert done.returncode == 0, done.stderr[:6000]
