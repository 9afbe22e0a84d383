"""HyCon's hybrid contrast: semi-, intra- and inter-modal losses, and their weighted sum."""

from collections.abc import Mapping
from functools import partial

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from mmcontrast import _checks, moments
from mmcontrast.masks import off_diagonal, only_present, presence
from mmcontrast.mining import PairSelection, hardness_weights, thin
from mmcontrast.moments import Values
from mmcontrast.pairs import EVERYBODY, Pairs, Related, modal_pairs, participants, relations
from mmcontrast.rows import RowMap, dot, map_rows, softmax_normalize, upcast
from mmcontrast.supervised import share
from mmcontrast.supervised_tiles import numbers
from mmcontrast.terms import LossTerms

REFINE_ON = ("selected", "all", "weighted")

BLOCK = 2**22
"""Similarities at a time, where they are needed themselves: 16 MB of float32."""


def semi_contrast(
    features: Mapping[str, Tensor],
    *,
    margin: float = 0.8,
    normalize: RowMap | None = softmax_normalize,
    present: Mapping[str, Tensor] | None = None,
    weight: Tensor | None = None,
    reduction: str = "mean",
) -> Tensor:
    r"""Semi-contrastive loss (SCL): a sample's modalities shall be alike, up to a margin.

    .. math:: \ell_{i,m} = \frac{1}{M - 1} \sum_{m' \ne m} (s(x_{m,i}, x_{m',i}) - \alpha)^2

    No negatives and no labels. Where a modality is missing, the mean goes over the present
    partners.

    Args:
        features: (B, D) by modality, two or more.
        margin: :math:`\alpha`, the similarity aimed at; 1 takes the modality margin away.
        normalize: row map before the dot product. HyCon's softmax leaves two random rows of 50
            features a similarity of about 0.02, and rows that are nearly one-hot near 0.8.
        present: (B,) bool by modality, who has it; all do where nothing is said.
        weight: (B,) sample weights.
        reduction: ``"mean"`` and ``"sum"`` over samples and modalities give a scalar, ``"none"``
            gives (B, M) in the mapping's order.

    Returns:
        Scalar or (B, M), float32, or float64 for float64 input. An anchor that is absent or has no
        present partner is worth 0 and not counted.

    Raises:
        ValueError: on fewer than two modalities, or shapes that disagree.

    Example:
        >>> semi_contrast({"text": torch.zeros(1, 2), "audio": torch.zeros(1, 2)})  # (1/2 - 0.8)^2
        tensor(0.0900)

    References: HyCon, IEEE TAFFC 14(3), eq. 6.
    """
    _checks.features(features)
    _checks.reduction(reduction)
    present = presence(features, present)
    own = _own(only_present(features, present), normalize)
    here = torch.stack(list(present.values()), dim=1)
    return _checks.reduce(*_semi(own, here, margin), weight=weight, reduction=reduction)


