"""The sigmoid loss of SigLIP: every pair a question of its own, no softmax over the batch."""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmcontrast import _checks, kernels, streaming
from mmcontrast.distributed import Group, active, joined, total
from mmcontrast.eager import is_eager, known
from mmcontrast.masks import zero_outside
from mmcontrast.rows import RowMap, dot, l2_normalize, map_rows
from mmcontrast.streaming import LOG2_E, TILE

LEAST = TILE**2  # pairs from which tiles are faster than all at once
LARGE = 15  # octaves: of eight factors of 2^15 each, the product is a float32 still


def sigmoid_contrast(
    x: Tensor,
    y: Tensor,
    *,
    temperature: float | Tensor = 0.1,
    bias: float | Tensor = -10.0,
    positives: Tensor | None = None,
    keep: Tensor | None = None,
    weight: Tensor | None = None,
    normalize: RowMap | None = l2_normalize,
    reduction: str = "mean",
    chunk_size: int | None = None,
    group: Group | None = None,
) -> Tensor:
    r"""SigLIP: whether each anchor and each candidate belong together, asked pair by pair.

    .. math::
        \ell_i = \sum_j \log\big(1 + \exp(-z_{ij} (\cos(x_i, y_j) / \tau + b))\big), \qquad
        z_{ij} = \pm 1

    z is 1 for a pair that belongs together and -1 for all others. An anchor without a positive
    still has its negatives, so it is counted by the mean; one that keeps no candidate is not.

    Args:
        x: (B, D) anchors, normalised here.
        y: (C, D) candidates: partners first, extra negatives after.
        temperature: :math:`\tau > 0`; a float, or a 0-d tensor when it is learned.
        bias: b, a float or a 0-d tensor. At -10, where SigLIP starts, hardly a pair belongs
            together: true of the many negatives.
        positives: (B, C) bool: which pairs belong together. Default: row ``i`` and row ``i``.
        keep: (B, C) bool: which pairs take part at all.
        weight: (B,) sample weights; the mean is then the weighted one.
        normalize: row map before the dot product; None for raw dot products.
        reduction: ``"mean"`` and ``"sum"`` over the anchors give a scalar, ``"none"`` gives (B,).
        chunk_size: side of the square tiles in which the logits are made, with their gradients in
            the same pass and in O(chunk_size^2 + (B + C) D) memory; ``"none"`` takes two passes.
            None chooses: fewer than 2^18 pairs all at once, more in tiles of as many. The plain
            path is as in :func:`info_nce`.
        group: as in :func:`info_nce`.

    Returns:
        Scalar or (B,), float32, or float64 for float64 input.

    Raises:
        ValueError: on shapes or dtypes that disagree, fewer candidates than anchors where there
            are no positives, or a float temperature that is not positive.

    Example:
        >>> eye = torch.eye(2)
        >>> sigmoid_contrast(eye, eye, temperature=1.0, bias=0.0)  # log(1 + 1 / e) + log 2
        tensor(1.0064)

    Note:
        Equals open_clip's ``SigLipLoss`` on one rank, at ``logit_scale = 1 / temperature`` and
        ``logit_bias = bias``, on unit rows.

    References: SigLIP, arXiv:2303.15343, section 3.2 and algorithm 1.
    """
    _checks.matrix("x", x)
    _checks.matrix("y", y, like=x)
    _checks.temperature(temperature)
    if isinstance(bias, Tensor) and (bias.ndim != 0 or not bias.is_floating_point()):
        _checks.fail(
            "bias", "a number or a 0-d floating tensor", f"{_checks.shape(bias)} {bias.dtype}"
        )
    _checks.reduction(reduction)
    if positives is None and len(y) < len(x):
        _checks.fail("y", f"at least {len(x)} rows, a partner each", len(y))
    y, own = joined(y, group)
    size = (len(x), len(y))
    if positives is not None:
        _checks.mask("positives", positives, size)
    counted = torch.ones(size[0], dtype=torch.bool, device=x.device)
    if keep is not None:
        _checks.mask("keep", keep, size)
        counted = keep.any(1)
        x, y = zero_outside(x, counted), zero_outside(y, keep.any(0))
    if chunk_size is not None:
        _checks.whole("chunk_size", chunk_size)
    pairs = _Pairs(positives, keep, own.start)

    if not is_eager() or 0 in size:
        losses = pairs.losses(map_rows(x, normalize), map_rows(y, normalize), temperature, bias)
        return _checks.reduce(losses, counted, weight=weight, reduction=reduction, group=group)
    sides = streaming.WIDE if chunk_size is None else (chunk_size, chunk_size)
    at_once = size[0] * size[1] < LEAST if chunk_size is None else chunk_size >= max(size)
    precision = kernels.precision(x, y)
    x, y = (streaming.mapped(z, normalize, sides[0]) for z in (x, y))
    dtype = torch.promote_types(x.dtype, y.dtype)
    x, y = x.to(dtype), y.to(dtype)
    if keep is None:
        shares = streaming.all_shares(x, weight, reduction, group)
    else:
        shares = streaming.shares(counted, weight, reduction, dtype, group)
    t, b = (streaming.number(v, x) for v in (temperature, bias))
    if positives is None and keep is None and active(group) is None and kernels.usable(x, y):
        shares = None if shares is None else shares.expand(size[0])
        value = kernels.sigmoid(x, y, t, b, shares, precision=precision)
    else:
        evaluate = pairs.at_once if at_once else pairs.in_tiles(sides)
        value = streaming.one_pass(evaluate, pairs.losses, shares, x, y, t, b)
    if reduction != "none":
        return total(value, group)
    return _checks.reduce(value, counted, weight=weight, reduction=reduction)


