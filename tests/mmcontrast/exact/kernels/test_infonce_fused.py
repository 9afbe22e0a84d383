"""InfoNCE by kernels: anchors without a partner."""

import torch

from mmcontrast.exact import kernels
from tests.mmcontrast.exact.kernels.cases import BLOCKS, given, targets


def test_an_anchor_without_a_partner_takes_no_part(device):
    x, y = given("random", 19, 10, "ieee", device)
    own = targets(19).to(device)
    chosen = torch.where(torch.arange(19, device=device) % 4 == 1, -100, own)
    weight = (chosen >= 0).float()
    found = kernels.one_way_fused(x, y, chosen, 0.1, weight, blocks=BLOCKS)
    left = kernels.one_way_fused(
        x[chosen >= 0], y, own[chosen >= 0], 0.1, None, blocks=BLOCKS
    ).sum()
    torch.testing.assert_close(found, left)
    for a, b in zip(
        torch.autograd.grad(found, (x, y)), torch.autograd.grad(left, (x, y)), strict=True
    ):
        torch.testing.assert_close(a, b)
    assert kernels.one_way_fused(x, y, chosen, 0.1, None, blocks=BLOCKS).isfinite().all()