def intra_modal_contrast(
    features: Mapping[str, Tensor],
    labels: Tensor | None,
    *,
    refine: bool = True,
    log: bool = False,
    selection: PairSelection | None = None,
    refine_on: str = "selected",
    positives: Tensor | None = None,
    negatives: Tensor | None = None,
    normalize: RowMap | None = softmax_normalize,
    present: Mapping[str, Tensor] | None = None,
    weight: Tensor | None = None,
    reduction: str = "mean",
) -> Tensor:
    r"""Intra-modal contrastive loss (IAMCL): within a modality, by class.

    .. math:: \ell_{i,m} = -\frac{\sum_P s}{\sum_P s + \sum_Q s} + \frac1N \sum_P (s - 1)^2

    P are the N other samples of the anchor's class and Q those of other classes, in the anchor's
    modality; the second term is the refinement. The ratio is averaged over the anchors that have a
    positive and a negative, the refinement over those that have a positive.

    Args:
        features: (B, D) by modality, two or more.
        labels: (B,) classes, or (B, L): equal in every column; -100 takes no part. None where
            positives and negatives say it all.
        refine: add the refinement.
        log: the negated logarithm of the ratio instead of the negated ratio that is printed.
        selection: HyCon-v2's pair selection; None for all pairs. Selected similarities enter the
            ratio weighted by their hardness.
        refine_on: with a selection, the refinement's pairs: the ``"selected"`` ones, unweighted;
            ``"all"``; or the selected ones ``"weighted"``, where the similarities as they enter the
            ratio, times weights that sum to 1, are drawn to 1 each.
        positives, negatives: instead of labels, (B, B) masks of who is whose. The diagonal makes no
            pair, but a sample that is related to nobody, not even itself, takes no part at all.
            Floating weights, ``score_kernel(scores, bandwidth=1)`` and 1 minus it, say, weigh the
            similarities in the ratio and in the refinement; they go without selection.
        normalize: row map before the dot product.
        present: (B,) bool by modality, who has it; all do where nothing is said.
        weight: (B,) sample weights.
        reduction: ``"mean"`` and ``"sum"`` over samples and modalities give a scalar, ``"none"``
            gives (B, M) in the mapping's order.

    Returns:
        Scalar or (B, M), float32, or float64 for float64 input; 0 with a graph where no anchor has
        a positive.

    Raises:
        ValueError: on fewer than two modalities, shapes that disagree, or another word for
            refine_on.

    Example:
        >>> x = {"text": torch.zeros(3, 2), "audio": torch.zeros(3, 2)}  # all similarities are 1/2
        >>> intra_modal_contrast(x, torch.tensor([0, 0, 1]))  # -1/2 + (1/2 - 1)^2
        tensor(-0.2500)

    Note:
        How large batches are evaluated is said at :func:`hybrid_contrast`.

    References: HyCon, IEEE TAFFC 14(3), eq. 7-9 and 13-15.
    """
    terms = _evaluate(
        features,
        labels,
        {"intra": 1.0},
        refine=refine,
        log=log,
        selection=selection,
        refine_on=refine_on,
        positives=positives,
        negatives=negatives,
        normalize=normalize,
        present=present,
        weight=weight,
        reduction=reduction,
    )
    return terms["intra"]


def inter_modal_contrast(
    features: Mapping[str, Tensor],
    labels: Tensor | None,
    *,
    margin: float = 0.8,
    refine: bool = True,
    log: bool = False,
    selection: PairSelection | None = None,
    refine_on: str = "selected",
    positives: Tensor | None = None,
    negatives: Tensor | None = None,
    normalize: RowMap | None = softmax_normalize,
    present: Mapping[str, Tensor] | None = None,
    weight: Tensor | None = None,
    reduction: str = "mean",
) -> Tensor:
    r"""Inter-modal contrastive loss (IEMCL): across modalities, by class.

    .. math:: \ell_{i,m} = -\frac{\sum_P s}{\sum_P s + \sum_Q s}
              + \frac{1}{|P|} \sum_P (s - \alpha)^2

    P are the other samples of the anchor's class and Q those of other classes, in the modalities
    that the anchor is not of.

    Args:
        features: (B, D) by modality, two or more.
        labels: (B,) classes, or (B, L): equal in every column; -100 takes no part.
        margin: :math:`\alpha`, the similarity that the refinement aims at; 1 takes the modality
            margin away.
        refine, log, selection, refine_on, positives, negatives, normalize, present, weight,
            reduction: as in
            :func:`intra_modal_contrast`.

    Returns:
        Scalar or (B, M), float32, or float64 for float64 input; 0 with a graph where no anchor has
        a positive.

    Raises:
        ValueError: on fewer than two modalities, shapes that disagree, or another word for
            refine_on.

    Example:
        >>> x = {"text": torch.zeros(3, 2), "audio": torch.zeros(3, 2)}  # all similarities are 1/2
        >>> inter_modal_contrast(x, torch.tensor([0, 0, 1]))  # -1/2 + (1/2 - 0.8)^2
        tensor(-0.4100)

    Note:
        How large batches are evaluated is said at :func:`hybrid_contrast`.

    References: HyCon, IEEE TAFFC 14(3), eq. 10-12 and 13-15.
    """
    terms = _evaluate(
        features,
        labels,
        {"inter": margin},
        refine=refine,
        log=log,
        selection=selection,
        refine_on=refine_on,
        positives=positives,
        negatives=negatives,
        normalize=normalize,
        present=present,
        weight=weight,
        reduction=reduction,
    )
    return terms["inter"]


