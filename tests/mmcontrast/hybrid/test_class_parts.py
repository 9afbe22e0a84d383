"""A batch sorted by class and cut into parts, against loops over classes."""

import math
from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import mmcontrast as mm
from mmcontrast.hybrid.class_parts import cut_large, cut_small, mapped_parts, sort_by_size
from tests.mmcontrast.strategies import close, gradients, labels, mask, normal, seeds

counts = st.lists(st.integers(0, 9), max_size=5)


@given(
    seed=seeds,
    n=st.integers(0, 9),
    least=st.integers(1, 6),
    start=st.integers(0, 9),
    data=st.data(),
)
def test_who_is_in_a_large_class_and_who_in_a_small_one(seed, n, least, start, data):
    ids = labels(seed, n, 3, ignored=0.2)
    start = min(start, n)
    own = slice(start, data.draw(st.integers(start, n)))
    here = range(own.start, own.stop)
    classes = sorted(set(ids.tolist()) - {-100})
    members = [[k for k in range(n) if ids[k] == y] for y in classes]
    large = [those for those in members if len(those) >= least]
    small = [those for those in members if len(those) < least]
    found = sort_by_size(ids, own, least)
    assert found.large.tolist() == [k - own.start for those in large for k in those if k in here]
    assert found.large_counts == [sum(k in here for k in those) for those in large]
    assert found.small.tolist() == [k for those in small for k in those]
    assert found.small_counts == [len(those) for those in small]
    assert found.ids.tolist() == [members.index(those) for those in small for _ in those]
    assert found.own.tolist() == [k in here for those in small for k in those]


@given(counts=counts, part=st.integers(1, 5))
def test_a_large_class_is_cut_into_equal_parts(counts, part):
    sizes, shares = cut_large(counts, part)
    assert len(shares) == len(counts)
    assert sum(shares) == len(sizes)
    left = iter(sizes)
    for count, share in zip(counts, shares, strict=True):
        own = [next(left) for _ in range(share)]
        assert sum(own) == count
        assert share == max(math.ceil(count / part), 1)
        assert max(own) - min(own) <= 1


@given(counts=counts, most=st.integers(1, 12))
def test_small_classes_stay_whole_and_share_parts(counts, most):
    sizes = cut_small(counts, most)
    ends = {sum(counts[:k]) for k in range(len(counts) + 1)}
    assert sum(sizes) == sum(counts)
    assert {sum(sizes[:k]) for k in range(len(sizes) + 1)} <= ends
    assert all(size <= max(most, *counts) for size in sizes)
    # None would have found room in the part before it.
    assert all(a + b > most for a, b in pairwise(sizes)) or 0 in counts


@pytest.mark.parametrize("normalize", [None, mm.softmax_normalize])
@pytest.mark.parametrize("everybody", [False, True])
def test_parts_are_the_rows_in_order_and_their_gradients_go_back(normalize, everybody):
    """Three of five samples, cut in two; what is absent is zero, though a map would fill it."""
    order, sizes = torch.tensor([4, 0, 2]), [2, 1]
    x, y = normal(1, 5, 3), normal(2, 5, 3)
    here = torch.ones(3, 2, dtype=torch.bool) if everybody else mask(3, 3, 2, share=0.5)
    assert everybody or 0 < here.sum() < 6
    steps = torch.arange(1, 19, dtype=torch.float64).view(3, 2, 3)

    def by_parts(x, y):
        parts = mapped_parts({"x": x, "y": y}, order, here, sizes, normalize)
        assert [part.shape for part in parts] == [(2, 2, 3), (1, 2, 3)]
        return (torch.cat(parts) * steps).sum()

    def at_once(x, y):
        rows = torch.stack([x, y], dim=1)[order]
        rows = rows if normalize is None else normalize(rows)
        return (rows * here[..., None] * steps).sum()

    (value, found), (expected, slopes) = gradients(by_parts, x, y), gradients(at_once, x, y)
    close(value, expected)
    for gradient, slope in zip(found, slopes, strict=True):
        close(gradient, slope)


def test_only_the_modality_that_asks_gets_a_gradient():
    x, y = normal(1, 4, 2), normal(2, 4, 2).requires_grad_()
    here = torch.ones(2, 2, dtype=torch.bool)
    (part,) = mapped_parts({"x": x, "y": y}, torch.tensor([3, 1]), here, [2], None)
    (slope,) = torch.autograd.grad(part.sum(), y)
    assert slope[:, 0].tolist() == [0, 1, 0, 1]
