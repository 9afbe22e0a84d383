"""Supervised losses and miners whose batch is that of all ranks, in real processes."""

import pytest
import torch

import mmcontrast as mm
from tests.mmcontrast.strategies import labels, leaf, normal
from tests.ranks import launch

PROGRAMS = [
    "sup_con",
    "many_rows",
    "n_pairs",
    "shares",
    "nobody",
    "negatives",
    "triplets",
    "blocks",
]


@pytest.mark.slow
@pytest.mark.parametrize("world", [2, 3, 4])
def test_on_ranks(world):
    launch(world, "tests.ranks.supervised", *PROGRAMS)


def test_without_a_process_group_a_group_changes_nothing():
    x, ids = normal(1, 9, 3), labels(1, 9, 3)
    assert torch.equal(mm.sup_con(x, ids, group="world"), mm.sup_con(x, ids))
    assert torch.equal(mm.SupCon(group="world")(x, ids), mm.sup_con(x, ids))
    found = mm.hard_negatives(x, x, 3, labels=ids, group="world")
    for value, expected in zip(found, mm.hard_negatives(x, x, 3, labels=ids), strict=True):
        assert torch.equal(value, expected)
    triplets = mm.hard_triplets(x, ids, group="world")
    for value, expected in zip(triplets, mm.hard_triplets(x, ids), strict=True):
        assert torch.equal(value, expected)


@pytest.mark.parametrize(
    "call",
    [
        lambda x, ids: mm.sup_con(x, ids, group=1),
        lambda x, ids: mm.SupCon(group=1)(x, ids),
        lambda x, ids: mm.ratio_contrast(x, x > 0, x < 0, group=1),
        lambda x, ids: mm.hard_negatives(x, x, 1, group=1),
        lambda x, ids: mm.hard_triplets(x, ids, group=1),
    ],
)
def test_what_is_no_group_is_refused(call):
    with pytest.raises(ValueError, match='group: expected "world" or a process group'):
        call(leaf(normal(1, 4, 3)), torch.tensor([0, 0, 1, 1]))