def hybrid_contrast(
    features: Mapping[str, Tensor],
    labels: Tensor | None,
    *,
    margin: float = 0.8,
    weights: tuple[float, float, float] = (1, 1, 1),
    refine: bool = True,
    log: bool = False,
    selection: PairSelection | None = None,
    refine_on: str = "selected",
    positives: Tensor | None = None,
    negatives: Tensor | None = None,
    normalize: RowMap | None = softmax_normalize,
    present: Mapping[str, Tensor] | None = None,
    weight: Tensor | None = None,
    reduction: str = "mean",
) -> LossTerms:
    r"""HyCon's hybrid contrast: intra-modal, inter-modal and semi-contrastive loss, weighted.

    .. math:: L = \lambda_1 L_{IAMCL} + \lambda_2 L_{IEMCL} + \lambda_3 L_{SCL}

    With ``selection=PairSelection()`` it is HyCon-v2's.

    Args:
        features: (B, D) by modality, two or more.
        labels: (B,) classes, or (B, L): equal in every column. A sample of label -100 takes no part
            in any term; call :func:`semi_contrast`, which needs no labels, to use it there.
        margin: :math:`\alpha` of the inter-modal and the semi-contrastive loss.
        weights: :math:`\lambda_1, \lambda_2, \lambda_3`. A term of weight 0 is not evaluated, and
            is 0.
        refine, log, selection, refine_on, positives, negatives, normalize, present, weight,
            reduction: as in
            :func:`intra_modal_contrast`.

    Returns:
        Terms ``"intra"``, ``"inter"`` and ``"semi"``, each a scalar or (B, M).

    Raises:
        ValueError: on fewer than two modalities, shapes that disagree, other than three weights, or
            another word for refine_on.

    Example:
        >>> x = {"text": torch.zeros(3, 2), "audio": torch.zeros(3, 2)}
        >>> terms = hybrid_contrast(x, torch.tensor([0, 0, 1]))
        >>> list(terms), terms.total
        (['intra', 'inter', 'semi'], tensor(-0.5700))

    Note:
        From 200 samples on, with labels and without selection, the terms come from class sums: the
        same values in O(B D^2) time and O(B D) memory, for any number of classes. The labels are
        read for that, which waits for a device. Smaller batches, masks in place of labels,
        selection, ``torch.compile``, ``torch.func`` and forward mode take the similarities
        themselves: all at once, or, where 2^22 are too few for them and nothing traces, of some
        anchors at a time, made again in the backward pass. Both may be differentiated twice.

    References: HyCon, IEEE TAFFC 14(3), eq. 16, which sums over samples and modalities where this
        takes the mean by default.
    """
    if not isinstance(weights, tuple | list) or len(weights) != 3:
        _checks.fail("weights", "three numbers, for intra, inter and semi", weights)
    targets = {"intra": 1.0, "inter": margin, "semi": margin}
    factors = dict(zip(targets, weights, strict=True))
    terms = _evaluate(
        features,
        labels,
        {name: target for name, target in targets.items() if factors[name] != 0},
        refine=refine,
        log=log,
        selection=selection,
        refine_on=refine_on,
        positives=positives,
        negatives=negatives,
        normalize=normalize,
        present=present,
        weight=weight,
        reduction=reduction,
    )
    some = next(iter(features.values()))
    size = (len(some), len(features)) if reduction == "none" else ()
    nothing = torch.zeros(size, dtype=upcast(some).dtype, device=some.device)
    return LossTerms({name: terms.get(name, nothing) for name in targets}, factors)


