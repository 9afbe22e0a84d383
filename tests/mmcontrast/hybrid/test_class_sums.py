"""Classes of all kinds of labels, and sums over them."""

import pytest
import torch

import mmcontrast as mm
from mmcontrast.hybrid import class_sums
from tests.mmcontrast.hybrid.evaluations import by_pairs, sizes
from tests.mmcontrast.strategies import close, labels, modalities

LABELS = {
    "float": lambda y: y.float(),
    "NaN": lambda y: torch.where(y == -100, torch.nan, y.double()),
    "int32": lambda y: y.int(),
    "large": lambda y: torch.where(y == -100, y, torch.tensor([2**40, -5, 7])[y.clamp_min(0)]),
    "columns": lambda y: torch.stack([y, torch.where(y == -100, y, y // 2)], dim=1),
}


@pytest.mark.parametrize("kind", LABELS)
def test_labels_of_every_kind(kind):
    features, classes = modalities(1, 20, 3), labels(2, 20, 3, 0.2)
    with by_pairs():
        expected = mm.hybrid_contrast(features, classes, reduction="none").total
    for least in (1, 7, 100):
        with sizes(least=least):
            found = mm.hybrid_contrast(features, LABELS[kind](classes), reduction="none").total
        close(found, expected, atol=1e-12, rtol=1e-12)


@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8])
def test_labels_that_cannot_be_ignored(dtype):
    features, classes = modalities(1, 20, 3), labels(2, 20, 2)
    with by_pairs():
        expected = mm.hybrid_contrast(features, classes).total
    with sizes():
        close(mm.hybrid_contrast(features, classes.to(dtype)).total, expected)


def test_a_small_sum_beside_a_large_one_is_there_to_the_last_digit():
    """A total less one's own would leave nothing of 3 beside 1e20."""
    sums = torch.tensor([[1.0], [1e20], [2.0]], dtype=torch.float64)
    assert class_sums.all_but_each(sums)[1].item() == 3.0
