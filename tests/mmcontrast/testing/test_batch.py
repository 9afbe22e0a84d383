"""Batches of every kind, and how a loss is called with them."""

import torch

from mmcontrast.testing import Traits
from mmcontrast.testing.batch import Batch


def test_a_batch_is_called_as_its_kind_is():
    x, y = torch.ones(2, 3), torch.tensor([0, 1])
    assert len(Batch("paired", {"a": x, "b": x}).arguments()) == 2
    assert Batch("labelled", {"z": x}, y).arguments() == (x, y)
    assert Batch("multimodal", {"text": x}).arguments() == ({"text": x},)
    assert Traits(kind="labelled").labelled