class HybridContrast(nn.Module):
    """:func:`hybrid_contrast` with its settings held.

    Args:
        margin, weights, refine, log, selection, refine_on, normalize, reduction: as in
            :func:`hybrid_contrast`.

    Example:
        >>> loss = HybridContrast(selection=PairSelection())  # HyCon-v2
        >>> terms = loss({"text": torch.eye(3), "audio": torch.eye(3)}, torch.tensor([0, 0, 1]))
        >>> terms.total.shape
        torch.Size([])
    """

    def __init__(
        self,
        *,
        margin: float = 0.8,
        weights: tuple[float, float, float] = (1, 1, 1),
        refine: bool = True,
        log: bool = False,
        selection: PairSelection | None = None,
        refine_on: str = "selected",
        normalize: RowMap | None = softmax_normalize,
        reduction: str = "mean",
    ):
        super().__init__()
        self.margin = margin
        self.weights = weights
        self.refine = refine
        self.log = log
        self.selection = selection
        self.refine_on = refine_on
        self.normalize = normalize
        self.reduction = reduction

    def forward(
        self,
        features: Mapping[str, Tensor],
        labels: Tensor,
        *,
        present: Mapping[str, Tensor] | None = None,
        weight: Tensor | None = None,
    ) -> LossTerms:
        """See :func:`hybrid_contrast`."""
        return hybrid_contrast(
            features,
            labels,
            margin=self.margin,
            weights=self.weights,
            refine=self.refine,
            log=self.log,
            selection=self.selection,
            refine_on=self.refine_on,
            normalize=self.normalize,
            present=present,
            weight=weight,
            reduction=self.reduction,
        )


def _evaluate(
    features: Mapping[str, Tensor],
    labels: Tensor | None,
    targets: Mapping[str, float],
    *,
    refine: bool,
    log: bool,
    selection: PairSelection | None,
    refine_on: str,
    positives: Tensor | None,
    negatives: Tensor | None,
    normalize: RowMap | None,
    present: Mapping[str, Tensor] | None,
    weight: Tensor | None,
    reduction: str,
) -> dict[str, Tensor]:
    """The terms named "intra", "inter" and "semi", those that are given a target."""
    related, known = relations(features, labels, positives, negatives)
    taking_part = participants(features, known, present)
    _checks.one_of("refine_on", refine_on, REFINE_ON)
    _checks.reduction(reduction)
    if selection is not None and not isinstance(selection, PairSelection):
        _checks.fail("selection", "a PairSelection or None", repr(selection))
    supervised = {name: target for name, target in targets.items() if name != "semi"}
    own: Tensor | None
    possible = labels is not None and selection is None and moments.possible(features, labels)
    if possible and supervised and labels is not None:
        values, own = moments.values(
            features, labels, taking_part, supervised, refine=refine, log=log, normalize=normalize
        )
    else:
        rows = only_present(features, taking_part)
        own = _own(rows, normalize) if "semi" in targets else None
        values = _by_pairs(
            rows,
            taking_part,
            related,
            supervised,
            log=log,
            selection=selection,
            refine_on=refine_on,
            normalize=normalize,
        )
    reduce = partial(_checks.reduce, weight=weight, reduction=reduction)
    terms = {}
    for name, (ratio, contrasted, refinement, refined) in values.items():
        terms[name] = reduce(ratio, contrasted)
        if refine:
            terms[name] = terms[name] + reduce(refinement, refined)
    if own is not None and "semi" in targets:
        here = torch.stack(list(taking_part.values()), dim=1)
        terms["semi"] = reduce(*_semi(own, here, targets["semi"]))
    return terms


def _own(rows: Mapping[str, Tensor], normalize: RowMap | None) -> Tensor:
    """(B, M, M) similarities of each sample's modalities."""
    x = torch.stack([map_rows(x, normalize) for x in rows.values()], dim=1)
    return dot(x, x)


