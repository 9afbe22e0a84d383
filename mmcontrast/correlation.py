"""CorMulT's correlation of two modalities, and the triplet loss that trains it."""

from collections.abc import Mapping

import torch
from einops import rearrange
from torch import Tensor, nn

from mmcontrast import arguments
from mmcontrast.distances import Distance, checked_distance, cosine_distance, measured, within
from mmcontrast.distributed import Group, check_names
from mmcontrast.held import check_settings
from mmcontrast.learned import replicated_module
from mmcontrast.loading import load_checked
from mmcontrast.margin import triplet
from mmcontrast.presence import presence
from mmcontrast.rows import l2_normalize, summable_scale, upcast
from mmcontrast.sharded import local_rows
from mmcontrast.terms import LossTerms

REDUCE = ("flatten", "mean", "per_step")


@local_rows
def modality_correlation(
    x: Tensor, y: Tensor, *, reduce: str = "flatten", mask: Tensor | None = None
) -> Tensor:
    r"""Correlation of two modalities, sample by sample: the cosine of their maps.

    The paper takes "the cosine" of two matrices without a definition. Flattening them compares
    every step with its counterpart; the paper's code averages over the steps first.

    Args:
        x: (B, T, D) maps in a space that the modalities share, or plain (B, D) rows.
        y: like ``x``.
        reduce: ``"flatten"`` (one cosine over T and D), ``"mean"`` (the cosine of the means over
            T), or ``"per_step"`` (the mean of the T cosines). All are equal on rows. Sequences of
            different lengths have no steps in common: pass their means as rows.
        mask: (B, T), or (B,) for rows: what is real. The rest affects neither value nor gradient.

    Returns:
        (B,) in [-1, 1], float32, or float64 for float64 input. A map that is zero, or fully masked,
        gives 0 and a gradient of 0.

    Raises:
        ValueError: on shapes or dtypes that disagree, or another word for reduce.

    Example:
        >>> x = torch.tensor([[[2.0, 0.0], [0.0, 0.0]]])
        >>> modality_correlation(x, x.flip(1)), modality_correlation(x, x.flip(1), reduce="mean")
        (tensor([0.]), tensor([1.]))

    References: CorMulT, arXiv:2407.07046, section 3.2.3.
    """
    _check_maps("x", x)
    _check_maps("y", y, like=x)
    arguments.one_of("reduce", reduce, REDUCE)
    if mask is None:
        mask = torch.ones(x.shape[:-1], dtype=torch.bool, device=x.device)
    arguments.mask("mask", mask, tuple(x.shape[:-1]))
    x, y = (torch.where(mask[..., None], upcast(v), 0) for v in (x, y))
    if x.ndim == 2:
        return _cosine(x, y)
    number = mask.sum(1).clamp_min(1)
    if reduce == "flatten":
        return _cosine(x.flatten(1), y.flatten(1))  # (B, T D)
    if reduce == "mean":
        return _cosine(*((v * _scale(v)).sum(1) / number[:, None] for v in (x, y)))
    return _cosine(x, y).sum(1) / number


