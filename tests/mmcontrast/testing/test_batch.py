"""Batches of every kind, and how a loss is called with them."""

import pytest
import torch

from mmcontrast.testing import Traits
from mmcontrast.testing.batch import NAMES, Batch, batch_of
from mmcontrast.testing.traits import ALL_KINDS


def test_a_batch_is_called_as_its_kind_is():
    x, y = torch.ones(2, 3), torch.tensor([0, 1])
    assert len(Batch("paired", {"a": x, "b": x}).arguments()) == 2
    assert Batch("labelled", {"z": x}, y).arguments() == (x, y)
    assert Batch("multimodal", {"text": x}).arguments() == ({"text": x},)
    assert Traits(kind="labelled").labelled
    assert Batch("labelled_miner", {"z": x}, y).arguments() == (x, y)
    assert Traits(kind="labelled_miner").labelled
    assert not Traits(kind="miner").labelled


@pytest.mark.parametrize("kind", ALL_KINDS)
def test_a_batch_is_made_of_its_arguments(kind):
    """What replay does with those of a report."""
    x, y = torch.ones(2, 3), torch.tensor([0, 1])
    rows = {name: x + k for k, name in enumerate(NAMES[kind])}
    batch = Batch(kind, rows, y if Traits(kind=kind).labelled else None)
    again = batch_of(kind, batch.arguments())
    assert (again.kind, again.labels) == (kind, batch.labels)
    assert list(again.rows) == list(rows)
    assert all(torch.equal(again.rows[name], rows[name]) for name in rows)
