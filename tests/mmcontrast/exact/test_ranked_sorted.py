"""Rank-N-Contrast with candidates sorted once, and by a sort of each row: the same numbers."""

import math

import pytest
import torch
from torch._subclasses import FakeTensorMode

import mmcontrast as mm
from mmcontrast.exact import ranked_blocks
from mmcontrast.exact.ranked_scores import Scores
from mmcontrast.exact.ranked_sorted import can_be_sorted
from mmcontrast.scores import ROUNDINGS
from tests.mmcontrast.strategies import close, gradients, leaf, normal, rng


def of(n, columns=1):
    """n rated samples among themselves, and inputs."""
    y, rated = normal(1, n, columns), torch.ones(n, dtype=torch.bool)
    return Scores(y, y, rated, rated, torch.arange(n), 0.0)


def test_one_score_a_sample_with_values_can_be_sorted():
    x, t = normal(1, 4, 2), torch.tensor(1.0)
    assert can_be_sorted(of(4), x, x, t)
    assert not can_be_sorted(of(4, 2), x, x, t)
    assert not can_be_sorted(of(1), x[:1], x[:1], t)  # nobody to compare with
    assert not can_be_sorted(of(4), x.to("meta"), x, t)
    meta = Scores(*(v.to("meta") for v in of(4)[:5]), 0.0)
    assert not can_be_sorted(meta, x, x, t)
    with FakeTensorMode():
        fake = torch.zeros(4, 2)
    assert not can_be_sorted(of(4), fake, x, t)


def sorts(monkeypatch):
    """For each pass from now on, whether the quick way gave a result."""
    taken, way = [], ranked_blocks.ranked_by_sorting_once

    def watched(*args):
        found = way(*args)
        taken.append(found is not None)
        return found

    monkeypatch.setattr(ranked_blocks, "ranked_by_sorting_once", watched)
    return taken


@pytest.mark.parametrize("distance", [mm.euclidean, mm.manhattan, mm.cosine_distance])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize("alone", [False, True])
def test_both_ways_give_the_same_numbers(monkeypatch, distance, dtype, whole, alone):
    """Some unrated, some tied, some rows equal; in blocks, with every gradient."""
    n, m = 23, 31
    y, z = normal(1, n), normal(2, m)
    y, z = ((3 * v).round() if whole else v for v in (y, z))
    y[3], z[5] = math.nan, -100
    x, c = normal(3, n, 4).to(dtype), normal(4, m, 4).to(dtype)
    x[7], c[1] = x[2], x[2]
    t = torch.tensor(0.7, dtype=dtype)
    w = torch.rand(n, generator=rng(5)).to(dtype)
    taken = sorts(monkeypatch)

    def loss(x, c, t, w):
        rows = [] if alone else [c, z]
        options = {"distance": distance, "weight": w, "chunk_size": 5}
        return mm.rank_n_contrast(x, y, *rows, temperature=t, **options)

    found = gradients(loss, x, c, t, w)
    assert taken == [True]
    monkeypatch.setattr(ranked_blocks, "can_be_sorted", lambda *args: False)
    expected = gradients(loss, *(v.double() for v in (x, c, t, w)))
    tolerance = {"atol": 1e-6, "rtol": 1e-6} if dtype == torch.float32 else {}
    for a, b in zip((found[0], *found[1]), (expected[0], *expected[1]), strict=True):
        close(a, b, **tolerance)


def test_ties_end_at_the_same_difference(monkeypatch):
    """The anchor's score of 1 counts twice, as it is rounded for both distances."""
    x, taken = normal(1, 3, 2), sorts(monkeypatch)
    rounding = ROUNDINGS * torch.finfo(torch.float64).eps
    ends = torch.tensor([1.5, 2.5], dtype=torch.float64) * rounding  # within the slack, and beyond

    def first(end):
        y = torch.stack([one, one + 2**-6, one - 2**-6 - end])
        return mm.rank_n_contrast(x, y, reduction="none")[0]

    one = torch.tensor(1.0, dtype=torch.float64)
    found = [first(end) for end in ends]
    assert taken == [True, True]
    monkeypatch.setattr(ranked_blocks, "can_be_sorted", lambda *args: False)
    expected = [first(end) for end in ends]
    close(torch.stack(found), torch.stack(expected))
    assert abs(expected[0] - expected[1]) > 0.01


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_far_apart_or_collapsed_rows_fall_back(monkeypatch, dtype):
    taken, y = sorts(monkeypatch), normal(2, 40)
    x = normal(1, 40, 3).to(dtype)
    x[30:] += 1e4  # of blocks of 10 anchors, the first alone would not be far apart
    same = torch.ones_like(x)

    def loss(x):
        return mm.rank_n_contrast(x, y, chunk_size=10)

    far, (by_far,) = gradients(loss, x)
    collapsed, (by_collapsed,) = gradients(loss, same)
    assert taken == [False, dtype == torch.float64]
    monkeypatch.setattr(ranked_blocks, "can_be_sorted", lambda *args: False)
    for value, gradient, rows in ((far, by_far, x), (collapsed, by_collapsed, same)):
        expected, (theirs,) = gradients(loss, rows)
        close(value, expected, rtol=1e-6)
        close(gradient, theirs, atol=1e-7)


def test_only_wanted_gradients_are_given_and_a_second_pass_has_them():
    x, y = normal(1, 8, 3).float(), normal(2, 8)
    c, z = leaf(normal(3, 9, 3).float()), normal(4, 9)
    mm.rank_n_contrast(x, y, c, z).backward()
    each = mm.rank_n_contrast(x, y, c, z, reduction="none")
    close(torch.autograd.grad(each.mean(), c)[0], c.grad, atol=1e-7)
