"""Masks of any positives in blocks: the oracles, the plain path, digits, who takes no part."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import mmcontrast as mm
from mmcontrast.exact import masked_choice, sizes
from tests import oracles
from tests.mmcontrast.closed_form import TEMPERATURES, relative, unit_rows
from tests.mmcontrast.exact.ways import Allocations, reductions, same
from tests.mmcontrast.memory import peak
from tests.mmcontrast.strategies import (
    close,
    embeddings,
    gradients,
    labels,
    leaf,
    mask,
    normal,
    numpy,
    seeds,
)

POSITIVES = ["bool", "soft", "classes"]
every_kind = pytest.mark.parametrize("kind", POSITIVES)


def masks(kind, seed, n, m):
    """Keyword arguments of ``sup_con``, with some anchors that have no positive."""
    if kind == "classes":
        others = {"candidate_labels": labels(seed + 2, m, 3, ignored=0.2)}
        return {"labels": labels(seed + 1, n, 3, ignored=0.2)} | others
    positives = mask(seed + 1, n, m, share=0.4)
    return {"positives": positives if kind == "bool" else positives * normal(seed, n, m).abs()}


def contrast(x, y, *, labels=None, **options):
    """``sup_con`` by masks, of anchors and candidates."""
    return mm.sup_con(x, labels, y, **options)


# --- the same numbers ----------------------------------------------------------------------------


@every_kind
@given(
    seed=seeds,
    n=st.integers(1, 6),
    m=st.integers(1, 7),
    size=st.integers(1, 7),
    temperature=st.sampled_from(TEMPERATURES),
    form=st.sampled_from(["out", "in"]),
    kept=st.booleans(),
    reduction=reductions,
)
def test_blocks_agree_with_the_oracle(kind, seed, n, m, size, temperature, form, kept, reduction):
    x, y = embeddings(seed, n, 3), embeddings(seed + 5, m, 3)
    given_masks = masks(kind, seed, n, m)
    if form == "in" and kind == "soft":  # where the weights of the shares do not matter
        given_masks["positives"] = (given_masks["positives"] > 0).double()
    options = {"temperature": temperature, "form": form, "reduction": reduction, **given_masks}
    options["keep"] = mask(seed + 3, n, m, share=0.7) if kept else None
    plain = numpy(options)
    expected = oracles.sup_con(numpy(x), plain.pop("labels", None), numpy(y), **plain)
    close(contrast(x, y, chunk_size=size, **options), expected, rtol=1e-9)


@every_kind
@given(
    seed=seeds,
    n=st.integers(1, 6),
    m=st.integers(1, 7),
    size=st.integers(1, 7),
    alone=st.booleans(),
    temperature=st.sampled_from(TEMPERATURES),
    form=st.sampled_from(["out", "in"]),
    kept=st.booleans(),
    reduction=reductions,
)
def test_blocks_are_the_plain_path(
    kind, seed, n, m, size, alone, temperature, form, kept, reduction
):
    """Which a transform takes: value, gradients by rows, temperature and sample weights."""
    m = n if alone else m
    options = {"form": form, "reduction": reduction, **masks(kind, seed, n, m)}
    options["keep"] = mask(seed + 3, n, m, share=0.7) if kept else None
    if alone:
        options.pop("candidate_labels", None)
    factor = normal(seed + 4, n) if reduction == "none" else 3.0

    def loss(x, y, temperature, weight):
        others = None if alone else y
        values = contrast(x, others, temperature=temperature, weight=weight, **options, **sized)
        return (values * factor).sum()

    inputs = embeddings(seed, n, 3), embeddings(seed + 5, m, 3), torch.tensor(temperature).double()
    inputs = *inputs, normal(seed + 6, n).abs()
    sized = {"chunk_size": size}
    value, found = gradients(loss, *inputs)
    sized = {}
    expected, whole = torch.func.grad_and_value(loss, argnums=(0, 1, 2, 3))(*inputs)[::-1]
    same([value, *found], [expected, *whole], 1e-11 / temperature)


@pytest.mark.parametrize("name", ["info_nce", "symmetric_info_nce"])
@given(
    seed=seeds,
    n=st.integers(1, 8),
    extra=st.integers(0, 2),
    size=st.integers(1, 9),
    temperature=st.sampled_from(TEMPERATURES),
    share=st.sampled_from([0.3, 0.8, 1.0]),
    reduction=reductions,
)
def test_keep_alone_is_the_plain_path(name, seed, n, extra, size, temperature, share, reduction):
    m = n if name == "symmetric_info_nce" else n + extra
    keep = mask(seed, n, m, share=share)
    factor = normal(seed + 4, n) if reduction == "none" else 3.0
    settings = {"keep": keep, "reduction": reduction}

    def loss(x, y, temperature, weight, **sized):
        return (
            getattr(mm, name)(x, y, temperature=temperature, weight=weight, **settings, **sized)
            * factor
        ).sum()

    inputs = embeddings(seed, n, 3), embeddings(seed + 5, m, 3), torch.tensor(temperature).double()
    inputs = *inputs, normal(seed + 6, n).abs()
    value, found = gradients(lambda *z: loss(*z, chunk_size=size), *inputs)
    expected, whole = torch.func.grad_and_value(loss, argnums=(0, 1, 2, 3))(*inputs)[::-1]
    same([value, *found], [expected, *whole], 1e-11 / temperature)


@given(seed=seeds, n=st.integers(1, 6), size=st.integers(1, 6), kind=st.sampled_from(POSITIVES[:2]))
def test_a_mask_that_is_a_view_is_its_copy(seed, n, size, kind):
    """The other direction's masks are the transposes of this one's, and are not copied."""
    x, y = embeddings(seed, n, 3), embeddings(seed + 1, n + 2, 3)
    positives = masks(kind, seed, n + 2, n)["positives"].mT
    keep = mask(seed + 3, n + 2, n, share=0.7).mT

    def of(*chosen):
        options = dict(zip(("positives", "keep"), chosen, strict=True))
        return gradients(lambda x, y: mm.info_nce(x, y, chunk_size=size, **options), x, y)

    value, found = of(positives, keep)
    expected, whole = of(positives.contiguous(), keep.contiguous())
    same([value, *found], [expected, *whole])


@given(seed=seeds, n=st.integers(1, 6), size=st.integers(1, 6))
def test_all_kept_is_no_mask(seed, n, size):
    x, y = embeddings(seed, n, 3), embeddings(seed + 1, n, 3)
    every = torch.ones(n, n, dtype=torch.bool)
    for loss in (mm.info_nce, mm.symmetric_info_nce):
        value, found = gradients(lambda x, y, f=loss: f(x, y, keep=every, chunk_size=size), x, y)
        expected, whole = gradients(loss, x, y)
        same([value, *found], [expected, *whole], 1e-10)


def loss_of(name, **options):
    ids = torch.tensor([0, 1, 0, 1, 2, 0, 0])
    keep = mask(9, 5, 7, share=0.7)
    calls = {
        "keep": lambda x, y, **k: mm.info_nce(x, y, keep=keep, **k),
        "both ways": lambda x, y, **k: mm.symmetric_info_nce(x, y[:5], keep=keep[:, :5], **k),
        "bool": lambda x, y, **k: mm.info_nce(x, y, positives=mask(8, 5, 7), keep=keep, **k),
        "soft": lambda x, y, **k: mm.info_nce(x, y, positives=normal(8, 5, 7).relu(), **k),
        "classes": lambda x, y, **k: mm.sup_con(x, ids[:5], y, ids, keep=keep, **k),
        "in": lambda x, y, **k: mm.sup_con(x, ids[:5], y, ids, form="in", **k),
    }
    return lambda x, y, t, w: calls[name](x, y, temperature=t, weight=w, chunk_size=2, **options)


@pytest.mark.parametrize("name", ["keep", "both ways", "bool", "soft", "classes", "in"])
@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_first_and_second_derivatives(name, reduction):
    """Along random directions; entry by entry the first are those of the plain path, above."""
    inputs = [leaf(z) for z in (normal(1, 5, 2), normal(2, 7, 2), torch.tensor(0.6).double())]
    inputs.append(leaf(normal(3, 5).abs()))
    assert torch.autograd.gradcheck(loss_of(name, reduction=reduction), inputs, fast_mode=True)
    assert torch.autograd.gradgradcheck(loss_of(name, reduction=reduction), inputs, fast_mode=True)


@pytest.mark.parametrize("size", [None, 2])
@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_weights_of_positives_have_first_and_second_derivatives(size, reduction):
    x, y, weights = normal(1, 4, 3), normal(2, 5, 3), normal(3, 4, 5).abs() + 0.1
    options = {"temperature": 0.5, "chunk_size": size, "keep": mask(4, 4, 5, share=0.7)}

    def loss(x, p):
        return mm.info_nce(x, y, positives=p, reduction=reduction, **options)

    assert torch.autograd.gradcheck(loss, (leaf(x), leaf(weights)))
    assert torch.autograd.gradgradcheck(loss, (leaf(x), leaf(weights)), fast_mode=True)


@given(
    seed=seeds,
    n=st.integers(1, 5),
    m=st.integers(1, 6),
    size=st.integers(1, 6),
    form=st.sampled_from(["out", "in"]),
    factor=st.sampled_from([1.0, 1e-200, 1e200]),
)
def test_the_gradient_by_weights_is_that_of_the_plain_path(seed, n, m, size, form, factor):
    """Also by weights of 0, which are no positives, and for any size of all."""
    x, y, keep = embeddings(seed, n, 3), embeddings(seed + 1, m, 3), mask(seed, n, m, share=0.7)
    weights = normal(seed + 2, n, m).relu() * factor

    def loss(p, **sized):
        return mm.sup_con(x, None, y, positives=p, keep=keep, form=form, temperature=0.5, **sized)

    value, (found,) = gradients(lambda p: loss(p, chunk_size=size), weights)
    whole, expected = torch.func.grad_and_value(loss)(weights)
    close(value, expected)
    close(found * factor, whole * factor)


# --- digits --------------------------------------------------------------------------------------


@pytest.mark.parametrize("which", ["bool", "soft", "in", "keep", "both ways"])
@pytest.mark.parametrize("kind", ["gauss", "aligned", "nearly aligned", "opposed"])
@pytest.mark.parametrize("temperature", TEMPERATURES)
def test_float32_gradient_is_within_1e_5_of_float64(which, kind, temperature):
    """At 0.01 the rounding of the cosines alone makes up 1.7e-5."""
    n = 33
    pairs = (torch.arange(n)[:, None] - torch.arange(n)).abs() <= 1
    weights = pairs * torch.arange(1, n + 1).float()
    keep = mask(3, n, n, share=0.8) | torch.eye(n, dtype=torch.bool)
    options = {"temperature": temperature, "chunk_size": 16}
    loss = {
        "bool": lambda x, y: mm.info_nce(x, y, positives=pairs, **options),
        "soft": lambda x, y: mm.info_nce(x, y, positives=weights, **options),
        "in": lambda x, y: mm.sup_con(x, None, y, positives=pairs, form="in", **options),
        "keep": lambda x, y: mm.info_nce(x, y, keep=keep, **options),
        "both ways": lambda x, y: mm.symmetric_info_nce(x, y, keep=keep, **options),
    }[which]
    x, y = unit_rows(kind, n, 32)
    value, found = gradients(loss, x, y)
    exact, expected = gradients(loss, x.double(), y.double())
    most = 2e-5 if temperature == 0.01 else 1e-5
    assert value >= 0
    assert abs(value - exact) <= most * exact
    for gradient, reference in zip(found, expected, strict=True):
        assert relative(gradient, reference) < most


@every_kind
def test_a_single_positive_that_leads_by_far_has_nothing_but_the_second_gap(kind):
    """A lead of 60: the loss is the negatives' odds, and e^-60 has all its digits."""
    x = torch.eye(5) * 60
    ids = torch.arange(5)
    options = {
        "bool": {"positives": torch.eye(5).bool()},
        "soft": {"positives": 7 * torch.eye(5)},
        "classes": {"labels": ids, "candidate_labels": ids},
    }[kind]
    value, (gradient, _) = gradients(
        lambda x, y: contrast(x, y, normalize=None, temperature=1.0, chunk_size=2, **options),
        x,
        torch.eye(5),
    )
    odds = math.exp(-60)
    close(value / (4 * odds), 1.0, rtol=1e-5)
    expected = torch.full((5, 5), odds / 5).fill_diagonal_(-4 * odds / 5)
    close(gradient / expected, torch.ones(5, 5), rtol=1e-5)


