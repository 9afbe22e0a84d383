"""Labels as masks: every entry is compared with the sentence that defines it."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import mmcontrast as mm
from mmcontrast.masks import columns_of, ignoring, labelled, partner_indices
from tests.mmcontrast.strategies import same_mask
from tests.oracles import both_labelled, pair_mask


def alike(a, b):
    return both_labelled(a, b) and a == b


def unlike(a, b):
    return both_labelled(a, b) and a != b


IDS = st.lists(st.sampled_from([-100, -7, 0, 1, 2, 2**40]), min_size=0, max_size=6)


@given(ids=IDS, others=IDS)
def test_same_and_different_label(ids, others):
    x, y = torch.tensor(ids, dtype=torch.int64), torch.tensor(others, dtype=torch.int64)
    same_mask(mm.same_label(x, y), pair_mask(ids, others, alike))
    same_mask(
        mm.different_label(x, y),
        pair_mask(ids, others, unlike),
    )
    same_mask(mm.same_label(x), pair_mask(ids, ids, alike))
    same_mask(mm.different_label(x), pair_mask(ids, ids, unlike))


@given(ids=st.lists(st.tuples(*[st.sampled_from([0, 1, -100])] * 3), min_size=1, max_size=5))
def test_several_labels_are_equal_in_every_column(ids):
    x = torch.tensor(ids)
    there = [-100 not in row for row in ids]
    pairs = list(zip(ids, there, strict=True))
    same_mask(
        mm.same_label(x), pair_mask(pairs, pairs, lambda a, b: a[1] and b[1] and a[0] == b[0])
    )
    same_mask(
        mm.different_label(x),
        pair_mask(pairs, pairs, lambda a, b: a[1] and b[1] and a[0] != b[0]),
    )


@pytest.mark.parametrize("dtype", [torch.int32, torch.uint8, torch.bool, torch.float32])
def test_law_62_labels_of_every_dtype(dtype):
    x = torch.tensor([1, 0, 1]).to(dtype)
    same_mask(mm.same_label(x), pair_mask([1, 0, 1], [1, 0, 1], lambda a, b: a == b))


@given(ids=st.lists(st.integers(0, 2), min_size=1, max_size=6))
def test_law_26_relabelling_changes_nothing(ids):
    x = torch.tensor(ids)
    other_names = torch.tensor([-(2**40), 5, 2**50])[x]
    assert torch.equal(mm.same_label(x), mm.same_label(other_names))
    assert torch.equal(mm.different_label(x), mm.different_label(other_names))


NUMBERS = st.sampled_from([-100.0, math.nan, 0.0, 1.5])


@given(ids=st.lists(NUMBERS, max_size=6))
def test_neither_nan_nor_minus_100_is_a_label(ids):
    expected = [not (x == -100 or math.isnan(x)) for x in ids]
    assert labelled(torch.tensor(ids)).tolist() == expected


@given(ids=st.lists(st.tuples(NUMBERS, NUMBERS), min_size=1, max_size=6))
def test_a_row_of_labels_has_all_of_them(ids):
    expected = [not any(x == -100 or math.isnan(x) for x in row) for row in ids]
    assert labelled(torch.tensor(ids)).tolist() == expected


def test_labels_outside_a_mask_are_ignored():
    rows = torch.tensor([True, False])
    assert ignoring(torch.tensor([3, 4]), rows).tolist() == [3, -100]
    several = torch.tensor([[3, 4], [5, 6]])
    assert ignoring(several, rows).tolist() == [[3, 4], [-100, -100]]


def test_the_number_of_columns_is_that_of_the_first_mask_of_pairs():
    rows, few, many = torch.ones(2), torch.ones(2, 3), torch.ones(2, 5)
    assert columns_of(None, rows, [None, few], many) == 3
    assert columns_of((rows, many), few) == 5
    assert columns_of(None, rows, [rows]) is None


def test_partners_are_where_the_anchors_are():
    x, y = torch.ones(2, 1, device="meta"), torch.ones(3, 1, device="meta")
    assert partner_indices(x, y, None).device.type == "meta"
    assert partner_indices(x.new_ones(2, 1, device="cpu"), y, None).tolist() == [0, 1]


@pytest.mark.parametrize("n", [0, 1, 4])
def test_off_diagonal(n):
    same_mask(mm.off_diagonal(n), pair_mask(range(n), range(n), lambda a, b: a != b))
    assert mm.off_diagonal(n, device="meta").device.type == "meta"


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: mm.same_label(torch.zeros(2, 2, 2)), r"labels: expected .*\(2, 2, 2\)"),
        (lambda: mm.same_label(torch.zeros(2), torch.zeros(2, 3)), "others: expected .*got"),
        (lambda: mm.different_label(torch.tensor(1.0)), "labels: expected .*got"),
        (lambda: mm.off_diagonal(-1), "n: expected .*got -1"),
        (lambda: mm.off_diagonal(2.5), "n: expected .*got 2.5"),
    ],
)
def test_wrong_calls(call, message):
    with pytest.raises(ValueError, match=message):
        call()
