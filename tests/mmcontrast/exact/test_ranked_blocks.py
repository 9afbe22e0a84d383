"""Rank-N-Contrast at once, checkpointed, and with gradients in one pass: the same numbers."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import mmcontrast as mm
from mmcontrast.exact import ranked_blocks, ranked_choice, sizes
from tests.mmcontrast.memory import peak
from tests.mmcontrast.strategies import close, gradients, leaf, normal, seeds

WAYS = ("ranked_at_once", "ranked_checkpointed", "ranked_in_one_pass")


def spy(monkeypatch):
    """The ways that are taken, in order."""
    taken = []

    def watch(name, way):
        monkeypatch.setattr(ranked_choice, name, lambda *args: taken.append(name) or way(*args))

    for name in WAYS:
        watch(name, getattr(ranked_choice, name))
    return taken


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("weighted", [False, True])
def test_every_way_gives_the_same_numbers(monkeypatch, reduction, weighted):
    """Gradients of anchors, candidates, temperature and weight, with an upstream factor."""
    n, taken = 9, spy(monkeypatch)
    y, z = normal(3, n).round(), normal(4, n + 3).round()
    y[2] = math.nan
    inputs = [normal(1, n, 3), normal(2, n + 3, 3), torch.tensor(0.7, dtype=torch.float64)]
    inputs += [normal(5, n).abs()] if weighted else []
    factor = normal(6, n) if reduction == "none" else 3.0

    def of(distance, chunk_size):
        def loss(x, c, t, w=None):
            options = {"temperature": t, "weight": w, "reduction": reduction}
            value = mm.rank_n_contrast(
                x, y, c, z, distance=distance, chunk_size=chunk_size, **options
            )
            return (value * factor).sum()

        value, found = gradients(loss, *inputs)
        return value, *found

    own = lambda a, b: mm.euclidean(a, b)  # noqa: E731
    expected = of(own, None)
    for distance, chunk_size in ((own, 2), (mm.euclidean, None), (mm.euclidean, 2)):
        for a, b in zip(of(distance, chunk_size), expected, strict=True):
            close(a, b)
    assert taken == [
        "ranked_at_once",
        "ranked_checkpointed",
        "ranked_in_one_pass",
        "ranked_in_one_pass",
    ]


def test_without_a_gradient_none_is_made(monkeypatch):
    taken = spy(monkeypatch)
    x, y = normal(1, 9, 3), normal(2, 9)
    expected = mm.rank_n_contrast(x, y)
    with torch.no_grad():
        close(mm.rank_n_contrast(leaf(x), y, chunk_size=2), expected)
    assert not mm.rank_n_contrast(x, y, chunk_size=2).requires_grad
    assert taken == ["ranked_in_one_pass"] * 3


def test_a_large_batch_is_evaluated_in_blocks(monkeypatch):
    """No N x N tensor: memory grows by the rows, not by the pairs."""
    monkeypatch.setattr(sizes, "ORDERED", 2**12)
    taken = spy(monkeypatch)
    x, y = normal(1, 512, 4).float(), normal(2, 512)

    def call(n):
        mm.rank_n_contrast(leaf(x[:n]), y[:n]).backward()

    call(512)  # what is made once
    assert peak(lambda: call(512)) < 512 * 512 * 4
    assert taken == ["ranked_in_one_pass"] * 2


@given(seed=seeds, n=st.integers(0, 9), scale=st.sampled_from([1.0, 100.0, 1e4]))
def test_both_sums_from_the_end_are_those_of_logsumexp(seed, n, scale):
    s = scale * normal(seed, 2, n)
    expected = [s[:, t:].logsumexp(1) for t in range(n)]
    expected = torch.stack(expected, 1) if expected else s
    close(ranked_blocks.from_the_end(s), expected)
    close(ranked_blocks.from_the_end_by_doubling(s), expected)


def test_sums_by_doubling_have_a_second_derivative():
    """Far apart entries too, where a ratio of their exponentials is 0 or infinite."""
    s = leaf(torch.tensor([[0.3, -1.0, 0.5, 2.0, 0.1], [0.0, 900.0, -900.0, 1.0, 0.0]]).double())
    assert torch.autograd.gradgradcheck(ranked_blocks.from_the_end_by_doubling, s)
