"""Contract 3 for masks: a row that takes no part may hold anything, and gets a gradient of zero."""

import pytest
import torch

import mmcontrast as mm
from tests.mmcontrast.strategies import close, gradients, normal

N = 5
PART = torch.tensor([True, False, True, True, False])
BOTH = PART[:, None] & PART
LABELS = torch.where(PART, torch.tensor([0, 0, 0, 1, 1]), mm.IGNORE)
CALLS = {
    "info_nce": lambda x, y: mm.info_nce(x, y, keep=BOTH),
    "info_nce, in chunks": lambda x, y: mm.info_nce(x, y, keep=BOTH, chunk_size=2),
    "symmetric_info_nce": lambda x, y: mm.symmetric_info_nce(x, y, keep=BOTH),
    "matched_pair_nce": lambda x, y: mm.matched_pair_nce(x, y, keep=PART),
    "n_pair": lambda x, y: mm.n_pair(x, y, keep=BOTH),
    "sup_con by labels": lambda x, y: mm.sup_con(x, LABELS) + mm.sup_con(y, LABELS),
    "sup_con by keep": lambda x, y: mm.sup_con(
        x, None, y, positives=torch.ones(N, N).tril(), keep=BOTH
    ),
    "sup_con among candidates": lambda x, y: mm.sup_con(x, LABELS, y, LABELS, form="in"),
    "triplet": lambda x, y: mm.triplet(x, y, y.flip(1), keep=PART, hinge=False),
}


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("filling", [float("nan"), float("inf"), 1e30])
def test_masked_rows_reach_nothing(name, filling):
    x, y = normal(1, N, 3), normal(2, N, 3)
    filled = [torch.where(PART[:, None], z, filling) for z in (x, y)]
    expected, slopes = gradients(CALLS[name], x, y)
    value, found = gradients(CALLS[name], *filled)
    close(value, expected)
    assert value.abs() > 0
    for gradient, slope in zip(found, slopes, strict=True):
        close(gradient, slope)
        assert (gradient[~PART] == 0).all()