class _Pairs:
    """Who belongs together and who takes part, and the loss of that."""

    def __init__(self, positives: Tensor | None, keep: Tensor | None, start: int):
        self.positives = positives
        self.keep = keep
        self.start = start  # where there are no positives, the first row's partner

    def losses(
        self, x: Tensor, y: Tensor, temperature: float | Tensor, bias: float | Tensor
    ) -> Tensor:
        """(B,) the losses of all pairs at once."""
        logits = dot(x, y) / temperature + bias
        together = self.positives
        if together is None:
            columns = torch.arange(len(y), device=x.device)
            together = columns == columns[self.start : self.start + len(x), None]
        logits = torch.where(together, -logits, logits)
        if self.keep is not None:
            logits = torch.where(self.keep, logits, -math.inf)
        return F.softplus(logits, threshold=50).sum(1)

    def at_once(
        self,
        x: Tensor,
        y: Tensor,
        temperature: Tensor,
        bias: Tensor,
        weight: Tensor | None,
        needed: Sequence[bool],
    ) -> tuple[Tensor, list[Tensor | None]]:
        """Losses and gradients from one matrix of all logits."""
        logits = self.turned(torch.mm(x, y.T).div_(temperature).add_(bias))
        if self.keep is not None:
            logits.masked_fill_(~self.keep, -math.inf)
        losses = F.softplus(logits, threshold=50).sum(1)
        if weight is None or not any(needed):
            return losses, [None] * 4
        slope = self.turned(logits.sigmoid_())
        slope *= weight[:, None] if weight.ndim else weight
        gb = slope.sum().to(bias.device) if needed[3] else None
        slope /= temperature
        gx = slope @ y if needed[0] or needed[2] else None
        gy = slope.T @ x if needed[1] else None
        gt = streaming.by_temperature(x, gx, temperature) if gx is not None and needed[2] else None
        return losses, [gx, gy, gt, gb]

    def turned(self, logits: Tensor) -> Tensor:
        """All logits or their slopes, those of the pairs that belong together the other way."""
        if self.positives is not None:
            return torch.where(self.positives, -logits, logits)
        logits.diagonal(self.start).neg_()
        return logits

    def partners(
        self, x: Tensor, y: Tensor, scale: Tensor, shift: Tensor
    ) -> tuple[Tensor, Tensor] | None:
        """(B,) losses of the rows with their partners, where these stand at their places.

        And the slopes. The logits of all others are then of one sign, and mostly far from 0.
        """
        if self.positives is not None:
            return None
        parts = [(x[i] * y[self.start :][i]).sum(1) for i in streaming.slices(len(x), TILE)]
        logits = -(torch.cat([x.new_empty(0), *parts]) * scale + shift) / LOG2_E
        if self.keep is not None:
            logits.masked_fill_(~self.keep.diagonal(self.start), -math.inf)
        return F.softplus(logits, threshold=50), -logits.sigmoid()

    def in_tiles(self, sides: tuple[int, int]) -> streaming.Evaluation:
        """Losses and gradients in one pass over tiles: 3 matrix products."""

        def evaluate(
            x: Tensor,
            y: Tensor,
            temperature: Tensor,
            bias: Tensor,
            weight: Tensor | None,
            needed: Sequence[bool],
        ) -> tuple[Tensor, list[Tensor | None]]:
            scale, shift = LOG2_E / temperature, LOG2_E * bias
            losses, slopes = x.new_zeros(len(x)), x.new_zeros(len(x))
            gx = torch.empty_like(x) if needed[0] or needed[2] else None
            gy = torch.empty_like(y) if needed[1] else None
            # A number where all rows count alike: it can wait for the end.
            each = None if weight is None or weight.ndim == 0 else weight[:, None]
            partners = self.partners(x, y, scale, shift)
            small = self.known_small(x, y, scale, shift)
            rooms = [streaming.memory(x, y, sides) for _ in range(3)]
            for i in streaming.slices(len(x), sides[0]):
                rows = x[i]
                scaled, weighted = rows * scale, rows if each is None else rows * each[i]
                for j in streaming.slices(len(y), sides[1]):
                    logits, slope = (
                        streaming.tile(room, len(scaled), j.stop - j.start) for room in rooms[:2]
                    )
                    torch.addmm(shift, scaled, y[j].T, out=logits)
                    offset = i.start + self.start - j.start
                    if self.positives is not None:
                        torch.where(self.positives[i, j], -logits, logits, out=logits)
                    else:
                        logits.diagonal(offset).fill_(-math.inf)
                    if self.keep is not None:
                        logits.masked_fill_(~self.keep[i, j], -math.inf)
                    losses[i] += _softplus_sums(logits, slope, rooms[2], small)
                    if self.positives is not None:
                        torch.where(self.positives[i, j], -slope, slope, out=slope)
                    elif partners is not None:
                        there = slope.diagonal(offset)
                        there.copy_(partners[1][i][max(-offset, 0) :][: len(there)])
                    if gx is not None:
                        torch.addmm(gx[i], slope, y[j], beta=int(j.start > 0), out=gx[i])
                    if gy is not None:
                        torch.addmm(gy[j], slope.T, weighted, beta=int(i.start > 0), out=gy[j])
                    if needed[3]:
                        slopes[i] += slope.sum(1)
            if partners is not None:
                losses += partners[0]
            share = 1 if weight is None else weight
            if gx is not None:
                gx *= (share if each is None else each) / temperature
            if gy is not None:
                gy *= (share if each is None else 1) / temperature
            gt = None
            if gx is not None and needed[2]:
                gt = streaming.by_temperature(x, gx, temperature)
            gb = (slopes * share).sum().to(bias.device) if needed[3] else None
            return losses, [gx, gy, gt, gb]

        return evaluate

    def known_small(self, x: Tensor, y: Tensor, scale: Tensor, shift: Tensor) -> bool:
        """Whether no odds are large in any tile: no logit is above |x| |y|."""
        if 0 in (len(x), len(y)):
            return True
        bound = scale * streaming.lengths(x).amax() * streaming.lengths(y).amax()
        return known(bound + (shift if self.positives is None else shift.abs()) <= LARGE)


