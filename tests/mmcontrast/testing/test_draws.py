"""What laws draw beside a batch."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from mmcontrast.testing import Traits, draws, strategies
from mmcontrast.testing.batch import MODALITIES


@given(st.data())
def test_what_laws_draw_beside_a_batch_fits_it(data):
    batch = data.draw(strategies.batches(Traits(kind="multimodal")))
    n, d = len(batch), batch.features
    assert sorted(data.draw(draws.orders(batch))) == list(range(n))
    rotation = data.draw(draws.rotations(batch))
    torch.testing.assert_close(rotation @ rotation.T, torch.eye(d, dtype=torch.float64))
    assert all(scale > 0 for scale in data.draw(draws.row_scales(batch)))
    assert data.draw(draws.chosen_name(batch)) in MODALITIES
    assert 0 <= data.draw(draws.sample(batch)) < n
    assert len(data.draw(draws.vectors(batch))) == d
    assert len(data.draw(draws.numbers(batch))) == n
    assert data.draw(draws.more_rows(batch)).shape[1] == d
    targets = data.draw(draws.soft_targets(batch))
    assert len(targets) == n
    assert all(len(row) == n and sum(row) > 0 and min(row) >= 0 for row in targets)
    present = data.draw(draws.presences(batch))
    assert {name: len(flags) for name, flags in present.items()} == dict.fromkeys(MODALITIES, n)
    low, high = data.draw(draws.margins(batch))
    assert 0 <= low <= high
    assert 0.01 <= data.draw(draws.any_temperature(batch)) <= 1