@pytest.mark.parametrize("size", [1e-44, 1e-30, 1e30, 3e38])
def test_soft_targets_of_every_size_are_the_same_shares(size):
    x, y = normal(1, 3, 4).float(), normal(2, 4, 4).float()
    weights = normal(3, 3, 4).abs().clamp(0.1, 1).float()
    weights = weights.mul(8).round() / 8  # so that each size is a float32, but for the smallest
    value, found = gradients(lambda x, y: mm.info_nce(x, y, positives=weights * size), x, y)
    exact, expected = gradients(
        lambda x, y: mm.info_nce(x, y, positives=(weights * size).double()), x.double(), y.double()
    )
    close(value, exact, rtol=1e-6)
    for gradient, reference in zip(found, expected, strict=True):
        assert relative(gradient, reference) < 1e-5


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("other", [torch.float32, torch.float64])
@every_kind
def test_dtypes_are_those_of_the_plain_path(dtype, other, kind):
    x, y = normal(1, 6, 4).to(dtype), normal(2, 7, 4).to(other)
    options = masks(kind, 3, 6, 7)
    loss = lambda x, y: contrast(x, y, temperature=0.5, **options)  # noqa: E731
    value, found = gradients(loss, x, y)
    expected, whole = torch.func.grad_and_value(loss, argnums=(0, 1))(x, y)[::-1]
    assert value.dtype == expected.dtype
    assert [z.dtype for z in found] == [z.dtype for z in whole]
    close(value, expected, rtol=1e-5)
    for mine, theirs in zip(found, whole, strict=True):
        assert relative(mine, theirs.double()) < 4 * torch.finfo(dtype).eps + 1e-5


