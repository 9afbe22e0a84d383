"""KL distillation against float64 loops and torch, and its laws."""

import copy
import math
import pickle

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from mmcontrast.distill import KLDistill, kl_distill
from tests import oracles
from tests.mmcontrast.strategies import close, gradients, leaf, mask, normal, numpy, rng, seeds

DTYPES = [torch.float64, torch.float32, torch.bfloat16, torch.float16]
DIRECTIONS = ["teacher_student", "student_teacher"]
every_direction = pytest.mark.parametrize("direction", DIRECTIONS)
directions = st.sampled_from(DIRECTIONS)
temperatures = st.sampled_from([0.1, 0.5, 1.0, 4.0, 20.0])
shapes = st.one_of(
    st.tuples(st.integers(1, 5), st.integers(1, 6)),
    st.tuples(st.integers(1, 4), st.integers(1, 3), st.integers(1, 4)),
)


@given(
    seed=seeds,
    shape=shapes,
    temperature=temperatures,
    direction=directions,
    masked=st.booleans(),
    weighted=st.booleans(),
    reduction=st.sampled_from(["mean", "sum", "none"]),
)
def test_it_agrees_with_the_oracle(
    seed, shape, temperature, direction, masked, weighted, reduction
):
    student, teacher = 2 * normal(seed, *shape), 2 * normal(seed + 1, *shape)
    real = mask(seed, *shape[:-1], share=0.6) if masked else None
    weight = normal(seed, shape[0]).abs() if weighted else None
    shared = {"temperature": temperature, "direction": direction, "reduction": reduction}
    expected = oracles.kl_distill(
        numpy(student), numpy(teacher), mask=numpy(real), weight=numpy(weight), **shared
    )
    close(kl_distill(student, teacher, mask=real, weight=weight, **shared), expected)


def test_defaults_are_the_documented_ones():
    x, y = normal(1, 4, 3), normal(2, 4, 3)
    close(kl_distill(x, y), kl_distill(x, y, temperature=1.0, direction="teacher_student"))


@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_it_is_torchs_kl_div(temperature):
    x, y = normal(1, 5, 6), normal(2, 5, 6)
    log_q, p = (x / temperature).log_softmax(-1), (y / temperature).softmax(-1)
    theirs = temperature**2 * F.kl_div(log_q, p, reduction="batchmean")
    close(kl_distill(x, y, temperature=temperature), theirs)
    log_p, q = (y / temperature).log_softmax(-1), (x / temperature).softmax(-1)
    theirs = temperature**2 * F.kl_div(log_p, q, reduction="batchmean")
    close(kl_distill(x, y, temperature=temperature, direction="student_teacher"), theirs)
    _, (gradient,) = gradients(lambda x: kl_distill(x, y, temperature=temperature), x)
    softened = temperature * ((x / temperature).softmax(-1) - p) / 5
    close(gradient, softened)


@given(seed=seeds, temperature=temperatures, direction=directions, closeness=st.integers(-9, 1))
def test_law_35_never_negative_and_zero_up_to_a_shift(seed, temperature, direction, closeness):
    options = {"temperature": temperature, "direction": direction, "reduction": "none"}
    for dtype in (torch.float64, torch.float32):
        x = 3 * normal(seed, 6, 4, dtype=dtype)
        y = x + 10.0**closeness * normal(seed + 1, 6, 4, dtype=dtype)
        assert (kl_distill(x, y, **options) >= 0).all()
        assert (kl_distill(x, x.clone(), **options) == 0).all()
        shift = normal(seed + 2, 6, 1, dtype=dtype)
        eps = torch.finfo(dtype).eps / temperature
        close(
            kl_distill(x, x + shift, **options), torch.zeros(6), atol=1e3 * (eps * temperature) ** 2
        )
    x, y = normal(seed, 6, 4), normal(seed + 1, 6, 4)
    assert (kl_distill(x, y, **options) > 0).all()
    shifted = kl_distill(x + 5, y - normal(seed + 2, 6, 1), **options)
    close(shifted, kl_distill(x, y, **options), rtol=1e-8)


@every_direction
def test_law_35_at_a_high_temperature_it_is_half_the_centred_mean_square(direction):
    x, y = normal(1, 5, 7), normal(2, 5, 7)
    gap = y - x
    limit = (gap - gap.mean(1, keepdim=True)).square().mean(1) / 2
    errors = []
    for temperature in (1e2, 1e3, 1e4):
        value = kl_distill(x, y, temperature=temperature, direction=direction, reduction="none")
        errors.append((value - limit).abs().max().item())
    assert errors[0] < 0.05
    assert errors[1] < errors[0] / 8  # the error falls with 1 / temperature
    assert errors[2] < errors[1] / 8
    single = kl_distill(x.float(), y.float(), temperature=1e3, reduction="none")
    close(single, kl_distill(x, y, temperature=1e3, reduction="none"), rtol=1e-3)


