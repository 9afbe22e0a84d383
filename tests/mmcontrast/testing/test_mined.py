"""What a miner returned is read in all its forms, and what it could have returned."""

from dataclasses import dataclass
from types import SimpleNamespace
from typing import NamedTuple

import pytest
import torch
from torch import Tensor

import mmcontrast as mm
from mmcontrast.testing import LawBroken, Traits
from mmcontrast.testing.batch import Batch
from mmcontrast.testing.mined import (
    apart,
    complete,
    demand_hardest,
    legal,
    mine,
    mined_of,
    same_choice,
    takes_hardest,
    tensors_in,
)
from mmcontrast.testing.subject import Subject


class Found(NamedTuple):
    indices: Tensor
    valid: Tensor


@dataclass(slots=True)
class Slots:
    indices: Tensor
    valid: Tensor


TABLE = torch.tensor([[1, 2], [0, 2], [1, 0]])
SOME = torch.tensor([[True, True], [True, False], [False, False]])
PAIRS = [[0, 1], [0, 2], [1, 0]]
MASK = torch.zeros(3, 3, dtype=torch.bool).index_put(
    tuple(torch.tensor(PAIRS).T), torch.tensor(True)
)
A, N = torch.tensor(PAIRS).T
P = torch.tensor([2, 1, 2])


@pytest.mark.parametrize(
    ("result", "positives"),
    [
        (Found(TABLE, SOME), None),
        (Slots(TABLE, SOME), None),
        (MASK, None),
        ((MASK.T, MASK), MASK.T),
        ((A, P, A, N), [[0, 1], [0, 2], [1, 2]]),
        ((torch.tensor([0, 2]), torch.tensor([1, 2]), A, N), [[0, 1], [2, 2]]),
        ((A, P, N), [[0, 1], [0, 2], [1, 2]]),
        ([A.int(), P.int(), N.int()], [[0, 1], [0, 2], [1, 2]]),
    ],
)
def test_forms(result, positives):
    found = mined_of(result, 3)
    assert found.negatives.nonzero().tolist() == PAIRS
    if positives is None:
        assert found.positives is None
        assert list(found.sides) == ["negatives"]
    else:
        expected = positives.nonzero().tolist() if isinstance(positives, Tensor) else positives
        assert found.positives.nonzero().tolist() == expected


def test_a_table_alone_is_all_valid():
    (pairs,) = mined_of(TABLE, 3).tuples
    assert pairs.tolist() == [[0, 1], [0, 2], [1, 0], [1, 2], [2, 1], [2, 0]]


def test_a_triplet_of_one_row_is_none():
    own = torch.tensor([0, 1])
    found = mined_of((own, torch.tensor([2, 1]), torch.tensor([1, 1])), 3)
    assert [x.tolist() for x in found.tuples] == [[[0, 2, 1]]]
    assert found.negatives.sum() == found.positives.sum() == 1


def test_pairs_keep_how_often_they_came():
    (pairs,) = mined_of(torch.tensor([[1, 1], [0, 0]]), 2).tuples
    assert pairs.tolist() == [[0, 1]] * 2 + [[1, 0]] * 2
    first = torch.tensor([0, 0])
    positives, negatives = mined_of((first, first + 1, first[:1], first[:1] + 2), 3).tuples
    assert positives.tolist() == [[0, 1]] * 2
    assert negatives.tolist() == [[0, 2]]


@pytest.mark.parametrize(
    ("result", "message"),
    [
        (None, "returned a NoneType: expected"),
        ((), "returned 0 values"),
        ((A,) * 5, "returned 5 values"),
        ((A, P, [0, 1]), "returned 3 values"),
        (torch.rand(3, 2), r"indices is torch.float32 \(3, 2\), expected integers"),
        (torch.tensor([1, 0, 1]), r"indices of shape \(3,\) for 3 anchors"),
        (TABLE[:2], r"indices of shape \(2, 2\) for 3 anchors"),
        (TABLE - 1, r"indices is \[-1, -1\], where rows are 0 to 2"),
        (TABLE + 1, r"indices is \[3, 3\], where rows are 0 to 2"),
        (Found(TABLE, SOME[:2]), "valid is torch.bool"),
        (Found(TABLE, SOME.int()), "valid is torch.int32"),
        (Found(TABLE, SOME.tolist()), "valid is 3 values"),
        (TABLE.cfloat(), "indices is torch.complex64"),
        (MASK[:2], r"a mask of torch.bool \(2, 3\) for 3 rows"),
        ((MASK, MASK.int()), "a mask of torch.int32"),
        ((A, P[:2], N), r"lengths \[3, 2, 3\]"),
        ((A, P[:2], A, N), r"lengths \[3, 2, 3, 3\]"),
        ((A, P, A, N[:2]), r"lengths \[3, 3, 3, 2\]"),
        ((A, P, N[:, None]), "expected one axis"),
        ((A.double(), P, N), "expected integers"),
        ((A, P, N + 3), "where rows are 0 to 2"),
    ],
)
def test_what_cannot_be_read_breaks_the_first_law(result, message):
    with pytest.raises(LawBroken, match=message):
        mined_of(result, 3)


def test_entries_that_are_not_valid_may_hold_anything():
    found = mined_of(Found(torch.where(SOME, TABLE, -1), SOME), 3)
    assert found.negatives.nonzero().tolist() == PAIRS


