"""Picking one candidate of each row against loops."""

import math

import torch
from hypothesis import given
from hypothesis import strategies as st

import mmcontrast as mm
from tests import oracles
from tests.mmcontrast.strategies import (
    mask,
    normal,
    rng,
    seeds,
    with_ties,
)


@given(
    seed=seeds, n=st.integers(1, 6), m=st.integers(1, 6), largest=st.booleans(), ties=st.booleans()
)
def test_extreme_agrees_with_the_oracle(seed, n, m, largest, ties):
    similarity = with_ties(seed, n, m) if ties else normal(seed, n, m)
    chosen = mask(seed + 1, n, m)
    index, found = mm.extreme(similarity, chosen, largest=largest)
    assert index.dtype == torch.int64
    for i in range(n):
        available = [j for j in range(m) if chosen[i, j]]
        sign = -1 if largest else 1
        order = oracles.lowest([sign * similarity[i, j].item() for j in available], 1)
        assert found[i].item() == bool(available)
        assert index[i].item() == (available[order[0]] if available else 0)


@given(seed=seeds, n=st.integers(1, 6), m=st.integers(1, 6))
def test_sample_one_returns_a_member_of_each_row(seed, n, m):
    chosen = mask(seed, n, m)
    index, found = mm.sample_one(chosen, generator=rng(seed))
    assert torch.equal(found, chosen.any(dim=1))
    assert chosen[found, index[found]].all()
    assert (index[~found] == 0).all()
    again, _ = mm.sample_one(chosen, generator=rng(seed))
    assert torch.equal(index, again)


def test_sample_one_is_uniform():
    """Chi-square of 20 000 draws over 5 of 8 entries; 4 degrees of freedom, 34 is 1 in 10^6."""
    chosen = torch.tensor([0, 1, 1, 0, 1, 1, 0, 1]).bool().expand(20_000, 8)
    index, _ = mm.sample_one(chosen, generator=rng(3))
    counts = torch.bincount(index, minlength=8)[[1, 2, 4, 5, 7]].double()
    assert counts.sum() == 20_000
    assert ((counts - 4000).square() / 4000).sum() < 34


@given(st.integers(0, 10**6), st.booleans())
def test_the_extreme_is_one_of_the_mask_and_a_number(seed, largest):
    source = torch.Generator().manual_seed(seed)
    values = torch.tensor([0.0, 1.0, math.inf, -math.inf, math.nan])
    similarity = values[torch.randint(0, 5, (4, 3), generator=source)]
    mask = torch.randint(0, 2, (4, 3), generator=source).bool()
    index, found = mm.extreme(similarity, mask, largest=largest)
    for row in range(4):
        among = [j for j in range(3) if mask[row, j] and not similarity[row, j].isnan()]
        assert found[row] == bool(among)
        best = max if largest else min
        expected = best(among, key=lambda j: similarity[row, j].item()) if among else 0
        assert index[row] == expected
