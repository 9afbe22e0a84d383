"""InfoNCE and the sigmoid loss by kernels: the same entries as the tiles on the CPU have."""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from mmcontrast.eager import apply
from mmcontrast.exact.infonce_tiles import negative_share, plain_symmetric
from mmcontrast.exact.kernels import launch
from mmcontrast.exact.kernels.blocks import Blocks
from mmcontrast.exact.kernels.launch import Logits, Share
from mmcontrast.exact.tiles import LOG2_E, differentiate, number, one_pass
from mmcontrast.rows import dot
from mmcontrast.softmax import log_share

Gradients = list[Tensor | None]


def number_for(value: float | Tensor, rows: Tensor) -> Tensor:
    """A 0-d float32 tensor on the device of the rows, where the kernels can read it."""
    return number(value, rows.new_empty(0, dtype=torch.float32)).to(rows.device)


def by_temperature(x: Tensor, gx: Tensor, temperature: Tensor) -> Tensor:
    """As tiles.by_temperature: logits are x y / t, so it scales as x does, the other way."""
    return launch.pairs(x, gx).sum() / -temperature


def zeros(needed: Sequence[bool], *inputs: Tensor) -> Gradients:
    """The gradients of a batch of nobody."""
    return [
        torch.zeros_like(x) if wanted else None for x, wanted in zip(inputs, needed, strict=True)
    ]


# --- symmetric InfoNCE ---------------------------------------------------------------------------


def symmetric(
    x: Tensor,
    y: Tensor,
    temperature: float | Tensor,
    tile: int | None = None,
    *,
    precision: str = "ieee",
    blocks: Blocks | None = None,
) -> Tensor:
    """(B,) losses as of :func:`mmcontrast.exact.infonce_tiles.symmetric`: 5 products.

    One pass for the sums of the rows and of the columns, and two passes of two products for the
    gradients. ``tile`` is the CPU's and not used; see the package for ``precision``.
    """
    return apply(_Symmetric, x, y, number_for(temperature, x), precision, blocks)


class _Symmetric(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, y: Tensor, temperature: Tensor, precision: str, blocks: Blocks | None
    ) -> Tensor:
        ctx.precision, ctx.blocks = precision, blocks
        if len(x) == 0:
            ctx.save_for_backward(x, y, temperature)
            return x.new_zeros(0, dtype=torch.float32)
        logits = _matrix(x, y, temperature, precision, blocks)
        base = logits.base()
        sums = launch.sums(logits, base, both=True)
        own = launch.pairs(logits.x, logits.y) * (LOG2_E / temperature)
        there, row_share = negative_share(sums.rows.log() + (sums.row_shift - own) / LOG2_E)
        back, column_share = negative_share(sums.columns.log() + (sums.column_shift - own) / LOG2_E)
        ctx.save_for_backward(x, y, temperature, base, row_share, column_share, *sums)
        return (there + back) / 2

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> Any:
        x, y, temperature, *rest = ctx.saved_tensors
        needed = ctx.needs_input_grad[:3]
        if torch.is_grad_enabled():
            plain = plain_symmetric(x.float(), y.float(), temperature, slice(0, len(x)), None)
            return *differentiate(plain, (x, y, temperature), needed, upstream), None, None
        if not rest:
            return *zeros(needed, x, y, temperature), None, None
        base, row_share, column_share, *sums = rest
        logits = _matrix(x, y, temperature, ctx.precision, ctx.blocks)
        upstream = upstream / 2 / temperature
        pull = (upstream * (row_share + column_share))[:, None]
        rows = Share(upstream * row_share, sums[0], sums[1])
        columns = Share(upstream * column_share, sums[2], sums[3])
        gx = gy = gt = None
        if needed[0] or needed[2]:
            gx, _ = launch.gradient(logits, base, rows, columns)
            gx.addcmul_(logits.y, pull, value=-1)
            gt = by_temperature(logits.x, gx, temperature)
            gx = gx.to(x.dtype)
        if needed[1]:
            gy, _ = launch.gradient(logits.mT, base, columns, rows)
            gy.addcmul_(logits.x, pull, value=-1)
        return gx, gy, gt, None, None


def _matrix(
    x: Tensor, y: Tensor, temperature: Tensor, precision: str, blocks: Blocks | None
) -> Logits:
    """The logits of two views, without the pairs."""
    rows = launch.rounded(x, precision), launch.rounded(y, precision)
    return Logits(*rows, temperature.detach(), precision, diagonal=True, blocks=blocks)


# --- one direction -------------------------------------------------------------------------------