@every_direction
@pytest.mark.parametrize("temperature", [1.0, 10.0])
def test_a_student_close_to_its_teacher_keeps_digits_in_float32(direction, temperature):
    """The plain sum of P (log P - log Q) has no digit left here."""
    options = {"temperature": temperature, "direction": direction, "reduction": "none"}
    x = normal(1, 8, 32).float()
    y = x + 1e-3 * normal(2, 8, 32).float()
    exact = kl_distill(x.double(), y.double(), **options)
    assert (exact < 2e-6).all()
    close(kl_distill(x, y, **options), exact, atol=0, rtol=2e-3)


@every_direction
@pytest.mark.parametrize("dtype", DTYPES)
def test_far_apart_it_is_finite_and_right(direction, dtype):
    x = torch.tensor([[0.0, 1e4], [300.0, -300.0], [0.0, 0.0]], dtype=dtype)
    y = torch.tensor([[1e4, 0.0], [-300.0, 300.0], [2e4, -2e4]], dtype=dtype)
    value, (gradient,) = gradients(lambda x: kl_distill(x, y, direction=direction).sum(), x)
    assert value.isfinite()
    assert gradient.isfinite().all()
    far = kl_distill(x, y, direction=direction, reduction="none")
    oracle = oracles.kl_distill(
        numpy(x.double()), numpy(y.double()), direction=direction, reduction="none"
    )
    close(far, oracle, rtol=1e-6)


NONE = -math.inf
SHARES_OF_ZERO = {
    "the teacher's": ([0.3, 0.0, 1.0], [1.0, 0.0, NONE]),
    "a one-hot teacher's": ([0.3, 0.0, 1.0], [NONE, 0.0, NONE]),
    "the student's": ([0.3, NONE, 1.0], [1.0, 0.5, 2.0]),
    "both": ([0.3, NONE, 1.0], [1.0, NONE, 2.5]),
    "different ones": ([0.3, NONE, 1.0], [1.0, 0.5, NONE]),
    "all others": ([NONE, 0.0, NONE], [NONE, 4.0, NONE]),
}


def kl_of_shares(p, q):
    """Sum of P log(P / Q), with 0 log 0 = 0."""
    terms = [a * math.log(a / b) if b > 0 else math.inf for a, b in zip(p, q, strict=True) if a > 0]
    return math.fsum(terms)


@every_direction
@pytest.mark.parametrize("case", SHARES_OF_ZERO)
@pytest.mark.parametrize("dtype", DTYPES)
def test_shares_of_zero_add_nothing_or_are_infinite_with_a_finite_gradient(direction, case, dtype):
    x, y = (torch.tensor([row, [0.5, 0.0, -0.5]], dtype=dtype) for row in SHARES_OF_ZERO[case])
    p, q = (z[0].double().softmax(0).tolist() for z in (y, x))
    if direction == "student_teacher":
        p, q = q, p
    found = kl_distill(x, y, direction=direction, reduction="none")
    rounding = 1e-12 if dtype == torch.float64 else 1e-5
    close(found[0], kl_of_shares(p, q), atol=rounding, rtol=rounding)
    assert found[1] == 0
    _, (gradient,) = gradients(lambda x: kl_distill(x, y, direction=direction), x)
    assert gradient.isfinite().all()
    assert (gradient[1] == 0).all()


@pytest.mark.parametrize("case", SHARES_OF_ZERO)
def test_the_gradient_is_torchs_where_the_teacher_gives_a_share_of_zero(case):
    x, y = (torch.tensor([row], dtype=torch.float64) for row in SHARES_OF_ZERO[case])
    _, (found,) = gradients(lambda student: kl_distill(student, y), x)
    close(found, x.softmax(-1) - y.softmax(-1))


@every_direction
def test_derivatives_beside_shares_of_zero(direction):
    y = torch.tensor([[1.0, NONE, 0.5, 0.0]], dtype=torch.float64)
    log_y = y if direction == "teacher_student" else torch.where(y > NONE, y, -30.0)
    x = leaf(normal(1, 1, 4))

    def loss(x):
        return kl_distill(x, log_y, direction=direction)

    assert torch.autograd.gradcheck(loss, x)
    assert torch.autograd.gradgradcheck(loss, x)


@every_direction
def test_the_teacher_gets_no_gradient(direction):
    student, teacher = leaf(normal(1, 4, 3)), leaf(normal(2, 4, 3))
    kl_distill(student, teacher, direction=direction).backward()
    assert teacher.grad is None
    assert student.grad.abs().sum() > 0
    assert not kl_distill(student.detach(), teacher, direction=direction).requires_grad


