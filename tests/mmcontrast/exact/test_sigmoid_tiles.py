"""SigLIP's sigmoid loss in tiles and all at once: which, and how exact."""

import math

import pytest
import torch

import mmcontrast as mm
from mmcontrast.exact import sigmoid_choice, sizes
from tests import oracles
from tests.mmcontrast.strategies import close, gradients, normal, numpy


def test_many_pairs_take_tiles_by_default(monkeypatch):
    pair, calls = (normal(1, 12, 4), normal(2, 15, 4)), []
    at_once = gradients(mm.sigmoid_contrast, *pair)
    tiled = sigmoid_choice.sigmoid_in_tiles
    monkeypatch.setattr(sigmoid_choice, "sigmoid_in_tiles", lambda *a: calls.append(1) or tiled(*a))
    for least, times in ((12 * 15 + 1, 0), (12 * 15, 1)):
        monkeypatch.setattr(sizes, "SIGMOID_TILES", least)
        value, found = gradients(mm.sigmoid_contrast, *pair)
        assert len(calls) == times
        close(value, at_once[0])
        for gradient, expected in zip(found, at_once[1], strict=True):
            close(gradient, expected)


@pytest.mark.parametrize("scale", [1.0, 1e4])
@pytest.mark.parametrize("chunk_size", [None, 3])
def test_logits_of_any_size_are_finite(scale, chunk_size):
    """Raw dot products far beyond exp: softplus is its argument there."""
    x, y = (normal(k, 7, 4).float() * scale for k in (1, 2))
    settings = {"normalize": None, "bias": 0.0, "temperature": 0.05, "chunk_size": chunk_size}
    value, found = gradients(lambda x, y: mm.sigmoid_contrast(x, y, **settings), x, y)
    exact = oracles.sigmoid_contrast(numpy(x), numpy(y), temperature=0.05, bias=0.0, normalize=None)
    close(value / exact, 1.0, atol=1e-5)
    assert all(gradient.isfinite().all() for gradient in found)


@pytest.mark.parametrize("bias", [-60.0, 60.0])
@pytest.mark.parametrize("everybody", [False, True])
@pytest.mark.parametrize("chunk_size", [8, 16])
def test_a_bias_that_makes_all_odds_huge(bias, everybody, chunk_size):
    """2^87 is a float32, the product of two is not: belonging together or not, the sum is right."""
    x, y = (normal(k, 16, 4).float() for k in (1, 2))
    positives = torch.full((16, 16), everybody)
    settings = {"bias": bias, "temperature": 1.0, "positives": positives}
    settings_here = {**settings, "chunk_size": chunk_size}
    value, found = gradients(lambda x, y: mm.sigmoid_contrast(x, y, **settings_here), x, y)
    expected = oracles.sigmoid_contrast(*map(numpy, (x, y)), **{**settings, **numpy(settings)})
    close(value / expected, 1.0, atol=1e-5)
    assert all(gradient.isfinite().all() for gradient in found)


@pytest.mark.parametrize("chunk_size", [None, 8])
def test_the_loss_of_certain_pairs_keeps_its_digits(chunk_size):
    """Every term 1e-8 and less in float32: log(1 + odds) is never taken of a rounded sum."""
    eye = torch.eye(16)
    settings = {"temperature": 1 / 40.0, "bias": -20.0}
    value, (gradient, _) = gradients(
        lambda x, y: mm.sigmoid_contrast(x, y, **settings, chunk_size=chunk_size), eye, eye
    )
    assert value.item() == pytest.approx(16 * math.log1p(math.exp(-20)), rel=1e-6)
    assert gradient[0, 1].item() == pytest.approx(40 / 16 * math.exp(-20), rel=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("chunk_size", [None, 5])
def test_low_precision_is_computed_in_float32(dtype, chunk_size):
    x, y = normal(1, 12, 6).to(dtype), normal(2, 12, 6).to(dtype)
    value, found = gradients(
        lambda x, y: mm.sigmoid_contrast(x, y, chunk_size=chunk_size, bias=-2.0), x, y
    )
    exact, expected = gradients(
        lambda x, y: mm.sigmoid_contrast(x, y, bias=-2.0), x.double(), y.double()
    )
    assert value.dtype == torch.float32
    assert abs(value - exact) < 1e-6 * exact
    for gradient, reference in zip(found, expected, strict=True):
        assert gradient.dtype == dtype
        error = (gradient.double() - reference).norm() / reference.norm()
        assert error < (1e-5 if dtype == torch.float32 else 2 * torch.finfo(dtype).eps)
