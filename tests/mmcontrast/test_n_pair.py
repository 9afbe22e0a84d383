"""N-pair loss against float64 loops, and its laws; over ranks in test_supervised.py."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import mmcontrast as mm
from tests import oracles
from tests.mmcontrast.strategies import close, gradients, mask, normal, numpy, pairs, rng, seeds

REDUCTIONS = ["mean", "sum", "none"]
X, Y = torch.ones(3, 2), torch.ones(4, 2)


@given(
    pair=pairs(),
    seed=seeds,
    target=st.sampled_from(["none", "targets", "bool", "soft"]),
    kept=st.booleans(),
    weighted=st.booleans(),
    unit=st.booleans(),
    reduction=st.sampled_from(REDUCTIONS),
)
def test_n_pair_agrees_with_the_oracle(pair, seed, target, kept, weighted, unit, reduction):
    x, y = (v / v.abs().max() for v in pair)
    shape = len(x), len(y)
    options = {
        "targets": torch.randint(-1, shape[1], shape[:1], generator=rng(seed)),
        "bool": mask(seed, *shape, share=0.3),
        "soft": normal(seed, *shape).relu(),
    }
    options["targets"][options["targets"] < 0] = -100
    chosen = {"targets" if target == "targets" else "positives": options.get(target)}
    chosen["keep"] = mask(seed + 1, *shape, share=0.7) if kept else None
    chosen["weight"] = normal(seed + 2, shape[0]).abs() if weighted else None
    expected = oracles.n_pair(
        numpy(x), numpy(y), **numpy(chosen), normalize="l2" if unit else None, reduction=reduction
    )
    normalize = mm.l2_normalize if unit else None
    close(mm.n_pair(x, y, **chosen, normalize=normalize, reduction=reduction), expected)


def test_n_pair_gradient_agrees_with_central_differences():
    x, y = normal(1, 3, 2), normal(2, 5, 2)
    _, (gx, gy) = gradients(mm.n_pair, x, y)
    close(gx, oracles.central_differences(lambda v: oracles.n_pair(v, y), numpy(x)), atol=1e-8)
    close(gy, oracles.central_differences(lambda v: oracles.n_pair(x, v), numpy(y)), atol=1e-8)


@given(pair=pairs())
def test_law_32_n_pair_is_info_nce_on_raw_products_at_temperature_one(pair):
    x, y = (v / v.abs().max() for v in pair)
    close(mm.n_pair(x, y), mm.info_nce(x, y, normalize=None, temperature=1.0))


def test_n_pair_by_hand():
    a, p = torch.tensor([[1.0, 2.0]]), torch.tensor([[3.0, 1.0]])
    negatives = torch.tensor([[0.0, 1.0], [1.0, 1.0]])
    expected = math.log(1 + math.exp(2 - 5) + math.exp(3 - 5))
    assert mm.n_pair(a, torch.cat([p, negatives])).item() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(
    "options", [{"targets": torch.full((3,), -100)}, {"keep": torch.zeros(3, 3).bool()}]
)
def test_n_pair_without_positives_is_zero_with_a_graph(options):
    value, found = gradients(
        lambda x, y: mm.n_pair(x, y, **options), normal(1, 3, 2), normal(2, 3, 2)
    )
    assert value.item() == 0
    assert all((gradient == 0).all() for gradient in found)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: mm.n_pair(X, Y[:2]), "candidates: expected .*3.*got"),
        (lambda: mm.n_pair(X.long(), Y), "anchors: expected .*float.*got .*int64"),
        (lambda: mm.n_pair(X, torch.ones(4, 3)), r"candidates: expected .*2.*got .*\(4, 3\)"),
        (lambda: mm.n_pair(X, Y, torch.tensor([0, 4, 0])), "targets: expected .*got .*4"),
        (lambda: mm.n_pair(X, Y, keep=torch.ones(3, 4)), "keep: expected .*bool.*got .*float32"),
        (lambda: mm.n_pair(X, Y, weight=torch.ones(2)), r"weight: expected .*3.*got .*\(2,\)"),
        (lambda: mm.n_pair(X, Y, reduction="all"), "reduction: expected .*got 'all'"),
    ],
)
def test_wrong_calls(call, message):
    with pytest.raises(ValueError, match=message):
        call()
