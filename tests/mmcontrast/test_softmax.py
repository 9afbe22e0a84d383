"""The numbers of the softmax losses in low precision: log space, low temperatures, odd inputs."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import mmcontrast as mm
from mmcontrast.softmax import log_share
from tests.mmcontrast.closed_form import EXACT, FORMS, TEMPERATURES, allowed, relative, unit_rows
from tests.mmcontrast.strategies import close, gradients, leaf, mask, normal, seeds, tol

LOW = [torch.float32, torch.bfloat16, torch.float16]


@pytest.mark.parametrize("form", EXACT)
@pytest.mark.parametrize("kind", ["gauss", "aligned", "nearly aligned", "orthogonal", "opposed"])
@pytest.mark.parametrize("temperature", TEMPERATURES)
def test_float32_gradient_is_that_of_float64_up_to_rounding(form, kind, temperature):
    """Also where the loss is 1e-10."""
    if kind == "orthogonal" and temperature == 0.01:
        return  # the loss is 1e-43, less than float32 holds
    for n, d, seed in ((32, 64, 0), (8, 16, 2), (64, 32, 4)):
        x, y = unit_rows(kind, n, max(n, d) if kind == "orthogonal" else d, seed)
        value, found = gradients(lambda x, y: FORMS[form](x, y, temperature=temperature), x, y)
        exact, expected = EXACT[form](x.double(), y.double(), temperature)
        most = allowed(temperature)
        assert value >= 0
        assert abs(value - exact) <= most * exact
        for gradient, reference in zip(found, expected, strict=True):
            assert gradient.isfinite().all()
            assert relative(gradient, reference) < most


@pytest.mark.parametrize("temperature", TEMPERATURES)
def test_float32_gradient_of_the_printed_form(temperature):
    x, y = unit_rows("gauss", 32, 64)
    value, found = gradients(lambda x, y: mm.matched_pair_nce(x, y, temperature=temperature), x, y)
    exact, expected = gradients(
        lambda x, y: mm.matched_pair_nce(x, y, temperature=temperature), x.double(), y.double()
    )
    assert abs(value - exact) <= 1e-5 * exact
    for gradient, reference in zip(found, expected, strict=True):
        assert relative(gradient, reference) < 1e-5


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("lead", [1, 10, 17, 20, 40, 80])
@pytest.mark.parametrize("options", ["diagonal", "bool", "soft", "keep"])
def test_the_leading_positive_keeps_its_digits(dtype, lead, options):
    """A positive that leads by `lead`: `lse - positive` and `1 - p` lose all digits at 17 or 37."""
    logits = torch.tensor([[3.0, 3.0 - lead, 2.0 - lead, 1.5 - lead]], dtype=dtype)
    odds = [math.exp(v - 3.0) for v in logits[0, 1:].tolist()]
    shares = [o / (1 + sum(odds)) for o in odds]
    one = torch.eye(1, 4)
    chosen = {
        "diagonal": {},
        "bool": {"positives": one.bool()},
        "soft": {"positives": one},
        "keep": {"keep": torch.ones(1, 4).bool()},
    }[options]
    value, (gradient,) = gradients(
        lambda s: mm.info_nce(
            s, torch.eye(4, dtype=dtype), normalize=None, temperature=1.0, **chosen
        ),
        logits,
    )
    accuracy = 16 * torch.finfo(dtype).eps * (1 + abs(3.0 - lead))
    close(value / math.log1p(sum(odds)), 1.0, atol=accuracy)
    expected = torch.tensor([[-sum(shares), *shares]], dtype=torch.float64)
    close(gradient / expected, torch.ones(1, 4), atol=accuracy)


@pytest.mark.parametrize("temperature", [0.02, 0.03, 0.05])
def test_the_loss_of_well_separated_pairs_in_closed_form(temperature):
    """Orthonormal pairs, a loss of 1e-21 and more: log(1 + 7 exp(-1 / tau))."""
    x = torch.eye(8)
    odds = math.exp(-1 / temperature)
    value, (gradient, _) = gradients(lambda x, y: mm.info_nce(x, y, temperature=temperature), x, x)
    assert value.item() == pytest.approx(math.log1p(7 * odds), rel=1e-5, abs=0)
    share = odds / (1 + 7 * odds)
    close(gradient[0, 1:] / share, torch.full((7,), 1 / (8 * temperature)), rtol=1e-5)


@given(
    seed=seeds,
    n=st.integers(1, 12),
    d=st.integers(1, 8),
    kind=st.sampled_from(["gauss", "aligned", "collapsed", "opposed"]),
    temperature=st.sampled_from(TEMPERATURES),
)
def test_law_1_never_negative_never_infinite_in_float32(seed, n, d, kind, temperature):
    x, y = unit_rows(kind, n, d, seed)
    for form in FORMS.values():
        value, found = gradients(lambda x, y, f=form: f(x, y, temperature=temperature), x, y)
        assert value >= 0
        assert value.isfinite()
        assert all(gradient.isfinite().all() for gradient in found)


@given(seed=seeds, temperature=st.sampled_from([1e-4, 1e-3, 0.01]))
def test_several_positives_never_go_below_the_entropy_of_their_targets(seed, temperature):
    x, y = unit_rows("gauss", 6, 4, seed)
    positives = mask(seed, 6, 6) | torch.eye(6, dtype=torch.bool)
    values = mm.info_nce(x, y, temperature=temperature, positives=positives, reduction="none")
    least = positives.sum(dim=1).log()
    assert (values >= least * (1 - 1e-6)).all()
    assert values.isfinite().all()


@pytest.mark.parametrize("dtype", LOW)
@pytest.mark.parametrize("temperature", [0.01, 0.07, 1.0])
def test_law_24_low_precision_inputs_are_computed_in_float32(dtype, temperature):
    """The result is that of float64 on the same (rounded) rows, to float32's tolerance."""
    for seed in range(5):
        x, y = normal(seed, 8, 6).to(dtype), normal(seed + 50, 8, 6).to(dtype)
        for form in FORMS.values():
            value = form(x, y, temperature=temperature)
            exact = form(x.double(), y.double(), temperature=temperature)
            assert value.dtype == torch.float32
            assert abs(value - exact) <= tol(torch.float32, temperature, 8)


