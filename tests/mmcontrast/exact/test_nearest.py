"""The search in blocks by any measure: exact whatever the blocks, the rounding and the ties."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import mmcontrast as mm
from mmcontrast.exact import nearest as module
from mmcontrast.exact import sizes
from mmcontrast.exact.corpus import Corpus
from mmcontrast.exact.nearest import Among, nearest
from tests.mmcontrast.memory import Made
from tests.mmcontrast.strategies import labels, mask, normal, rng, seeds

DISTANCES = [
    *(None, mm.euclidean, mm.squared_euclidean, mm.manhattan, mm.chebyshev, mm.cosine_distance),
    lambda x, y: (x - y).abs().pow(3).sum(-1),
]


def all_of_them(distance, x, y):
    """(B, C) closeness in float64, of pairs by themselves."""
    x, y = x.double()[:, None], y.double()
    return (x * y).sum(-1) if distance is None else -distance(x, y)


def sorted_of(closeness, k):
    values, order = closeness.sort(dim=1, descending=True, stable=True)
    return values[:, :k], order[:, :k]


def rows(seed, n, kind):
    if kind == "ties":
        return torch.randint(-1, 2, (n, 3), generator=rng(seed)).float()
    x = normal(seed, n, 3).float()
    return x if kind == "spread" else 100 + x / 100  # far from the origin, and close together


@pytest.fixture(params=["one block", "blocks"])
def blocks(request, monkeypatch):
    if request.param == "blocks":
        monkeypatch.setattr(sizes, "CORPUS_BLOCK", 3 * 64)
        monkeypatch.setattr(sizes, "EXACT", 500)


@pytest.mark.parametrize("kind", ["spread", "ties", "close"])
@pytest.mark.parametrize("distance", DISTANCES)
@pytest.mark.parametrize("farthest", [False, True])
def test_the_closest_are_those_of_a_sort_in_float64(distance, kind, farthest, blocks):
    x, y = rows(1, 40, kind), rows(2, 300, kind)
    own, ids, theirs = torch.arange(40), labels(3, 40, 3, 0.1), labels(4, 300, 3, 0.1)
    closeness = all_of_them(distance, x, y) * (-1 if farthest else 1)
    allowed = mask(5, 40, 300, share=0.9)
    for same, related in ((True, mm.same_label), (False, mm.different_label)):
        among = Among(own, allowed, ids, theirs, same)
        keep = allowed & related(ids, theirs)
        keep[own, own] = False
        truth, order = sorted_of(torch.where(keep, closeness, -torch.inf), 7)
        found, names = nearest(
            x,
            Corpus(y, None, y.device),
            7,
            among=among,
            distance=distance,
            farthest=farthest,
            chunk_size=16,
        )
        valid = truth > -torch.inf
        assert valid.any(1).sum() > 30
        assert torch.equal(names[valid], order[valid])
        close = 1e-5 if distance is DISTANCES[-1] else 1e-12  # evaluated in float32
        torch.testing.assert_close(found, truth, rtol=close, atol=close)


@pytest.mark.parametrize("distance", [None, mm.euclidean, mm.manhattan])
def test_a_rounding_that_is_not_allowed_for_misses_some(distance, monkeypatch):
    """So that the test above shows that it is: with this one, ties and close rows go wrong."""
    of_all = module.of_all

    def careless(*given):
        scores, slack = of_all(*given)
        return scores, slack - torch.inf

    monkeypatch.setattr(module, "of_all", careless)
    wrong = 0
    for kind in ("ties", "close"):
        x, y = rows(1, 40, kind), rows(2, 3000, kind)
        _, order = sorted_of(all_of_them(distance, x, y), 7)
        _, names = nearest(x, Corpus(y, None, y.device), 7, among=Among(), distance=distance)
        wrong += (names != order).sum()
    assert wrong > 0


@given(
    seed=seeds,
    distance=st.sampled_from(DISTANCES),
    kind=st.sampled_from(["spread", "ties", "close"]),
    width=st.floats(0.01, 2.0),
    k=st.integers(1, 5),
)
def test_bounds_hold_exactly(seed, distance, kind, width, k):
    """One end of each interval is the closeness of a candidate itself, which is in it."""
    x, y = rows(seed, 6, kind), rows(seed + 1, 90, kind)
    closeness = all_of_them(distance, x, y)
    if distance is DISTANCES[-1]:  # evaluated in float32
        closeness = -distance(x[:, None], y).double()
    high = closeness[:, 0]
    low = high - width * closeness.std()
    within = (closeness >= low[:, None]) & (closeness <= high[:, None])
    truth, order = sorted_of(torch.where(within, closeness, -torch.inf), k)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sizes, "CORPUS_BLOCK", 3 * 64)
        found, names = nearest(
            *(x, Corpus(y, None, y.device), k),
            among=Among(),
            distance=distance,
            bounds=(low, high),
        )
    valid = truth > -torch.inf
    assert torch.equal(found > -torch.inf, valid)
    assert torch.equal(names[valid], order[valid])


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
@pytest.mark.parametrize("distance", DISTANCES)
def test_rows_that_are_not_finite_take_no_part(distance, bad, blocks):
    x, y = rows(1, 9, "spread"), rows(2, 150, "spread")
    keep = torch.ones(9, 150, dtype=torch.bool)
    keep[4], keep[:, [3, 100]] = False, False
    _, order = sorted_of(torch.where(keep, all_of_them(distance, x, y), -torch.inf), 5)
    x[4, 1], y[[3, 100], 2] = bad, bad
    found, names = nearest(x, Corpus(y, None, y.device), 5, among=Among(), distance=distance)
    assert (found[4] == -torch.inf).all()
    there = torch.arange(9) != 4
    assert torch.equal(names[there], order[there])


@pytest.mark.parametrize("size", [1e-25, 1e25, 3e37])
@pytest.mark.parametrize("distance", DISTANCES[:-1])
def test_rows_of_any_size(size, distance, blocks):
    """Their squares are out of the range of a float32."""
    x, y = rows(1, 5, "spread") * size, rows(2, 150, "spread") * size
    x, y = (v.clamp(-3e38, 3e38) for v in (x, y))
    _, order = sorted_of(all_of_them(distance, x, y), 5)
    _, names = nearest(x, Corpus(y, None, y.device), 5, among=Among(), distance=distance)
    assert torch.equal(names, order)


@pytest.mark.parametrize("distance", DISTANCES)
def test_no_operation_makes_more_than_a_block(distance, monkeypatch):
    monkeypatch.setattr(sizes, "CORPUS_BLOCK", 2**10)
    monkeypatch.setattr(sizes, "RANKED_BLOCK", 2**12)
    monkeypatch.setattr(sizes, "EXACT", 2**12)
    for kind in ("spread", "ties"):
        x, y = rows(1, 64, kind), rows(2, 4000, kind)
        with Made() as made:
            nearest(x, Corpus(y, None, y.device), 3, among=Among(), distance=distance)
        # A block is of 341 candidates, and of no fewer than 64 anchors.
        assert made.largest <= 64 * 341 < x.shape[0] * y.shape[0] / 10


def test_equal_rows_tie_by_a_distance_with_products_in_it():
    """Which rounds by the place in its block."""
    turn = normal(9, 513, 7).float()
    x, y = normal(1, 20, 513).float(), normal(2, 498, 513).float()
    y[249:] = y[:249].flip(0)
    _, names = nearest(
        x,
        Corpus(y, None, y.device),
        8,
        among=Among(),
        distance=lambda a, b: ((a - b) @ turn).square().sum(-1),
    )
    firsts, seconds = names[:, ::2], names[:, 1::2]
    assert torch.equal(seconds, 497 - firsts)
    assert (firsts < 249).all()
