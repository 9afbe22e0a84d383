"""The pair head against a float64 loop."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch._subclasses.fake_tensor import FakeTensorMode

from mmcontrast.pair_prediction import pair_prediction
from tests import oracles
from tests.mmcontrast.strategies import close, gradients, leaf, mask, normal, numpy, rng, seeds


@given(
    seed=seeds,
    n=st.integers(0, 6),
    scale=st.sampled_from([1e-3, 1.0, 100.0]),
    ignored=st.booleans(),
    kept=st.booleans(),
    weighted=st.booleans(),
    reduction=st.sampled_from(["mean", "sum", "none"]),
)
def test_pair_prediction_agrees_with_the_oracle(seed, n, scale, ignored, kept, weighted, reduction):
    logits, paired = scale * normal(seed, n, 2), torch.randint(0, 2, (n,), generator=rng(seed))
    if ignored:
        paired = torch.where(mask(seed + 1, n, share=0.3), -100, paired)
    options = {
        "weight": normal(seed + 2, n).abs() if weighted else None,
        "keep": mask(seed + 3, n, share=0.7) if kept else None,
    }
    found = pair_prediction(logits, paired, **options, reduction=reduction)
    assert found.dtype == torch.float64
    expected = oracles.pair_prediction(
        numpy(logits).tolist(),
        paired.tolist(),
        **{name: numpy(value) for name, value in options.items()},
        reduction=reduction,
    )
    close(found, expected)


def test_law_40_zero_logits_are_log_2():
    found = pair_prediction(torch.zeros(5, 2, dtype=torch.float64), torch.tensor([0, 1, 1, 0, 1]))
    close(found, math.log(2), atol=1e-15)


@given(seed=seeds, n=st.integers(1, 6))
def test_law_40_symmetries(seed, n):
    logits, paired = normal(seed, n, 2), torch.randint(0, 2, (n,), generator=rng(seed))
    value, order = pair_prediction(logits, paired), torch.randperm(n, generator=rng(seed))
    close(pair_prediction(logits.flip(1), 1 - paired), value)
    close(pair_prediction(logits[order], paired[order]), value)
    close(pair_prediction(logits + normal(seed + 1, n, 1), paired), value, atol=1e-9)


@pytest.mark.parametrize("lead", [19.0, 21.0, 27.0, 49.0, 51.0])
def test_section_5_a_leading_class_keeps_its_digits_in_float64(lead):
    wrong = pair_prediction(torch.tensor([[0.0, lead]], dtype=torch.float64), torch.tensor([0]))
    close(wrong - lead, math.log1p(math.exp(-lead)), rtol=0, atol=2e-14)


@pytest.mark.parametrize("lead", [17.0, 40.0, 60.0, 200.0, 1e4])
def test_section_5_a_leading_class_keeps_its_digits_in_float32(lead):
    logits = torch.tensor([[0.0, lead], [lead, 0.0]])
    right, wrong = torch.tensor([1, 0]), torch.tensor([0, 1])
    close(pair_prediction(logits, right), math.log1p(math.exp(-lead)), rtol=1e-5, atol=1e-44)
    close(pair_prediction(logits, wrong), lead + math.log1p(math.exp(-lead)), rtol=1e-6, atol=0)
    _, (gradient,) = gradients(lambda z: pair_prediction(z, right, reduction="sum"), logits)
    share = 1 / (1 + math.exp(lead)) if lead < 700 else 0.0
    close(gradient.abs(), [[share] * 2] * 2, rtol=1e-5, atol=1e-44)


def test_it_equals_torch_where_torch_is_exact():
    logits, paired = normal(6, 8, 2), torch.randint(0, 2, (8,), generator=rng(6))
    close(pair_prediction(logits, paired), torch.nn.functional.cross_entropy(logits, paired))


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_law_44_gradcheck(reduction):
    paired, weight = torch.tensor([1, 0, 0, 1, -100]), normal(7, 5).abs()

    def loss(logits):
        return pair_prediction(logits, paired, weight=weight, reduction=reduction)

    assert torch.autograd.gradcheck(loss, leaf(normal(8, 5, 2)))
    assert torch.autograd.gradgradcheck(loss, leaf(normal(8, 5, 2)))


@given(seed=seeds)
def test_law_25_masking_a_sample_is_removing_it(seed):
    logits, paired, keep = normal(seed, 6, 2), torch.randint(0, 2, (6,)), mask(seed, 6)
    hidden = torch.where(keep[:, None], logits, torch.nan)
    value, (gradient,) = gradients(lambda z: pair_prediction(z, paired, keep=keep), hidden)
    close(value, pair_prediction(logits[keep], paired[keep]))
    assert (gradient[~keep] == 0).all()
    ignored = torch.where(keep, paired, -100)
    close(pair_prediction(hidden, ignored), value)


@given(seed=seeds, weighted=st.booleans())
def test_law_21_reductions_agree(seed, weighted):
    logits, paired = normal(seed, 5, 2), torch.tensor([0, 1, -100, 1, 0])
    weight = normal(seed, 5).abs() if weighted else torch.ones(5, dtype=torch.float64)
    none, total, mean = (
        pair_prediction(logits, paired, weight=weight, reduction=r) for r in ("none", "sum", "mean")
    )
    close(none.sum(), total)
    close(total / weight[paired != -100].sum(), mean)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("n", [0, 3])
def test_nobody_counted_is_zero_with_a_graph(n, reduction):
    paired = torch.full((n,), -100)
    value, (gradient,) = gradients(
        lambda z: pair_prediction(z, paired, reduction=reduction).sum(), normal(9, n, 2)
    )
    assert value == 0
    assert (gradient == 0).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_law_24_low_precision_and_autocast(dtype):
    logits, paired = normal(10, 6, 2).to(dtype), torch.tensor([1, 0, 1, 1, 0, 0])
    exact = pair_prediction(logits.double(), paired)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        within = pair_prediction(logits, paired)
    for value in (within, pair_prediction(logits, paired)):
        assert value.dtype == torch.float32
        close(value, exact, atol=1e-6)
    _, (gradient,) = gradients(lambda z: pair_prediction(z, paired), logits)
    assert gradient.dtype == dtype


def test_law_62_integer_labels_of_every_size():
    logits = normal(11, 4, 2)
    for dtype in (torch.int32, torch.int16, torch.uint8):
        paired = torch.tensor([1, 0, 0, 1], dtype=dtype)
        close(pair_prediction(logits, paired), pair_prediction(logits, paired.long()))


# --- engines -------------------------------------------------------------------------------------


def everything(device):
    """The function with all arguments, on one device."""
    logits, paired = torch.randn(6, 2, device=device), torch.arange(6, device=device) % 2
    weight, keep = torch.rand(6, device=device), torch.rand(6, device=device) < 0.5
    return [pair_prediction(logits, paired, weight=weight, keep=keep)]


def test_other_devices_need_no_host(fake_device):
    """Fake tensors hold no values: a branch on one, or a tensor made on the CPU, raises."""
    with FakeTensorMode():
        with torch.no_grad():
            assert {x.device.type for x in everything(fake_device)} == {fake_device}
        logits = torch.zeros(3, 2, device=fake_device, requires_grad=True)
        loss = pair_prediction(logits, torch.ones(3, dtype=torch.int64, device=fake_device))
        loss.backward()
        assert logits.grad.device.type == fake_device


def test_law_60_one_graph():
    compiled = torch.compile(everything, fullgraph=True, backend="eager")
    for state in (1, 2):
        torch.manual_seed(state)
        found = compiled("cpu")
        torch.manual_seed(state)
        for a, b in zip(found, everything("cpu"), strict=True):
            assert torch.equal(a, b)


# --- wrong calls ---------------------------------------------------------------------------------

Z, Y = torch.zeros(3, 2), torch.tensor([0, 1, 1])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: pair_prediction(Z[0], Y), r"logits: expected shape \(B, C\), got \(2,\)"),
        (lambda: pair_prediction(torch.zeros(3, 3), Y), r"logits: .*\(B, 2\), got \(3, 3\)"),
        (lambda: pair_prediction(Z.long(), Y), "logits: expected a floating.*got torch.int64"),
        (lambda: pair_prediction([[0, 0]], Y), "logits: expected a tensor, got list"),
        (lambda: pair_prediction(Z, Y[:2]), r"paired: expected shape \(3,\), got \(2,\)"),
        (lambda: pair_prediction(Z, Y.bool()), "paired: expected integer.*got torch.bool"),
        (lambda: pair_prediction(Z, Y.float()), "paired: expected integer.*got torch.float32"),
        (lambda: pair_prediction(Z, 2 * Y), "paired: expected indices from 0 to 1.*got.*2"),
        (lambda: pair_prediction(Z, -Y), "paired: expected indices from 0 to 1.*got.*-1"),
        (
            lambda: pair_prediction(Z, Y, keep=torch.ones(2).bool()),
            r"keep: expected shape \(3,\), got \(2,\)",
        ),
        (lambda: pair_prediction(Z, Y, keep=Y), "keep: expected a bool mask, got torch.int64"),
        (
            lambda: pair_prediction(Z, Y, weight=torch.ones(2)),
            r"weight: expected shape \(3,\), got \(2,\)",
        ),
        (lambda: pair_prediction(Z, Y, reduction="avg"), "reduction: expected .*got 'avg'"),
    ],
)
def test_wrong_calls(call, message):
    with pytest.raises(ValueError, match=message):
        call()