def _softplus_sums(octaves: Tensor, slope: Tensor, room: Tensor, small: bool) -> Tensor:
    """For s = log(2) octaves: the sums over the rows of log(1 + e^s), and its slope, in memory.

    Where no odds o = e^s are huge, logarithms are saved: with (1 + o)(1 + p) = 1 + (o + p + op),
    pairs of columns are joined before they are taken. Nothing is lost, for nothing is subtracted.
    """
    if not small and not known(octaves.amax() <= LARGE):
        logits = octaves.div_(LOG2_E)
        torch.sigmoid(logits, out=slope)
        return F.softplus(logits, threshold=50).sum(1)
    odds = octaves.exp2_()
    torch.div(odds, torch.add(odds, 1, out=slope), out=slope)
    for _ in range(3):
        if odds.shape[1] % 2 == 0:
            left, right = odds.chunk(2, dim=1)
            odds = torch.add(left, right, out=streaming.tile(room, *left.shape))
            odds.addcmul_(left, right)
            room = room[odds.numel() :]
    return odds.log1p_().sum(1)


class SigmoidContrast(nn.Module):
    r""":func:`sigmoid_contrast` with a learned temperature and bias.

    What is learned is SigLIP's :math:`t' = -\log \tau`, as ``log_scale``, and ``bias``. Both start
    where the paper starts them; ``requires_grad_(False)`` holds them there.

    Args:
        temperature: where it starts, above 0; 0.1 is the paper's t' of log 10.
        bias: where it starts.
        normalize, reduction, chunk_size, group: as in :func:`sigmoid_contrast`.

    Raises:
        ValueError: on a temperature that is not positive.

    Example:
        >>> loss = SigmoidContrast()
        >>> loss(torch.eye(2), torch.eye(2)).detach()  # log 2, and about 5e-5 for the other
        tensor(0.6932)
    """

    def __init__(
        self,
        *,
        temperature: float = 0.1,
        bias: float = -10.0,
        normalize: RowMap | None = l2_normalize,
        reduction: str = "mean",
        chunk_size: int | None = None,
        group: Group | None = None,
    ):
        super().__init__()
        _checks.positive("temperature", temperature)
        self.log_scale = nn.Parameter(torch.tensor(-math.log(temperature)))
        self.bias = nn.Parameter(torch.tensor(float(bias)))
        self.normalize = normalize
        self.reduction = reduction
        self.chunk_size = chunk_size
        self.group = group

    def forward(
        self,
        x: Tensor,
        y: Tensor,
        *,
        positives: Tensor | None = None,
        keep: Tensor | None = None,
        weight: Tensor | None = None,
    ) -> Tensor:
        """See :func:`sigmoid_contrast`."""
        return sigmoid_contrast(
            x,
            y,
            temperature=(-self.log_scale).exp(),
            bias=self.bias,
            positives=positives,
            keep=keep,
            weight=weight,
            normalize=self.normalize,
            reduction=self.reduction,
            chunk_size=self.chunk_size,
            group=self.group,
        )
