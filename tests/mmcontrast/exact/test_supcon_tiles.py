"""SupCon in tiles, or in one: the plain form's values and gradients, in memory linear in N."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch._subclasses.fake_tensor import FakeTensorMode

import mmcontrast as mm
from mmcontrast.exact import supcon_tiles
from mmcontrast.exact.plain import plain_sup_con
from mmcontrast.exact.supcon_tiles import sup_con_in_tiles
from tests import oracles
from tests.mmcontrast.exact.supcon_inputs import KINDS, LABELS, classes, plain, slopes, tiled
from tests.mmcontrast.memory import Made, peak
from tests.mmcontrast.strategies import close, embeddings, labels, leaf, normal, numpy, seeds

SIDES = [32, 200]  # many tiles, and all at once


@given(
    seed=seeds,
    data=st.data(),
    n=st.integers(1, 13),
    kind=st.sampled_from(KINDS),
    labelling=st.sampled_from(LABELS),
    temperature=st.sampled_from([0.01, 0.07, 0.5, 1.0]),
    shift=st.sampled_from(["one", "own"]),
)
def test_tiles_are_the_plain_form_for_every_side(
    seed, data, n, kind, labelling, temperature, shift
):
    side = data.draw(st.integers(1, n + 1))
    x, ids = embeddings(seed, n, 4, kind), classes(labelling, seed, n)
    with pytest.MonkeyPatch.context() as patch:
        if shift == "own":  # one for all that is far too large leaves nothing of any sum
            patch.setattr(supcon_tiles, "_shift", lambda rows, octaves: 1e5)
        found = slopes(tiled(ids, side), x, temperature)
    expected = slopes(plain(ids), x, temperature)
    close(found[0], expected[0], atol=1e-11, rtol=1e-12)
    for gradient, reference in zip(found[1:], expected[1:], strict=True):
        # What each pair adds to a gradient, of the size 1 / (t |x|), cancels where all are alike.
        scale = 1 / temperature / (x.norm(dim=1).min() if gradient.ndim else temperature)
        close(gradient / scale, reference / scale, atol=1e-12, rtol=1e-11)
    assert (found[0] >= 0).all()


@given(seed=seeds, n=st.integers(1, 7), side=st.integers(1, 8), labelling=st.sampled_from(LABELS))
def test_tiles_agree_with_the_oracle(seed, n, side, labelling):
    x, ids = normal(seed, n, 3), classes(labelling, seed, n)
    for reduction in ("mean", "sum", "none"):
        options = {"temperature": 0.3, "weight": normal(seed, n).abs(), "reduction": reduction}
        if labelling == "floats":
            ids = torch.where(ids.isnan(), -100, ids)
        expected = oracles.sup_con(numpy(x), numpy(ids), **numpy(options))
        close(mm.sup_con(x, ids, **options, chunk_size=side), expected)


@pytest.mark.parametrize("temperature", [0.01, 0.02, 0.07, 0.3, 1.0])
@pytest.mark.parametrize("labelling", ["pairs", "classes"])
@pytest.mark.parametrize("noise", [0.05, 0.3, None])
@pytest.mark.parametrize("side", SIDES)
def test_float32_keeps_the_gradient_of_float64(temperature, labelling, noise, side):
    """Aligned pairs at 0.01 have losses of 1e-20 and below, and gradients that are as small."""
    n, x = 70, normal(1, 70, 16)
    ids = classes(labelling, 1, n)
    if noise is not None:
        x = normal(2, 40, 16)[ids.clamp_min(0)] + noise * x
    x = x.float()
    found = slopes(tiled(ids, side), x, temperature)
    exact = slopes(plain(ids), x.double(), temperature)
    float32 = slopes(plain(ids), x, temperature)
    assert found[0].dtype == torch.float32
    assert (found[0] >= 0).all()
    for value, reference, other in zip(found, exact, float32, strict=True):
        assert reference.abs().max() > 0
        # Classes of many that have collapsed pull and push alike: what is left is lost to the plain
        # form in float32 as well.
        lost = 10 * (other - reference).norm() if labelling == "classes" and noise == 0.05 else 0
        assert (value - reference).norm() <= 1e-5 * reference.norm() + lost


@pytest.mark.parametrize("kind", ["collapsed", "duplicate", "huge", "opposite", "zero"])
@pytest.mark.parametrize("labelling", LABELS)
@pytest.mark.parametrize("temperature", [0.01, 1.0])
@pytest.mark.parametrize("side", [16, 41])
def test_nothing_is_negative_or_not_finite(kind, labelling, temperature, side):
    x = {
        "collapsed": torch.ones(41, 3),
        "duplicate": embeddings(1, 41, 3, "duplicate").float(),
        "huge": 1e30 * normal(1, 41, 3).float(),
        "opposite": torch.where(torch.arange(41)[:, None] < 40, 1.0, -1.0).expand(41, 3),
        "zero": torch.zeros(41, 3),
    }[kind]
    losses, *found = slopes(tiled(classes(labelling, 1, 41), side), x.clone(), temperature)
    assert (losses >= 0).all()
    assert losses.isfinite().all()
    assert all(gradient.isfinite().all() for gradient in found)


def test_sums_out_of_range_take_shifts_of_their_own(monkeypatch):
    """Short rows among long ones, without a row map: their sums underflow beside the bound."""
    x = torch.cat([30 + normal(1, 5, 2), -0.1 * torch.ones(2, 2)]).double()
    ids = torch.tensor([0, 0, 1, 1, 1, 2, 2])
    largest, calls = supcon_tiles._largest, []
    monkeypatch.setattr(supcon_tiles, "_largest", lambda *args: calls.append(1) or largest(*args))
    for z, times in ((x / 5, 0), (x, 1)):
        found = slopes(tiled(ids, 4, normalize=None), z, 1.0)
        assert len(calls) == times
        for value, expected in zip(found, slopes(plain(ids, normalize=None), z, 1.0), strict=True):
            close(value, expected)


@pytest.mark.parametrize("temperature", [0.001, 0.003, 0.01])
@pytest.mark.parametrize("side", SIDES)
def test_low_temperatures_keep_the_gradient_of_float64(temperature, side):
    """Nobody is near anybody, and no shift that is safe for all leaves a sum its digits."""
    x, ids = normal(1, 90, 64).float(), torch.arange(90) // 3
    settings = {"temperature": temperature, "normalize": mm.l2_normalize}
    assert sup_con_in_tiles(x, ids, **settings, side=32) is not None
    found = slopes(tiled(ids, side), x, temperature)
    exact = slopes(plain(ids), x.double(), temperature)
    for value, reference in zip(found, exact, strict=True):
        assert (value - reference).norm() <= 1e-5 * reference.norm()


@pytest.mark.parametrize("members", [3, 20])
@pytest.mark.parametrize("side", SIDES)
def test_collapsed_classes_keep_their_gradient(members, side):
    """Everybody stands where their class does: push and pull are large, and nearly the same."""
    ids = torch.arange(120) // members
    x = normal(1, 40, 16)[ids].float()
    found = slopes(tiled(ids, side), x, 0.07)
    exact = slopes(plain(ids), x.double(), 0.07)
    others = mm.off_diagonal(len(x)), mm.same_label(ids)
    float32 = slopes(
        lambda x, t: plain_sup_con(mm.l2_normalize(x), t, others[0] & others[1], others[0]), x, 0.07
    )
    for value, reference, other in zip(found, exact, float32, strict=True):
        # Of the temperature's there is little left in float32, in plain operations as well.
        lost = (other - reference).norm() if not value.ndim else 0
        assert (value - reference).norm() <= 1e-5 * reference.norm() + lost


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("side", [4, 9])
def test_weights_have_a_gradient(side, reduction):
    """The mean divides by the weights of those who have a positive."""
    ids = torch.tensor([0, 0, -100, 1, 1, 3, 1, 2, 2])

    def loss(x, w):
        return mm.sup_con(x, ids, weight=w, temperature=0.4, reduction=reduction, chunk_size=side)

    assert torch.autograd.gradcheck(loss, (leaf(normal(1, 9, 3)), leaf(normal(2, 9).abs())))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("side", [6, 20])
def test_low_precision_is_summed_in_float32(dtype, side):
    x, ids = normal(1, 20, 8).to(dtype), classes("classes", 1, 20)
    value, exact = (mm.sup_con(v, ids, chunk_size=side) for v in (x, x.double()))
    assert value.dtype == torch.float32
    close(value, exact, atol=1e-5, rtol=1e-6)
    with torch.autocast("cpu", dtype=dtype):
        inside = leaf(x.float())
        total = mm.sup_con(inside, ids, chunk_size=side)
    outside = leaf(x.float())
    assert torch.equal(total, mm.sup_con(outside, ids, chunk_size=side))
    total.backward()
    mm.sup_con(outside, ids, chunk_size=side).backward()
    assert torch.equal(inside.grad, outside.grad)


@pytest.mark.parametrize("side", [4, 9])
def test_ignored_rows_reach_nothing(side):
    x, ids = normal(1, 9, 3), torch.tensor([0, 0, -100, 1, 1, -100, 1, 2, 2])
    filled = torch.where((ids == -100)[:, None], torch.nan, x)
    expected = slopes(plain(ids), torch.where((ids == -100)[:, None], 0, x), 0.2)
    for value, reference in zip(slopes(tiled(ids, side), filled, 0.2), expected, strict=True):
        close(value, reference)


@pytest.mark.parametrize("n", [0, 1, 2])
def test_few_samples_are_finite_with_a_graph(n):
    for ids in (torch.zeros(n).long(), torch.arange(n), torch.full((n,), -100)):
        x = leaf(normal(1, n, 3))
        value = mm.sup_con(x, ids, chunk_size=2)
        (gradient,) = torch.autograd.grad(value, x)
        assert value == 0
        assert (gradient == 0).all()


@pytest.mark.parametrize("side", [4, 9])
def test_without_gradients(side):
    x, ids = leaf(normal(1, 9, 3)), classes("classes", 1, 9)
    value = mm.sup_con(x, ids, chunk_size=side)
    for mode in (torch.no_grad, torch.inference_mode):
        with mode():
            inside = mm.sup_con(x, ids, chunk_size=side)
        assert not inside.requires_grad
        assert torch.equal(inside, value.detach())
    learned = torch.tensor(0.3, requires_grad=True)
    (slope,) = torch.autograd.grad(
        mm.sup_con(x.detach(), ids, temperature=learned, chunk_size=side), learned
    )
    close(
        slope,
        slopes(lambda x, t: mm.sup_con(x, ids, temperature=t)[None], x, 0.3)[2] / 1.5,
        atol=1e-6,
        rtol=1e-6,
    )


# --- what tiles exclude, and what happens then ---------------------------------------------------


@pytest.mark.parametrize("side", [3, 7])
def test_second_derivatives_differentiate_the_plain_form(side):
    ids = (
        torch.tensor([0, 1, 0, 1, 1, 2, 2]) if side == 3 else torch.tensor([0, 1, 0, 3, 0, 1, -100])
    )
    made = leaf(normal(1, 7, 3)), torch.tensor(0.4, dtype=torch.float64, requires_grad=True)
    for reduction in ("mean", "none"):

        def loss(x, t, reduction=reduction):
            return mm.sup_con(x, ids, temperature=t, reduction=reduction, chunk_size=side)

        assert torch.autograd.gradcheck(loss, made)
        assert torch.autograd.gradgradcheck(loss, made, fast_mode=True)


@pytest.mark.filterwarnings("ignore:.*torch.jit.script:DeprecationWarning")  # torch's own
@pytest.mark.parametrize("n", [6, 500])
def test_transforms_take_the_plain_path(n):
    x, ids = normal(1, n, 3), labels(1, n, 3)

    def loss(x):
        return mm.sup_con(x, ids)

    (expected,) = torch.autograd.grad(loss(made := leaf(x)), made)
    close(torch.func.grad(loss)(x), expected)
    _, slope = torch.func.jvp(loss, (x,), (torch.ones_like(x),))
    close(slope, expected.sum(), atol=1e-9)
    with torch.autograd.forward_ad.dual_level():
        dual = torch.autograd.forward_ad.make_dual(x, torch.ones_like(x))
        close(torch.autograd.forward_ad.unpack_dual(loss(dual)).tangent, slope)
    close(torch.vmap(loss)(torch.stack([x, 2 * x])), loss(x).expand(2))
    torch._dynamo.reset()
    close(torch.compile(loss, fullgraph=True, backend="eager")(x), loss(x), atol=1e-9)
    with FakeTensorMode():
        fake = torch.ones(n, 3, device="meta", requires_grad=True)
        value = mm.sup_con(fake, torch.ones(n, device="meta"))
        assert torch.autograd.grad(value, fake)[0].device.type == "meta"


# --- memory --------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [600, 1200])
def test_no_operation_makes_more_than_a_tile(n):
    x, ids = leaf(normal(1, n, 2)), labels(1, n, 2)
    for chunk_size, most in ((64, max(64 * 64, 2 * n)), (None, 512 * 512)):
        with Made() as made:
            mm.sup_con(x, ids, chunk_size=chunk_size).backward()
        assert made.largest <= most


def test_the_blocks_of_rows_behind_the_tiles_make_no_whole_matrix(monkeypatch):
    """The same without a chunk_size, where logits that are not finite send everybody there."""
    huge, ids = 1e25 * normal(1, 1024, 2).float(), labels(1, 1024, 2)
    assert sup_con_in_tiles(huge, ids, temperature=1.0, normalize=None, side=64) is None
    monkeypatch.setattr(supcon_tiles, "_in_range", lambda sums: False)
    with Made() as made:
        mm.sup_con(leaf(normal(1, 1024, 2).float()), ids).backward()
    assert made.largest < 1024**2


def test_bytes_grow_with_n_not_with_its_square():
    def of(n):
        x, ids = leaf(normal(1, n, 8).float()), torch.arange(n) // 4
        return peak(lambda: mm.sup_con(x, ids, chunk_size=64).backward())

    few, many = of(250), of(1000)
    assert few > 0
    assert many < 5 * few
    assert many < 40 * 1000 * 8 * 4