@local_rows
def modality_correlation_triplet(
    features: Mapping[str, Tensor],
    negatives: Mapping[str, Tensor],
    *,
    altered: Mapping[str, Tensor] | None = None,
    margin: float | Tensor = 0.2,
    distance: Distance = cosine_distance,
    reduce: str = "flatten",
    skip_unaltered: bool = True,
    present: Mapping[str, Tensor] | None = None,
    weight: Tensor | None = None,
    reduction: str = "mean",
    group: Group | None = None,
) -> LossTerms:
    r"""Triplet loss: a modality closer to the sample's other modalities than to altered ones.

    .. math::
        L_m = \sum_{m' \ne m} \mathrm{TL}(F_m, F_{m'}, \tilde F_{m'}),
        \qquad L = \frac{1}{M} \sum_m L_m

    TL is :func:`triplet`, averaged over the samples with an altered ``m'``. Where it was not
    altered, the positive is the negative: the term is the margin, with a gradient of 0.

    Args:
        features: (B, T, D) maps or (B, D) rows by modality, two or more, of one shape.
        negatives: the same of the altered batch; the same modalities.
        altered: (B,) bool by modality, the samples with a negative that differs from the positive;
            all where it is left out.
        margin: by how much, in the distance's unit. The paper prints none; its code has 0.2.
        distance: callable (..., D), (..., D) -> (...).
        reduce: how a distance compares maps, as in :func:`modality_correlation`.
        skip_unaltered: False counts every sample in every term, as the paper's code does.
        present: (B,) bool by modality, which samples have it; all where it is left out. Absent rows
            affect neither value nor gradient.
        weight: (B,) sample weights.
        reduction: ``"mean"`` and ``"sum"`` over the samples give scalar terms, ``"none"`` gives
            (B,).
        group: a process group, or ``"world"``: mean and sum are those of all its ranks' samples,
            the same on every rank; see :func:`gather`. Every rank must have the same modalities in
            the same order, which is checked. None: this rank alone.

    Returns:
        One term for each modality, in the mapping's order, each of weight 1 / M. A pair of
        modalities without any counted sample adds 0.

    Raises:
        ValueError: on fewer than two modalities, other modalities in ``negatives``, ``altered`` or
            ``present``, shapes or dtypes that disagree, or another word for reduce.

    Example:
        >>> x = {"text": torch.eye(2), "audio": torch.eye(2)}
        >>> swapped = {name: rows.flip(0) for name, rows in x.items()}
        >>> terms = modality_correlation_triplet(x, swapped, margin=1.5)
        >>> list(terms), terms["text"], terms.total  # 0 - 1 + 1.5
        (['text', 'audio'], tensor(0.5000), tensor(0.5000))

    References: CorMulT, arXiv:2407.07046, eq. 8.
    """
    check_names("features", features, group)
    check_names("negatives", negatives, group)
    _check_modalities("features", features)
    _check_modalities("negatives", negatives)
    if set(negatives) != set(features):
        arguments.fail("negatives", f"the modalities {list(features)}", list(negatives))
    arguments.one_of("reduce", reduce, REDUCE)
    arguments.flag("skip_unaltered", skip_unaltered)
    checked_distance(distance)
    distance = replicated_module(distance, group)
    first = next(iter(features.values()))
    for name, x in negatives.items():
        _check_maps(f"negatives[{name!r}]", x, like=first)
    present = presence(features, present)
    changed = _changed(features, altered)

    def steps_apart(x: Tensor, y: Tensor) -> Tensor:
        return measured(distance, x.reshape(first.shape), y.reshape(first.shape)).mean(1)

    measure = steps_apart if reduce == "per_step" and first.ndim == 3 else distance
    anchors = {name: _rows(x, reduce) for name, x in features.items()}
    opposites = {name: _rows(x, reduce) for name, x in negatives.items()}

    def pair(m: str, other: str) -> Tensor:
        keep = present[m] & present[other]
        return triplet(
            anchors[m],
            anchors[other],
            opposites[other],
            margin=margin,
            distance=measure,
            keep=keep & changed[other] if skip_unaltered else keep,
            weight=weight,
            reduction=reduction,
            group=group,
        )

    terms = {m: torch.stack([pair(m, n) for n in anchors if n != m]).sum(0) for m in anchors}
    return LossTerms(terms, {name: 1 / len(terms) for name in terms})


