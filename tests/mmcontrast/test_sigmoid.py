"""SigLIP's sigmoid loss against a float64 loop, in tiles and all at once."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import mmcontrast as mm
from tests import oracles
from tests.mmcontrast.strategies import (
    close,
    gradients,
    mask,
    normal,
    numpy,
    pairs,
    seeds,
    temperatures,
)

reductions = st.sampled_from(["mean", "sum", "none"])
biases = st.sampled_from([-10.0, -1.0, 0.0, 3.0])
options = st.sets(st.sampled_from(["positives", "keep", "weight"]))


def options_for(names, seed, n, m):
    made = {}
    if "positives" in names:
        made["positives"] = mask(seed + 2, n, m, share=0.4)
    if "keep" in names:
        made["keep"] = mask(seed + 4, n, m, share=0.6)
    if "weight" in names:
        made["weight"] = normal(seed + 5, n).abs()
    return made


@given(
    pair=pairs(),
    seed=seeds,
    temperature=temperatures,
    bias=biases,
    reduction=reductions,
    names=options,
    chunk_size=st.none() | st.integers(1, 6),
)
def test_it_agrees_with_the_oracle(pair, seed, temperature, bias, reduction, names, chunk_size):
    made = options_for(names, seed, len(pair[0]), len(pair[1]))
    settings = {"temperature": temperature, "bias": bias, "reduction": reduction}
    expected = oracles.sigmoid_contrast(*map(numpy, pair), **settings, **numpy(made))
    close(mm.sigmoid_contrast(*pair, **settings, **made, chunk_size=chunk_size), expected)


@pytest.mark.parametrize("names", [(), ("positives",), ("positives", "keep", "weight")])
@pytest.mark.parametrize("chunk_size", [None, 3])
def test_gradients_agree_with_central_differences(names, chunk_size):
    """Of both views, the temperature and the bias."""
    inputs = [normal(1, 4, 3), normal(2, 6, 3), torch.tensor(0.4), torch.tensor(-0.7)]
    inputs = [x.double() for x in inputs]
    made = options_for(names, 3, 4, 6)
    _, found = gradients(
        lambda x, y, t, b: mm.sigmoid_contrast(
            x, y, temperature=t, bias=b, chunk_size=chunk_size, **made
        ),
        *inputs,
    )
    for k, gradient in enumerate(found):

        def value(moved, k=k):
            x, y, t, b = (moved if i == k else numpy(z) for i, z in enumerate(inputs))
            return oracles.sigmoid_contrast(
                x, y, temperature=float(t), bias=float(b), **numpy(made)
            )

        close(gradient, oracles.central_differences(value, numpy(inputs[k])), atol=1e-8)


@given(
    pair=pairs(most=8),
    seed=seeds,
    size=st.integers(1, 8),
    temperature=temperatures,
    bias=st.sampled_from([-10.0, 0.0]),
    reduction=reductions,
    names=options,
)
def test_law_19_tiles_change_nothing(pair, seed, size, temperature, bias, reduction, names):
    made = options_for(names, seed, len(pair[0]), len(pair[1]))
    one = torch.ones((), dtype=torch.float64)

    def of(chunk_size):
        return gradients(
            lambda x, y, t, b: (
                3
                * mm.sigmoid_contrast(
                    x,
                    y,
                    temperature=t,
                    bias=b,
                    reduction=reduction,
                    chunk_size=chunk_size,
                    **made,
                ).sum()
            ),
            *pair,
            temperature * one,
            bias * one,
        )

    (whole, full), (tiled, parts) = of(None), of(size)
    close(tiled, whole, atol=1e-12, rtol=1e-12)
    for a, b in zip(parts, full, strict=True):
        unit = 1 + b.abs().max().item()
        close(a / unit, b / unit, atol=1e-12)


def test_an_anchor_that_keeps_nobody_is_not_counted_and_one_without_a_positive_is():
    x, y = normal(1, 3, 4), normal(2, 3, 4)
    keep = torch.tensor([[True, True, True], [False, False, False], [True, False, True]])
    for chunk_size in (None, 2):
        made = {"keep": keep, "bias": 0.0, "chunk_size": chunk_size}
        each = mm.sigmoid_contrast(x, y, reduction="none", **made)
        assert each[1] == 0
        close(mm.sigmoid_contrast(x, y, **made), each.sum() / 2)
        nobody = {**made, "keep": None, "positives": torch.zeros(3, 3, dtype=torch.bool)}
        each = mm.sigmoid_contrast(x, y, reduction="none", **nobody)
        assert (each > 0).all()
        close(mm.sigmoid_contrast(x, y, **nobody), each.mean())


def test_a_masked_row_may_hold_anything():
    keep = torch.tensor([[True, False, True], [False] * 3, [True, False, True]])
    x, y = normal(1, 3, 4), normal(2, 3, 4)
    settings = {"keep": keep, "bias": -1.0}
    for chunk_size in (None, 2):
        call = {**settings, "chunk_size": chunk_size}
        expected, slopes = gradients(lambda x, y, c=call: mm.sigmoid_contrast(x, y, **c), x, y)
        bad = [torch.where(torch.arange(3)[:, None] == 1, float("nan"), z) for z in (x, y)]
        value, found = gradients(lambda x, y, c=call: mm.sigmoid_contrast(x, y, **c), *bad)
        close(value, expected)
        for gradient, slope in zip(found, slopes, strict=True):
            close(gradient, slope)


@pytest.mark.parametrize("chunk_size", [None, 2])
def test_every_setting_of_the_module_is_the_functions(chunk_size):
    x, y = normal(1, 5, 3), normal(2, 5, 3)
    made = options_for(["positives", "keep", "weight"], 1, 5, 5)
    shared = {"normalize": mm.softmax_normalize, "reduction": "sum", "chunk_size": chunk_size}
    module = mm.SigmoidContrast(temperature=0.3, bias=-2.0, **shared)
    close(
        module(x, y, **made),
        mm.sigmoid_contrast(x, y, temperature=0.3, bias=-2.0, **shared, **made),
        rtol=1e-6,
    )


@pytest.mark.parametrize("chunk_size", [None, 2])
def test_the_module_starts_where_the_paper_does_and_learns(chunk_size):
    module = mm.SigmoidContrast(chunk_size=chunk_size)
    assert module.log_scale.item() == pytest.approx(math.log(10))
    assert module.bias.item() == -10
    module(normal(1, 5, 3), normal(2, 5, 3)).backward()
    assert module.log_scale.grad != 0
    assert module.bias.grad != 0
    assert set(module.state_dict()) == {"log_scale", "bias"}


X, Y = normal(1, 4, 3), normal(2, 3, 3)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: mm.sigmoid_contrast(X[0], Y), "x: expected shape .*got .*3"),
        (lambda: mm.sigmoid_contrast(X, Y[:, :2]), r"y: expected shape .*got \(3, 2\)"),
        (lambda: mm.sigmoid_contrast(X, Y), "y: expected at least 4 rows, a partner each, got 3"),
        (lambda: mm.sigmoid_contrast(X, X, temperature=0.0), "temperature: expected .*got 0"),
        (
            lambda: mm.sigmoid_contrast(X, X, bias=X),
            r"bias: expected shape \(4, 4\), got \(4, 3\)",
        ),
        (
            lambda: mm.sigmoid_contrast(X, X, bias=torch.tensor(1)),
            "bias: expected .*floating.*got .*int64",
        ),
        (lambda: mm.sigmoid_contrast(X, X, reduction="max"), "reduction: expected .*got 'max'"),
        (lambda: mm.sigmoid_contrast(X, X, chunk_size=0), "chunk_size: expected .*got 0"),
        (
            lambda: mm.sigmoid_contrast(X, X, positives=torch.ones(4, 4)),
            "positives: expected a bool mask, got torch.float32",
        ),
        (
            lambda: mm.sigmoid_contrast(X, X, keep=torch.ones(4, 3).bool()),
            r"keep: expected shape \(4, 4\), got \(4, 3\)",
        ),
        (
            lambda: mm.sigmoid_contrast(X, X, weight=torch.ones(3), chunk_size=2),
            r"weight: expected shape \(4,\), got \(3,\)",
        ),
        (lambda: mm.SigmoidContrast(temperature=0.0), "temperature: expected .*got 0"),
    ],
)
def test_wrong_calls(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_in_a_bfloat16_model_scale_and_bias_are_those_of_the_parameters():
    x, y = normal(1, 6, 4).float(), normal(2, 6, 4).float()
    module = mm.SigmoidContrast(temperature=0.013, bias=-7.3).bfloat16()
    scale, bias = module.log_scale.double().exp().item(), module.bias.item()
    close(module(x, y), mm.sigmoid_contrast(x, y, temperature=1 / scale, bias=bias), rtol=1e-5)
