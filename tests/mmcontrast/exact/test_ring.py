"""Candidates that go round the ranks, in real processes."""

import pytest

from tests.ranks import launch


@pytest.mark.slow
@pytest.mark.parametrize("world", [2, 3])
def test_candidates_go_round(world):
    launch(
        world, "tests.ranks.ring", "both_ways", "one_way", "twice", "lone_pair", "memory", "chosen"
    )