# --- who takes no part ---------------------------------------------------------------------------


@every_kind
def test_neither_values_nor_weights_outside_the_mask_reach_anything(kind):
    x, y = normal(1, 6, 3), normal(2, 7, 3)
    part, there = mask(3, 6, share=0.6), mask(4, 7, share=0.6)
    keep = part[:, None] & there
    options = masks(kind, 5, 6, 7) | {"keep": keep, "chunk_size": 4}
    expected, whole = gradients(lambda x, y: contrast(x, y, **options), x, y)
    assert expected > 0
    if kind == "soft":
        options["positives"] = options["positives"].masked_fill(~keep, math.nan)
    filled = x.masked_fill(~part[:, None], math.nan), y.masked_fill(~there[:, None], math.inf)
    value, found = gradients(lambda x, y: contrast(x, y, **options), *filled)
    same([value, *found], [expected, *whole])
    assert (found[0][~part] == 0).all()
    assert (found[1][~there] == 0).all()


@every_kind
@pytest.mark.parametrize("size", [None, 2])
def test_an_anchor_without_a_positive_may_hold_anything(kind, size):
    """It is not counted, and has no gradient."""
    options = masks(kind, 5, 6, 7) | {"chunk_size": size, "reduction": "none"}
    if kind == "classes":
        options["labels"][2] = 77
    else:
        options["positives"][2] = 0
    x, y = normal(1, 6, 3), normal(2, 7, 3)
    x[2] = math.nan
    values = contrast(x, y, **options)
    _, (gx, gy) = gradients(lambda x, y: contrast(x, y, **options).sum(), x, y)
    assert values[2] == 0
    assert values.isfinite().all()
    assert (gx[2] == 0).all()
    assert gx.isfinite().all()
    assert gy.isfinite().all()