def test_the_directions_are_each_other_with_the_roles_exchanged():
    x, y = normal(1, 4, 3), normal(2, 4, 3)
    forward = kl_distill(x, y, direction="teacher_student")
    close(forward, kl_distill(y, x, direction="student_teacher"))
    assert abs(forward - kl_distill(x, y, direction="student_teacher")) > 1e-3


@given(seed=seeds, direction=directions)
def test_sequences_are_the_means_of_their_real_steps(seed, direction):
    x, y, real = normal(seed, 3, 4, 5), normal(seed + 1, 3, 4, 5), mask(seed, 3, 4, share=0.6)
    found = kl_distill(x, y, mask=real, direction=direction, reduction="none")
    for i in range(3):
        if real[i].any():
            close(found[i], kl_distill(x[i][real[i]], y[i][real[i]], direction=direction))
        else:
            assert found[i] == 0
    close(kl_distill(x[:, :1], y[:, :1]), kl_distill(x[:, 0], y[:, 0]))


@every_direction
@pytest.mark.parametrize("filler", [math.nan, math.inf, -1e30])
@pytest.mark.parametrize("shape", [(4, 3), (4, 2, 3)])
def test_law_25_masking_is_removing(direction, filler, shape):
    x, y = normal(1, *shape), normal(2, *shape)
    real = torch.tensor([True, False, True, False])
    shown = real if len(shape) == 2 else real[:, None].expand(4, 2)
    filled = [torch.where(shown[..., None], v, filler) for v in (x, y)]
    value, (gradient,) = gradients(
        lambda x: kl_distill(x, filled[1], mask=shown, direction=direction), filled[0]
    )
    close(value, kl_distill(x[real], y[real], direction=direction))
    assert (gradient[~real] == 0).all()
    assert (gradient[real] != 0).all()


@every_direction
@pytest.mark.parametrize("shape", [(3, 4), (3, 2, 4), (3, 0, 4), (0, 4), (0, 2, 4)])
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_nothing_to_learn_from_is_zero_with_a_graph(direction, shape, reduction):
    x, y = normal(1, *shape), normal(2, *shape)
    with torch.autograd.set_detect_anomaly(True):  # not even a NaN that a mask would hide
        value, (gradient,) = gradients(
            lambda x: kl_distill(
                x, y, mask=torch.zeros(shape[:-1]).bool(), direction=direction, reduction=reduction
            ).sum(),
            x,
        )
    assert value == 0
    assert (gradient == 0).all()


@given(seed=seeds, weighted=st.booleans())
def test_law_21_reductions_agree(seed, weighted):
    x, y, real = normal(seed, 4, 3), normal(seed + 1, 4, 3), torch.tensor([True, False, True, True])
    weight = normal(seed, 4).abs() if weighted else torch.ones(4, dtype=torch.float64)
    none, total, mean = (
        kl_distill(x, y, mask=real, weight=weight, reduction=r) for r in ("none", "sum", "mean")
    )
    close(none.sum(), total)
    close(total / weight[real].sum(), mean)
    order = torch.randperm(4, generator=rng(seed))
    moved = kl_distill(x[order], y[order], mask=real[order], weight=weight[order], reduction="none")
    close(moved, none[order])


def test_one_feature_has_nothing_to_share():
    value, (gradient,) = gradients(lambda x: kl_distill(x, normal(2, 4, 1)), normal(1, 4, 1))
    assert value == 0
    assert (gradient == 0).all()


@every_direction
@pytest.mark.parametrize("dtype", DTYPES)
def test_law_23_and_24_dtypes_and_zero_rows(direction, dtype):
    x, y = normal(1, 5, 6).to(dtype), normal(2, 5, 6).to(dtype)
    x[1], y[2], x[3], y[3] = 0, 0, 0, 0
    copies = x.clone(), y.clone()
    value, (gradient,) = gradients(lambda x: kl_distill(x, y, direction=direction), x)
    assert value.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    exact, (reference,) = gradients(
        lambda x: kl_distill(x, y.double(), direction=direction), x.double()
    )
    close(value, exact, rtol=1e-6)
    close(gradient.double(), reference, atol=max(1e-6, torch.finfo(dtype).eps))
    assert (gradient[3] == 0).all()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(kl_distill(x, y, direction=direction), value)
    assert torch.equal(x, copies[0])
    assert torch.equal(y, copies[1])
    assert kl_distill(x.float(), y.double()).dtype == torch.float64


