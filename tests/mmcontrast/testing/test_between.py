"""A distance called on pairs, on one pair, and on all."""

from functools import partial

import pytest
import torch

import mmcontrast as mm
from mmcontrast.testing import LawBroken, Traits
from mmcontrast.testing.batch import Batch
from mmcontrast.testing.between import all_distances, between, largest, same_distances
from mmcontrast.testing.subject import Subject

X = torch.tensor([[0.0, 0.0], [3.0, 4.0]], dtype=torch.float64)
Y = torch.tensor([[1.0, 0.0], [3.0, 4.0]], dtype=torch.float64)
BATCH = Batch("distance", {"x": X, "y": Y})
PAIRS = Subject(mm.euclidean, Traits(kind="distance"))
MATRIX = Subject(partial(mm.pairwise, mm.euclidean), Traits(kind="distance", matrix=True))


@pytest.mark.parametrize("subject", [PAIRS, MATRIX], ids=["pairs", "matrix"])
def test_of_pairs_and_of_all(subject):
    assert between(subject, BATCH).tolist() == [1, 0]
    assert all_distances(subject, BATCH).tolist() == [[1, 5], [20**0.5, 0]]
    assert between(subject, BATCH.leaves()).requires_grad
    assert not all_distances(subject, BATCH.leaves()).requires_grad


def test_another_one_in_its_place_is_of_pairs():
    assert between(MATRIX, BATCH, mm.manhattan).tolist() == [1, 0]


@pytest.mark.parametrize(
    ("found", "message"),
    [
        (lambda x, y: 1.0, "returned a float, expected a tensor"),
        (lambda x, y: (x - y).norm(), r"torch.float64 \(\), expected \(2,\)"),
        (lambda x, y: torch.cdist(x, y), r"\(2, 2\), expected \(2,\)"),
        (lambda x, y: (x != y).any(-1), r"torch.bool \(2,\)"),
        (lambda x, y: mm.euclidean(x, y) / 0, "inf"),
    ],
)
def test_what_is_no_distance_of_pairs(found, message):
    with pytest.raises(LawBroken, match=message):
        between(Subject(found, Traits(kind="distance")), BATCH)


def test_what_does_not_broadcast():
    flat = Subject(lambda x, y: (x - y).flatten(1).norm(dim=1), Traits(kind="distance"))
    assert between(flat, BATCH).tolist() == [1, 0]
    with pytest.raises(LawBroken, match=r"gave \(2,\), expected \(2, 2\)"):
        all_distances(flat, BATCH)


def test_distances_are_compared_up_to_rounding():
    one = torch.ones(2, dtype=torch.float64)
    same_distances(PAIRS, one, one + 1e-9, ("these", "those"))
    same_distances(PAIRS, one, one + 1e-7, ("these", "those"), 100)
    with pytest.raises(LawBroken, match=r"these are .* but those are"):
        same_distances(PAIRS, one, one + 1e-7, ("these", "those"))


def test_the_longest_row():
    assert largest(BATCH) == 5