@pytest.mark.parametrize("dtype", LOW)
@pytest.mark.parametrize("temperature", [0.01, 0.07, 1.0])
def test_law_24_low_precision_inputs_are_close_to_their_float64_originals(dtype, temperature):
    for seed in range(5):
        x, y = normal(seed, 8, 6), normal(seed + 50, 8, 6)
        for form in FORMS.values():
            value = form(x.to(dtype), y.to(dtype), temperature=temperature)
            exact = form(x, y, temperature=temperature)
            assert abs(value - exact) <= tol(dtype, temperature, 8)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_law_24_low_precision_gradients(dtype):
    """The gradient comes back in the input's dtype, off by its rounding alone."""
    x, y = normal(1, 8, 6).to(dtype), normal(2, 8, 6).to(dtype)
    for form in FORMS.values():
        _, found = gradients(lambda x, y, f=form: f(x, y, temperature=0.2), x, y)
        _, exact = gradients(lambda x, y, f=form: f(x, y, temperature=0.2), x.double(), y.double())
        for gradient, reference in zip(found, exact, strict=True):
            assert gradient.dtype == dtype
            assert relative(gradient, reference) < 2 * torch.finfo(dtype).eps


@pytest.mark.parametrize("dtype", [torch.float64, *LOW])
@pytest.mark.parametrize("temperature", [0.01, 1.0])
def test_law_23_zero_rows(dtype, temperature):
    x, y = normal(1, 4, 3).to(dtype), normal(2, 4, 3).to(dtype)
    x[1] = 0
    y[2] = 0
    for form in FORMS.values():
        value, (gx, gy) = gradients(lambda x, y, f=form: f(x, y, temperature=temperature), x, y)
        assert value.isfinite()
        assert gx.isfinite().all()
        assert gy.isfinite().all()
        assert (gx[1] == 0).all()
        assert (gy[2] == 0).all()


