"""Counting against comparing one by one, by NumPy and by torch."""

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given

from mmcontrast.exact.counting import (
    counts,
    partner_ranks,
    partner_ranks_in_tiles,
    positive_ranks,
)
from tests.mmcontrast.memory import peak
from tests.mmcontrast.strategies import normal, rng, seeds
from tests.oracles import retrieval as oracle


def whole(seed, rows, columns):
    """Scores of which many are equal."""
    return (normal(seed, rows, columns) * 1.5).round()


@given(seed=seeds, rows=st.integers(0, 4), columns=st.integers(0, 9))
def test_counts_are_comparisons(seed, rows, columns):
    scores, level = whole(seed, rows, columns), whole(seed + 1, rows, 1)[:, 0]
    above, equal = counts(scores, level)
    pairs = list(zip(scores.tolist(), level.tolist(), strict=True))
    assert above.tolist() == [sum(s > one for s in row) for row, one in pairs]
    assert equal.tolist() == [sum(s == one for s in row) for row, one in pairs]


@given(seed=seeds, rows=st.integers(1, 4), columns=st.integers(1, 9))
def test_a_transform_counts_the_same(seed, rows, columns):
    """There NumPy cannot, and places are as many as candidates."""
    scores, mask = whole(seed, rows, columns), normal(seed + 1, rows, columns) > 0
    at = torch.arange(rows) % columns
    mine = torch.func.vmap(lambda s: partner_ranks(s, at))(scores[None])[0]
    torch.testing.assert_close(mine, partner_ranks(scores, at), rtol=0, atol=0)
    both = torch.func.vmap(lambda s: positive_ranks(s, mask))(scores[None])
    for found, truth in zip(both, positive_ranks(scores, mask), strict=True):
        torch.testing.assert_close(found[0], truth, rtol=1e-15, atol=0)


@given(seed=seeds, rows=st.integers(0, 4), columns=st.integers(1, 6))
def test_positives_are_ranked_as_defined(seed, rows, columns):
    scores, mask = whole(seed, rows, columns), normal(seed + 1, rows, columns) > 0
    first, precision = positive_ranks(scores, mask)
    given_rows = list(zip(scores.tolist(), mask.tolist(), strict=True))
    assert first.tolist() == pytest.approx([oracle.first_rank(*row) for row in given_rows])
    expected = [oracle.average_precision(*row) for row in given_rows]
    assert precision.tolist() == pytest.approx(expected)


@given(
    seed=seeds,
    rows=st.integers(0, 9),
    columns=st.integers(1, 12),
    sides=st.tuples(st.integers(1, 5), st.integers(1, 5)),
)
def test_ranks_in_tiles_are_those_of_whole_rows(seed, rows, columns, sides):
    """Of products that are whole numbers, many of them equal, in whatever tile."""
    x = torch.randint(-2, 3, (rows, 3), generator=rng(seed)).float()
    y = torch.randint(-2, 3, (columns, 3), generator=rng(seed + 1)).float()
    own = torch.randint(0, columns, (rows,), generator=rng(seed + 2))
    found = partner_ranks_in_tiles(x, y, own, sides)
    assert torch.equal(found, partner_ranks(x @ y.T, own))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_partner_ties_with_itself_in_every_tile(dtype):
    """Where its product is rounded otherwise than its level, it is neither above nor below."""
    x, y = torch.randn(2, 60, 70, generator=rng(1), dtype=dtype)
    own = torch.randperm(60, generator=rng(2))
    for sides in ((1, 1), (1, 7), (7, 1), (13, 11)):
        found = partner_ranks_in_tiles(x, y, own, sides)
        assert torch.equal(found, partner_ranks(x @ y.T, own))


def test_ranks_in_tiles_hold_a_few_tiles():
    """However many rows there are: products with the partners are dropped like tiles."""
    x, y, side = normal(1, 4096, 4), normal(2, 512, 4), 256
    own = torch.arange(4096) % 512
    assert peak(lambda: partner_ranks_in_tiles(x, y, own, (side, side))) < 8 * side * side * 4