def _semi(similarity: Tensor, here: Tensor, margin: float) -> tuple[Tensor, Tensor]:
    """(B, M) losses of the (B, M, M) similarities of each sample's modalities, and who has one."""
    partners = here[:, :, None] & here[:, None, :] & off_diagonal(here.shape[1], here.device)
    number = partners.sum(-1)
    losses = torch.where(partners, (similarity - margin).square(), 0).sum(-1)
    return losses / number.clamp_min(1), number > 0


def _by_pairs(
    rows: Mapping[str, Tensor],
    taking_part: Mapping[str, Tensor],
    related: Related,
    targets: Mapping[str, float],
    *,
    log: bool,
    selection: PairSelection | None,
    refine_on: str,
    normalize: RowMap | None,
) -> dict[str, Values]:
    """From the similarities themselves, of a block of anchors at a time where there are many.

    A block keeps none of its similarities for the backward pass, which makes them again.
    """
    size = len(next(iter(rows.values())))
    count: int | Tensor = 0
    if selection is not None:
        count = selection.count(torch.stack(list(taking_part.values())).any(0).sum())

    def block(anchors: slice) -> dict[str, Values]:
        masks = related(anchors)
        found = {}
        for name, target in targets.items():
            inter = name == "inter"
            factor = selection.inter_factor if inter and selection is not None else 1
            columns = [
                _of_modality(
                    pairs,
                    target=target,
                    count=factor * count,
                    log=log,
                    selection=selection,
                    refine_on=refine_on,
                    normalize=normalize,
                )
                for pairs in modal_pairs(
                    rows, taking_part, masks, inter=inter, anchors=anchors
                ).values()
            ]
            found[name] = Values(*(torch.stack(x, dim=1) for x in zip(*columns, strict=True)))
        return found

    step = max(BLOCK // max(size * len(rows), 1), 1)
    if not targets or step >= size or not numbers(*rows.values()):
        return block(EVERYBODY)
    starts = range(0, size, step)
    blocks = [checkpoint(block, slice(k, k + step), use_reentrant=False) for k in starts]
    return {
        name: Values(*map(torch.cat, zip(*(found[name] for found in blocks), strict=True)))
        for name in targets
    }


def _of_modality(
    pairs: Pairs,
    *,
    target: float,
    count: int | Tensor,
    log: bool,
    selection: PairSelection | None,
    refine_on: str,
    normalize: RowMap | None,
) -> Values:
    """One modality's anchors, (B,) each."""
    anchors, candidates, positives, negatives, _ = pairs
    similarity = dot(map_rows(anchors, normalize), map_rows(candidates, normalize))
    chosen, pull, push = positives, positives, negatives
    if selection is not None:
        chosen, rejected = thin(similarity, positives, negatives, selection, count)
        pull, push = _selection_weights(similarity, chosen, rejected, selection)
    ratio, contrasted = share(similarity, pull, push, log=log)
    refined = positives if refine_on == "all" else chosen
    value = similarity * pull if refine_on == "weighted" else similarity
    number = refined.sum(-1)
    errors = ((value - target).square() * refined).sum(-1)
    return Values(ratio, contrasted, errors / torch.where(number > 0, number, 1), number > 0)


def _selection_weights(
    similarity: Tensor, positives: Tensor, negatives: Tensor, selection: PairSelection
) -> tuple[Tensor, Tensor]:
    """Hardness weights on the selected sides; on the others those of a mean or a sum."""
    weights = hardness_weights(similarity, positives, negatives, gamma=selection.gamma)

    def plain(mask: Tensor) -> Tensor:
        ones = mask.to(similarity.dtype)
        number = mask.sum(-1, keepdim=True).clamp_min(1)
        return ones / number if selection.unselected == "mean" else ones

    return (
        weights[0] if selection.positives else plain(positives),
        weights[1] if selection.negatives else plain(negatives),
    )
