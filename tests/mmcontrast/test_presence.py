"""Missing modalities: masks for all of them, and rows of which nothing is left."""

import math

import pytest
import torch

from mmcontrast.presence import only_present, presence, refuse_not_finite, zero_outside
from tests.mmcontrast.memory import Made
from tests.mmcontrast.strategies import normal

FEATURES = {"text": torch.ones(3, 2), "audio": torch.ones(3, 5)}
SOME = torch.tensor([True, False, True])


def test_what_nothing_is_said_of_is_there():
    found = presence(FEATURES, {"audio": SOME})
    assert list(found) == ["text", "audio"]
    assert torch.equal(found["audio"], SOME)
    assert found["text"].tolist() == [True] * 3
    assert all(mask.all() for mask in presence(FEATURES, None).values())
    assert presence({"text": torch.ones(0, 2)}, {})["text"].shape == (0,)


def test_masks_are_made_where_the_rows_are():
    assert presence({"text": torch.ones(2, 1, device="meta")}, None)["text"].device.type == "meta"


@pytest.mark.parametrize(
    ("present", "message"),
    [
        ({"vision": SOME}, "present: expected one of 'text', 'audio', got 'vision'"),
        ({"audio": SOME[:2]}, r"present\['audio'\]: expected shape \(3,\), got \(2,\)"),
        ({"audio": SOME.float()}, r"present\['audio'\]: expected a bool mask, got torch.float32"),
    ],
)
def test_wrong_masks(present, message):
    with pytest.raises(ValueError, match=message):
        presence(FEATURES, present)


@pytest.mark.parametrize("filler", [math.nan, math.inf, 1e30])
def test_nothing_of_a_row_outside_goes_on(filler):
    x = normal(1, 3, 2)
    filled = torch.where(SOME[:, None], x, filler).requires_grad_()
    found = zero_outside(filled, SOME)
    assert torch.equal(found[SOME], x[SOME])
    assert (found[~SOME] == 0).all()
    (slope,) = torch.autograd.grad(found.square().sum(), filled)
    assert torch.equal(slope[SOME], 2 * x[SOME])
    assert (slope[~SOME] == 0).all()


def test_each_modality_loses_its_own_rows():
    features = {"text": normal(1, 3, 2), "audio": normal(2, 3, 2)}
    found = only_present(features, presence(features, {"audio": SOME}))
    assert torch.equal(found["text"], features["text"])
    assert torch.equal(found["audio"], zero_outside(features["audio"], SOME))


def test_finite_rows_are_known_by_one_sum():
    """Even where the sum overflows they are not refused; then a mask of all of them is made."""
    rows = normal(1, 64, 8)
    with Made() as made:
        refuse_not_finite("x", rows)
    assert made.largest == 1
    refuse_not_finite("x", torch.full((2, 3), 3e38))


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_rows_that_are_not_finite_are_counted(value):
    rows = normal(1, 5, 3)
    rows[2, 1] = rows[4, 0] = value
    with pytest.raises(ValueError, match=r"^x: .* infinity in 2 of 5, the first in row 2$"):
        refuse_not_finite("x", rows)