@every_direction
def test_gradients(direction):
    """Some gaps are below 1 and some above: both forms of the divergence are met."""
    x, y = leaf(normal(1, 3, 2, 4)), 2 * normal(2, 3, 2, 4)
    real = torch.tensor([[True, True], [True, False], [False, False]])
    gap = (x.log_softmax(-1) - y.log_softmax(-1)).abs()[real]
    assert 4 < (gap < 1).sum() < 8

    def call(x):
        return kl_distill(x, y, temperature=1.5, direction=direction, mask=real)

    assert torch.autograd.gradcheck(call, (x,))
    assert torch.autograd.gradgradcheck(call, (x,))
    _, (gradient,) = gradients(call, x)
    expected = oracles.central_differences(
        lambda moved: oracles.kl_distill(
            moved, numpy(y), temperature=1.5, direction=direction, mask=numpy(real)
        ),
        numpy(x),
    )
    close(gradient, expected, atol=1e-8)


@every_direction
def test_compiled_under_transforms_and_elsewhere(direction):
    x, y, real = normal(1, 3, 2, 4), normal(2, 3, 2, 4), mask(3, 3, 2)

    def call(x, y, real):
        return kl_distill(x, y, temperature=2.0, direction=direction, mask=real)

    value, (expected,) = gradients(lambda x: call(x, y, real), x)
    torch._dynamo.reset()
    compiled = torch.compile(call, fullgraph=True, backend="aot_eager")
    close(gradients(lambda x: compiled(x, y, real), x)[1][0], expected)
    close(torch.func.grad(call)(x, y, real), expected)
    pairs = [torch.stack([v, v.flip(0)]) for v in (x, y, real)]
    close(torch.vmap(call)(*pairs)[1], call(x.flip(0), y.flip(0), real.flip(0)))
    close(call(x.mT.contiguous().mT, y.mT.contiguous().mT, real), value)
    moved = leaf(x.to("meta"))
    call(moved, y.to("meta"), real.to("meta")).backward()
    assert moved.grad.device.type == "meta"


def test_the_module_is_one_call_of_the_function():
    x, y = normal(1, 4, 2, 3), normal(2, 4, 2, 3)
    settings = {"temperature": 3.0, "direction": "student_teacher", "reduction": "sum"}
    forward = {"mask": mask(3, 4, 2), "weight": normal(4, 4).abs()}
    loss = KLDistill(**settings)
    for same in (loss, copy.deepcopy(loss), pickle.loads(pickle.dumps(loss))):
        close(same(x, y, **forward), kl_distill(x, y, **settings, **forward))
    close(KLDistill()(x, y), kl_distill(x, y))


X, SEQUENCE = torch.ones(3, 2), torch.ones(3, 4, 2)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: kl_distill(X[0], X[0]), r"student: expected .*got \(2,\)"),
        (lambda: kl_distill(X[:, :0], X[:, :0]), r"student: expected .*feature, got \(3, 0\)"),
        (lambda: kl_distill([X], X), "student: expected a tensor, got list"),
        (lambda: kl_distill(X, None), "teacher: expected a tensor, got NoneType"),
        (lambda: kl_distill(X, X[:2]), r"teacher: expected shape \(3, 2\), got \(2, 2\)"),
        (lambda: kl_distill(X, SEQUENCE), r"teacher: expected shape \(3, 2\), got \(3, 4, 2\)"),
        (lambda: kl_distill(X.int(), X), "student: expected .*float.*got torch.int32"),
        (lambda: kl_distill(X, X.int()), "teacher: expected .*float.*got torch.int32"),
        (lambda: kl_distill(X, X, temperature=0), "temperature: expected .*above 0, got 0"),
        (lambda: kl_distill(X, X, temperature=-2.0), "temperature: expected .*got -2.0"),
        (lambda: kl_distill(X, X, temperature=torch.ones(())), "temperature: expected a number"),
        (
            lambda: kl_distill(X, X, direction="forward"),
            "direction: expected .*'teacher_student', 'student_teacher', got 'forward'",
        ),
        (
            lambda: kl_distill(SEQUENCE, SEQUENCE, mask=torch.ones(3).bool()),
            r"mask: expected shape \(3, 4\), got \(3,\)",
        ),
        (
            lambda: kl_distill(X, X, mask=torch.ones(3)),
            "mask: expected a bool mask, got torch.float32",
        ),
        (lambda: kl_distill(X, X, weight=torch.ones(2)), r"weight: expected .*\(3,\), got \(2,\)"),
        (lambda: kl_distill(X, X, reduction="batchmean"), "reduction: expected .*got 'batchmean'"),
    ],
)
def test_wrong_calls(call, message):
    with pytest.raises(ValueError, match=message):
        call()
