"""Row maps against their equations, at every size of number and in every dtype."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.autograd import forward_ad

import mmcontrast as mm
from mmcontrast.rows import capped, dot, map_rows, ordinary_scale
from tests import oracles
from tests.mmcontrast.strategies import close, embeddings, gradients, leaf, normal, numpy, seeds

MAPS = {
    "l2": mm.l2_normalize,
    "softmax": mm.softmax_normalize,
    "shifted_cosine": mm.shifted_cosine_normalize,
    "softplus": mm.softplus_normalize,
}
LOW = [torch.float32, torch.bfloat16, torch.float16]
every_map = pytest.mark.parametrize("name", MAPS)


@every_map
@given(seed=seeds, n=st.integers(1, 5), d=st.integers(1, 5))
def test_agrees_with_the_oracle(name, seed, n, d):
    x = normal(seed, n, d)
    close(MAPS[name](x), np.array(oracles.rows(numpy(x), name)), atol=1e-13)


@every_map
def test_leading_axes_are_kept(name):
    x = normal(3, 2, 3, 4)
    together = MAPS[name](x)
    for i in range(2):
        close(together[i], MAPS[name](x[i]), atol=1e-15)
    x[1, 2] = 0
    for i in range(3):
        assert torch.equal(MAPS[name](x)[:, i], MAPS[name](x[:, i]))
    assert torch.equal(MAPS[name](x)[1, 2], MAPS[name](x[1, 2]))


@every_map
@given(
    seed=seeds,
    beside=st.sampled_from([0.0, 1e-30, 1e30, math.inf, math.nan]),
    dtype=st.sampled_from([torch.float32, torch.float64]),
)
def test_a_row_is_the_same_whatever_stands_beside_it(name, seed, beside, dtype):
    """To the last digit: equal rows of two batches tie."""
    x, upstream = normal(seed, 4, 6).to(dtype), normal(seed + 1, 5, 6).to(dtype)
    more = torch.cat([x, torch.full((1, 6), beside, dtype=dtype)])
    (alone, own), (together, all_of_them) = (
        gradients_of(MAPS[name], rows, upstream[: len(rows)]) for rows in (x, more)
    )
    assert torch.equal(together[:4], alone)
    assert torch.equal(all_of_them[:4], own)


def gradients_of(row_map, x, upstream):
    """The mapped rows, and the gradient by the rows."""
    x = leaf(x)
    found = row_map(x)
    width = found.shape[1] - x.shape[1]  # of a map that adds a feature
    return found, torch.autograd.grad(found, x, torch.nn.functional.pad(upstream, (0, width)))[0]


@every_map
def test_gradcheck(name):
    x = leaf(normal(4, 3, 4))
    assert torch.autograd.gradcheck(MAPS[name], x)
    assert torch.autograd.gradgradcheck(MAPS[name], x)


@every_map
@pytest.mark.parametrize("dtype", [torch.float64, *LOW])
def test_result_is_float32_or_float64_and_as_precise(name, dtype):
    x = normal(5, 4, 6).to(dtype)
    result = MAPS[name](x)
    assert result.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    close(result, MAPS[name](x.double()), atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float64, *LOW])
def test_law_23_zero_rows_stay_zero_with_zero_gradient(dtype):
    x = normal(6, 3, 4).to(dtype)
    x[1] = 0
    coefficients = normal(7, 3, 4)
    value, (gradient,) = gradients(lambda x: (mm.l2_normalize(x) * coefficients).sum(), x)
    assert value.isfinite()
    assert (mm.l2_normalize(x)[1] == 0).all()
    assert (gradient[1] == 0).all()
    assert (gradient[[0, 2]] != 0).any(dim=1).all()
    assert gradient.dtype == dtype


@every_map
@pytest.mark.parametrize("dtype", [torch.float64, *LOW])
def test_law_23_zero_rows_have_finite_gradients_in_every_map(name, dtype):
    x = torch.zeros(2, 3, dtype=dtype)
    value, (gradient,) = gradients(lambda x: MAPS[name](x).square().cumsum(-1).sum(), x)
    assert value.isfinite()
    assert gradient.isfinite().all()


@given(seed=seeds, power=st.integers(-37, 37))
def test_law_6_length_one_at_every_size_a_float32_holds(seed, power):
    x = (embeddings(seed, 3, 4) * 10.0**power).float()
    result = mm.l2_normalize(x)
    close(result.norm(dim=-1), torch.ones(3), atol=1e-5)
    close(result, mm.l2_normalize(x.double()), atol=1e-5)


EXTREMES = {
    "smallest": 1e-45,
    "subnormal": 3e-42,
    "tiny": 1e-37,
    "squares underflow": 1e-25,
    "squares subnormal": 1e-22,
    "short": 1e-11,
    "long": 1e19,
    "squares overflow": 1e25,
    "largest": 3e38,
}


@pytest.mark.parametrize("size", EXTREMES.values(), ids=EXTREMES)
@pytest.mark.parametrize("zero", [False, True])
def test_extreme_rows_among_others_and_their_gradients(size, zero):
    """One such row, and perhaps a zero one, in a batch of ordinary ones."""
    x, coefficients = normal(1, 5, 4).float(), normal(2, 5, 4).float()
    x[2] = size * torch.tensor([1.0, -1.0, 0.0, 1.0])
    x[4] *= 0 if zero else 1
    result = mm.l2_normalize(x)
    close(result, mm.l2_normalize(x.double()), atol=3e-7)
    close(result[2], torch.tensor([1.0, -1.0, 0.0, 1.0]) / 3**0.5, atol=3e-7)
    _, (found,) = gradients(lambda x: (mm.l2_normalize(x) * coefficients).sum(), x)
    _, (expected,) = gradients(lambda x: (mm.l2_normalize(x) * coefficients).sum(), x.double())
    rows = [0, 1, 3, 4] + [2] * (size > 1e-30)  # that of a shorter one is no float32
    unit = expected[rows].abs().amax(1, keepdim=True).clamp_min(1e-300)
    close(found[rows] / unit, expected[rows] / unit, atol=2e-6)


@pytest.mark.parametrize("size", [5e-324, 1e-308, 1e-305])
def test_shorter_float64_rows_have_finite_gradients(size):
    row = torch.tensor([[1.0, -1.0, 0.0]], dtype=torch.float64)
    value, (found,) = gradients(lambda x: mm.l2_normalize(x)[0, 0], size * row)
    close(value, 0.5**0.5)
    assert found.isfinite().all()
    assert found.abs().max() < 2.0**1001


@pytest.mark.parametrize("size", [1e-250, 1e-160, 1e-13, 1.0, 1e19, 1e160, 1e250])
def test_float64_rows_of_every_size_and_both_derivatives(size):
    x, coefficients = normal(3, 4, 5), normal(4, 4, 5)
    result = mm.l2_normalize(x * size)
    close(result, x / x.square().sum(-1, keepdim=True).sqrt(), atol=1e-15)

    def loss(x):
        return (mm.l2_normalize(x) * coefficients).sum().square()

    value, (gradient,) = gradients(loss, x)
    moved, (found,) = gradients(loss, x * size)
    close(moved, value, atol=1e-13)
    close(found * size, gradient, atol=1e-12)
    scaled = leaf(x)
    assert torch.autograd.gradcheck(lambda x: mm.l2_normalize(x * size), scaled)
    assert torch.autograd.gradgradcheck(lambda x: mm.l2_normalize(x * size), scaled)


def test_third_derivatives():
    x = leaf(normal(1, 2, 3))
    (slope,) = torch.autograd.grad(mm.l2_normalize(x)[:, 0].sum(), x, create_graph=True)
    assert torch.autograd.gradgradcheck(
        lambda x: torch.autograd.grad(mm.l2_normalize(x)[:, 0].sum(), x, create_graph=True)[0], x
    )
    assert slope.requires_grad


def test_one_operation_for_autograd_and_without_it_none():
    """Ordinary rows on the CPU; a zero row takes the form that divides by its largest entry."""
    x = leaf(normal(1, 3, 4))
    assert type(mm.l2_normalize(x).grad_fn).__name__ == "_UnitBackward"
    assert type(mm.l2_normalize(x * torch.tensor([[1.0], [0], [1]])).grad_fn).__name__ != (
        "_UnitBackward"
    )
    with torch.no_grad():
        assert not mm.l2_normalize(x).requires_grad


@every_map
def test_empty_and_not_finite_rows(name):
    assert MAPS[name](torch.ones(0, 3)).shape[0] == 0
    for value in (torch.nan, torch.inf):
        x = normal(1, 3, 4).float()
        x[1, 2] = value
        others = MAPS[name](x)[[0, 2]]
        close(others, MAPS[name](x[[0, 2]]), atol=1e-7)


@pytest.mark.filterwarnings("ignore:.*torch.jit.script")  # forward mode of torch's own softplus
@every_map
def test_transforms_forward_mode_and_compilation(name):
    x, v, coefficients = normal(1, 3, 4), normal(2, 3, 4), normal(3, 3, 4).cumsum(0)

    def loss(x):
        return (MAPS[name](x)[..., :4] * coefficients).sum()

    _, (expected,) = gradients(loss, x)
    close(torch.func.grad(loss)(x), expected)
    close(torch.func.jvp(loss, (x,), (v,))[1], (expected * v).sum())
    close(torch.vmap(loss)(torch.stack([x, v])), torch.stack([loss(x), loss(v)]))
    close(torch.func.hessian(loss)(x), torch.autograd.functional.hessian(loss, x))
    with forward_ad.dual_level():
        moved = forward_ad.unpack_dual(loss(forward_ad.make_dual(x, v)))
    close(moved.tangent, (expected * v).sum())
    torch._dynamo.reset()
    compiled = torch.compile(MAPS[name], fullgraph=True, backend="eager")
    close(compiled(x), MAPS[name](x))


@every_map
def test_other_devices_need_no_device(name):
    """On these, no length is read."""
    with FakeTensorMode():
        for device in ("cpu", "meta"):
            x = torch.ones(3, 4, device=device, requires_grad=True)
            MAPS[name](x).sum().backward()
            assert x.grad.device.type == device
        # Autograd on these needs a torch built with CUDA.
        assert mm.l2_normalize(torch.ones(3, 4, device="cuda")).device.type == "cuda"
    x = torch.ones(3, 4, device="meta", requires_grad=True)
    MAPS[name](x).sum().backward()
    assert x.grad.shape == (3, 4)


@given(seed=seeds, power=st.integers(-15, 15))
def test_law_7_gradient_is_orthogonal_to_the_row(seed, power):
    x, coefficients = normal(seed, 3, 4) * 10.0**power, normal(seed + 1, 3, 4)
    _, (gradient,) = gradients(lambda x: (mm.l2_normalize(x) * coefficients).sum(), x)
    close((gradient * x).sum(dim=-1), torch.zeros(3), atol=1e-12)


def test_float16_rows_whose_squares_overflow_or_underflow():
    x = torch.tensor([[3e4, 4e4], [3e-5, 4e-5]], dtype=torch.float16)
    close(mm.l2_normalize(x), torch.tensor([[0.6, 0.8], [0.6, 0.8]]), atol=2e-3)


@given(seed=seeds)
def test_softmax_similarities_lie_above_zero_up_to_one(seed):
    z = mm.softmax_normalize(3 * normal(seed, 5, 3))
    similarity = z @ z.T
    assert (similarity > 0).all()
    assert (similarity <= 1).all()
    close(z.sum(dim=-1), torch.ones(5))


@given(seed=seeds)
def test_shifted_cosine_is_half_of_one_plus_cosine(seed):
    x, y = normal(seed, 4, 3), normal(seed + 1, 4, 3)
    similarity = mm.shifted_cosine_normalize(x) @ mm.shifted_cosine_normalize(y).T
    close(similarity, (1 + torch.cosine_similarity(x[:, None], y[None], dim=-1)) / 2)


@given(seed=seeds)
def test_softplus_similarities_are_positive_cosines(seed):
    z = mm.softplus_normalize(10 * normal(seed, 4, 3))
    assert (z @ z.T > 0).all()
    close(z.norm(dim=-1), torch.ones(4))


@every_map
def test_autocast_does_not_lower_the_precision(name):
    x = normal(8, 4, 6).float()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = MAPS[name](x)
    assert inside.dtype == torch.float32
    close(inside, MAPS[name](x), atol=0, rtol=0)


@every_map
@given(seed=seeds, size=st.integers(2, 20), width=st.integers(1, 40))
def test_equal_rows_stay_equal(name, seed, size, width):
    row = normal(seed, 1, width)
    for x in (row, row.float(), 1e20 * row):
        mapped = MAPS[name](x.expand(size, -1).contiguous())
        assert (mapped == mapped[0]).all()


@pytest.mark.parametrize("row", [[-104.0, -100.0], [-90.0, -95.0], [-3e3, -3001.0], [-3e38, -3e38]])
def test_softplus_of_low_rows_is_their_exponentials_in_shares(row):
    """Below -64, softplus(x) is e^x, which a float32 does not hold below -104."""
    x, coefficients = torch.tensor([row, [1.0, -2.0]]), normal(1, 2, 2).float()
    value, (found,) = gradients(lambda x: (mm.softplus_normalize(x) * coefficients).sum(), x)
    highest = x[0].max().double()

    def shares(x):
        return (mm.l2_normalize((x - highest).exp()) * coefficients[0].double()).sum()

    first, (expected,) = gradients(shares, x[:1].double())
    rest, (other,) = gradients(
        lambda x: (mm.l2_normalize(x.exp().log1p()) * coefficients[1].double()).sum(),
        x[1:].double(),
    )
    close(value, first + rest, atol=1e-6)
    close(found, torch.cat([expected, other]), atol=1e-6)


@pytest.mark.parametrize("size", [1e-45, 1e-40, 1e-35])
def test_gradients_of_rows_shorter_than_any_gradient_are_finite(size):
    """In the right direction, as long as those of the shortest rows that have a float32 one."""
    row, coefficients = torch.tensor([[1.0, -1.0, 0.0]]), normal(1, 1, 3).float()
    _, (found,) = gradients(lambda x: (mm.l2_normalize(x) * coefficients).sum(), row * size)
    _, (least,) = gradients(lambda x: (mm.l2_normalize(x) * coefficients).sum(), row * 2.0**-110)
    close(found / 2.0**110, least / 2.0**110, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_ordinary_scales_are_powers_of_two_that_keep_squares_in_range(dtype):
    limits = torch.finfo(dtype)
    most = round(math.log2(limits.max))
    sizes = torch.tensor([2.0**k for k in range(-most - 20, most, 3)], dtype=dtype)
    scales = ordinary_scale(sizes)
    assert (scales.log2() == scales.log2().round()).all()
    squares = (sizes * scales).square()
    assert (squares * 2**20 < limits.max).all()
    assert (squares > limits.tiny).all()
    assert (ordinary_scale(torch.tensor([1e-9, 0.1, 1.0, 3e4, 1e9], dtype=dtype)) == 1).all()


def test_capped_numbers_keep_their_gradient():
    x = torch.tensor([-9.0, 2.0, 5.0])
    value, (gradient,) = gradients(lambda x: capped(x, 4).sum(), x)
    assert value == -4 + 2 + 4
    assert (gradient == 1).all()


def test_infinity_is_not_capped():
    x = torch.tensor([math.inf, -math.inf, 5.0])
    assert capped(x, 4).tolist() == [math.inf, -math.inf, 4]


# --- dot products --------------------------------------------------------------------------------

SHAPES = [((4, 3), (5, 3)), ((2, 4, 3), (2, 5, 3)), ((2, 4, 3), (5, 3)), ((2, 6, 4, 3), (5, 3))]
every_shape = pytest.mark.parametrize("shapes", SHAPES)
HIGHER = {
    "grad": lambda f: torch.func.grad(f, (0, 1)),
    "jacrev(jacrev)": lambda f: torch.func.jacrev(torch.func.jacrev(f, (0, 1)), (0, 1)),
    "vmap(grad)": lambda f: torch.func.vmap(torch.func.grad(f, (0, 1)), (0, None)),
}
FORWARD = {
    "jacfwd": lambda f: torch.func.jacfwd(f, (0, 1)),
    "jacfwd(jacrev)": lambda f: torch.func.jacfwd(torch.func.jacrev(f, (0, 1)), (0, 1)),
    "jacfwd(jacfwd)": lambda f: torch.func.jacfwd(torch.func.jacfwd(f, (0, 1)), (0, 1)),
}


def pair(shapes, dtype=torch.float64):
    return [normal(k, *shape).to(dtype) for k, shape in enumerate(shapes)]


def flat(nested):
    return [nested] if isinstance(nested, torch.Tensor) else [x for y in nested for x in flat(y)]


@every_shape
def test_dot_and_its_derivatives_of_every_kind(shapes):
    x, y = map(leaf, pair(shapes))
    close(dot(x, y), torch.einsum("...bd,...cd->...bc", x, y), atol=1e-14)
    options = {"check_forward_ad": True, "check_batched_grad": True}
    assert torch.autograd.gradcheck(dot, (x, y), check_batched_forward_grad=True, **options)
    assert torch.autograd.gradgradcheck(dot, (x, y), check_fwd_over_rev=True)
    assert torch.autograd.gradcheck(lambda z: dot(z, y.detach()), (x,), check_forward_ad=True)
    assert torch.autograd.gradcheck(lambda z: dot(x.detach(), z), (y,), check_forward_ad=True)


@every_shape
@pytest.mark.parametrize("low", [torch.bfloat16, torch.float16])
def test_dot_autocast_reaches_no_derivative(shapes, low):
    """Neither where autocast is around the backward pass alone, nor around the second one."""

    def derivatives(autocast):
        x, y = map(leaf, pair(shapes, torch.float32))
        value = dot(x, y).sin().sum()
        with torch.autocast("cpu", dtype=low, enabled=autocast):
            slopes = torch.autograd.grad(value, (x, y), create_graph=True)
            return [*slopes, *torch.autograd.grad(slopes[0].sin().sum(), (x, y))]

    for found, expected in zip(derivatives(True), derivatives(False), strict=True):
        assert torch.equal(found, expected)


@pytest.mark.parametrize("name", [*HIGHER, *FORWARD])
@pytest.mark.filterwarnings("ignore:`torch.jit.script")  # torch's own, in its forward mode
def test_dot_under_functional_transforms(name):
    x, y = pair([(2, 4, 3), (5, 3)] if "vmap" in name else [(4, 3), (5, 3)], torch.float32)
    transform = {**HIGHER, **FORWARD}[name]
    found = flat(transform(lambda x, y: dot(x, y).sin().sum())(x, y))
    expected = flat(transform(lambda x, y: (x @ y.mT).sin().sum())(x, y))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = flat(transform(lambda x, y: dot(x, y).sin().sum())(x, y))
    for a, b, c in zip(found, expected, inside, strict=True):
        close(a, b, atol=1e-6)
        assert torch.equal(a, c)


@pytest.mark.filterwarnings("ignore:.*should not be instantiated")  # Dynamo's own tracing
@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
@pytest.mark.parametrize("autocast", [False, True])
def test_dot_compiles_into_one_graph_that_autocast_does_not_reach(backend, autocast):
    def function(x, y):
        return dot(x, y).sin().sum()

    torch._dynamo.reset()
    compiled = torch.compile(function, fullgraph=True, backend=backend)
    shapes = [(4, 3), (5, 3)]
    inside, outside = ([leaf(z) for z in pair(shapes, torch.float32)] for _ in range(2))
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
        compiled(*inside).backward()
    function(*outside).backward()
    for found, expected in zip(inside, outside, strict=True):
        close(found.grad, expected.grad, atol=1e-6)


def test_a_row_map_of_a_user_is_outside_autocast():
    x, matrix = normal(0, 4, 3).float(), normal(1, 3, 3).float()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = map_rows(x, lambda z: z @ matrix)
    assert torch.equal(inside, x @ matrix)
