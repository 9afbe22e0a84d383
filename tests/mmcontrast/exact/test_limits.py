"""Limits as intervals of closeness."""

import math

import pytest
import torch

from mmcontrast.exact.limits import NO_LIMITS, Limits, inside, just_below, semi_hard_bounds

PARTNER = torch.tensor([0.5, -0.5, 0.0], dtype=torch.float64)
HAS_ONE = torch.tensor([True, True, False])
INF = math.inf


@pytest.mark.parametrize(
    ("limits", "distance", "low", "high"),
    [
        (NO_LIMITS, False, [-INF] * 3, [INF] * 3),
        (Limits(below=0.8), False, [-INF] * 3, [0.8] * 3),
        (Limits(below=0.8), True, [-0.8] * 3, [INF] * 3),
        (Limits(above=0.2), False, [0.2] * 3, [INF] * 3),
        (Limits(above=0.2), True, [-INF] * 3, [-0.2] * 3),
        (Limits(margin=0.25), False, [-INF] * 3, [0.25, -0.75, INF]),
        (Limits(margin=0.25, below=0.0), False, [-INF] * 3, [0.0, -0.75, 0.0]),
        (Limits(relative_margin=0.5), False, [-INF] * 3, [0.25, -0.75, INF]),
        (Limits(relative_margin=0.5, margin=1.0), False, [-INF] * 3, [-0.5, -1.5, INF]),
    ],
)
def test_intervals(limits, distance, low, high):
    for found, truth in zip(limits.bounds(PARTNER, HAS_ONE, distance), (low, high), strict=True):
        assert found.tolist() == truth


def test_semi_hard_is_strictly_less_close_and_needs_a_partner():
    low, high = Limits(semi_hard=0.25).bounds(PARTNER, HAS_ONE, False)
    assert low[:2].tolist() == [0.25, -0.75]
    assert high.tolist() == [math.nextafter(0.5, -INF), math.nextafter(-0.5, -INF), -INF]
    own = semi_hard_bounds(torch.tensor([0.5, -INF], dtype=torch.float64), 0.25)
    assert own[0][0] == 0.25
    assert own[1].tolist() == [math.nextafter(0.5, -INF), -INF]


def test_inside_has_both_ends_and_no_nan():
    bounds = torch.tensor([0.0]), torch.tensor([1.0])
    values = torch.tensor([[0.0, 1.0, 0.5, -0.1, 1.1, math.nan]])
    assert inside(values, bounds).tolist() == [[True, True, True, False, False, False]]
    assert just_below(torch.tensor(1.0)) < 1