@pytest.mark.parametrize("form", ["out", "in"])
def test_without_negatives_the_second_gap_is_zero(form):
    x, y = normal(1, 4, 3), normal(2, 5, 3)
    every = torch.ones(4, 5, dtype=torch.bool)
    one = torch.zeros(4, 5, dtype=torch.bool)
    one[:, 3] = True
    for positives, keep in ((every, None), (one, one)):
        value, found = gradients(
            lambda x, y, p=positives, k=keep: mm.sup_con(
                x, None, y, positives=p, keep=k, form=form, temperature=0.01
            ),
            x,
            y,
        )
        if form == "in" or keep is not None:
            assert value == 0
            assert all((gradient == 0).all() for gradient in found)
        else:
            assert value >= math.log(5)


@pytest.mark.parametrize("size", [(0, 3), (3, 0), (0, 0)])
@every_kind
def test_empty_batches_are_zero_with_a_graph(size, kind):
    x, y = (normal(k, n, 2) for k, n in enumerate(size))
    options = masks(kind, 1, *size) | {"keep": mask(2, *size)}
    value, found = gradients(lambda x, y: contrast(x, y, **options), x, y)
    assert value == 0
    assert all((gradient == 0).all() for gradient in found)


@pytest.mark.parametrize("columns", [1, 2])
def test_classes_may_be_of_any_numbers_and_of_several_columns(columns):
    ids = torch.tensor([2**62, 2**62 + 1, -(2**62), 2**62, -100, 0]).repeat(columns, 1).mT
    x, y = normal(1, 6, 3), normal(2, 6, 3)
    small = torch.tensor([0, 1, 2, 0, -100, 4])
    for form in ("out", "in"):
        found = mm.sup_con(x, ids, y, ids, form=form)
        close(found, mm.sup_con(x, small, y, small, form=form))