def test_raw_dot_products_far_beyond_exp_are_finite():
    x = 1e4 * torch.eye(3)
    for y, expected in ((x, 0.0), (-x, 1e8)):
        value, found = gradients(
            lambda x, y: mm.info_nce(x, y, normalize=None, temperature=1.0), x, y
        )
        assert value.item() == pytest.approx(expected, rel=1e-6)
        assert all(gradient.isfinite().all() for gradient in found)
    assert mm.n_pair(x, -x).item() == pytest.approx(1e8, rel=1e-6)


IDS = torch.tensor([0, 1, 0, 1])


@pytest.mark.parametrize("chunk_size", [None, 1])
@pytest.mark.parametrize(
    "loss",
    [
        lambda x, y, **k: mm.sup_con(x, IDS, y, IDS, form="in", **k),
        lambda x, y, **k: mm.sup_con(x, IDS, keep=torch.ones(4, 4).bool(), **k) + 0 * y.sum(),
        lambda x, y, **k: mm.info_nce(x, y, positives=torch.tensor([[0.0, 1, 0, 0]] * 4), **k),
        lambda x, y, **k: mm.info_nce(x, y, positives=torch.zeros(4, 4), **k),
    ],
)
def test_raw_products_beyond_float32_have_the_gradient_of_float64(loss, chunk_size):
    """Also where the loss is finite, as where nothing of the product is in it."""
    x, y = (1e25 * normal(k, 4, 3).float() for k in (1, 2))
    options = {"normalize": None, "temperature": 1.0, "chunk_size": chunk_size}
    value, found = gradients(lambda x, y: loss(x, y, **options), x, y)
    expected, truth = gradients(lambda x, y: loss(x, y, **options), x.double(), y.double())
    most = torch.finfo(torch.float32).max
    torch.testing.assert_close(value.double(), expected.clamp(max=most), rtol=1e-6, atol=0)
    for mine, theirs in zip(found, truth, strict=True):
        torch.testing.assert_close(mine.double(), theirs, rtol=1e-5, atol=0)


def test_float16_rows_with_dot_products_beyond_its_range():
    x = torch.full((2, 4), 6e4, dtype=torch.float16)
    value = mm.info_nce(x, x, normalize=None, temperature=1.0)
    assert value.item() == pytest.approx(math.log(2), rel=1e-6)


@given(seed=seeds, temperature=st.sampled_from(TEMPERATURES))
def test_law_24_autocast_does_not_reach_the_loss(seed, temperature):
    for form in FORMS.values():
        results = []
        for enabled in (False, True):
            x, y = (leaf(normal(seed + k, 6, 4).float()) for k in range(2))
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=enabled):
                value = form(x, y, temperature=temperature)
            value.backward()
            results.append((value, x.grad, y.grad))
        assert results[1][0].dtype == torch.float32
        for plain, inside in zip(*results, strict=True):
            assert torch.equal(plain, inside)


@pytest.mark.parametrize("size", [1e-44, 1e-30, 1e30, 3e38])
def test_soft_targets_of_every_size_are_the_same_shares(size):
    logits, weights = normal(1, 3, 4).float(), normal(2, 3, 4).abs().clamp(0.1, 1).float()
    weights = weights.mul(8).round() / 8  # so that each size is a float32, but for the smallest
    losses, _ = log_share(logits, weights * size, None)
    exact, _ = log_share(logits.double(), (weights * size).double(), None)
    close(losses, exact, rtol=1e-6)
    _, (by_logits,) = gradients(lambda x: log_share(x, weights * size, None)[0].sum(), logits)
    assert by_logits.isfinite().all()
