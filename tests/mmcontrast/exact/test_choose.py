"""Whichever way a loss is evaluated, values and gradients are the same; and what falls back."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.autograd import forward_ad

import mmcontrast as mm
from mmcontrast.exact import choose, sizes
from tests.mmcontrast.closed_form import EXACT, relative, unit_rows
from tests.mmcontrast.exact.ways import (
    FORMS,
    KINDS,
    TEMPERATURES,
    Allocations,
    every_form,
    reductions,
    rows,
    same,
    sized,
    transformed,
    views,
)
from tests.mmcontrast.strategies import close, gradients, leaf, normal, seeds

# --- the same as all at once ---------------------------------------------------------------------


@every_form
@given(
    seed=seeds,
    kind=st.sampled_from(KINDS),
    n=st.integers(1, 9),
    extra=st.integers(0, 3),
    d=st.integers(1, 5),
    size=st.integers(1, 9),
    temperature=st.sampled_from(TEMPERATURES),
    reduction=reductions,
    weighted=st.booleans(),
)
def test_tiles_of_every_size_are_all_at_once(
    form, seed, kind, n, extra, d, size, temperature, reduction, weighted
):
    """In float64, with the temperature's gradient, the weights', and an upstream factor."""
    x, y = views(kind, n, 0 if form == "symmetric" else extra, d, seed)
    inputs = [x, y, torch.tensor(temperature, dtype=torch.float64)]
    if weighted:
        inputs.append(normal(seed + 2, n).abs())
    factor = normal(seed + 3, n) if reduction == "none" else 3.0

    def of(chunk_size):
        def loss(x, y, t, w=None):
            value = FORMS[form](
                x, y, temperature=t, weight=w, reduction=reduction, chunk_size=chunk_size
            )
            return (value * factor).sum()

        return gradients(loss, *inputs)

    (whole, full), (tiled, parts) = of(None), of(size)
    same([tiled, *parts], [whole, *full], 1e-11 / temperature)


@every_form
def test_large_batches_stream_by_themselves(form, monkeypatch):
    """Without a chunk_size, from LEAST pairs on; no tile divides the batch."""
    x, y = normal(1, 70, 5), normal(2, 70, 5)
    whole, full = gradients(FORMS[form], x, y)
    for least in ("SPLIT", "SIGMOID_TILES"):
        monkeypatch.setattr(sizes, least, 70 * 70)
    monkeypatch.setattr(sizes, "TILE", 32)
    monkeypatch.setattr(sizes, "WIDE", (64, 16))
    with Allocations() as made:
        value, found = gradients(FORMS[form], x, y)
    same([value, *found], [whole, *full])
    assert made.largest <= 32 * 70
    with Allocations() as made:
        gradients(FORMS[form], x[:69], y[:69])
    assert made.largest == 69 * 69


# --- by size -------------------------------------------------------------------------------------


def test_a_ring_suits_ranks_with_many_candidates():
    """Ten candidates of three numbers, on two ranks."""
    x = rows(4)
    with sized(RING=30):
        assert choose.ring_suits(x, [4, 6])
        assert not choose.ring_suits(x[:, :2], [4, 6])
        assert not choose.ring_suits(x, [4, 5])
        assert not choose.ring_suits(x, [40])
        assert not transformed(lambda: choose.ring_suits(x, [4, 6]))
    with sized(RING=31):
        assert not choose.ring_suits(x, [4, 6])


def test_moments_suit_large_batches_with_labels():
    features = {"text": rows(6), "audio": rows(6, 2)}
    ids = torch.zeros(6, dtype=torch.int64)
    with sized(MOMENTS=6):
        assert choose.moments_suit(features, ids)
        assert choose.moments_suit(features, ids[:, None])
        assert not choose.moments_suit(features, ids[:, None][:, :0])
        assert not choose.moments_suit(features, ids[:5])
        assert not choose.moments_suit(features, ids.to("meta"))
        assert not choose.moments_suit(features | {"audio": rows(6).to("meta")}, ids)
        assert not transformed(lambda: choose.moments_suit(features, ids))
    with sized(MOMENTS=7):
        assert not choose.moments_suit(features, ids)


def test_a_block_of_anchors_holds_so_many_similarities():
    with sized(SIMILARITIES=12):
        found = [choose.anchors_of_a_block(width) for width in (0, 1, 4, 5, 6, 7, 12, 13, 100)]
    assert found == [12, 12, 3, 2, 2, 1, 1, 1, 1]


def test_rows_are_ranked_in_blocks_from_a_size_on():
    x, y = rows(6), rows(7, 2)
    with sized(RANKED=42, RANKED_BLOCK=700):
        assert choose.ranked_at_a_time(x, y, None) == 100
        assert choose.ranked_at_a_time(x, y[:6], None) is None
        assert choose.ranked_at_a_time(x, y[:6], 2) == 2
        assert choose.ranked_at_a_time(x, y.to("meta"), 2) is None
        assert transformed(lambda: choose.ranked_at_a_time(x, y, 2)) is None
    with sized(RANKED=43):
        assert choose.ranked_at_a_time(x, y, None) is None
    with sized(RANKED=42, RANKED_BLOCK=7 * 64 - 1):
        assert choose.ranked_at_a_time(x, y, None) == 64


@pytest.mark.parametrize(
    ("pairs", "chunk_size", "at_once"),
    [((4, 9), None, True), ((4, 10), None, False), ((0, 9), None, False), ((4, 9), 3, False)],
)
def test_what_fits_at_once(pairs, chunk_size, at_once):
    x, y = (rows(n) for n in pairs)
    with sized(AT_ONCE=36):
        assert choose.fits_at_once(x, y, chunk_size) == at_once
        assert choose.fits_at_once(x, y, 4) == (at_once or chunk_size == 3)


# --- numbers -------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["symmetric", "one way"])
@pytest.mark.parametrize("kind", ["gauss", "aligned", "nearly aligned", "orthogonal", "opposed"])
@pytest.mark.parametrize("temperature", TEMPERATURES)
def test_float32_gradient_is_within_1e_5_of_float64(form, kind, temperature):
    """Also where the loss is 1e-10. At 0.01 the rounding of the cosines alone makes up 1.7e-5."""
    if kind == "orthogonal" and temperature == 0.01:
        return  # the loss is 1e-43, less than float32 holds
    exactly = EXACT["symmetric" if form == "symmetric" else "info_nce"]
    for n, d, seed in ((33, 64, 0), (65, 32, 4)):
        x, y = unit_rows(kind, n, max(n, d) if kind == "orthogonal" else d, seed)
        value, found = gradients(
            lambda x, y: FORMS[form](x, y, temperature=temperature, chunk_size=16), x, y
        )
        exact, expected = exactly(x.double(), y.double(), temperature)
        most = 2e-5 if temperature == 0.01 else 1e-5
        assert value >= 0
        assert abs(value - exact) <= most * exact
        for gradient, reference in zip(found, expected, strict=True):
            assert relative(gradient, reference) < most


@every_form
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("temperature", [1e-4, 0.01, 0.07, 1.0])
def test_never_negative_never_infinite(form, kind, temperature):
    for size in (1, 7, 16, None):
        x, y = (z.float() for z in views(kind, 17, 0, 6, size or 0))
        leaves = [leaf(x), leaf(y), leaf(torch.tensor(temperature))]
        value = FORMS[form](*leaves[:2], temperature=leaves[2], chunk_size=size)
        value.backward()
        assert value >= 0
        assert value.isfinite()
        assert all(z.grad.isfinite().all() for z in leaves)


@pytest.mark.parametrize("chunk_size", [2, None])
@pytest.mark.parametrize("form", ["symmetric", "one way"])
def test_huge_raw_dot_products_need_shifts_of_their_own(form, chunk_size):
    """Logits of 1e8 apart: under one shift for all, every row would sum up to zero."""
    x = 1e4 * torch.eye(5)
    for y, expected in ((x, 0.0), (-x, 1e8)):
        value, found = gradients(
            lambda x, y: FORMS[form](x, y, normalize=None, temperature=1.0, chunk_size=chunk_size),
            x,
            y,
        )
        assert value.item() == pytest.approx(expected, rel=1e-6)
        assert all(gradient.isfinite().all() for gradient in found)


@every_form
@pytest.mark.parametrize("chunk_size", [5, None])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_low_precision_is_computed_in_float32(form, dtype, chunk_size):
    x, y = normal(1, 12, 6).to(dtype), normal(2, 12, 6).to(dtype)
    value, found = gradients(
        lambda x, y: FORMS[form](x, y, temperature=0.2, chunk_size=chunk_size), x, y
    )
    exact, expected = gradients(
        lambda x, y: FORMS[form](x, y, temperature=0.2), x.double(), y.double()
    )
    assert value.dtype == torch.float32
    assert abs(value - exact) < 1e-6 * exact
    for gradient, reference in zip(found, expected, strict=True):
        assert gradient.dtype == dtype
        assert relative(gradient, reference) < 2 * torch.finfo(dtype).eps


@every_form
def test_autocast_does_not_reach_the_tiles(form):
    x, y = normal(1, 9, 4).float(), normal(2, 9, 4).float()
    results = []
    for enabled in (False, True):
        leaves = [leaf(x), leaf(y)]
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=enabled):
            value = FORMS[form](*leaves, chunk_size=4)
            value.backward()
        results.append([value.detach(), *(z.grad for z in leaves)])
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


# --- autograd ------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:.*torch.jit.script")  # forward mode of torch's own softplus
@every_form
@pytest.mark.parametrize("chunk_size", [2, None])
def test_transforms_and_forward_mode_take_the_plain_path(form, chunk_size, monkeypatch):
    monkeypatch.setattr(sizes, "SPLIT", 1)
    x, y, v = normal(1, 5, 3), normal(2, 5, 3), normal(3, 5, 3)

    def loss(x):
        return FORMS[form](x, y, chunk_size=chunk_size)

    _, (expected,) = gradients(loss, x)
    close(torch.func.grad(loss)(x), expected)
    close(torch.func.jvp(loss, (x,), (v,))[1], (expected * v).sum())
    close(torch.vmap(loss)(torch.stack([x, v])), torch.stack([loss(x), loss(v)]))
    with forward_ad.dual_level():
        moved = forward_ad.unpack_dual(loss(forward_ad.make_dual(x, v)))
    close(moved.tangent, (expected * v).sum())


@every_form
def test_a_compiled_loss_is_the_same(form, monkeypatch):
    monkeypatch.setattr(sizes, "SPLIT", 1)
    torch._dynamo.reset()
    x, y = normal(1, 5, 3), normal(2, 5, 3)
    compiled = torch.compile(FORMS[form], fullgraph=True, backend="eager")
    close(compiled(x, y), FORMS[form](x, y))


# --- memory --------------------------------------------------------------------------------------


def test_modules_hand_their_chunk_size_on():
    x, y = normal(1, 9, 3), normal(2, 9, 3)
    for module in (mm.InfoNCE, mm.SymmetricInfoNCE, mm.SigmoidContrast):
        with Allocations() as made:
            value = module(chunk_size=2)(x, y)
        close(value, module()(x, y))
        assert made.largest <= 27
