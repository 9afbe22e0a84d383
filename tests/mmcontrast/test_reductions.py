"""Reductions against loops over anchors, at once and by shares."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mmcontrast.reductions import Reduction
from tests.mmcontrast.strategies import close, leaf, mask, normal, seeds

HOW = ["mean", "sum", "none"]
reductions = st.sampled_from(HOW)


def by_loop(how, values, counted, weight):
    """(B, M) values as lists; a value that is not counted is None."""
    found, number = [], 0.0
    for i, row in enumerate(values.tolist()):
        w = 1.0 if weight is None else weight[i].item()
        for j, value in enumerate(row):
            there = counted is None or counted[i, j].item()
            found.append(w * value if there else 0.0)
            number += w if there else 0.0
    if how == "none":
        return torch.tensor(found, dtype=torch.float64).view(values.shape)
    return sum(found) / (number or 1.0) if how == "mean" else sum(found)


@given(seed=seeds, n=st.integers(0, 5), m=st.integers(1, 3), how=reductions, data=st.data())
def test_values_agree_with_the_loop(seed, n, m, how, data):
    values = normal(seed, n, m)
    counted = mask(seed + 1, n, m) if data.draw(st.booleans()) else None
    weight = normal(seed + 2, n).abs() if data.draw(st.booleans()) else None
    found = Reduction(how, weight).reduce(values.clone(), counted)
    close(found, by_loop(how, values, counted, weight))


@given(seed=seeds, n=st.integers(0, 6), how=reductions, weighted=st.booleans())
def test_shares_are_what_each_value_counts_for(seed, n, how, weighted):
    """``finish`` takes the sum by shares, or the values where nothing is summed."""
    values, counted = normal(seed, n), mask(seed + 1, n)
    reduction = Reduction(how, normal(seed + 2, n).abs() if weighted else None)
    shares = reduction.shares(counted, values[:, None])
    assert (shares is None) == (how == "none")
    done = values if shares is None else (shares * values).sum()
    close(reduction.finish(done, counted), reduction.reduce(values, counted))


@given(seed=seeds, n=st.integers(0, 6), how=reductions, weighted=st.booleans())
def test_shares_of_all_are_those_of_a_mask_of_ones(seed, n, how, weighted):
    rows = normal(seed, n, 2)
    reduction = Reduction(how, normal(seed + 2, n).abs() if weighted else None)
    equal = reduction.shares(None, rows)
    every = reduction.shares(torch.ones(n, dtype=torch.bool), rows)
    assert (equal is None) == (every is None)
    if equal is not None:
        assert weighted or equal.ndim == 0
        close(equal.expand(n), every)


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("weighted", [False, True])
def test_nothing_counted_is_zero_with_a_graph(how, weighted):
    values = leaf(torch.full((3,), torch.inf))
    reduction = Reduction(how, torch.zeros(3) if weighted else None)
    value = reduction.reduce(values, torch.zeros(3, dtype=torch.bool))
    assert (value == 0).all()
    (slope,) = torch.autograd.grad(value.sum(), values)
    assert (slope == 0).all()


def test_a_value_of_zero_counts():
    values, counted = torch.tensor([0.0, 6.0, 9.0]), torch.tensor([True, True, False])
    assert Reduction("mean").reduce(values, counted) == 3


@pytest.mark.parametrize("weight", [torch.ones(2), torch.ones(3, 1)])
def test_weights_are_one_for_each_anchor(weight):
    for call in (
        lambda: Reduction("none", weight).reduce(torch.ones(3), None),
        lambda: Reduction("sum", weight).shares(torch.ones(3) > 0, torch.ones(3, 2)),
        lambda: Reduction("sum", weight).shares(None, torch.ones(3, 2)),
    ):
        with pytest.raises(ValueError, match=r"weight: expected shape \(3,\), got "):
            call()


@pytest.mark.parametrize("weighted", [False, True])
def test_sums_of_large_values_do_not_overflow(weighted):
    """A mean of float32 numbers is one; a sum beyond the largest is the largest."""
    values, weight = torch.tensor([3e38, 2e38, 1e38]), torch.ones(3) if weighted else None
    for how, value, slope in (("mean", 2e38, 1 / 3), ("sum", torch.finfo(torch.float32).max, 1.0)):
        x = leaf(values)
        found = Reduction(how, weight).reduce(x, None)
        close(found, value, rtol=1e-6)
        found.backward()
        close(x.grad, torch.full((3,), slope), rtol=1e-6)
    for value in (torch.inf, torch.nan):
        assert (
            not Reduction("mean", weight)
            .reduce(values.index_fill(0, torch.tensor(1), value), None)
            .isfinite()
        )
