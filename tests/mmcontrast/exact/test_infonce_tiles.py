"""Symmetric InfoNCE in tiles: its oracle, and shifts for all rows or for each of them."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import mmcontrast as mm
from mmcontrast.exact import infonce_blocks, infonce_tiles, infonce_whole, sizes
from tests import oracles
from tests.mmcontrast.exact.ways import FORMS, reductions, same, views
from tests.mmcontrast.strategies import close, gradients, mask, normal, numpy, seeds


@given(seed=seeds, n=st.integers(2, 8), size=st.integers(1, 7), reduction=reductions)
def test_symmetric_agrees_with_the_oracle(seed, n, size, reduction):
    x, y = views("gauss", n, 0, 3, seed)
    settings = {"temperature": 0.07, "reduction": reduction}
    expected = oracles.symmetric_info_nce(*map(numpy, (x, y)), **settings)
    close(mm.symmetric_info_nce(x, y, **settings, chunk_size=size), expected)


@pytest.mark.parametrize("chunk_size", [8, None])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_both_ways_of_shifting_agree(chunk_size, dtype, monkeypatch):
    """One shift for all, and one for each row and column, where both are exact."""
    x, y = (z.to(dtype) for z in views("gauss", 21, 0, 6, 5))
    settings = {"temperature": 0.2, "chunk_size": chunk_size}

    def found():
        value, slopes = gradients(lambda x, y: mm.symmetric_info_nce(x, y, **settings), x, y)
        return [value, *slopes]

    kept = spied(monkeypatch)
    together = found()
    assert kept
    assert all(kept)
    for module in (infonce_tiles, infonce_whole):
        monkeypatch.setattr(module, "certain", lambda *a: False)
    same(found(), together, 20 * torch.finfo(dtype).eps)


def spied(monkeypatch):
    """What ``certain`` says, as it is asked; no batch is small."""
    monkeypatch.setattr(sizes, "AT_ONCE", 0)
    kept, certain = [], infonce_tiles.certain
    for module in (infonce_tiles, infonce_whole):
        monkeypatch.setattr(module, "certain", lambda *a: kept.append(certain(*a)) or kept[-1])
    return kept


def test_the_bound_gives_way_where_it_underflows(monkeypatch):
    """Orthogonal rows at 0.005: 2^-288 is no float32, and the sums of the bound are all zero."""
    kept = spied(monkeypatch)
    x = torch.eye(9)
    value = mm.symmetric_info_nce(x, -x, temperature=0.005, chunk_size=4)
    assert kept == [False]
    assert value.item() == pytest.approx(200 + math.log(8), rel=1e-6)


@pytest.mark.parametrize("chunk_size", [2, None])
def test_rows_far_apart_get_shifts_of_their_own(chunk_size, monkeypatch):
    """The negatives of two rows lie 10^4 below those of the others: under one shift, no sum."""
    kept = spied(monkeypatch)
    near, far = normal(1, 4, 3).abs().float(), torch.tensor([[-100.0, 0, 0], [0, -100.0, 0]])
    x, y = torch.cat([near * 50, far]), torch.cat([near * 50, near[:2]])
    settings = {"normalize": None, "temperature": 1.0}
    value, found = gradients(
        lambda x, y: mm.symmetric_info_nce(x, y, **settings, chunk_size=chunk_size), x, y
    )
    assert kept[0] is False
    exact, expected = gradients(
        lambda x, y: mm.symmetric_info_nce(x, y, **settings, keep=torch.ones(6, 6).bool()),
        x.double(),
        y.double(),
    )
    same([value, *found], [exact, *expected], 1e-5)


@pytest.mark.parametrize("form", ["symmetric", "one way"])
def test_one_sample_and_none(form):
    for n, size in ((1, 1), (2, 1), (0, 1)):
        x, y = normal(1, n, 3), normal(2, n, 3)
        value, found = gradients(lambda x, y, s=size: FORMS[form](x, y, chunk_size=s), x, y)
        assert value.isfinite()
        assert n > 1 or value == 0
        assert n > 1 or all((gradient == 0).all() for gradient in found)
    one = [normal(k, 1, 3) for k in (1, 2)]
    t = torch.tensor(0.1, dtype=torch.float64)
    losses = infonce_tiles.symmetric_in_tiles(*one, t, (1, 1))
    assert losses.item() == 0
    close(infonce_blocks.one_way_in_blocks(*one, torch.tensor([0]), 0.1, None, 1), [0.0])


# --- under a mask --------------------------------------------------------------------------------


@pytest.mark.parametrize("chunk_size", [8, None])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_both_ways_of_shifting_agree_under_a_mask(chunk_size, dtype, monkeypatch):
    """Also where a row or a column keeps no negative, or nothing; its sum of 0 is no underflow."""
    x, y = (z.to(dtype) for z in views("gauss", 21, 0, 6, 5))
    keep = mask(1, 21, 21, share=0.6).fill_diagonal_(True)
    keep[3] = keep[:, 5] = keep[7] = keep[:, 7] = False
    keep[3, 3] = keep[5, 5] = True
    settings = {"temperature": 0.2, "chunk_size": chunk_size, "keep": keep}

    def found():
        value, slopes = gradients(lambda x, y: mm.symmetric_info_nce(x, y, **settings), x, y)
        return [value, *slopes]

    kept = spied(monkeypatch)
    together = found()
    assert kept
    assert all(kept)
    monkeypatch.setattr(infonce_tiles, "certain", lambda *a: False)
    same(found(), together, 20 * torch.finfo(dtype).eps)


@pytest.mark.parametrize("bounded", [True, False])
@given(
    seed=seeds,
    n=st.integers(1, 7),
    size=st.integers(1, 6),
    share=st.sampled_from([0.2, 0.7]),
    reduction=reductions,
)
def test_a_mask_in_tiles_agrees_with_the_oracle(bounded, seed, n, size, share, reduction):
    x, y = views("gauss", n, 0, 3, seed)
    keep = mask(seed, n, n, share=share)
    settings = {"temperature": 0.07, "reduction": reduction, "keep": keep}
    expected = oracles.symmetric_info_nce(*map(numpy, (x, y)), **numpy(settings))
    with pytest.MonkeyPatch.context() as patch:
        if not bounded:
            patch.setattr(infonce_tiles, "certain", lambda *a: False)
        close(mm.symmetric_info_nce(x, y, **settings, chunk_size=size), expected)


def test_a_masked_pair_has_no_gradient_in_tiles():
    x, y = normal(1, 6, 3), normal(2, 6, 3)
    keep = torch.ones(6, 6, dtype=torch.bool)
    keep[4] = keep[:, 2] = False
    x[4] = y[2] = math.nan
    value, (gx, gy) = gradients(
        lambda x, y: mm.symmetric_info_nce(x, y, keep=keep, chunk_size=4), x, y
    )
    assert value > 0
    assert (gx[4] == 0).all()
    assert (gy[2] == 0).all()
    assert gx.isfinite().all()
    assert gy.isfinite().all()


def test_raw_products_in_excess_of_a_float32_under_a_mask():
    x, y = (1e25 * normal(k, 4, 3).float() for k in (1, 2))
    keep = mask(3, 4, 4, share=0.6).fill_diagonal_(True)
    for loss in (mm.info_nce, mm.symmetric_info_nce):
        settings = {"normalize": None, "temperature": 1.0, "keep": keep, "chunk_size": 2}
        value, found = gradients(lambda x, y, f=loss, s=settings: f(x, y, **s), x, y)
        exact, expected = gradients(
            lambda x, y, f=loss, s=settings: f(x, y, **s), x.double(), y.double()
        )
        most = torch.finfo(torch.float32).max
        torch.testing.assert_close(value.double(), exact.clamp(max=most), rtol=1e-6, atol=0)
        for mine, theirs in zip(found, expected, strict=True):
            torch.testing.assert_close(mine.double(), theirs, rtol=1e-5, atol=0)
