"""HyCon's hybrid contrast: semi-, intra- and inter-modal losses, and their weighted sum."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from mmcontrast import _checks
from mmcontrast.masks import off_diagonal, only_present, presence
from mmcontrast.mining import PairSelection, hardness_weights, thin
from mmcontrast.pairs import (
    Pairs,
    inter_modal_pairs,
    intra_modal_pairs,
    participants,
    relations,
)
from mmcontrast.rows import RowMap, dot, map_rows, softmax_normalize, upcast
from mmcontrast.supervised import share
from mmcontrast.terms import LossTerms

REFINE_ON = ("selected", "all", "weighted")


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
    rows = [map_rows(x, normalize) for x in only_present(features, present).values()]
    x = torch.stack(rows, dim=1)
    here = torch.stack(list(present.values()), dim=1)
    partners = here[:, :, None] & here[:, None, :] & off_diagonal(len(rows), here.device)
    number = partners.sum(-1)
    losses = torch.where(partners, (dot(x, x) - margin).square(), 0).sum(-1) / number.clamp_min(1)
    return _checks.reduce(losses, number > 0, weight=weight, reduction=reduction)


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

    References: HyCon, IEEE TAFFC 14(3), eq. 7-9 and 13-15.
    """
    return _contrast(
        intra_modal_pairs(
            features, labels, positives=positives, negatives=negatives, present=present
        ),
        target=1.0,
        refine=refine,
        log=log,
        selection=selection,
        factor=1,
        refine_on=refine_on,
        normalize=normalize,
        weight=weight,
        reduction=reduction,
    )


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

    References: HyCon, IEEE TAFFC 14(3), eq. 10-12 and 13-15.
    """
    return _contrast(
        inter_modal_pairs(
            features, labels, positives=positives, negatives=negatives, present=present
        ),
        target=margin,
        refine=refine,
        log=log,
        selection=selection,
        factor=_inter_factor(selection),
        refine_on=refine_on,
        normalize=normalize,
        weight=weight,
        reduction=reduction,
    )


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

    References: HyCon, IEEE TAFFC 14(3), eq. 16, which sums over samples and modalities where this
        takes the mean by default.
    """
    positives, negatives, known = relations(features, labels, positives, negatives)
    rows, taking_part = participants(features, known, present)
    names = ("intra", "inter", "semi")
    if not isinstance(weights, tuple | list) or len(weights) != len(names):
        _checks.fail("weights", "three numbers, for intra, inter and semi", weights)

    def supervised(pairs_of: Callable[..., dict[str, Pairs]], target: float, factor: int) -> Tensor:
        return _contrast(
            pairs_of(rows, None, positives=positives, negatives=negatives, present=taking_part),
            target=target,
            refine=refine,
            log=log,
            selection=selection,
            factor=factor,
            refine_on=refine_on,
            normalize=normalize,
            weight=weight,
            reduction=reduction,
        )

    def intra() -> Tensor:
        return supervised(intra_modal_pairs, 1.0, 1)

    def inter() -> Tensor:
        return supervised(inter_modal_pairs, margin, _inter_factor(selection))

    def semi() -> Tensor:
        return semi_contrast(
            rows,
            margin=margin,
            normalize=normalize,
            present=taking_part,
            weight=weight,
            reduction=reduction,
        )

    some = next(iter(rows.values()))
    size = (len(some), len(rows)) if reduction == "none" else ()
    nothing = torch.zeros(size, dtype=upcast(some).dtype, device=some.device)
    chosen = zip(names, (intra, inter, semi), weights, strict=True)
    terms = {name: term() if factor != 0 else nothing for name, term, factor in chosen}
    return LossTerms(terms, dict(zip(names, weights, strict=True)))


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


def _inter_factor(selection: PairSelection | None) -> int:
    """How many times h pairs stay across modalities; 1 for what ``_contrast`` will refuse."""
    return selection.inter_factor if isinstance(selection, PairSelection) else 1


def _contrast(
    pairs: Mapping[str, Pairs],
    *,
    target: float,
    refine: bool,
    log: bool,
    selection: PairSelection | None,
    factor: int,
    refine_on: str,
    normalize: RowMap | None,
    weight: Tensor | None,
    reduction: str,
) -> Tensor:
    """The ratio and the refinement of all modalities' pairs, each reduced over who has them."""
    _checks.one_of("refine_on", refine_on, REFINE_ON)
    _checks.reduction(reduction)
    if selection is not None and not isinstance(selection, PairSelection):
        _checks.fail("selection", "a PairSelection or None", repr(selection))
    count: int | Tensor = 0
    if selection is not None:
        here = torch.stack([modality.here for modality in pairs.values()]).any(0)
        count = factor * selection.count(here.sum())
    ratios, refinements = [], []
    for anchors, candidates, positives, negatives, _ in pairs.values():
        similarity = dot(map_rows(anchors, normalize), map_rows(candidates, normalize))
        chosen, pull, push = positives, positives, negatives
        if selection is not None:
            chosen, rejected = thin(similarity, positives, negatives, selection, count)
            pull, push = _selection_weights(similarity, chosen, rejected, selection)
        ratios.append(share(similarity, pull, push, log=log))
        refined = positives if refine_on == "all" else chosen
        value = similarity * pull if refine_on == "weighted" else similarity
        number = refined.sum(-1)
        errors = ((value - target).square() * refined).sum(-1)
        refinements.append((errors / torch.where(number > 0, number, 1), number > 0))
    total = _reduce(ratios, weight, reduction)
    return total + _reduce(refinements, weight, reduction) if refine else total


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


def _reduce(parts: list[tuple[Tensor, Tensor]], weight: Tensor | None, reduction: str) -> Tensor:
    """Reduce the (B,) values of each modality as one (B, M)."""
    values, counted = (torch.stack(columns, dim=1) for columns in zip(*parts, strict=True))
    return _checks.reduce(values, counted, weight=weight, reduction=reduction)
