"""HyCon's hybrid contrast: the weighted sum of its semi-, intra- and inter-modal losses."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from mmcontrast import arguments
from mmcontrast.distributed import Group
from mmcontrast.held import check_settings
from mmcontrast.hybrid.engine import terms_by_name
from mmcontrast.hybrid.selection import PairSelection
from mmcontrast.hybrid.settings import Settings, check_selection
from mmcontrast.reductions import Reduction
from mmcontrast.rows import RowMap, softmax_normalize, upcast
from mmcontrast.sharded import local_rows
from mmcontrast.terms import LossTerms


@local_rows
def hybrid_contrast(
    features: Mapping[str, Tensor],
    labels: Tensor | None,
    *,
    margin: float | Tensor = 0.8,
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
    group: Group | None = None,
) -> LossTerms:
    r"""HyCon's hybrid contrast: intra-modal, inter-modal and semi-contrastive loss, weighted.

    .. math:: L = \lambda_1 L_{IAMCL} + \lambda_2 L_{IEMCL} + \lambda_3 L_{SCL}

    With ``selection=PairSelection()`` it is the loss of HyCon-v2.

    Args:
        features: (B, D) by modality, two or more.
        labels: (B,) classes, or (B, L): equal in every column. A sample of label -100 takes no part
            in any term; call :func:`semi_contrast`, which needs no labels, to use it there. None
            with ``positives`` and ``negatives``.
        margin: :math:`\alpha` of the inter-modal and the semi-contrastive loss.
        weights: :math:`\lambda_1, \lambda_2, \lambda_3`. A term of weight 0 is not evaluated, and
            is 0.
        refine, log, selection, refine_on, positives, negatives, normalize, present, weight,
            reduction, group: as in :func:`intra_modal_contrast`.

    Returns:
        Terms ``"intra"``, ``"inter"`` and ``"semi"``, each a scalar or (B, M).

    Raises:
        ValueError: on fewer than two modalities, shapes that disagree, labels with fractions
            (scores, not classes; read on the CPU only), other than three weights, or another word
            for refine_on.

    Example:
        >>> x = {"text": torch.zeros(3, 2), "audio": torch.zeros(3, 2)}
        >>> terms = hybrid_contrast(x, torch.tensor([0, 0, 1]))
        >>> list(terms), terms.total
        (['intra', 'inter', 'semi'], tensor(-0.5700))

    Note:
        From 200 samples on, with labels and without selection, the terms are evaluated by sums over
        classes: the same values in O(B D^2) time and O(B D) memory, for any number of classes. This
        reads the labels, which waits for the device. Smaller batches, masks instead of labels,
        selection, ``torch.func`` and forward mode use the similarities: all of them at once; or, in
        eager mode and for more than 2^22 of them, those of some anchors at a time, computed again
        in the backward pass. Under ``torch.compile`` and ``torch.export``, terms of labels are one
        operator that chooses between the two by the size of each batch, and is evaluated again in
        its backward pass. Both ways can be differentiated twice.

        Similarities of rows that are nearly one-hot add up to sums that a float32 does not hold.
        Such a sum counts as 0; where values can be read, on the CPU in eager mode without a group,
        the loss is computed in float64 instead, as where a raw row outweighs its class.

    References: HyCon, IEEE TAFFC 14(3), eq. 16, which sums over samples and modalities where this
        takes the mean by default.
    """
    _check_three_weights(weights)
    margin = arguments.constant("margin", margin)
    targets = {"intra": 1.0, "inter": margin, "semi": margin}
    factors = dict(zip(targets, weights, strict=True))
    settings = Settings(
        refine, log, selection, refine_on, normalize, Reduction(reduction, weight, group)
    )
    terms = terms_by_name(
        features,
        labels,
        {name: target for name, target in targets.items() if factors[name] != 0},
        settings,
        positives=positives,
        negatives=negatives,
        present=present,
    )
    some = next(iter(features.values()))
    size = (len(some), len(features)) if reduction == "none" else ()
    nothing = torch.zeros(size, dtype=upcast(some).dtype, device=some.device)
    return LossTerms({name: terms.get(name, nothing) for name in targets}, factors)


def _check_three_weights(weights: object) -> None:
    """Three numbers."""
    if not isinstance(weights, tuple | list) or len(weights) != 3:
        arguments.fail(
            "weights", "three numbers, for intra, inter and semi", arguments.shown(weights)
        )
    for place, weight in enumerate(weights):
        arguments.number_or_scalar(f"weights[{place}]", weight)


class HybridContrast(nn.Module):
    """:func:`hybrid_contrast` with its settings held.

    Args:
        margin, weights, refine, log, selection, refine_on, normalize, reduction, group: as in
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
        margin: float | Tensor = 0.8,
        weights: tuple[float, float, float] = (1, 1, 1),
        refine: bool = True,
        log: bool = False,
        selection: PairSelection | None = None,
        refine_on: str = "selected",
        normalize: RowMap | None = softmax_normalize,
        reduction: str = "mean",
        group: Group | None = None,
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
        self.group = group
        _check_three_weights(weights)
        check_selection(selection, refine_on)
        check_settings(self)

    def forward(
        self,
        features: Mapping[str, Tensor],
        labels: Tensor | None,
        *,
        positives: Tensor | None = None,
        negatives: Tensor | None = None,
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
            positives=positives,
            negatives=negatives,
            normalize=self.normalize,
            present=present,
            weight=weight,
            reduction=self.reduction,
            group=self.group,
        )
