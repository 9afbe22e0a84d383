"""Hard triplets against float64 loops."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import mmcontrast as mm
from mmcontrast.exact import sizes
from tests import oracles
from tests.mmcontrast.strategies import (
    labels,
    normal,
    numpy,
    rng,
    seeds,
    with_ties,
)


@given(seed=seeds, n=st.integers(1, 8), classes=st.integers(1, 3), unit=st.booleans())
def test_hard_triplets_agree_with_the_oracle(seed, n, classes, unit):
    x, ids = normal(seed, n, 3), labels(seed, n, classes, ignored=0.2)
    a, p, q = mm.hard_triplets(x, ids, normalize=mm.l2_normalize if unit else None)
    expected = oracles.hard_triplets(numpy(x), numpy(ids), normalize="l2" if unit else None)
    assert list(zip(a.tolist(), p.tolist(), q.tolist(), strict=True)) == expected


@given(seed=seeds, n=st.integers(1, 7))
def test_hard_triplets_break_ties_by_lower_index(seed, n):
    x = torch.eye(2, dtype=torch.float64)[torch.randint(0, 2, (n,), generator=rng(seed))]
    ids = labels(seed, n)
    found = zip(*[v.tolist() for v in mm.hard_triplets(x, ids)], strict=True)
    assert list(found) == oracles.hard_triplets(numpy(x), numpy(ids))


@given(
    seed=seeds,
    data=st.data(),
    n=st.integers(1, 9),
    classes=st.integers(1, 4),
    ties=st.booleans(),
    group=st.sampled_from([2, 3, 64]),
)
def test_hard_triplets_agree_with_the_oracle_for_every_chunk_size(
    seed, data, n, classes, ties, group
):
    chunk_size = data.draw(st.integers(1, n + 1))
    x = with_ties(seed, n, 3) if ties else normal(seed, n, 3)
    ids = labels(seed, n, classes, ignored=0.2)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sizes, "GROUP", group)
        found = mm.hard_triplets(x, ids, normalize=None, chunk_size=chunk_size)
    expected = oracles.hard_triplets(numpy(x), numpy(ids), normalize=None)
    assert list(zip(*[v.tolist() for v in found], strict=True)) == expected
