"""Losses over positives and negatives that labels name: SupCon and N-pair."""

import torch
from torch import Tensor, nn

from mmcontrast import arguments
from mmcontrast.distributed import Group, joined
from mmcontrast.exact.choose import (
    sup_con_among_themselves,
    supcon_rows_at_a_time,
    supcon_side,
)
from mmcontrast.infonce import info_nce
from mmcontrast.masks import labelled, same_label
from mmcontrast.presence import zero_outside
from mmcontrast.reductions import Reduction
from mmcontrast.rows import RowMap, l2_normalize
from mmcontrast.softmax import contrast
from mmcontrast.temperature import LearnableTemperature, current


def sup_con(
    anchors: Tensor,
    labels: Tensor | None,
    candidates: Tensor | None = None,
    candidate_labels: Tensor | None = None,
    *,
    form: str = "out",
    temperature: float | Tensor = 0.07,
    positives: Tensor | None = None,
    keep: Tensor | None = None,
    weight: Tensor | None = None,
    normalize: RowMap | None = l2_normalize,
    reduction: str = "mean",
    chunk_size: int | None = None,
    group: Group | None = None,
) -> Tensor:
    r"""Supervised contrast: everybody of the anchor's class is a positive.

    With P the positives of anchor i, A all candidates but itself, and s the cosines over the
    temperature,

    .. math::
        \ell_i^{out} = -\frac{1}{|P|} \sum_{p \in P} \log \frac{e^{s_{ip}}}{\sum_A e^{s_{ia}}},
        \qquad
        \ell_i^{in} = -\log \frac{\sum_{p \in P} e^{s_{ip}}}{\sum_A e^{s_{ia}}}

    SupCon's own "in" form divides by :math:`|P|` inside the logarithm, which adds
    :math:`\log |P|`; HyCon prints it as here. "in" is never above "out".

    Args:
        anchors: (B, D) one embedding per sample, or per view.
        labels: (B,) classes, or (B, L): equal in every column; -100 takes no part, neither as
            anchor nor as candidate. None where ``positives`` says it all.
        candidates: (C, D) whom the anchors are compared with. Default: the anchors, each without
            itself. Candidates that are given are all others: no row of theirs is the anchor itself.
        candidate_labels: (C,) or (C, L), needed with candidates.
        form: ``"out"`` or ``"in"``.
        temperature: :math:`\tau > 0`; a float, or a 0-d tensor when it is learned.
        positives: instead of labels, (B, C) bool; or floating weights of at least 0, scaled here
            to sum to one for each anchor: soft targets, from :func:`score_kernel` for a regression.
        keep: (B, C) bool: a candidate outside it takes no part for that anchor.
        weight: (B,) sample weights.
        normalize: row map before the dot product; None for raw dot products.
        reduction: ``"mean"`` and ``"sum"`` give a scalar, ``"none"`` gives (B,).
        chunk_size: None chooses, an int is used. The "out" form of labels alone, without
            candidates, positives or keep, is evaluated in square tiles of this side, 384 by default
            on the CPU and 4096 elsewhere, and all at once where there are no more anchors; every
            other in blocks of that many anchors, by default all at once. Tiles and blocks make
            nothing of the size of all similarities and compute each block twice.
        group: a process group, or ``"world"``: the candidates are those of all its ranks, C in all,
            in the order of the ranks, and mean and sum are those of all ranks' anchors.

    Returns:
        Scalar or (B,), float32, or float64 for float64 input. An anchor without a positive is worth
        0 and not counted.

    Raises:
        ValueError: on shapes or dtypes that disagree, labels and positives both given or both
            missing, another form, or a float temperature that is not positive.

    Example:
        >>> x = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
        >>> sup_con(x, torch.tensor([4, 4, 9]), temperature=1.0)  # log(1 + 1 / e), twice
        tensor(0.3133)

    Note:
        "out" equals pytorch-metric-learning's ``SupConLoss(temperature)`` where every anchor has a
        positive, and SupContrast's ``SupConLoss`` at ``base_temperature = temperature``. With two
        views and unique labels it is SimCLR's NT-Xent, the ``NTXentLoss`` of lightly and of
        pytorch-metric-learning.

        All of this gives way to operations that can be traced under ``torch.compile``,
        ``torch.func`` and forward-mode differentiation. Tiles read the labels' classes and one
        number on the host, one matrix reads the classes. A
        second derivative (``create_graph=True``) is exact, and makes all similarities.

    References: SupCon, arXiv:2004.11362, eq. 2 and 3; HyCon, IEEE TAFFC 14(3), eq. 4.
    """
    arguments.matrix("anchors", anchors)
    arguments.temperature(temperature)
    arguments.reduction(reduction)
    arguments.one_of("form", form, ("out", "in"))
    others = anchors if candidates is None else candidates
    arguments.matrix("candidates", others, like=anchors)
    if positives is None:
        size = (len(anchors), len(others))
        own, theirs = _label_pair(labels, candidates, candidate_labels, size)
    else:
        if labels is not None:
            arguments.fail("labels", "None where positives are given", arguments.shape(labels))
        own, theirs = anchors.new_ones(len(anchors)), others.new_ones(len(others))
    others, here = joined(others, group)
    theirs, _ = joined(theirs, group)
    size = (len(anchors), len(others))
    if keep is not None:
        arguments.mask("keep", keep, size)
    if positives is not None:
        arguments.mask("positives", positives, size, weights=True)

    if form == "out" and candidates is None and positives is None and keep is None:
        side = supcon_side(others, theirs, chunk_size)
        if side is not None:
            value = sup_con_among_themselves(
                others,
                theirs,
                here,
                side,
                temperature=temperature,
                normalize=normalize,
                reduction=Reduction(reduction, weight, group),
            )
            if value is not None:
                return value
            chunk_size = supcon_rows_at_a_time(size, side, chunk_size)

    columns = torch.arange(len(others), device=others.device)
    known = labelled(theirs)
    others = zero_outside(others, known if keep is None else known & keep.any(0))
    anchors = zero_outside(anchors, labelled(own))
    if keep is not None:
        anchors = zero_outside(anchors, keep.any(1))

    def partners(rows: slice) -> Tensor:
        return same_label(own[rows], theirs) if positives is None else positives[rows]

    def kept(rows: slice) -> Tensor:
        mask = known.expand(len(anchors[rows]), len(others))
        if candidates is None:
            mask = mask & (columns != columns[here][rows, None])
        return mask if keep is None else mask & keep[rows]

    losses, counted = contrast(
        anchors,
        others,
        partners,
        kept,
        form=form,
        temperature=temperature,
        normalize=normalize,
        chunk_size=chunk_size,
    )
    return Reduction(reduction, weight, group).reduce(losses, counted)


