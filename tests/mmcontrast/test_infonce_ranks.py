"""InfoNCE, its forms and the sigmoid loss over several ranks, against one process on all rows."""

import pytest
import torch

import mmcontrast as mm
from tests.mmcontrast.strategies import normal
from tests.ranks import infonce as on_ranks
from tests.ranks import launch


@pytest.mark.slow
@pytest.mark.parametrize(
    ("world", "programs"),
    [
        (1, ["values", "modules"]),
        (2, ["values", "sizes", "shifts", "products", "disagree", "modules"]),
        (3, ["values", "second_derivatives", "single_precision"]),
        (4, ["values", "sizes", "shifts"]),
    ],
)
def test_on_ranks(world, programs):
    launch(world, "tests.ranks.infonce", *programs)


def test_without_a_process_group_the_loss_is_its_own():
    x, y = normal(1, 5, 3), normal(2, 5, 3)
    for form in (mm.info_nce, mm.symmetric_info_nce, mm.matched_pair_nce, mm.sigmoid_contrast):
        assert torch.equal(form(x, y, group="world"), form(x, y))
        with pytest.raises(ValueError, match='group: expected "world" or a process group'):
            form(x, y, group="everyone")


def test_the_programs_have_uneven_and_empty_ranks_and_ranks_on_different_paths():
    assert any(0 in sizes for sizes in on_ranks.SIZES.values())
    for sizes in on_ranks.LARGE.values():
        pairs = [size * sum(sizes) for size in sizes]
        assert min(pairs) < on_ranks.LEAST < max(pairs)