def one_way(
    anchors: Tensor,
    candidates: Tensor,
    targets: Tensor,
    temperature: float | Tensor,
    weight: Tensor | None,
    step: int | None = None,
    *,
    precision: str = "ieee",
    blocks: Blocks | None = None,
) -> Tensor:
    """Losses as of :func:`mmcontrast.exact.infonce_blocks.one_way`: 5 products.

    ``step`` is not used.
    """
    targets = targets.clamp_min(0)

    def evaluate(
        a: Tensor, c: Tensor, temperature: Tensor, weight: Tensor | None, needed: Sequence[bool]
    ) -> tuple[Tensor, Gradients]:
        if len(a) == 0 or len(c) == 0:
            return a.new_zeros(len(a), dtype=torch.float32), zeros(needed, a, c, temperature)
        rows = launch.rounded(a, precision), launch.rounded(c, precision)
        logits = Logits(*rows, temperature, precision, partner=targets, blocks=blocks)
        return _one_way(logits, weight, needed)

    def plain(a: Tensor, c: Tensor, temperature: Tensor) -> Tensor:
        columns = torch.arange(len(c), device=c.device)
        return log_share(
            dot(a.float(), c.float()) / temperature, columns == targets[:, None], None
        )[0]

    weight = None if weight is None else weight.float()
    inputs = anchors, candidates, number_for(temperature, anchors)
    return one_pass(evaluate, plain, weight, *inputs)


def _one_way(
    logits: Logits, weight: Tensor | None, needed: Sequence[bool]
) -> tuple[Tensor, Gradients]:
    a, c, temperature, _, _, targets, *_ = logits
    assert targets is not None
    base = logits.base()
    sums = launch.sums(logits, base, both=False)
    own = launch.pairs(a, c, targets) * (LOG2_E / temperature)
    losses, share = negative_share(sums.rows.log() + (sums.row_shift - own) / LOG2_E)
    ga = gc = gt = None
    if weight is None:
        return losses, [None, None, None]
    w = weight * share / temperature
    rows = Share(w, sums.rows, sums.row_shift)
    if needed[0] or needed[2]:
        ga, _ = launch.gradient(logits, base, rows, None)
        ga.addcmul_(c[targets], w[:, None], value=-1)
        gt = by_temperature(a, ga, temperature)
    if needed[1]:
        gc, _ = launch.gradient(logits.mT, base, None, rows)
        # index_put_ sorts, so that its sums have one order; index_add_ has none on a GPU.
        gc.index_put_((targets,), a.float() * -w[:, None], accumulate=True)
    return losses, [ga, gc, gt]


# --- sigmoid -------------------------------------------------------------------------------------


def sigmoid(
    x: Tensor,
    y: Tensor,
    temperature: float | Tensor,
    bias: float | Tensor,
    weight: Tensor | None,
    *,
    precision: str = "ieee",
    blocks: Blocks | None = None,
) -> Tensor:
    """Losses as of :func:`mmcontrast.sigmoid_contrast`, row i with row i: 5 products.

    Args:
        x: (B, D) anchors, mapped.
        y: (C, D) candidates, mapped.
        temperature: a number or a 0-d tensor.
        bias: the same.
        weight: (B,) what each loss counts for; None for the losses themselves.
        precision: of the products.
        blocks: instead of those of the table.
    """

    def evaluate(
        x: Tensor,
        y: Tensor,
        temperature: Tensor,
        bias: Tensor,
        weight: Tensor | None,
        needed: Sequence[bool],
    ) -> tuple[Tensor, Gradients]:
        if len(x) == 0 or len(y) == 0:
            return x.new_zeros(len(x), dtype=torch.float32), zeros(needed, x, y, temperature, bias)
        rows = launch.rounded(x, precision), launch.rounded(y, precision)
        logits = Logits(
            *rows, temperature, precision, diagonal=True, bias=bias.detach(), blocks=blocks
        )
        return _sigmoid(logits, bias, weight, needed)

    inputs = x, y, number_for(temperature, x), number_for(bias, x)
    weight = None if weight is None else weight.float()
    return one_pass(evaluate, _plain_sigmoid, weight, *inputs)


def _plain_sigmoid(x: Tensor, y: Tensor, temperature: Tensor, bias: Tensor) -> Tensor:
    logits = dot(x.float(), y.float()) / temperature + bias
    pairs = torch.eye(*logits.shape, dtype=torch.bool, device=x.device)
    return F.softplus(torch.where(pairs, -logits, logits), threshold=50).sum(1)


def _sigmoid(
    logits: Logits, bias: Tensor, weight: Tensor | None, needed: Sequence[bool]
) -> tuple[Tensor, Gradients]:
    x, y, temperature, *_ = logits
    own = -(launch.pairs(x, y[: len(x)]) / temperature + bias)
    base = logits.base()
    losses = launch.sums(logits, base, both=False).rows + F.softplus(own, threshold=50)
    gx = gy = gt = gb = None
    if weight is None:
        return losses, [None] * 4
    pull = weight * own.sigmoid()
    rows, over = Share(weight / temperature), (pull / temperature)[:, None]
    if needed[0] or needed[2] or needed[3]:
        gx, slopes = launch.gradient(logits, base, rows, None, slopes=needed[3])
        gx.addcmul_(y[: len(x)], over, value=-1)
        gt = by_temperature(x, gx, temperature)
        gb = slopes.sum() * temperature - pull.sum() if needed[3] else None
    if needed[1]:
        gy, _ = launch.gradient(logits.mT, base, None, rows)
        gy[: len(x)].addcmul_(x, over, value=-1)
    return losses, [gx, gy, gt, gb]
