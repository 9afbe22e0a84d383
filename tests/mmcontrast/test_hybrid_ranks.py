"""HyCon's and MCL-MCF's losses over ranks are those of one process, in real processes."""

import pytest

from tests.mmcontrast import hybrid_rank_programs
from tests.ranks import launch

PROGRAMS = ["by_labels", "selected", "by_masks", "one_loss", "no_rows", "levels"]


@pytest.mark.slow
@pytest.mark.parametrize("world", [2, 3, 4])
def test_on_ranks(world):
    launch(world, "tests.mmcontrast.hybrid_rank_programs", *PROGRAMS)


def test_without_ranks_a_group_changes_nothing():
    for program in PROGRAMS:
        with pytest.MonkeyPatch.context() as patch:
            for module, name in hybrid_rank_programs.SETTINGS:
                patch.setattr(module, name, getattr(module, name))
            getattr(hybrid_rank_programs, program)(0, 1)


def test_the_programs_have_uneven_and_empty_ranks():
    assert any(len(set(sizes)) > 1 for sizes in hybrid_rank_programs.SIZES.values())
    assert any(0 in sizes for sizes in hybrid_rank_programs.SIZES.values())
