r"""Exact supervised contrast of a small batch: its similarities in one matrix, worked on in place.

With P the positives, A all others, and s in units of log 2,

.. math:: \ell_i = \log \sum_{a \in A} 2^{s_{ia}} - \frac{\log 2}{|P|} \sum_{p \in P} s_{ip}

Where there is one positive, it stays out of the first sum and the loss is the softplus of the gap,
which keeps its digits however small it is; with more, the loss is log |P| at least.
"""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from mmcontrast.distributed import Group, total
from mmcontrast.eager import known
from mmcontrast.exact import tiles
from mmcontrast.exact.tiles import LOG2_E
from mmcontrast.masks import labelled, off_diagonal
from mmcontrast.presence import zero_outside
from mmcontrast.reductions import Reduction
from mmcontrast.rows import RowMap, map_rows
from mmcontrast.softmax import log_share


def whole_sup_con(
    anchors: Tensor,
    labels: Tensor,
    own: slice,
    *,
    temperature: float | Tensor,
    weight: Tensor | None,
    normalize: RowMap | None,
    reduction: str,
    group: Group | None,
) -> Tensor:
    """The "out" form of :func:`sup_con` among the anchors themselves, all at once.

    Args:
        anchors: (N, D) those of all ranks.
        labels: (N,) or (N, L).
        own: which are this rank's.
        temperature, weight, normalize, reduction, group: as in :func:`sup_con`.
    """
    there = labelled(labels)
    all_there = known(there.all())
    rows = map_rows(anchors if all_there else zero_outside(anchors, there), normalize)
    axis = None if labels.ndim == 1 else 0
    _, classes = torch.unique(labels, dim=axis, return_inverse=True)
    classes = classes.to(rows.dtype)
    # Floats, which multiply ten times as fast as a mask selects.
    positives = rows.new_empty(len(rows), len(rows))
    torch.eq(classes[:, None], classes, out=positives).fill_diagonal_(0)
    if not all_there:
        positives *= there[:, None]
    batch = _Batch(positives, None if all_there else there)
    counted = (batch.number > 0)[own]
    shares = Reduction(reduction, weight, group).shares(counted, rows.dtype)
    if shares is not None:
        shares = F.pad(shares, (own.start, len(rows) - own.stop))
    t = tiles.number(temperature, rows)
    value = tiles.one_pass(batch.evaluate, batch.losses, shares, rows, t)
    if reduction != "none":
        return total(value, group)
    return Reduction(reduction, weight).reduce(value[own], counted)


class _Batch:
    """Who is whose positive, and the losses of that."""

    def __init__(self, positives: Tensor, there: Tensor | None):
        self.positives = positives
        self.number = positives.sum(1)
        self.there = there  # None: everybody

    def losses(self, x: Tensor, temperature: Tensor) -> Tensor:
        """(N,) losses by operations that autograd knows."""
        keep = off_diagonal(len(x), x.device)
        if self.there is not None:
            keep &= self.there
        losses, counted = log_share(x @ x.T / temperature, self.positives > 0, keep)
        return torch.where(counted, losses, 0)

    def evaluate(
        self, x: Tensor, temperature: Tensor, weight: Tensor | None, needed: Sequence[bool]
    ) -> tuple[Tensor, list[Tensor | None]]:
        """Losses, and the gradients of their weighted sum, in 2 matrix products."""
        several = self.number > 1
        all_several = known(several.all())
        number = self.number if all_several else self.number.clamp_min(1)
        # A logit as low as this counts for nothing; times 0, unlike minus infinity, it is 0.
        lowest = torch.finfo(x.dtype).min / 4
        logits = torch.mm(x, x.T).mul_(LOG2_E / temperature).fill_diagonal_(lowest)
        if self.there is not None:
            logits.masked_fill_(~self.there, lowest)
        if not all_several:
            logits.masked_fill_((self.positives > 0) & ~several[:, None], lowest)
        shift = logits.amax(1, keepdim=True)
        logits.sub_(shift)
        lead = (logits * self.positives).sum(1).div_(-number)  # of the largest, on the positives
        if not all_several:
            only = self.only(x) * (LOG2_E / temperature.double())
            lead = torch.where(several, lead, shift[:, 0] - only)
        odds = logits.exp2_()
        sums = odds.sum(1)
        gap = (sums.to(lead.dtype).log2() + lead) / LOG2_E
        losses = gap
        if not all_several:
            gap.masked_fill_(self.number == 0, -math.inf)
            losses = torch.where(several, gap, F.softplus(gap, threshold=50)).to(x.dtype)
        if weight is None or not any(needed):
            return losses, [None, None]
        slope = weight / temperature
        if not all_several:  # 1 where the loss is the log of a sum, less where it is the softplus
            slope = (slope * torch.where(several, 1, gap.sigmoid())).to(x.dtype)
        gx = gt = None
        if needed[1]:  # by how much the mean logit of all, by their shares, leads the positives'
            lead = torch.special.entr(odds).sum(1).mul_(-LOG2_E).div_(sums) + lead
            gt = (slope * lead).sum().to(temperature) / -LOG2_E
        if needed[0]:
            # Pull is taken off push pair by pair: in a collapsed class they are nearly alike.
            pairs = odds.mul_((slope / sums)[:, None])
            pairs.addcmul_(self.positives, (slope / number)[:, None], value=-1)
            gx = pairs.add_(pairs.T.contiguous()) @ x
        return losses, [gx, gt]

    def only(self, x: Tensor) -> Tensor:
        """(N,) dot products with the only positive, float64: in a small gap, each digit counts."""
        partner = x.index_select(0, self.positives.argmax(1))
        return (x.double() * partner.double()).sum(1)
