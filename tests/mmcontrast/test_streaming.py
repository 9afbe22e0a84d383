"""Tiles against everything at once: values, gradients, numbers, memory, and what falls back."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.autograd import forward_ad

import mmcontrast as mm
from mmcontrast import sigmoid
from mmcontrast.eager import is_eager, known
from mmcontrast.exact import infonce_blocks, infonce_tiles, infonce_whole, tiles
from tests import oracles
from tests.mmcontrast.memory import Made, peak
from tests.mmcontrast.strategies import close, embeddings, gradients, leaf, normal, numpy, seeds
from tests.mmcontrast.test_softmax import EXACT, relative, unit_rows

TEMPERATURES = [0.01, 0.02, 0.07, 0.3, 1.0]
KINDS = ["gauss", "aligned", "collapsed", "duplicated", "opposed"]
FORMS = {
    "symmetric": mm.symmetric_info_nce,
    "one way": mm.info_nce,
    "sigmoid": lambda x, y, **k: mm.sigmoid_contrast(x, y, bias=-3.0, **k),
}
every_form = pytest.mark.parametrize("form", FORMS)
reductions = st.sampled_from(["mean", "sum", "none"])


def views(kind, n, extra, d, seed):
    """Two float64 views, the second with extra candidates."""
    x, y = embeddings(seed, n, d), embeddings(seed + 1, n + extra, d)
    if kind == "aligned":
        y[:n] = x
    if kind == "collapsed":
        x, y = x[:1].expand(n, d), x[:1].expand(n + extra, d)
    if kind == "duplicated":
        x, y = x[torch.arange(n) // 2], y[torch.arange(n + extra) // 3]
    if kind == "opposed":
        y[:n] = -x
    return x, y


def same(found, expected, tolerance=1e-12):
    for a, b in zip(found, expected, strict=True):
        unit = 1 + b.abs().max().item()
        close(a / unit, b / unit, atol=tolerance)


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


@given(seed=seeds, n=st.integers(2, 8), size=st.integers(1, 7), reduction=reductions)
def test_symmetric_agrees_with_the_oracle(seed, n, size, reduction):
    x, y = views("gauss", n, 0, 3, seed)
    settings = {"temperature": 0.07, "reduction": reduction}
    expected = oracles.symmetric_info_nce(*map(numpy, (x, y)), **settings)
    close(mm.symmetric_info_nce(x, y, **settings, chunk_size=size), expected)


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


@every_form
def test_large_batches_stream_by_themselves(form, monkeypatch):
    """Without a chunk_size, from LEAST pairs on; no tile divides the batch."""
    x, y = normal(1, 70, 5), normal(2, 70, 5)
    whole, full = gradients(FORMS[form], x, y)
    for module in (tiles, sigmoid):
        monkeypatch.setattr(module, "LEAST", 70 * 70)
    monkeypatch.setattr(tiles, "TILE", 32)
    monkeypatch.setattr(tiles, "WIDE", (64, 16))
    with Allocations() as made:
        value, found = gradients(FORMS[form], x, y)
    same([value, *found], [whole, *full])
    assert made.largest <= 32 * 70
    with Allocations() as made:
        gradients(FORMS[form], x[:69], y[:69])
    assert made.largest == 69 * 69


@pytest.mark.parametrize(
    ("rows", "columns", "chunk_size", "expected"),
    [
        (181, 181, None, None),
        (100, 100, 99, 99),
        (100, 100, 100, None),
        (100, 100, 1000, None),
        (100, 0, 1, None),
        (0, 100, 1, None),
        (4096, 4096, None, 256),
        (256, 127, None, None),
        (256, 128, None, 512),
        (65536, 65536, None, 32),
        (4096, 10**7, None, 32),
        (1, 2**18, None, 32),
    ],
)
def test_how_many_rows_at_a_time(rows, columns, chunk_size, expected):
    assert tiles.step(rows, columns, chunk_size) == expected


def test_which_tensors_have_values_to_read():
    x = torch.ones(2)
    assert is_eager()
    assert is_eager(x, torch.nn.Parameter(x))
    assert not is_eager(x, x.to("meta"))
    with FakeTensorMode():
        assert not is_eager(torch.ones(2))
        assert not known(torch.ones(()) > 0)
    assert not torch.func.vmap(lambda z: z if is_eager() else z - 1)(x).any()
    assert known(x.sum() == 2)
    assert not known(x.sum() == 3)


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
    for size in (1, 7, 32, None):
        x, y = (z.float() for z in views(kind, 33, 0, 6, size or 0))
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
    monkeypatch.setattr(tiles, "SMALL", 0)
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


@every_form
@pytest.mark.parametrize("wanted", [(0,), (1,), (2,), (0, 1), (1, 2), (0, 1, 2)])
def test_only_some_inputs_require_a_gradient(form, wanted, monkeypatch):
    inputs = [normal(1, 7, 3), normal(2, 7, 3), torch.tensor(0.3, dtype=torch.float64)]

    def of(chunk_size):
        given = [leaf(z) if k in wanted else z for k, z in enumerate(inputs)]
        value = FORMS[form](*given[:2], temperature=given[2], chunk_size=chunk_size)
        value.backward()
        assert all(given[k].grad is None for k in range(3) if k not in wanted)
        return [given[k].grad for k in wanted]

    small = of(None)
    same(of(3), small)
    monkeypatch.setattr(tiles, "SMALL", 0)
    same(of(None), small)


@every_form
@pytest.mark.parametrize("chunk_size", [3, None])
@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_a_graph_that_is_kept_can_be_used_twice(form, reduction, chunk_size):
    x, y = leaf(normal(1, 7, 3)), leaf(normal(2, 7, 3))
    value = FORMS[form](x, y, chunk_size=chunk_size, reduction=reduction).sum()
    once = torch.autograd.grad(value, (x, y), retain_graph=True)
    twice = torch.autograd.grad(5 * value, (x, y))
    same(twice, [5 * gradient for gradient in once])


@every_form
@pytest.mark.parametrize("chunk_size", [3, None])
@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_a_second_derivative_takes_the_plain_form(form, reduction, chunk_size):
    """Of the views, the temperature and the weights: create_graph tells the backward pass."""
    inputs = [normal(1, 4, 2), normal(2, 4, 2), torch.tensor(0.5).double(), normal(3, 4).abs() + 1]
    leaves = [leaf(z) for z in inputs]

    def loss(x, y, t, w):
        return FORMS[form](
            x, y, temperature=t, weight=w, reduction=reduction, chunk_size=chunk_size
        )

    assert torch.autograd.gradcheck(loss, leaves)
    assert torch.autograd.gradgradcheck(loss, leaves)


@every_form
@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_without_gradients_none_are_made(form, mode):
    x, y = leaf(normal(1, 9, 4)), leaf(normal(2, 9, 4))
    whole = FORMS[form](x, y)
    with mode(), Allocations() as made:
        value = FORMS[form](x, y, chunk_size=4)
    close(value, whole)
    assert not value.requires_grad
    assert made.products == (9 if form != "one way" else 3)


@pytest.mark.filterwarnings("ignore:.*torch.jit.script")  # forward mode of torch's own softplus
@every_form
@pytest.mark.parametrize("chunk_size", [2, None])
def test_transforms_and_forward_mode_take_the_plain_path(form, chunk_size, monkeypatch):
    monkeypatch.setattr(tiles, "LEAST", 1)
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
def test_a_compiled_loss_takes_the_plain_path(form, monkeypatch):
    monkeypatch.setattr(tiles, "LEAST", 1)
    torch._dynamo.reset()
    x, y = normal(1, 5, 3), normal(2, 5, 3)
    compiled = torch.compile(FORMS[form], fullgraph=True, backend="eager")
    close(compiled(x, y), FORMS[form](x, y))


@every_form
def test_strides_and_expanded_rows(form, monkeypatch):
    x, y = normal(1, 3, 9).T, normal(2, 1, 3).expand(9, 3)
    settings = {"normalize": None, "temperature": 1.0}
    tiled = gradients(lambda x, y: FORMS[form](x, y, **settings, chunk_size=4), x, y)
    for small in (tiles.SMALL, 0):
        monkeypatch.setattr(tiles, "SMALL", small)
        whole = gradients(lambda x, y: FORMS[form](x, y, **settings), x, y)
        same([tiled[0], *tiled[1]], [whole[0], *whole[1]])


@every_form
def test_other_devices_need_no_device(form):
    """Nothing in the tiles is made on the CPU or reads a value."""
    x, y = (leaf(normal(k, 9, 4).float()).to("meta") for k in (1, 2))
    for chunk_size in (4, None):
        value = FORMS[form](x, y, chunk_size=chunk_size)
        slopes = torch.autograd.grad(value, (x, y), create_graph=True)
        slopes += torch.autograd.grad(FORMS[form](x, y, chunk_size=chunk_size), (x, y))
        slopes += torch.autograd.grad(sum(z.sum() for z in slopes), (x, y))
        assert all(gradient.device.type == "meta" for gradient in slopes)


# --- memory --------------------------------------------------------------------------------------


class Allocations(Made):
    """And how many matrix products."""

    products = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        aten = torch.ops.aten
        self.products += function.overloadpacket in (aten.mm, aten.matmul, aten.addmm, aten.addmm_)
        return super().__torch_dispatch__(function, types, args, kwargs)


@every_form
def test_no_tensor_is_larger_than_a_tile_or_the_inputs(form):
    n, d, tile = 96, 4, 16
    x, y = leaf(normal(1, n, d)), leaf(normal(2, n, d))
    with Allocations() as made:
        FORMS[form](x, y, chunk_size=tile).backward()
    assert made.largest == (tile * n if form == "one way" else n * d)


@every_form
def test_the_products_are_counted(form):
    """4 of N N D for both directions; 3 for one, and for the sigmoid."""
    x, y = leaf(normal(1, 12, 3)), leaf(normal(2, 12, 3))
    with Allocations() as made:
        FORMS[form](x, y, temperature=1.0, chunk_size=4).backward()
    tiles = 3 if form == "one way" else 9
    assert made.products == tiles * (4 if form == "symmetric" else 3)


@every_form
def test_memory_grows_with_the_batch_and_not_with_its_square(form):
    def of(n):
        x, y = leaf(normal(1, n, 8).float()), leaf(normal(2, n, 8).float())
        return peak(lambda: FORMS[form](x, y, normalize=None, chunk_size=8).backward())

    few, many = of(64), of(512)
    assert 0 < many < 9 * few
    assert many < 512 * 512


@pytest.mark.parametrize("small", [0, tiles.SMALL])
@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_a_single_tile_is_kept_and_not_made_again(reduction, small, monkeypatch):
    """Up to one tile: 3 products, the same numbers, and a graph that can be used twice."""
    x, y = normal(1, 9, 3), normal(2, 9, 3)
    whole, full = gradients(
        lambda x, y: mm.symmetric_info_nce(x, y, reduction=reduction).sum(), x, y
    )
    monkeypatch.setattr(tiles, "LEAST", 1)
    monkeypatch.setattr(tiles, "SMALL", small)
    leaves = [leaf(x), leaf(y)]
    with Allocations() as made:
        value = mm.symmetric_info_nce(*leaves, reduction=reduction).sum()
        found = torch.autograd.grad(value, leaves, retain_graph=True)
    assert made.products == 3
    same([value, *found], [whole, *full])
    same(torch.autograd.grad(value, leaves), found)


@pytest.mark.parametrize("temperature", [0.2, 1e-4])
def test_the_whole_matrix_in_several_blocks(temperature, monkeypatch):
    """70 rows in blocks of 32, with one shift and with each row's own: as in small tiles."""
    inputs = [normal(1, 70, 5), normal(2, 70, 5), torch.tensor(temperature).double()]

    def of(chunk_size):
        def loss(x, y, t):
            return mm.symmetric_info_nce(x, y, temperature=t, chunk_size=chunk_size)

        with Allocations() as made:
            value, found = gradients(loss, *inputs)
        return [value, *found], made

    tiled, _ = of(16)
    monkeypatch.setattr(tiles, "SMALL", 0)
    monkeypatch.setattr(tiles, "BLOCK", 1)
    whole, made = of(70)
    same(whole, tiled, 1e-12 / temperature)
    assert made.largest == 70 * 70
    assert made.products == (1 if temperature == 0.2 else 2) + 2 * 3


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
    losses = infonce_tiles.symmetric(*one, t, (1, 1))
    assert losses.item() == 0
    close(infonce_blocks.one_way(*one, torch.tensor([0]), 0.1, None, 1), [0.0])


def test_modules_hand_their_chunk_size_on():
    x, y = normal(1, 9, 3), normal(2, 9, 3)
    for module in (mm.InfoNCE, mm.SymmetricInfoNCE, mm.SigmoidContrast):
        with Allocations() as made:
            value = module(chunk_size=2)(x, y)
        close(value, module()(x, y))
        assert made.largest <= 27
