"""Volumes in tiles: the plain form's numbers, and no more memory than rows and a tile."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import mmcontrast as mm
from mmcontrast.exact import sizes
from mmcontrast.exact.joint_tiles import (
    TakingPart,
    negatives_of_volumes,
    plain_negatives_of_volumes,
)
from mmcontrast.exact.simplices import Bases, parallelotopes, simplices
from tests.mmcontrast.exact.ways import Allocations
from tests.mmcontrast.strategies import close, gradients, mask, normal, seeds

SPANS = {"volume": parallelotopes, "area": simplices}


@given(
    seed=seeds,
    n=st.integers(0, 7),
    number=st.integers(1, 3),
    span=st.sampled_from(list(SPANS)),
    temperature=st.sampled_from([0.01, 0.3]),
    sides=st.tuples(st.integers(1, 5), st.integers(1, 5)),
    masked=st.booleans(),
)
def test_tiles_are_the_plain_form(seed, n, number, span, temperature, sides, masked):
    x = normal(seed, n, 6)
    (rows, w, offset), _ = SPANS[span](x, [normal(seed + k, n, 6) for k in range(1, number + 1)])
    among = TakingPart(mask(seed, n), mask(seed + 1, n), 0) if masked else TakingPart(None, None, 0)
    share = normal(seed + 9, 2, n)
    if masked:  # what takes no part has a placeholder
        share *= torch.stack([among.rows, among.columns])
    t = torch.tensor(temperature, dtype=torch.float64)
    given = (x, rows, w, t) if offset is None else (x, rows, w, t, offset)

    def summed(function, *settings):
        def loss(x, rows, w, t, offset=None):
            found = function(x, Bases(rows, w, offset), t, among, *settings)
            # Sums without a term are far below all others, and have no slope.
            return (share * found.clamp_min(-1e6)).sum()

        return gradients(loss, *given)

    value, found = summed(negatives_of_volumes, sides)
    expected, truth = summed(plain_negatives_of_volumes)
    close(value, expected)
    for gradient, other in zip(found, truth, strict=True):
        close(gradient, other, atol=1e-8)


@pytest.mark.parametrize("score", ["volume", "area"])
def test_memory_is_rows_and_a_tile_and_products_are_four_for_each_modality(score, monkeypatch):
    monkeypatch.setattr(sizes, "TILE", 64)
    n, d = 512, 8
    features = {name: normal(k, n, d).float().requires_grad_() for k, name in enumerate("abc")}
    with Allocations() as made:
        mm.joint_contrast(features, score=score, anchor="a").total.backward()
    tiles = (n // 64) ** 2
    assert made.products == 2 * 4 * tiles
    assert made.largest <= 4 * n * d * 4
