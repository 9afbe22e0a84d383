"""InfoNCE in blocks of rows: its oracle, and anchors without a partner."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import mmcontrast as mm
from tests import oracles
from tests.mmcontrast.exact.ways import TEMPERATURES, reductions, same, views
from tests.mmcontrast.strategies import close, gradients, normal, numpy, seeds


@given(
    seed=seeds,
    n=st.integers(2, 7),
    extra=st.integers(0, 3),
    size=st.integers(1, 6),
    temperature=st.sampled_from(TEMPERATURES),
    reduction=reductions,
    named=st.booleans(),
)
def test_one_way_agrees_with_the_oracle(seed, n, extra, size, temperature, reduction, named):
    x, y = views("gauss", n, extra, 3, seed)
    targets = torch.arange(n).flip(0)
    targets[0] = -100
    settings = {"temperature": temperature, "reduction": reduction}
    if named:
        settings["targets"] = targets
    expected = oracles.info_nce(*map(numpy, (x, y)), **{k: numpy(v) for k, v in settings.items()})
    close(mm.info_nce(x, y, **settings, chunk_size=size), expected)


@pytest.mark.parametrize("chunk_size", [1, 3, 5])
def test_an_anchor_without_a_target_is_not_counted_and_moves_nothing(chunk_size):
    x, y = normal(1, 6, 3), normal(2, 8, 3)
    targets = torch.tensor([3, -100, 7, 0, -100, 3])

    def of(size):
        return gradients(lambda x, y: mm.info_nce(x, y, targets, chunk_size=size), x, y)

    (whole, full), (tiled, parts) = of(None), of(chunk_size)
    same([tiled, *parts], [whole, *full])
    assert (parts[0][targets < 0] == 0).all()
    nobody = torch.full((6,), -100)
    value, found = gradients(lambda x, y: mm.info_nce(x, y, nobody, chunk_size=chunk_size), x, y)
    assert value == 0
    assert all((gradient == 0).all() for gradient in found)
