r"""SupCon of a small batch among itself: its similarities in one matrix, worked on in place.

With P the positives, A all others, and s in units of log 2,

.. math:: \ell_i = \log \sum_{a \in A} 2^{s_{ia}} - \frac{\log 2}{|P|} \sum_{p \in P} s_{ip}

Where there is one positive, it stays out of the first sum and the loss is the softplus of the gap,
which keeps its digits however small it is; with more, the loss is log |P| at least.
"""

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from mmcontrast.eager import known
from mmcontrast.exact.evaluation import Losses, Needed, evaluate_in_one_pass
from mmcontrast.exact.plain import plain_sup_con
from mmcontrast.exact.tiles import LOG2_E, scalar
from mmcontrast.masks import labelled, off_diagonal
from mmcontrast.presence import zero_outside
from mmcontrast.reductions import Reduction
from mmcontrast.rows import RowMap, map_rows


def sup_con_at_once(
    anchors: Tensor,
    labels: Tensor,
    own: slice,
    *,
    temperature: float | Tensor,
    normalize: RowMap | None,
    reduction: Reduction,
) -> Tensor:
    """The "out" form of :func:`sup_con` among the anchors themselves.

    Args:
        anchors: (N, D) those of all ranks.
        labels: (N,) or (N, L).
        own: which of them are this rank's.
        temperature, normalize: as in :func:`sup_con`.
        reduction: of this rank's losses.
    """
    there = labelled(labels)
    all_there = known(there.all())
    rows = map_rows(anchors if all_there else zero_outside(anchors, there), normalize)
    axis = None if labels.ndim == 1 else 0
    _, classes = torch.unique(labels, dim=axis, return_inverse=True)
    classes = classes.to(rows.dtype)
    # 0 and 1, not a mask: floats multiply ten times as fast as a mask selects.
    positives = rows.new_empty(len(rows), len(rows))
    torch.eq(classes[:, None], classes, out=positives).fill_diagonal_(0)
    if not all_there:
        positives *= there[:, None]
    way = _Batch(positives, positives.sum(1), None if all_there else there)
    counted = (way.number > 0)[own]
    shares = reduction.shares(counted, rows)
    if shares is not None:
        shares = F.pad(shares, (own.start, len(rows) - own.stop))
    value = evaluate_in_one_pass(way, shares, rows, scalar(temperature, rows))
    return reduction.finish(value[own] if shares is None else value, counted)


class _Batch(NamedTuple):
    positives: Tensor  # (N, N) of 1 and 0
    number: Tensor  # (N,) of positives
    there: Tensor | None  # (N,) bool: which samples have a label; None for all

    def losses(self, needed: Needed, weight: Tensor | None, *inputs: Tensor) -> Losses:
        """2 matrix products: the similarities, and their gradient times the rows."""
        x, temperature = inputs
        several = self.number > 1  # (N,)
        all_several = known(several.all())
        number = self.number if all_several else self.number.clamp_min(1)
        # A logit as low as this counts for nothing; times 0, unlike minus infinity, it is 0.
        lowest = torch.finfo(x.dtype).min / 4
        logits = torch.mm(x, x.T).mul_(LOG2_E / temperature).fill_diagonal_(lowest)  # (N, N)
        if self.there is not None:
            logits.masked_fill_(~self.there, lowest)
        if not all_several:
            # Anchors with one positive: it stays out of the sum, which is then that of the
            # negatives.
            logits.masked_fill_((self.positives > 0) & ~several[:, None], lowest)
        shift = logits.amax(1, keepdim=True)  # (N, 1)
        logits.sub_(shift)
        # By how much the largest logit leads the mean of the positives.
        lead = (logits * self.positives).sum(1).div_(-number)
        if not all_several:
            # Their logit was overwritten above, so it is made again, elementwise and in float64.
            only = self.only(x) * (LOG2_E / temperature.double())
            lead = torch.where(several, lead, shift[:, 0] - only)
        # log2 of the sum of 2^s is log2(sum of odds) + shift. Less the positives' mean logit it is
        # log2(sum of odds) + lead, the loss in octaves; divided by log2(e), a natural logarithm.
        odds = logits.exp2_()
        sums = odds.sum(1)
        gap = (sums.to(lead.dtype).log2() + lead) / LOG2_E
        losses = gap
        if not all_several:
            # Without a positive: softplus(-inf) = 0, and the slope below is sigmoid(-inf) = 0.
            gap.masked_fill_(self.number == 0, -math.inf)
            losses = torch.where(several, gap, F.softplus(gap, threshold=50)).to(x.dtype)
        if weight is None or not any(needed):
            return losses, (None, None)
        slope = weight / temperature
        if not all_several:  # 1 where the loss is the log of a sum, less where it is the softplus
            slope = (slope * torch.where(several, 1, gap.sigmoid())).to(x.dtype)
        gx = gt = None
        if needed[1]:  # by how much the mean logit of all, by their shares, leads the positives'
            # dL/dt = -slope * (mean of s under the softmax - mean of the positives' s). With
            # odds = 2^(s - shift) the first mean is shift + sum(odds log2(odds)) / sum(odds), and
            # entr(odds) = -odds ln(odds), which is 0 and not NaN at 0; `lead` holds shift minus the
            # second mean.
            lead = torch.special.entr(odds).sum(1).mul_(-LOG2_E).div_(sums) + lead
            gt = (slope * lead).sum().to(temperature) / -LOG2_E
        if needed[0]:
            # Pull is taken off push pair by pair: in a collapsed class they are nearly alike.
            pairs = odds.mul_((slope / sums)[:, None])
            pairs.addcmul_(self.positives, (slope / number)[:, None], value=-1)
            # Entry (i, a) is anchor i's gradient by x_i x_a, and moves both rows; (a, i) is that of
            # anchor a by the same product. So x_i gets the sum over a of (G_ia + G_ai) x_a.
            gx = pairs.add_(pairs.T.contiguous()) @ x
        return losses, (gx, gt)

    def only(self, x: Tensor) -> Tensor:
        """(N,) dot products with the only positive, float64: in a small gap, each digit counts."""
        partner = x.index_select(0, self.positives.argmax(1))
        return (x.double() * partner.double()).sum(1)

    def plain(self, *inputs: Tensor) -> Tensor:
        x, temperature = inputs
        keep = off_diagonal(len(x), x.device)
        if self.there is not None:
            keep &= self.there
        return plain_sup_con(x, temperature, self.positives > 0, keep)
