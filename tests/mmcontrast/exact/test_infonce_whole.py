"""Small batches of InfoNCE against the oracle and the masked form, and when they are small."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import mmcontrast as mm
from mmcontrast.exact import infonce_choice, sizes
from tests import oracles
from tests.mmcontrast.closed_form import allowed, exact_direction, relative, unit_rows
from tests.mmcontrast.exact.ways import KINDS, TEMPERATURES, Allocations, same, views
from tests.mmcontrast.strategies import close, gradients, leaf, normal, numpy, rng, seeds

reductions = st.sampled_from(["mean", "sum", "none"])
FORMS = {"symmetric": mm.symmetric_info_nce, "one way": mm.info_nce}
every_form = pytest.mark.parametrize("form", FORMS)


def any_targets(seed, n, m):
    """Of which some are none, and some the same."""
    chosen = torch.randint(0, m, (n,), generator=rng(seed))
    return torch.where(torch.rand(n, generator=rng(seed + 1)) < 0.3, -100, chosen)


@given(
    seed=seeds,
    n=st.integers(1, 9),
    extra=st.integers(0, 4),
    fewer=st.integers(0, 5),
    kind=st.sampled_from(KINDS),
    temperature=st.sampled_from(TEMPERATURES),
    reduction=reductions,
    form=st.sampled_from(["symmetric", "diagonal", "targets"]),
    weighted=st.booleans(),
)
def test_the_masked_form_with_all_gradients(
    seed, n, extra, fewer, kind, temperature, reduction, form, weighted
):
    """In float64, with the gradients by the temperature's log and the weights, and a factor.

    A mask that keeps everything takes another path: the masked softmax, by autograd.
    """
    x, y = views(kind, n, 0 if form == "symmetric" else extra, 4, seed)
    inputs = [x, y, torch.tensor(temperature, dtype=torch.float64).log()]
    options = {}
    if form == "targets":
        inputs[1] = y = y[min(fewer, len(y) - 1) :]
        options["targets"] = any_targets(seed + 4, n, len(y))
    if weighted:
        inputs.append(normal(seed + 2, n).abs())
    factor = normal(seed + 3, n) if reduction == "none" else 3.0

    def of(keep):
        def loss(x, y, log_t, w=None):
            function = mm.symmetric_info_nce if form == "symmetric" else mm.info_nce
            settings = {"temperature": log_t.exp(), "weight": w, "reduction": reduction}
            return (function(x, y, **options, **settings, keep=keep) * factor).sum()

        value, found = gradients(loss, *inputs)
        return [value, *found]

    same(of(None), of(torch.ones(n, len(y), dtype=torch.bool)), 1e-11 / temperature)


@given(seed=seeds, n=st.integers(1, 7), m=st.integers(1, 9), reduction=reductions)
def test_targets_agree_with_the_oracle(seed, n, m, reduction):
    x, y, targets = normal(seed, n, 3), normal(seed + 1, m, 3), any_targets(seed + 2, n, m)
    settings = {"temperature": 0.2, "reduction": reduction}
    expected = oracles.info_nce(
        numpy(x), numpy(y), targets=numpy(targets), **settings, normalize="l2"
    )
    close(mm.info_nce(x, y, targets, **settings), expected)


@pytest.mark.parametrize("dtype", [torch.int16, torch.int32])
def test_targets_of_other_integer_types(dtype):
    x, y, targets = normal(1, 4, 3), normal(2, 6, 3), torch.tensor([5, -100, 0, 5])
    found = gradients(lambda x, y: mm.info_nce(x, y, targets.to(dtype)), x, y)
    expected = gradients(lambda x, y: mm.info_nce(x, y, targets), x, y)
    same([found[0], *found[1]], [expected[0], *expected[1]], 0)


@pytest.mark.parametrize("kind", ["gauss", "aligned", "nearly aligned", "opposed"])
@pytest.mark.parametrize("temperature", TEMPERATURES)
def test_float32_with_targets_is_that_of_float64_up_to_rounding(kind, temperature):
    """Candidates in another order, which their targets undo."""
    x, y = unit_rows(kind, 32, 64)
    order = torch.randperm(32, generator=rng(3))
    value, (gx, gy) = gradients(
        lambda x, y: mm.info_nce(x, y, order.argsort(), temperature=temperature), x, y[order]
    )
    exact, expected = exact_direction(x.double(), y.double(), temperature)
    most = allowed(temperature)
    assert value >= 0
    assert abs(value - exact) <= most * exact
    for gradient, reference in zip((gx, gy[order.argsort()]), expected, strict=True):
        assert relative(gradient, reference) < most


def test_anchors_without_a_partner_move_nothing():
    x, y = normal(1, 4, 3), normal(2, 5, 3)
    value, (gx, gy) = gradients(
        lambda x, y: mm.info_nce(x, y, torch.tensor([2, -100, 0, -100])), x, y
    )
    alone, (some, others) = gradients(
        lambda x, y: mm.info_nce(x, y, torch.tensor([2, 0])), x[[0, 2]], y
    )
    same([value, gx[[0, 2]], gy], [alone, some, others])
    assert (gx[[1, 3]] == 0).all()
    value, found = gradients(lambda x, y: mm.info_nce(x, y, torch.full((4,), -100)), x, y)
    assert value == 0
    assert all((gradient == 0).all() for gradient in found)


@every_form
def test_a_partner_alone_is_zero_with_zero_gradients(form):
    x, y = normal(1, 1, 3), normal(2, 1, 3)
    value, found = gradients(FORMS[form], x, y)
    assert value == 0
    assert all((gradient == 0).all() for gradient in found)


@pytest.mark.parametrize("targets", [None, [1, -100, 0]])
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_both_derivatives_of_one_direction(targets, reduction):
    inputs = [normal(1, 3, 2), normal(2, 4, 2), torch.tensor(0.5).double(), normal(3, 3).abs() + 1]
    leaves = [leaf(z) for z in inputs]
    chosen = None if targets is None else torch.tensor(targets)

    def loss(x, y, t, w):
        return mm.info_nce(x, y, chosen, temperature=t, weight=w, reduction=reduction)

    assert torch.autograd.gradcheck(loss, leaves)
    assert torch.autograd.gradgradcheck(loss, leaves)


@every_form
@pytest.mark.parametrize("dtypes", [(torch.float32, torch.float64), (torch.float64, torch.float16)])
def test_views_of_two_dtypes(form, dtypes):
    x, y = (normal(k, 5, 3).to(dtype) for k, dtype in enumerate(dtypes))
    value, found = gradients(FORMS[form], x, y)
    exact, expected = gradients(FORMS[form], x.double(), y.double())
    assert value.dtype == torch.float64
    assert [gradient.dtype for gradient in found] == list(dtypes)
    close(value, exact, atol=1e-5)
    same(found, expected, 1e-2)


@every_form
def test_a_float32_temperature_of_float64_views_gets_its_gradient(form):
    x, y, t = normal(1, 5, 3), normal(2, 5, 3), leaf(torch.tensor(0.3))
    (found,) = torch.autograd.grad(FORMS[form](x, y, temperature=t), t)
    exact = leaf(t.double())
    (expected,) = torch.autograd.grad(FORMS[form](x, y, temperature=exact), exact)
    assert found.dtype == torch.float32
    close(found, expected, atol=1e-6)


@every_form
def test_autocast_does_not_reach_it(form):
    x, y = normal(1, 9, 4).float(), normal(2, 9, 4).float()
    outside = gradients(FORMS[form], x, y)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = gradients(FORMS[form], x, y)
    same([inside[0], *inside[1]], [outside[0], *outside[1]], 0)


@every_form
def test_three_products_and_one_without_gradients(form):
    x, y = leaf(normal(1, 6, 3)), leaf(normal(2, 6, 3))
    with Allocations() as made:
        FORMS[form](x, y).backward()
    assert made.products == 3
    assert made.largest == 36
    with Allocations() as made, torch.no_grad():
        FORMS[form](x, y)
    assert made.products == 1


@every_form
def test_what_is_small(form, monkeypatch):
    """At most so many logits, and no chunk of less than all anchors."""
    taken = []
    name = form.replace(" ", "_") + "_at_once"
    function = getattr(infonce_choice, name)
    monkeypatch.setattr(infonce_choice, name, lambda *a: taken.append(1) or function(*a))

    def is_small(n, chunk_size=None, **options):
        taken.clear()
        FORMS[form](normal(1, n, 2), normal(2, n, 2), chunk_size=chunk_size, **options)
        return bool(taken)

    assert is_small(256)
    assert not is_small(257)
    monkeypatch.setattr(sizes, "AT_ONCE", 36)
    assert is_small(6)
    assert is_small(6, 6)
    assert is_small(6, 99)
    assert not is_small(6, 5)
    assert not is_small(7)
    assert not is_small(0)
    assert not is_small(6, keep=torch.ones(6, 6, dtype=torch.bool))
    assert not is_small(6, positives=torch.ones(6, 6, dtype=torch.bool))


def test_wide_and_tall_ones_are_small_too(monkeypatch):
    taken = []
    function = infonce_choice.one_way_at_once
    monkeypatch.setattr(
        infonce_choice, "one_way_at_once", lambda *a: taken.append(1) or function(*a)
    )
    x, y = normal(1, 16, 2), normal(2, 4096, 2)
    mm.info_nce(x, y)
    mm.info_nce(y, x, torch.zeros(4096, dtype=torch.int64))
    assert len(taken) == 1  # in blocks of 512 rows
    mm.info_nce(y[:512], x, torch.zeros(512, dtype=torch.int64))
    assert len(taken) == 2


@pytest.mark.parametrize("small", [0, sizes.AT_ONCE])
@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_a_single_tile_is_kept_and_not_made_again(reduction, small, monkeypatch):
    """Up to one tile: 3 products, the same numbers, and a graph that can be used twice."""
    x, y = normal(1, 9, 3), normal(2, 9, 3)
    whole, full = gradients(
        lambda x, y: mm.symmetric_info_nce(x, y, reduction=reduction).sum(), x, y
    )
    monkeypatch.setattr(sizes, "SPLIT", 1)
    monkeypatch.setattr(sizes, "AT_ONCE", small)
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
    monkeypatch.setattr(sizes, "AT_ONCE", 0)
    monkeypatch.setattr(sizes, "BLOCK", 1)
    whole, made = of(70)
    same(whole, tiled, 1e-12 / temperature)
    assert made.largest == 70 * 70
    assert made.products == (1 if temperature == 0.2 else 2) + 2 * 3
