"""InfoNCE, and the variant of it that TeCaFN prints."""

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmcontrast import arguments
from mmcontrast.distributed import Group, joined
from mmcontrast.eager import calls_operators, is_eager, known, takes_ways
from mmcontrast.exact.beside import OneWay
from mmcontrast.exact.infonce_choice import one_way_info_nce
from mmcontrast.exact.masked_choice import masked_contrast
from mmcontrast.exact.own_negatives import among_own_negatives, checked_own_negatives
from mmcontrast.exact.pair_rules import pair_rules
from mmcontrast.exact.pair_tile import PairTerm
from mmcontrast.exact.partners import Partners
from mmcontrast.exact.rules_choice import one_way_by_rules
from mmcontrast.gaps import Variant
from mmcontrast.held import check_settings
from mmcontrast.learned import replicated, replicated_module
from mmcontrast.loading import load_checked
from mmcontrast.masks import IGNORE, check_partners, checked_partners, columns_of
from mmcontrast.presence import zero_outside
from mmcontrast.reductions import Reduction
from mmcontrast.rows import RowMap, l2_normalize, map_rows
from mmcontrast.sharded import local_rows
from mmcontrast.softmax import masked_logsumexp
from mmcontrast.temperature import LearnableTemperature, current
from mmcontrast.wide import retry_in_float64


