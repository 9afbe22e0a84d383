"""Supervised contrastive loss, SupCon: positives and negatives by label."""

import torch
from torch import Tensor, nn

from mmcontrast import arguments
from mmcontrast.distributed import Group, joined
from mmcontrast.eager import calls_operators
from mmcontrast.exact.masked_choice import masked_contrast
from mmcontrast.exact.pair_rules import pair_rules
from mmcontrast.exact.pair_tile import PairTerm
from mmcontrast.exact.partners import Partners
from mmcontrast.exact.supcon_choice import sup_con_among_themselves, sup_con_by_class, supcon_side
from mmcontrast.gaps import Variant
from mmcontrast.held import check_settings
from mmcontrast.learned import replicated, replicated_module
from mmcontrast.loading import load_checked
from mmcontrast.masks import columns_of, labelled
from mmcontrast.presence import zero_outside
from mmcontrast.reductions import Reduction
from mmcontrast.rows import RowMap, l2_normalize
from mmcontrast.sharded import local_rows
from mmcontrast.temperature import LearnableTemperature, current
from mmcontrast.wide import retry_in_float64

FORMS = ("out", "in")


@local_rows
@retry_in_float64
def sup_con(
    anchors: Tensor,
    labels: Tensor | None,
    candidates: Tensor | None = None,
    candidate_labels: Tensor | None = None,
    *,
    form: str = "out",
    temperature: float | Tensor = 0.07,
    positives: Tensor | None = None,
    keep: PairTerm | None = None,
    bias: PairTerm | None = None,
    decoupled: bool = False,
    weight: Tensor | None = None,
    normalize: RowMap | None = l2_normalize,
    reduction: str = "mean",
    chunk_size: int | None = None,
    group: Group | None = None,
) -> Tensor:
    r"""Supervised contrast: every other sample of the anchor's class is a positive.

    With P the positives of anchor i, A all candidates except itself, and s the cosines divided by
    the temperature,

    .. math::
        \ell_i^{out} = -\frac{1}{|P|} \sum_{p \in P} \log \frac{e^{s_{ip}}}{\sum_A e^{s_{ia}}},
        \qquad
        \ell_i^{in} = -\log \frac{\sum_{p \in P} e^{s_{ip}}}{\sum_A e^{s_{ia}}}

    The "in" form is as in HyCon; SupCon's divides by :math:`|P|` inside the logarithm, which adds
    :math:`\log |P|`. "in" is never above "out", except by rounding.

    Args:
        anchors: (B, D) one embedding per sample, or per view.
        labels: (B,) classes, or (B, L): equal in every column; -100 means unlabelled, and takes
            part neither as anchor nor as candidate. None if ``positives`` is given.
        candidates: (C, D) rows that the anchors are compared with. Default: the anchors, excluding
            the diagonal. With explicit candidates no pair is excluded.
        candidate_labels: (C,) or (C, L), needed with candidates.
        form: ``"out"`` or ``"in"``.
        temperature: :math:`\tau > 0`; a float, or a tensor of shape () or (1,) when it is learned.
        positives: instead of labels, (B, C) bool; or floating weights of at least 0, scaled here
            to sum to one for each anchor: soft targets, from :func:`score_kernel` for a regression.
            All rows are candidates; with ``known = labelled(scores)``, samples without a score are
            left out by ``keep=known[:, None] & known``.
        keep: (B, C) bool: a candidate outside it takes no part for that anchor; or a function of a
            :class:`Tile`, or a list, see :func:`info_nce`.
        bias: (B, C) floating, added to the similarities over the temperature, also the positives';
            or a function of a :class:`Tile`, or a list.
        decoupled: sum over the negatives alone in the denominator, without any positive; the loss
            may be negative, and is 0 for an anchor without negatives.
        weight: (B,) sample weights.
        normalize: row map before the dot product; None for raw dot products.
        reduction: ``"mean"`` and ``"sum"`` give a scalar, ``"none"`` gives (B,).
        chunk_size: for the "out" form by labels alone (no candidates, positives, keep or bias), the
            side of square tiles, by default 384 on the CPU and 4096 elsewhere; up to that many
            anchors are evaluated at once. Tiles compute each similarity twice. Otherwise the number
            of anchors at a time, as in :func:`info_nce`. Neither ever holds all similarities.
        group: a process group, or ``"world"``: the candidates are those of all its ranks, C in all,
            in the order of the ranks, and mean and sum are over all ranks' anchors.

    Returns:
        Scalar or (B,), float32, or float64 for float64 input. An anchor without a positive has loss
        0 and is left out of the mean.

    Raises:
        ValueError: on shapes or dtypes that disagree, labels with fractions (scores, not classes)
            or negative soft targets (values are read on the CPU only), labels and positives both
            given or both missing, another form, or a float temperature that is not positive.

    Example:
        >>> x = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
        >>> sup_con(x, torch.tensor([4, 4, 9]), temperature=1.0)  # log(1 + 1 / e), twice
        tensor(0.3133)

    Note:
        "out" equals pytorch-metric-learning's ``SupConLoss(temperature)`` in a batch of two classes
        or more; without negatives that loss is 0, and this one not: log 2 for three equal rows. It
        equals SupContrast's ``SupConLoss`` at ``base_temperature = temperature`` where
        every anchor has a positive; that mean counts an anchor without one, as 0. With two views
        and unique labels it is SimCLR's NT-Xent, the ``NTXentLoss`` of lightly and of
        pytorch-metric-learning.

        Under ``torch.func`` and forward-mode differentiation, traceable operations replace the
        tiles. Tiles copy the labels' classes and one more number to the host, evaluation at once
        copies the classes only. A second derivative (``create_graph=True``) is exact, and holds
        all similarities.

    References: SupCon, arXiv:2004.11362, eq. 2 and 3; HyCon, IEEE TAFFC 14(3), eq. 4; decoupled
        as in arXiv:2110.06848, eq. 6.
    """
    arguments.matrix("anchors", anchors)
    temperature = replicated(arguments.temperature(temperature), group, anchors)
    normalize = replicated_module(normalize, group)
    arguments.reduction(reduction)
    chunk_size = arguments.chunk(chunk_size)
    arguments.one_of("form", form, FORMS)
    others = anchors if candidates is None else candidates
    arguments.matrix("candidates", others, like=anchors)
    size = anchors.shape[0], others.shape[0]
    if positives is None:
        anchor_labels, other_labels = _label_pair(labels, candidates, candidate_labels, size)
    else:  # every row counts as labelled; the labels themselves are not used
        if labels is not None:
            arguments.fail("labels", "None where positives are given", arguments.shown(labels))
        if candidate_labels is not None:
            got = arguments.shown(candidate_labels)
            arguments.fail("candidate_labels", "None where positives are given", got)
        anchor_labels = torch.ones(size[0], device=anchors.device)
        other_labels = torch.ones(size[1], device=others.device)
    variant = Variant(arguments.flag("decoupled", decoupled))
    masks = (candidates, positives, keep, bias)
    by_class = form == "out" and variant.usual and all(x is None for x in masks)
    if by_class and calls_operators():
        return sup_con_by_class(
            anchors,
            anchor_labels,
            temperature=temperature,
            normalize=normalize,
            reduction=Reduction(reduction, weight, group),
            chunk_size=chunk_size,
        )
    # (C of all ranks, D); here: this rank's rows
    others, here = joined(others, group, size=columns_of(positives, keep))
    other_labels, _ = joined(other_labels, group, size=others.shape[0])
    size = anchors.shape[0], others.shape[0]
    rules, bias = pair_rules(keep, bias, size)
    if positives is not None:
        arguments.weights("positives", positives, size, rules.keep)

    # Without masks the matrix of similarities is symmetric: evaluated by class, in tiles, where
    # the code runs eagerly and this rank holds enough of the rows. Otherwise by masks, below.
    if by_class:
        side = supcon_side(others, other_labels, chunk_size)
        if side is not None:
            value = sup_con_among_themselves(
                others,
                other_labels,
                here,
                side,
                temperature=temperature,
                normalize=normalize,
                reduction=Reduction(reduction, weight, group),
            )
            if value is not None:
                return value

    # Rows that take no part become zero before any arithmetic, so that not even NaN propagates.
    known = labelled(other_labels)  # (C,)
    if positives is None:
        anchors = zero_outside(anchors, labelled(anchor_labels))
        partners = Partners(anchor_labels, other_labels, rules.keep, known, rules=rules)
    else:
        partners = Partners(positives, keep=rules.keep, rules=rules)
    if candidates is None:  # exclude the diagonal: an anchor's own column
        partners = partners._replace(own=here.start)
    return masked_contrast(
        anchors,
        others,
        partners,
        bias,
        form=form,
        temperature=temperature,
        normalize=normalize,
        reduction=Reduction(reduction, weight, group),
        chunk_size=chunk_size,
        variant=variant,
    )


