"""Quick values are within the rounding that they come with, and exact ones the same anywhere."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import mmcontrast as mm
from mmcontrast.exact.closeness import MEASURES, all_closeness, of_all, of_pairs, quick_value, side
from tests.mmcontrast.strategies import KINDS, embeddings, normal, seeds


@given(
    seed=seeds,
    d=st.integers(1, 40),
    kind=st.sampled_from(KINDS),
    distance=st.sampled_from(MEASURES),
    half=st.booleans(),
)
def test_quick_values_are_within_their_rounding(seed, d, kind, distance, half):
    x, y = embeddings(seed, 5, d, kind), embeddings(seed + 1, 70, d, kind)
    x, y = (x.float(), y.float()) if half else (x, y)
    sides = [side(distance, v, x.mean(0), columns=v is y) for v in (x, y)]
    scores, slack = of_all(distance, *sides)
    exact = quick_value(distance, of_pairs(distance, x, y[None]))
    assert ((scores.double() - exact).abs() <= slack[:, None]).all()
    # And it is no idle bound: a few hundred times the rounding of the largest value, at most.
    largest = sides[0].lengths.max() + sides[1].lengths.max() + scores.abs().max() + 2
    eps = torch.finfo(x.dtype).eps
    assert (slack <= 100 * (d + 16) * eps * (largest + largest.square())).all()


@pytest.mark.parametrize("distance", MEASURES)
def test_exact_values_are_those_of_rows_by_themselves(distance):
    x, y = normal(1, 9, 37).float(), normal(2, 130, 37).float()
    whole = of_pairs(distance, x, y[None])
    assert whole.dtype == torch.float64
    for i, j in ((0, 0), (8, 129), (3, 64)):
        assert torch.equal(of_pairs(distance, x[i : i + 1], y[j][None, None])[0, 0], whole[i, j])
    places = torch.arange(9 * 4).view(9, 4)
    assert torch.equal(of_pairs(distance, x, y[places]), whole.gather(1, places))


@pytest.mark.parametrize("size", [1e-25, 1e25])
def test_nothing_quick_is_known_of_rows_whose_squares_are_out_of_range(size):
    x = normal(1, 4, 3).float()
    for distance in MEASURES:
        assert side(distance, x, x[0], columns=False) is not None
        assert side(distance, x * size, x[0], columns=False) is None


def test_nothing_quick_is_known_of_a_callers_distance():
    assert side(lambda x, y: (x - y).sum(-1), normal(1, 4, 3), normal(1, 3), columns=True) is None


@pytest.mark.parametrize("precision", ["high", "medium"])
def test_products_of_fewer_bits_are_allowed_for(precision):
    x = normal(1, 4, 30).float()
    rows = side(None, x, x[0], columns=False)
    _, slack = of_all(None, rows, rows)
    torch.set_float32_matmul_precision(precision)
    try:
        _, wider = of_all(None, rows, rows)
    finally:
        torch.set_float32_matmul_precision("highest")
    assert (wider > 1000 * slack).all()


@pytest.mark.parametrize("distance", MEASURES)
def test_all_at_once_is_the_same(distance):
    x, y = normal(1, 5, 3), normal(2, 9, 3)
    truth = of_pairs(distance, x, y[None])
    torch.testing.assert_close(all_closeness(distance, x, y), truth, rtol=1e-9, atol=1e-9)
    assert mm.euclidean in MEASURES
