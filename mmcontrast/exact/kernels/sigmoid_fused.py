"""The sigmoid loss by kernels: 5 matrix products, one for the sums and two for each gradient."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from mmcontrast.exact.evaluation import Losses, Needed, evaluate_in_one_pass
from mmcontrast.exact.kernels import launch
from mmcontrast.exact.kernels.blocks import Blocks
from mmcontrast.exact.kernels.launch import Logits, Share, scalar_for
from mmcontrast.exact.plain import plain_sigmoid


def sigmoid_fused(
    x: Tensor,
    y: Tensor,
    temperature: float | Tensor,
    bias: float | Tensor,
    weight: Tensor | None,
    *,
    precision: str = "ieee",
    blocks: Blocks | None = None,
) -> Tensor:
    """Losses as of :func:`mmcontrast.sigmoid_contrast`, row i with row i.

    Args:
        x: (B, D) anchors, mapped.
        y: (C, D) candidates, mapped.
        temperature: a number or a 0-d tensor.
        bias: the same.
        weight: (B,) factors of the losses in their sum; None for the losses themselves.
        precision: of the products.
        blocks: instead of those of the table.
    """
    weight = None if weight is None else weight.float()
    inputs = x, y, scalar_for(temperature, x), scalar_for(bias, x)
    return evaluate_in_one_pass(_SigmoidFused(precision, blocks), weight, *inputs)


class _SigmoidFused(NamedTuple):
    precision: str
    blocks: Blocks | None

    def losses(self, needed: Needed, weight: Tensor | None, *inputs: Tensor) -> Losses:
        x, y, temperature, bias = inputs
        if len(x) == 0 or len(y) == 0:
            zeros = launch.zeros(needed, x, y, temperature, bias)
            return x.new_zeros(len(x), dtype=torch.float32), zeros
        given = x, y
        x, y = launch.rounded(x, self.precision), launch.rounded(y, self.precision)
        settings = temperature, self.precision
        logits = Logits(x, y, *settings, diagonal=True, bias=bias.detach(), blocks=self.blocks)
        # The kernel leaves out the pairs (i, i), the positives: loss softplus(-s), slope
        # -sigmoid(-s).
        own = -(launch.pairs(x, y[: len(x)]) / temperature + bias)
        base = logits.base()
        losses = launch.sums(logits, base, both=False).rows + F.softplus(own, threshold=50)
        gx = gy = gt = gb = None
        if weight is None:
            return losses, (None,) * 4
        # A negative's gradient by x y is weight_i sigmoid(s_ij) / t, with no sum to divide by. A
        # positive's, -pull_i / t, is added to what the kernels return.
        pull = weight * own.sigmoid()
        rows, over = Share(weight / temperature), (pull / temperature)[:, None]
        if needed[0] or needed[2] or needed[3]:
            gx, slopes = launch.gradient(logits, base, rows, None, slopes=needed[3])
            gx.addcmul_(y[: len(x)], over, value=-1)
            if needed[2]:
                gt = launch.temperature_gradient_of(x, gx, temperature)
            # The slopes came out divided by t, which the bias's gradient is not.
            gb = slopes.sum() * temperature - pull.sum() if needed[3] else None
            gx = launch.without_padding(gx, given[0])
        if needed[1]:
            gy, _ = launch.gradient(logits.mT, base, None, rows)
            gy[: len(x)].addcmul_(x, over, value=-1)
            gy = launch.without_padding(gy, given[1])
        return losses, (gx, gy, gt, gb)

    def plain(self, *inputs: Tensor) -> Tensor:
        x, y, temperature, bias = inputs
        return plain_sigmoid(x.float(), y.float(), temperature, bias, None, None, 0)
