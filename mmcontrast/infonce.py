"""InfoNCE, and its printed form."""

import torch
from torch import Tensor, nn

from mmcontrast import arguments
from mmcontrast.distributed import Group, joined
from mmcontrast.eager import is_eager
from mmcontrast.exact.choose import one_way_info_nce, rows_at_a_time
from mmcontrast.masks import IGNORE, check_partners, checked_partners
from mmcontrast.presence import zero_outside
from mmcontrast.reductions import Reduction
from mmcontrast.rows import RowMap, l2_normalize, map_rows
from mmcontrast.softmax import contrast, masked_logsumexp
from mmcontrast.temperature import LearnableTemperature, current


def info_nce(
    anchors: Tensor,
    candidates: Tensor,
    targets: Tensor | None = None,
    *,
    temperature: float | Tensor = 0.07,
    positives: Tensor | None = None,
    keep: Tensor | None = None,
    weight: Tensor | None = None,
    normalize: RowMap | None = l2_normalize,
    reduction: str = "mean",
    chunk_size: int | None = None,
    group: Group | None = None,
) -> Tensor:
    r"""InfoNCE: cross-entropy of picking each anchor's partner out of all candidates.

    .. math::
        \ell_i = -\log
        \frac{\exp(\cos(a_i, c_{t_i}) / \tau)}{\sum_j \exp(\cos(a_i, c_j) / \tau)}

    The positive stands in the denominator. Candidates beyond the partners are extra negatives,
    shared by all anchors. An anchor without a partner (a target of -100, or no positive that is
    kept) is worth 0 and not counted by the mean.

    Args:
        anchors: (B, D) one embedding per sample; normalised here, not by the caller.
        candidates: (C, D) what each anchor chooses from: partners first, extra negatives after.
        targets: (B,) index of each anchor's partner, -100 for none. Default: row ``i`` belongs to
            anchor ``i``.
        temperature: :math:`\tau > 0`; a float, or a 0-d tensor when it is learned.
        positives: instead of targets, (B, C) bool for several partners, whose log shares are
            averaged; or (B, C) floating soft targets of at least 0, scaled here to sum to one.
        keep: (B, C) bool: a candidate outside it takes no part for that anchor at all.
        weight: (B,) sample weights; the mean is then the weighted one.
        normalize: row map before the dot product; None for raw dot products.
        reduction: ``"mean"`` and ``"sum"`` give a scalar, ``"none"`` gives (B,).
        chunk_size: anchors at a time, in O(chunk_size C + (B + C) D) memory and with the same
            value and gradient, which is made in the forward pass; with ``keep``, ``positives`` or
            ``"none"`` blocks are computed twice instead. None chooses blocks that fit the cache. Up
            to 2^16 logits are not split unless asked: they stay in memory for the backward pass.
            ``torch.compile``, ``torch.func``, forward mode and a second derivative take a plain
            path, where everything stands in memory at once.
        group: a process group, or ``"world"``: candidates are the rows of all its ranks, and mean
            and sum are those of all its anchors, the same on every rank; see :func:`gather`. Masks
            are (B of this rank, C of all), targets name rows of this rank's own candidates, and
            ``"none"`` gives this rank's (B,). Where all ranks' candidates are 2^26 numbers or
            more, and there are no masks, they go round from rank to rank and no rank ever holds
            all of them. None: this rank alone.

    Returns:
        Scalar or (B,), float32, or float64 for float64 input.

    Raises:
        ValueError: on shapes or dtypes that disagree, fewer candidates than anchors where neither
            targets nor positives say who belongs to whom, both of them given, a target that is no
            candidate (its value is read on the CPU only), or a float temperature that is not
            positive.

    Example:
        >>> eye = torch.eye(3)
        >>> info_nce(eye, eye, temperature=1.0)  # log(e + 2) - 1
        tensor(0.5514)

    Note:
        Equals sentence-transformers' ``MultipleNegativesRankingLoss(scale=1 / temperature)`` and
        info-nce-pytorch's ``InfoNCE(temperature)``; with unit rows, one direction of open_clip's
        ``ClipLoss`` at ``logit_scale = 1 / temperature``; up to a saturation in low precision,
        pytorch-metric-learning's ``NTXentLoss`` with ``ref_emb=candidates``.

    References: InfoNCE, arXiv:1807.03748; cosine over temperature, SimCLR, arXiv:2002.05709;
        TeCaFN eq. 6 and 15 in their standard reading; MFON eq. 7-8.
    """
    arguments.matrix("anchors", anchors)
    arguments.matrix("candidates", candidates, like=anchors)
    arguments.temperature(temperature)
    arguments.reduction(reduction)
    if positives is None:
        check_partners(anchors, candidates, targets)
        if keep is None and is_eager():
            return one_way_info_nce(
                anchors,
                candidates,
                targets,
                temperature=temperature,
                normalize=normalize,
                reduction=Reduction(reduction, weight, group),
                chunk_size=chunk_size,
            )
    elif targets is not None:
        arguments.fail("targets", "None where positives are given", arguments.shape(targets))
    chosen = checked_partners(anchors, targets) if positives is None else positives
    candidates, own = joined(candidates, group)
    size = (len(anchors), len(candidates))
    if positives is None:
        chosen = torch.where(chosen == IGNORE, IGNORE, chosen + own.start)
    else:
        arguments.mask("positives", positives, size, weights=True)
    if keep is not None:
        arguments.mask("keep", keep, size)
        anchors = zero_outside(anchors, keep.any(1))
        candidates = zero_outside(candidates, keep.any(0))
    columns = torch.arange(len(candidates), device=candidates.device)
    losses, counted = contrast(
        anchors,
        candidates,
        lambda rows: chosen[rows] if chosen.ndim == 2 else columns == chosen[rows, None],
        lambda rows: None if keep is None else keep[rows],
        temperature=temperature,
        normalize=normalize,
        chunk_size=rows_at_a_time(*size, chunk_size),
    )
    return Reduction(reduction, weight, group).reduce(losses, counted)


