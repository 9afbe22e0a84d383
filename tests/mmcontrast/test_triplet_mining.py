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


# --- by distance, and semi-hard ------------------------------------------------------------------

LOOPS = {
    mm.euclidean: oracles.euclidean,
    mm.squared_euclidean: oracles.squared_euclidean,
    mm.manhattan: oracles.manhattan,
    mm.chebyshev: oracles.chebyshev,
}


@given(
    seed=seeds,
    n=st.integers(1, 9),
    classes=st.integers(1, 3),
    distance=st.sampled_from(list(LOOPS)),
    own=st.booleans(),
    semi_hard=st.none() | st.sampled_from([0.25, 1.0, 4.0]),
    chunk_size=st.none() | st.integers(1, 9),
)
def test_triplets_by_distance_agree_with_the_oracle(
    seed, n, classes, distance, own, semi_hard, chunk_size
):
    """On a grid, where many tie and distances and margins are exact."""
    x = torch.randint(-3, 4, (n, 2), generator=rng(seed)).double() / 2
    ids = labels(seed, n, classes, ignored=0.2)
    measure = (lambda x, y: distance(x, y)) if own else distance
    found = mm.hard_triplets(
        x, ids, distance=measure, semi_hard=semi_hard, normalize=None, chunk_size=chunk_size
    )
    expected = oracles.distant_triplets(numpy(x), numpy(ids), LOOPS[distance], semi_hard=semi_hard)
    assert list(zip(*[v.tolist() for v in found], strict=True)) == expected


@given(seed=seeds, n=st.integers(2, 9), margin=st.sampled_from([0.05, 0.3, 2.0]))
def test_semi_hard_triplets_lie_within_the_margin(seed, n, margin):
    """Law: their loss is above 0 and below the margin, of cosines and of distances."""
    x, ids = normal(seed, n, 3), labels(seed, n, 3)
    unit = mm.l2_normalize(x)
    for options, gap in (
        ({}, lambda a, p, n: (unit[a] * unit[n]).sum(1) - (unit[a] * unit[p]).sum(1)),
        (
            {"distance": mm.euclidean},
            lambda a, p, n: mm.euclidean(x[a], x[p]) - mm.euclidean(x[a], x[n]),
        ),
    ):
        hard, semi = (
            mm.hard_triplets(x, ids, semi_hard=value, **options) for value in (None, margin)
        )
        there = semi[1] != semi[0]
        assert torch.equal(semi[1][there], hard[1][there])  # the positive is the hardest one
        loss = gap(*(v[there] for v in semi)) + margin
        assert ((loss > -1e-12) & (loss < margin + 1e-12)).all()


def test_triplets_by_distance_have_the_largest_losses_of_triplet():
    x, ids = normal(1, 12, 3), labels(1, 12, 3)
    a, p, n = mm.hard_triplets(x, ids, distance=mm.euclidean)
    worst = mm.triplet(x[a], x[p], x[n], hinge=False, reduction="none")
    for i in range(12):
        for j in range(12):
            for k in range(12):
                if i != j and ids[i] == ids[j] != ids[k]:
                    one = mm.triplet(*(x[[v]] for v in (i, j, k)), hinge=False)
                    assert one <= worst[i] + 1e-12


def test_the_mahalanobis_distance_is_that_of_whitened_rows():
    x, ids = normal(1, 20, 3), labels(1, 20, 3)
    distance = mm.Mahalanobis.estimate(normal(2, 50, 3) * torch.tensor([1.0, 5.0, 0.1]))
    found = mm.hard_triplets(x, ids, distance=distance)
    expected = mm.hard_triplets(x, ids, distance=lambda a, b: distance(a, b))
    for value, truth in zip(found, expected, strict=True):
        assert torch.equal(value, truth)


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_rows_that_are_not_finite_have_no_triplet_by_distance(bad):
    x, ids = normal(1, 12, 3), labels(1, 12, 2)
    expected = mm.hard_triplets(x[1:], ids[1:], distance=mm.euclidean, semi_hard=3.0)
    x[0, 2] = bad
    found = mm.hard_triplets(x, ids, distance=mm.euclidean, semi_hard=3.0)
    assert [v[0].item() for v in found] == [0, 0, 0]
    for value, truth in zip(found, expected, strict=True):
        assert torch.equal(value[1:] - 1, truth)


@pytest.mark.parametrize("distance", [None, *LOOPS])
@pytest.mark.parametrize("semi_hard", [None, 0.3])
def test_transformed_triplets_are_the_same(distance, semi_hard):
    x, ids = normal(1, 9, 3), torch.arange(9) % 3

    def found(x):
        return mm.hard_triplets(x, ids, distance=distance, semi_hard=semi_hard)

    for value, truth in zip(torch.vmap(found)(x[None]), found(x), strict=True):
        assert torch.equal(value[0], truth)


X = torch.ones(3, 2)
IDS = torch.tensor([0, 0, 1])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: mm.hard_triplets(X, IDS, semi_hard=0), "semi_hard: expected a number above 0"),
        (lambda: mm.hard_triplets(X, IDS, distance="l2"), "distance: expected a function of rows"),
        (
            lambda: mm.hard_triplets(
                X, IDS, distance=mm.euclidean, normalize=mm.softplus_normalize
            ),
            "normalize: expected None beside a distance",
        ),
        (lambda: mm.hard_triplets(X, IDS, distance=lambda x, y: x), "distance: expected shape"),
    ],
)
def test_wrong_calls(call, message):
    with pytest.raises(ValueError, match=message):
        call()
