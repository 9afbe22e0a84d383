"""SupCon by kernels: classes of one, of two and of more, and who is in none."""

import pytest
import torch

from mmcontrast.exact import kernels
from tests import oracles
from tests.mmcontrast.exact.kernels.cases import BLOCKS, given
from tests.mmcontrast.strategies import close

LABELS = {
    "alone": [0, 1, 2, 3, 4],
    "pairs": [0, 1, 1, 0, -100],
    "more": [7, 7, -100, 7, 3],
    "one": [2, 2, 2, 2, 2],
    "nobody": [-100] * 5,
}


@pytest.mark.parametrize("kind", LABELS)
def test_losses_are_the_oracles_and_say_who_is_counted(kind, device):
    x, _ = given("random", 5, 4, "ieee", device)
    ids = torch.tensor(LABELS[kind], device=device)
    options = {"temperature": 0.2, "normalize": None}
    losses, counted = kernels.sup_con_fused(x, ids, blocks=BLOCKS, **options)
    has = [i != -100 and LABELS[kind].count(i) > 1 for i in LABELS[kind]]
    assert counted.tolist() == has
    rows = x.detach().cpu().double().numpy()
    expected = oracles.sup_con(rows, LABELS[kind], reduction="none", **options)
    close(torch.where(counted, losses, 0), expected, atol=1e-5, rtol=0)
    (slope,) = torch.autograd.grad(losses[counted].sum(), x)
    assert slope.isfinite().all()
    there = (ids != -100) & torch.tensor(any(has), device=device)
    assert (slope[~there] == 0).all()
    assert (slope[there].abs().sum(1) > 0).all()


def test_rows_without_a_label_may_hold_anything(device):
    x, _ = given("random", 5, 4, "ieee", device)
    ids = torch.tensor(LABELS["more"], device=device)
    options = {"temperature": 0.2, "normalize": None, "blocks": BLOCKS}
    filled = torch.where((ids == -100)[:, None], torch.nan, x.detach()).requires_grad_()
    found, expected = (kernels.sup_con_fused(z, ids, **options) for z in (filled, x))
    assert torch.equal(found[0][found[1]], expected[0][expected[1]])
    slopes = [
        torch.autograd.grad(a[b].sum(), z)[0] for (a, b), z in ((found, filled), (expected, x))
    ]
    assert torch.equal(*slopes)


def test_an_empty_batch(device):
    x = torch.ones(0, 4, device=device, requires_grad=True)
    ids = torch.zeros(0, device=device)
    losses, counted = kernels.sup_con_fused(x, ids, temperature=0.1, normalize=None, blocks=BLOCKS)
    assert losses.shape == counted.shape == (0,)
    (slope,) = torch.autograd.grad(losses.sum(), x)
    assert slope.shape == (0, 4)