def matched_pair_nce(
    x: Tensor,
    y: Tensor,
    *,
    temperature: float | Tensor = 0.1,
    keep: Tensor | None = None,
    weight: Tensor | None = None,
    normalize: RowMap | None = l2_normalize,
    reduction: str = "mean",
    group: Group | None = None,
) -> Tensor:
    r"""TeCaFN's contrast as printed: a softmax over the similarities of the matched pairs.

    .. math:: \ell_i = -\log \frac{\exp(s_i / \tau)}{\sum_j \exp(s_j / \tau)},
              \qquad s_i = \cos(x_i, y_i)

    The printed denominator sums over the other samples' own pairs. All samples then share it, no
    unmatched pair is ever compared, and the mean is smallest, log B, where all matched pairs are
    equally similar. The paper's code computes :func:`info_nce`; so does what one usually wants.

    Args:
        x: (B, D) one view of each sample.
        y: (B, D) the other view.
        temperature: :math:`\tau > 0`; a float, or a 0-d tensor when it is learned.
        keep: (B,) bool: which pairs take part.
        weight: (B,) sample weights.
        normalize: row map before the dot product; None for the raw dot product that is printed.
        reduction: ``"mean"`` and ``"sum"`` give a scalar, ``"none"`` gives (B,).
        group: as in :func:`info_nce`: the other samples are those of all ranks.

    Returns:
        Scalar or (B,), float32, or float64 for float64 input.

    Raises:
        ValueError: on shapes or dtypes that disagree, or a float temperature that is not positive.

    Example:
        >>> x = torch.eye(4)
        >>> matched_pair_nce(x, x)  # log 4
        tensor(1.3863)

    References: TeCaFN, Multimedia Systems 30(4):228, eq. 6 and 15.
    """
    arguments.matrix("x", x)
    arguments.matrix("y", y, rows=len(x), like=x)
    arguments.temperature(temperature)
    arguments.reduction(reduction)
    if keep is None:
        keep = torch.ones(len(x), dtype=torch.bool, device=x.device)
    arguments.mask("keep", keep, (len(x),))
    x, y = zero_outside(x, keep), zero_outside(y, keep)
    logits = (map_rows(x, normalize) * map_rows(y, normalize)).sum(-1) / temperature
    every, everybody = joined(logits, group)[0], joined(keep, group)[0]
    losses = masked_logsumexp(every, everybody, empty=0.0) - logits
    return Reduction(reduction, weight, group).reduce(losses, keep)


class InfoNCE(nn.Module):
    """:func:`info_nce` with its settings held.

    Args:
        temperature: a float, or a :class:`LearnableTemperature`.
        normalize, reduction, chunk_size, group: as in :func:`info_nce`.

    Example:
        >>> loss = InfoNCE(temperature=LearnableTemperature(0.07))
        >>> loss(torch.eye(3), torch.eye(3)).requires_grad
        True
    """

    def __init__(
        self,
        *,
        temperature: float | LearnableTemperature = 0.07,
        normalize: RowMap | None = l2_normalize,
        reduction: str = "mean",
        chunk_size: int | None = None,
        group: Group | None = None,
    ):
        super().__init__()
        self.temperature = temperature
        self.normalize = normalize
        self.reduction = reduction
        self.chunk_size = chunk_size
        self.group = group

    def forward(
        self,
        anchors: Tensor,
        candidates: Tensor,
        targets: Tensor | None = None,
        *,
        positives: Tensor | None = None,
        keep: Tensor | None = None,
        weight: Tensor | None = None,
    ) -> Tensor:
        """See :func:`info_nce`."""
        return info_nce(
            anchors,
            candidates,
            targets,
            temperature=current(self.temperature),
            positives=positives,
            keep=keep,
            weight=weight,
            normalize=self.normalize,
            reduction=self.reduction,
            chunk_size=self.chunk_size,
            group=self.group,
        )