def test_taken_in_another_order():
    found = mined_of((MASK.T, MASK), 3).take([2, 0, 1])
    assert found.negatives.nonzero().tolist() == [[1, 0], [1, 2], [2, 1]]
    assert torch.equal(found.positives, found.negatives.T)


def test_tensors_in_a_result():
    assert tensors_in(MASK) == [MASK]
    assert len(tensors_in(Found(TABLE, SOME))) == 2
    assert len(tensors_in(Slots(TABLE, SOME))) == 2
    assert len(tensors_in(SimpleNamespace(indices=TABLE, valid=SOME, k=2))) == 2
    with pytest.raises(LawBroken, match="returned a tuple"):
        tensors_in((1, 2))
    with pytest.raises(LawBroken, match="returned a int"):
        tensors_in(3)


def test_a_miner_is_called_as_its_kind_is():
    z = torch.eye(3, dtype=torch.float64)
    pair = Batch("miner", {"a": z, "b": z})
    found = mine(Subject(lambda a, b: mm.hard_negatives(a, b, 1), Traits(kind="miner")), pair)
    assert found.negatives.sum(1).tolist() == [1, 1, 1]
    labelled = Batch("labelled_miner", {"z": z}, torch.tensor([0, 0, 1]))
    subject = Subject(mm.hard_triplets, Traits(kind="labelled_miner"))
    assert mine(subject, labelled).positives.nonzero().tolist() == [[0, 1], [1, 0]]


def test_who_may_be_chosen():
    z = torch.eye(4)
    paired = legal(Traits(kind="miner"), Batch("miner", {"a": z, "b": z}))
    assert torch.equal(paired["positives"], z.bool())
    assert torch.equal(paired["negatives"], ~z.bool())
    labels = torch.tensor([0, 0, 1, -100])
    batch = Batch("labelled_miner", {"z": z}, labels)
    ignored = legal(Traits(kind="labelled_miner", ignore_index=-100), batch)
    assert ignored["negatives"].nonzero().tolist() == [[0, 2], [1, 2], [2, 0], [2, 1]]
    assert complete(ignored).tolist() == [True, True, False, False]
    as_class = legal(Traits(kind="labelled_miner"), batch)
    assert as_class["negatives"].sum() == 10


def test_what_is_hard():
    z = torch.tensor([[1.0, 0.0], [0.0, 2.0]])
    labelled = Batch("labelled_miner", {"z": z}, torch.tensor([0, 1]))
    assert apart(Traits(kind="labelled_miner"), labelled).tolist() == [[0, 1], [1, 0]]
    pair = Batch("miner", {"a": z, "b": 2 * z})
    far = apart(Traits(kind="miner", distance=mm.manhattan), pair)
    assert far.dtype == torch.float64
    assert far.tolist() == [[1, 5], [4, 2]]


def test_two_choices_are_compared_side_by_side():
    both = mined_of((A, P, N), 3)
    same_choice(both, mined_of((A, P, A, N), 3), ("these", "those"))
    other = mined_of((A, P, A[:2], N[:2]), 3)
    with pytest.raises(LawBroken, match=r"the negatives are .* \[1, 0\]\] for these but .* those"):
        same_choice(both, other, ("these", "those"))


FAR = torch.tensor([[0.0, 1.0, 2.0]], dtype=torch.float64)
MAY = torch.tensor([[False, True, True]])
EVERY, NOBODY = torch.tensor([True]), torch.tensor([False])


@pytest.mark.parametrize(
    ("side", "chosen", "rows", "right"),
    [
        ("negatives", [1], EVERY, True),
        ("negatives", [2], EVERY, False),
        ("negatives", [1, 2], EVERY, True),
        ("negatives", [0, 1], EVERY, True),  # 0 may not be chosen: another law says so
        ("negatives", [0, 2], EVERY, False),
        ("negatives", [], EVERY, False),
        ("negatives", [], NOBODY, True),
        ("negatives", [2], NOBODY, True),
        ("positives", [2], EVERY, True),
        ("positives", [1], EVERY, False),
    ],
)
def test_close_negatives_and_far_positives_are_hard(side, chosen, rows, right):
    mask = torch.zeros(1, 3, dtype=torch.bool)
    mask[0, chosen] = True
    if right:
        demand_hardest(side, mask, MAY, rows, FAR, 1e-8)
    else:
        with pytest.raises(LawBroken, match="anchor 0 gets"):
            demand_hardest(side, mask, MAY, rows, FAR, 1e-8)


def test_ties_up_to_rounding_are_equally_hard():
    second = torch.tensor([[False, False, True]])
    nearly = torch.tensor([[0.0, 1.0, 1.0 + 1e-9]], dtype=torch.float64)
    demand_hardest("negatives", second, MAY, EVERY, nearly, 1e-8)
    with pytest.raises(LawBroken, match=r"one at the distance 1\.000000001, and not one at 1"):
        demand_hardest("negatives", second, MAY, EVERY, nearly, 1e-10)


def test_only_who_takes_the_hardest_is_held_to_it():
    assert takes_hardest(Traits(kind="miner"))
    assert not takes_hardest(Traits(kind="miner", hardest=("positives",)))