class ModalityCorrelationTriplet(nn.Module):
    """:func:`modality_correlation_triplet` with its settings held.

    Args:
        margin, distance, reduce, skip_unaltered, reduction, group: as in
            :func:`modality_correlation_triplet`. A distance that is a Module is trained with it.

    Example:
        >>> x = {"text": torch.eye(2), "audio": torch.eye(2)}
        >>> ModalityCorrelationTriplet()(x, x).total  # the negatives are the positives
        tensor(0.2000)
    """

    load_state_dict = load_checked

    def __init__(
        self,
        *,
        margin: float | Tensor = 0.2,
        distance: Distance = cosine_distance,
        reduce: str = "flatten",
        skip_unaltered: bool = True,
        reduction: str = "mean",
        group: Group | None = None,
    ):
        super().__init__()
        self.margin = margin
        self.distance = distance
        self.reduce = reduce
        self.skip_unaltered = skip_unaltered
        self.reduction = reduction
        self.group = group
        arguments.one_of("reduce", reduce, REDUCE)
        check_settings(self)

    def forward(
        self,
        features: Mapping[str, Tensor],
        negatives: Mapping[str, Tensor],
        *,
        altered: Mapping[str, Tensor] | None = None,
        present: Mapping[str, Tensor] | None = None,
        weight: Tensor | None = None,
    ) -> LossTerms:
        """See :func:`modality_correlation_triplet`."""
        return modality_correlation_triplet(
            features,
            negatives,
            altered=altered,
            margin=self.margin,
            distance=self.distance,
            reduce=self.reduce,
            skip_unaltered=self.skip_unaltered,
            present=present,
            weight=weight,
            reduction=self.reduction,
            group=self.group,
        )


def _check_maps(name: str, x: Tensor, like: Tensor | None = None) -> None:
    """Floating (B, T, D) or (B, D) with T, D >= 1, of the shape of ``like``."""
    if arguments.tensor(name, x).ndim not in (2, 3) or 0 in x.shape[1:]:
        arguments.fail(name, "shape (B, T, D) or (B, D), no T or D of 0", arguments.shape(x))
    if not x.is_floating_point():
        arguments.fail(name, "a floating dtype", x.dtype)
    if like is not None and x.shape != like.shape:
        arguments.fail(name, f"shape {arguments.shape(like)}", arguments.shape(x))


def _check_modalities(name: str, maps: Mapping[str, Tensor]) -> None:
    """Two modalities or more, their maps of one shape."""
    if not isinstance(maps, Mapping):
        arguments.fail(name, "a mapping of modality to (B, T, D) or (B, D)", type(maps).__name__)
    if len(maps) < 2:
        arguments.fail(name, "at least two modalities", list(maps))
    first = None
    for modality, x in maps.items():
        _check_maps(f"{name}[{modality!r}]", x, like=first)
        first = x if first is None else first


def _changed(
    features: Mapping[str, Tensor], altered: Mapping[str, Tensor] | None
) -> dict[str, Tensor]:
    """(B,) bool for every modality; True for those that ``altered`` leaves out."""
    if altered is not None:
        arguments.mapping("altered", altered, "modality to (B,) bool")
    given = {} if altered is None else dict(altered)
    for name, mask in given.items():
        arguments.one_of("altered", name, list(features))
        arguments.mask(f"altered[{name!r}]", mask, (features[name].shape[0],))
    every = {
        name: torch.ones(x.shape[0], dtype=torch.bool, device=x.device)
        for name, x in features.items()
    }
    return every | given


def _rows(x: Tensor, reduce: str) -> Tensor:
    """The rows that distances are taken between, (B, T, D) or (B, D) -> (B, ...)."""
    if reduce == "mean" and x.ndim == 3:
        x = upcast(x)
        return (x * _scale(x)).mean(1) / _scale(x)[:, 0]
    return rearrange(x, "b ... -> b (...)")


def _scale(x: Tensor) -> Tensor:
    """(B, 1, 1): what makes large maps so small that their mean over the steps cannot overflow."""
    return summable_scale(x.detach().abs().amax((1, 2), keepdim=True))


def _cosine(x: Tensor, y: Tensor) -> Tensor:
    """(..., D), (..., D) -> (...) in [-1, 1]."""
    return within((l2_normalize(x) * l2_normalize(y)).sum(-1), -1, 1)