@local_rows
@retry_in_float64
def info_nce(
    anchors: Tensor,
    candidates: Tensor,
    targets: Tensor | None = None,
    *,
    temperature: float | Tensor = 0.07,
    positives: Tensor | None = None,
    keep: PairTerm | None = None,
    bias: PairTerm | None = None,
    decoupled: bool = False,
    prior: float | Tensor = 0.0,
    smoothing: float = 0.0,
    own_negatives: Tensor | None = None,
    own_keep: Tensor | None = None,
    in_batch: bool = True,
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

    The denominator includes the positive. Candidates beyond the partners are extra negatives,
    shared by all anchors. An anchor without a positive (a target of -100, or none inside ``keep``)
    has loss 0 and is left out of the mean.

    Args:
        anchors: (B, D) one embedding per sample; normalised here, not by the caller.
        candidates: (C, D) what each anchor chooses from: partners first, extra negatives after.
        targets: (B,) index of each anchor's partner, -100 for none. Default: row ``i`` belongs to
            anchor ``i``.
        temperature: :math:`\tau > 0`; a float, or a tensor of shape () or (1,) when it is learned.
        positives: instead of targets, (B, C) bool for several positives: their log shares are
            averaged; or (B, C) floating soft targets of at least 0, scaled here to sum to one.
        keep: (B, C) bool: a candidate outside it takes no part for that anchor at all. Or a
            function of a :class:`Tile` that returns the tile's (R, C) mask, such as
            :func:`different_id`; or a list, of which all must hold. Where ``prior`` or
            ``smoothing`` has to count what a function keeps, its mask is made of all pairs at once.
        bias: (B, C) floating, added to the logits, which are similarities over the temperature: so
            with :math:`\log w` a candidate counts w times. The partner's own logit gets its bias,
            too; minus infinity is as outside ``keep``. Or a function of a :class:`Tile` that
            returns (R, C), such as :func:`hardness_bias`, without gradient; or a list, of which the
            sum is taken.
        decoupled: take the positive out of the denominator (DCL): the loss is the log-sum of the
            negatives minus the positive's logit, may be negative, and is 0 without a negative. With
            several positives, minus the mean of their logits, none of which is in the log-sum.
        prior: in [0, 1), the probability that a negative is a positive in truth; a float, or (B,)
            without a gradient. With p the positive's logit, t the temperature, N the sum of n
            negatives' exponentials and c the prior, N becomes
            :math:`\max((N - n c e^p) / (1 - c), n e^{-1/t})`, the debiased estimate; with several
            positives, the mean of their exponentials takes the place of :math:`e^p`. The least
            value is that of cosines.
        smoothing: in [0, 1): label smoothing, this share of the target spread evenly over all kept
            candidates: smoothing times (the positive's logit minus the mean logit) is added. Not
            with positives.
        own_negatives: (B, K, D) further negatives of each anchor, its own alone, such as those of
            :func:`hard_negatives`. ``keep`` and ``bias`` are of the candidates and do not reach
            them.
        own_keep: (B, K) bool: which of them take part.
        in_batch: False: the own negatives are the only ones, and of the candidates only the
            partners are used.
        weight: (B,) sample weights; the mean is then the weighted one.
        normalize: row map before the dot product; None for raw dot products.
        reduction: ``"mean"`` and ``"sum"`` give a scalar, ``"none"`` gives (B,).
        chunk_size: number of anchors at a time, for O(chunk_size C + (B + C) D) memory beyond the
            masks and the same value and gradient. The gradient is computed in the forward pass;
            with ``"none"``, blocks are recomputed in the backward pass instead. None chooses blocks
            that fit the cache; without masks, up to 2^15 logits, or 2^16 of at most 512 anchors,
            stay in memory unsplit. ``torch.func``, forward mode and second derivatives take a plain
            path that holds all logits in memory.
        group: a process group, or ``"world"``: the candidates are the rows of all its ranks, and
            mean and sum are over all its anchors, the same on every rank; see :func:`gather`. Masks
            are (B of this rank, C of all), targets index this rank's own candidates, and ``"none"``
            gives this rank's (B,). Without masks, candidates of 2^26 numbers or more in all are
            passed around a ring of ranks, and no rank holds all of them. What is learned here, a
            temperature or a row map with parameters, gets the whole batch's gradient on every rank,
            inside a wrapper (DistributedDataParallel) and beside it. None: this rank alone, or,
            for DTensors of rows sharded over a mesh, its ranks, with the gradient of one process.

    Returns:
        Scalar or (B,), float32, or float64 for float64 input.

    Raises:
        ValueError: on shapes or dtypes that disagree, targets and positives both given, negative
            soft targets, fewer candidates than anchors with neither given, a target outside the
            candidates or a prior outside [0, 1) (values are read on the CPU only), smoothing with
            positives, ``in_batch=False`` without own negatives or with masks of the batch, or a
            float temperature that is not positive.

    Example:
        >>> eye = torch.eye(3)
        >>> info_nce(eye, eye, temperature=1.0)  # log(e + 2) - 1
        tensor(0.5514)
        >>> info_nce(eye, eye, temperature=1.0, decoupled=True)  # log 2 - 1
        tensor(-0.3069)

    Note:
        Equals sentence-transformers' ``MultipleNegativesRankingLoss(scale=1 / temperature)`` and
        info-nce-pytorch's ``InfoNCE(temperature)``; with unit rows, one direction of open_clip's
        ``ClipLoss`` at ``logit_scale = 1 / temperature``; up to a saturation in low precision,
        pytorch-metric-learning's ``NTXentLoss`` with ``ref_emb=candidates``. ``smoothing`` is
        ``torch.nn.functional.cross_entropy``'s ``label_smoothing`` of the logits. The directions
        of sentence-transformers' loss that are joined in one softmax are columns of a mask, see the
        page on InfoNCE.

    References: InfoNCE, arXiv:1807.03748; cosine over temperature, SimCLR, arXiv:2002.05709;
        TeCaFN eq. 6 and 15 in their standard reading; MFON eq. 7-8; decoupled, arXiv:2110.06848,
        eq. 6; prior, arXiv:2007.00224, eq. 7 and 8; own negatives, DPR, arXiv:2004.04906.
    """
    arguments.matrix("anchors", anchors)
    arguments.matrix("candidates", candidates, like=anchors)
    temperature = replicated(arguments.temperature(temperature), group, anchors)
    normalize = replicated_module(normalize, group)
    arguments.reduction(reduction)
    chunk_size = arguments.chunk(chunk_size)
    settings: dict[str, Any] = {
        "temperature": temperature,
        "normalize": normalize,
        "reduction": Reduction(reduction, weight, group),
        "chunk_size": chunk_size,
    }
    variant = Variant(
        arguments.flag("decoupled", decoupled), arguments.chances("prior", prior, anchors)
    )
    arguments.below_one("smoothing", smoothing)
    own = checked_own_negatives(own_negatives, own_keep, anchors, temperature, normalize)
    if not arguments.flag("in_batch", in_batch):
        _check_without_batch(own, {"keep": keep, "bias": bias, "positives": positives})
    if positives is None:
        targets = check_partners(anchors, candidates, targets)
        if targets is not None:
            counted = targets != IGNORE  # (B,)
            if not (is_eager() and known(counted.all())):
                anchors = zero_outside(anchors, counted)
                own = None if own is None else own.of(counted)
        if own is not None and not in_batch:
            given = own, variant, smoothing, settings["reduction"]
            return among_own_negatives(anchors, candidates, targets, *given)
        beside = OneWay(variant, own, smoothing, temperature, targets, group).or_none()
        if keep is None and bias is None and takes_ways():
            settings["beside"] = beside
            return one_way_info_nce(anchors, candidates, targets, **settings)
    elif targets is not None:
        arguments.fail("targets", "None where positives are given", arguments.shown(targets))
    elif smoothing > 0:
        expected = "0 where positives are given, whose weights say it: (1 - s) * positives + s / C"
        arguments.fail("smoothing", expected, smoothing)
    known_size = columns_of(positives, keep, bias)
    candidates, here = joined(candidates, group, size=known_size)  # (C of all ranks, D)
    size = anchors.shape[0], candidates.shape[0]
    rules, bias = pair_rules(keep, bias, size)
    if positives is not None:
        arguments.weights("positives", positives, size, rules.keep)
        partners = Partners(positives, keep=rules.keep, rules=rules)
        settings["beside"] = OneWay(variant, own, 0.0, temperature, None, None).or_none()
        return masked_contrast(anchors, candidates, partners, bias, **settings)
    # Targets index this rank's candidates: shift them to the gathered rows.
    chosen = checked_partners(anchors, targets)
    chosen = torch.where(chosen == IGNORE, IGNORE, chosen + here.start)  # (B,)
    settings["beside"] = OneWay(variant, own, smoothing, temperature, chosen, None).or_none()
    if takes_ways():
        return one_way_by_rules(anchors, candidates, chosen, rules, bias, **settings)
    # As classes, of which -100 is none of the columns': a one-hot mask for each chunk of rows.
    columns = torch.arange(size[1], device=chosen.device)
    partners = Partners(chosen, columns, rules.keep, rules=rules)
    return masked_contrast(anchors, candidates, partners, bias, **settings)


def _check_without_batch(own: object, of_the_batch: Mapping[str, object]) -> None:
    if own is None:
        arguments.fail("in_batch", "True without own_negatives", "False")
    for name, value in of_the_batch.items():
        if value is not None:
            expected = "None with in_batch=False, where the batch has no negatives"
            arguments.fail(name, expected, arguments.shown(value))


@local_rows
@retry_in_float64
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

    The printed denominator sums over matched pairs only, so all samples share it and no unmatched
    pair is compared. The mean is smallest, log B, when all matched pairs are equally similar. The
    paper's code computes :func:`info_nce`, which is usually the loss to use.

    Args:
        x: (B, D) one view of each sample.
        y: (B, D) the other view.
        temperature: :math:`\tau > 0`; a float, or a tensor of shape () or (1,) when it is learned.
        keep: (B,) bool: which pairs take part.
        weight: (B,) sample weights.
        normalize: row map before the dot product; None for the raw dot product that is printed.
        reduction: ``"mean"`` and ``"sum"`` give a scalar, ``"none"`` gives (B,).
        group: as in :func:`info_nce`: the denominator sums over the pairs of all ranks.

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
    arguments.matrix("y", y, rows=x.shape[0], like=x)
    temperature = replicated(arguments.temperature(temperature), group, x)
    normalize = replicated_module(normalize, group)
    arguments.reduction(reduction)
    if keep is None:
        keep = torch.ones(x.shape[0], dtype=torch.bool, device=x.device)
    arguments.mask("keep", keep, (x.shape[0],))
    x, y = zero_outside(x, keep), zero_outside(y, keep)
    logits = (map_rows(x, normalize) * map_rows(y, normalize)).sum(-1) / temperature  # (B,)
    all_logits, _ = joined(logits, group)  # (B of all ranks,)
    all_keep, _ = joined(keep, group, size=all_logits.shape[0])
    if calls_operators():  # one more, which takes no part: a compiler asks whether there is any
        all_logits, all_keep = F.pad(all_logits, (0, 1)), F.pad(all_keep, (0, 1))
    losses = masked_logsumexp(all_logits, all_keep) - logits  # 0-d minus (B,)
    return Reduction(reduction, weight, group).reduce(losses, keep)


class InfoNCE(nn.Module):
    """:func:`info_nce` with its settings held.

    Args:
        temperature: a float, or a :class:`LearnableTemperature`.
        decoupled, prior, smoothing, in_batch: as in :func:`info_nce`; prior is a float.
        normalize, reduction, chunk_size, group: as in :func:`info_nce`.

    Example:
        >>> loss = InfoNCE(temperature=LearnableTemperature(0.07))
        >>> loss(torch.eye(3), torch.eye(3)).requires_grad
        True
    """

    load_state_dict = load_checked

    def __init__(
        self,
        *,
        temperature: float | LearnableTemperature = 0.07,
        decoupled: bool = False,
        prior: float = 0.0,
        smoothing: float = 0.0,
        in_batch: bool = True,
        normalize: RowMap | None = l2_normalize,
        reduction: str = "mean",
        chunk_size: int | None = None,
        group: Group | None = None,
    ):
        super().__init__()
        self.temperature = temperature
        self.decoupled = decoupled
        self.prior = prior
        self.smoothing = smoothing
        self.in_batch = in_batch
        self.normalize = normalize
        self.reduction = reduction
        self.chunk_size = chunk_size
        self.group = group
        check_settings(self)

    def forward(
        self,
        anchors: Tensor,
        candidates: Tensor,
        targets: Tensor | None = None,
        *,
        positives: Tensor | None = None,
        keep: PairTerm | None = None,
        bias: PairTerm | None = None,
        own_negatives: Tensor | None = None,
        own_keep: Tensor | None = None,
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
            bias=bias,
            decoupled=self.decoupled,
            prior=self.prior,
            smoothing=self.smoothing,
            own_negatives=own_negatives,
            own_keep=own_keep,
            in_batch=self.in_batch,
            weight=weight,
            normalize=self.normalize,
            reduction=self.reduction,
            chunk_size=self.chunk_size,
            group=self.group,
        )