def _label_pair(
    labels: Tensor | None,
    candidates: Tensor | None,
    candidate_labels: Tensor | None,
    size: tuple[int, int],
) -> tuple[Tensor, Tensor]:
    """The anchors' labels and the candidates', checked; the anchors' own where there are none."""
    if labels is None:
        arguments.fail("labels", "labels, or positives in their place", None)
    arguments.labels("labels", labels, size[0])
    if candidates is None and candidate_labels is None:
        return labels, labels
    if candidates is None or candidate_labels is None:
        arguments.fail("candidate_labels", "candidates and their labels together", "one of the two")
    arguments.labels("candidate_labels", candidate_labels, size[1])
    return labels, candidate_labels


def n_pair(
    anchors: Tensor,
    candidates: Tensor,
    targets: Tensor | None = None,
    *,
    positives: Tensor | None = None,
    keep: Tensor | None = None,
    weight: Tensor | None = None,
    normalize: RowMap | None = None,
    reduction: str = "mean",
    group: Group | None = None,
) -> Tensor:
    r"""N-pair loss: every negative's lead over the positive, in one logarithm.

    .. math:: \ell_i = \log\Big(1 + \sum_j \exp(a_i \cdot n_j - a_i \cdot p_i)\Big)

    This is :func:`info_nce` on raw dot products at temperature 1, by another name.

    Args:
        anchors: (B, D) one embedding per sample.
        candidates: (C, D) positives and negatives.
        targets: (B,) index of each anchor's positive, -100 for none; all else is negative. Default:
            row ``i`` belongs to anchor ``i``.
        positives: instead of targets, (B, C) bool or floating, as in :func:`info_nce`.
        keep: (B, C) bool: a candidate outside it takes no part for that anchor.
        weight: (B,) sample weights.
        normalize: row map before the dot product; None for raw dot products.
        reduction: ``"mean"`` and ``"sum"`` give a scalar, ``"none"`` gives (B,).
        group: as in :func:`info_nce`.

    Returns:
        Scalar or (B,), float32, or float64 for float64 input.

    Raises:
        ValueError: on shapes or dtypes that disagree, as :func:`info_nce`.

    Example:
        >>> n_pair(torch.eye(3), torch.eye(3))  # log(1 + 2 / e)
        tensor(0.5514)

    Note:
        Equals pytorch-metric-learning's ``NPairsLoss`` with a ``DotProductSimilarity`` that does
        not normalise, and on unit rows info-nce-pytorch's ``InfoNCE(temperature=1)``.

    References: N-pair loss, Sohn, NeurIPS 2016; HyCon, IEEE TAFFC 14(3), eq. 20.
    """
    return info_nce(
        anchors,
        candidates,
        targets,
        temperature=1.0,
        positives=positives,
        keep=keep,
        weight=weight,
        normalize=normalize,
        reduction=reduction,
        group=group,
    )


class SupCon(nn.Module):
    """:func:`sup_con` with its settings held.

    Args:
        form, normalize, reduction, chunk_size, group: as in :func:`sup_con`.
        temperature: a float, or a :class:`LearnableTemperature`.

    Example:
        >>> x = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
        >>> SupCon(temperature=1.0)(x, torch.tensor([4, 4, 9]))
        tensor(0.3133)
    """

    def __init__(
        self,
        *,
        form: str = "out",
        temperature: float | LearnableTemperature = 0.07,
        normalize: RowMap | None = l2_normalize,
        reduction: str = "mean",
        chunk_size: int | None = None,
        group: Group | None = None,
    ):
        super().__init__()
        self.form = form
        self.temperature = temperature
        self.normalize = normalize
        self.reduction = reduction
        self.chunk_size = chunk_size
        self.group = group

    def forward(
        self,
        anchors: Tensor,
        labels: Tensor | None,
        candidates: Tensor | None = None,
        candidate_labels: Tensor | None = None,
        *,
        positives: Tensor | None = None,
        keep: Tensor | None = None,
        weight: Tensor | None = None,
    ) -> Tensor:
        """See :func:`sup_con`."""
        return sup_con(
            anchors,
            labels,
            candidates,
            candidate_labels,
            form=self.form,
            temperature=current(self.temperature),
            positives=positives,
            keep=keep,
            weight=weight,
            normalize=self.normalize,
            reduction=self.reduction,
            chunk_size=self.chunk_size,
            group=self.group,
        )