# --- which way, in how much memory ---------------------------------------------------------------


def test_blocks_hold_so_many_logits(monkeypatch):
    x, y = normal(1, 90, 5), normal(2, 100, 5)
    positives = mask(3, 90, 100)
    monkeypatch.setattr(sizes, "SPLIT", 90 * 100)
    for masked, rows in ((4000, 40), (3999, 39), (1, 32), (10**6, 90)):
        monkeypatch.setattr(sizes, "MASKED", masked)
        with Allocations() as made:
            gradients(lambda x, y: mm.info_nce(x, y, positives=positives), x, y)
        assert made.largest == rows * 100
    with Allocations() as made:
        gradients(lambda x, y: mm.info_nce(x, y, positives=positives, chunk_size=7), x, y)
    assert made.largest == 700


N = 1024
CALLS = {
    "keep": lambda x, y, square, ids: mm.info_nce(x, y, keep=square, chunk_size=16),
    "both ways": lambda x, y, square, ids: mm.symmetric_info_nce(x, y, keep=square, chunk_size=128),
    "bool": lambda x, y, square, ids: mm.info_nce(x, y, positives=square, chunk_size=16),
    "bool both ways": lambda x, y, square, ids: mm.symmetric_info_nce(
        x, y, positives=square, chunk_size=16
    ),
    "soft": lambda x, y, square, ids: mm.info_nce(x, y, positives=SOFT, chunk_size=16),
    "classes": lambda x, y, square, ids: mm.sup_con(x, ids, y, ids, chunk_size=16),
    "in": lambda x, y, square, ids: (
        mm.sup_con(x, ids, keep=square, form="in", chunk_size=16) + 0 * y.sum()
    ),
}
SOFT = normal(7, N, N).float().abs()


@pytest.mark.parametrize("name", CALLS)
def test_nothing_but_the_masks_is_quadratic(name):
    """All logits would be 4 MB, and a mask of them 1 MB."""
    x, y, ids = normal(1, N, 8).float(), normal(2, N, 8).float(), labels(3, N, 64)
    square = mask(4, N, N, share=0.9).fill_diagonal_(True)
    assert peak(lambda: gradients(lambda x, y: CALLS[name](x, y, square, ids), x, y)) < 800_000


def test_only_the_way_of_a_transform_is_another(monkeypatch):
    taken = []
    for name in ("contrast", "masked_in_blocks"):
        way = getattr(masked_choice, name)
        monkeypatch.setattr(
            masked_choice, name, lambda *a, n=name, w=way, **k: taken.append(n) or w(*a, **k)
        )
    x, y, positives = normal(1, 4, 3), normal(2, 5, 3), mask(3, 4, 5)
    mm.info_nce(x, y, positives=positives)
    mm.info_nce(x, y, positives=positives, chunk_size=2)
    mm.sup_con(x, torch.arange(4), y, torch.arange(5))
    assert taken == ["masked_in_blocks"] * 3
    taken.clear()
    torch.func.grad(lambda x: mm.info_nce(x, y, positives=positives))(x)
    assert taken == ["contrast"]
