"""HyCon's and MCL-MCF's losses over ranks are those of one process, in real processes."""

import pytest

from tests.ranks import hybrid as on_ranks
from tests.ranks import launch

PROGRAMS = ["by_labels", "selected", "by_masks", "one_loss", "no_rows", "levels"]


@pytest.mark.slow
@pytest.mark.parametrize("world", [2, 3, 4])
def test_on_ranks(world):
    launch(world, "tests.ranks.hybrid", *PROGRAMS)


def test_without_ranks_a_group_changes_nothing():
    for program in PROGRAMS:
        with pytest.MonkeyPatch.context() as patch:
            for module, name in on_ranks.SETTINGS:
                patch.setattr(module, name, getattr(module, name))
            getattr(on_ranks, program)(0, 1)


def test_the_programs_have_uneven_and_empty_ranks():
    assert any(len(set(sizes)) > 1 for sizes in on_ranks.SIZES.values())
    assert any(0 in sizes for sizes in on_ranks.SIZES.values())
