"""Rows of all ranks, in real processes; a rank that dies is an error, not a wait."""

import pytest
import torch

import mmcontrast as mm
from mmcontrast import distributed
from tests.ranks import distributed as on_ranks
from tests.ranks import launch


@pytest.mark.slow
@pytest.mark.parametrize(
    ("world", "programs"),
    [
        (
            2,
            [
                *("rows", "parameters", "disagree", "groups", "outsiders", "modalities_disagree"),
                *("containers_disagree", "cached"),
            ],
        ),
        (3, ["parameters", "second_derivatives", "samples", "retrieved", "dies"]),
        (4, ["rows", "gradients", "reductions"]),
    ],
)
def test_on_ranks(world, programs):
    launch(world, "tests.ranks.distributed", *programs)


@pytest.mark.slow
def test_losses_miners_and_metrics_of_all_ranks_are_one_graph_for_compilers():
    """Of ranks that disagree, all say so. Together, because each process first gets ready."""
    programs = ("losses", "empty", "found", "mined", "disagreeing")
    launch(2, "tests.ranks.compiled", *programs, timeout=600)


def test_without_a_process_group_it_is_the_identity():
    for value in (torch.randn(3, 2, requires_grad=True), torch.zeros(0, 2), torch.tensor([True])):
        assert mm.gather(value) is value


def test_a_single_number_is_no_rows():
    with pytest.raises(ValueError, match=r"x: expected rows, shape \(B, ...\), got a 0-d tensor"):
        mm.gather(torch.tensor(1.0))


@pytest.mark.parametrize("group", ["", "all", 0, True, [0, 1]])
def test_what_is_no_group_is_refused(group):
    with pytest.raises(ValueError, match='group: expected "world" or a process group'):
        mm.gather(torch.zeros(2, 2), group)


def test_without_other_ranks_a_batch_is_its_own():
    x = torch.randn(3, 2, requires_grad=True)
    for group in (None, "world"):
        rows, own = distributed.joined(x, group)
        assert rows is x
        assert own == slice(0, 3)
        assert distributed.total(x, group) is x


def test_the_programs_have_uneven_and_empty_ranks():
    assert any(len(set(sizes)) > 1 for sizes in on_ranks.SIZES.values())
    assert any(0 in sizes for sizes in on_ranks.SIZES.values())