def _label_pair(
    labels: Tensor | None,
    candidates: Tensor | None,
    candidate_labels: Tensor | None,
    size: tuple[int, int],
) -> tuple[Tensor, Tensor]:
    """Anchors' and candidates' labels, checked; without candidates, the anchors' labels twice."""
    if labels is None:
        arguments.fail("labels", "labels, or positives in their place", None)
    labels = arguments.labels("labels", labels, size[0])
    if candidates is None and candidate_labels is None:
        return labels, labels
    if candidates is None or candidate_labels is None:
        arguments.fail("candidate_labels", "candidates and their labels together", "one of the two")
    return labels, arguments.labels("candidate_labels", candidate_labels, size[1], like=labels)


class SupCon(nn.Module):
    """:func:`sup_con` with its settings held.

    Args:
        form, decoupled, normalize, reduction, chunk_size, group: as in :func:`sup_con`.
        temperature: a float, or a :class:`LearnableTemperature`.

    Example:
        >>> x = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
        >>> SupCon(temperature=1.0)(x, torch.tensor([4, 4, 9]))
        tensor(0.3133)
    """

    load_state_dict = load_checked

    def __init__(
        self,
        *,
        form: str = "out",
        temperature: float | LearnableTemperature = 0.07,
        decoupled: bool = False,
        normalize: RowMap | None = l2_normalize,
        reduction: str = "mean",
        chunk_size: int | None = None,
        group: Group | None = None,
    ):
        super().__init__()
        self.form = form
        self.temperature = temperature
        self.decoupled = decoupled
        self.normalize = normalize
        self.reduction = reduction
        self.chunk_size = chunk_size
        self.group = group
        arguments.one_of("form", form, FORMS)
        check_settings(self)

    def forward(
        self,
        anchors: Tensor,
        labels: Tensor | None,
        candidates: Tensor | None = None,
        candidate_labels: Tensor | None = None,
        *,
        positives: Tensor | None = None,
        keep: PairTerm | None = None,
        bias: PairTerm | None = None,
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
            bias=bias,
            decoupled=self.decoupled,
            weight=weight,
            normalize=self.normalize,
            reduction=self.reduction,
            chunk_size=self.chunk_size,
            group=self.group,
        )
