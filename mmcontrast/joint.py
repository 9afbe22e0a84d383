"""Contrast of all modalities of a sample together, not of pairs of them."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from mmcontrast import arguments
from mmcontrast.distributed import Group, check_names
from mmcontrast.held import check_settings
from mmcontrast.joint_terms import gathered, joint_term, shuffled_orders
from mmcontrast.learned import replicated, replicated_module
from mmcontrast.loading import load_checked
from mmcontrast.presence import only_present, presence
from mmcontrast.reductions import Reduction
from mmcontrast.rows import ROW_MAPS, RowMap, exact_number, l2_normalize, map_rows
from mmcontrast.sharded import local_rows
from mmcontrast.temperature import LearnableTemperature, current
from mmcontrast.terms import LossTerms
from mmcontrast.wide import narrow, out_of_range, widen

SCORES = ("product", "volume", "area")
NEGATIVES = ("shuffled", "all")


@local_rows
def joint_contrast(
    features: Mapping[str, Tensor],
    *,
    score: str = "product",
    anchor: str | None = None,
    negatives: str = "shuffled",
    temperature: float | Tensor = 0.07,
    present: Mapping[str, Tensor] | None = None,
    weight: Tensor | None = None,
    normalize: RowMap | None = l2_normalize,
    reduction: str = "mean",
    chunk_size: int | None = None,
    group: Group | None = None,
    generator: torch.Generator | None = None,
) -> LossTerms:
    r"""Contrast of tuples: one score of all modalities of a sample at once.

    An anchor picks its tuple, one row of each other modality, out of tuples that do not belong
    together. So it can learn what no pair of modalities tells, as where a third one is the
    exclusive or of two. Each modality in turn is the anchor. With m the rows of the K others,

    .. math:: \ell_i = -\log \frac{e^{s(a_i, m_i) / \tau}}{e^{s(a_i, m_i) / \tau} +
              \sum_{t} e^{s(a_i, m_t) / \tau}}

    ============  ==============================================================================
    score         s
    ============  ==============================================================================
    ``product``   :math:`\sum_d a_d m^{(1)}_d \cdots m^{(K)}_d`. The negatives are B - 1 tuples of
                  rows that are shuffled for each modality by itself (``"shuffled"``), or all
                  :math:`B^K - 1` other tuples (``"all"``).
    ``volume``    minus the volume of the parallelotope, :math:`\sqrt{\det G}` with G the dot
                  products of :math:`a, m^{(1)}, \dots, m^{(K)}`. The negatives are other samples'
                  tuples; and half of the loss is the tuple's, which picks its anchor.
    ``area``      minus the area of the triangle with corners :math:`a, m^{(1)}, m^{(2)}`, in both
                  directions too; of more others, the volume of their simplex.
    ============  ==============================================================================

    Volumes and areas are computed in float64: what is left of a flat one is below a float32's
    rounding of its sides.

    With one other modality these are pairwise losses: the product is :func:`info_nce`, so that the
    total is :func:`symmetric_info_nce`; the volume is the sine of the angle, and the area the
    Euclidean distance, each in both directions.

    Args:
        features: (B, D) by modality, two or more.
        score: ``"product"``, ``"volume"`` or ``"area"``.
        anchor: a modality; default: each in turn.
        negatives: of the product: ``"shuffled"``, O(B^2), or ``"all"``, O(B^M) for M modalities.
        temperature: above 0; a float, or a tensor of shape () or (1,) when it is learned.
        present: (B,) bool by modality, which samples have it; all where it is left out. An anchor
            is compared on the modalities that its sample has; a candidate that lacks one of those
            takes no part. Absent rows affect neither value nor gradient.
        weight: (B,) sample weights.
        normalize: row map of all modalities; None for rows as they are.
        reduction: ``"mean"`` and ``"sum"`` give scalar terms, ``"none"`` gives (B,). The mean is
            over samples with the anchor and at least one other modality.
        chunk_size: rows, or tuples, of a tile; default: by the cache. Memory is O(B D) and a tile.
        group: as in :func:`info_nce`: candidates are all ranks' samples. Every rank must have the
            same modalities in the same order, which is checked.
        generator: of the shuffled tuples, on the features' device; None is torch's own, the only
            one that ``torch.compile(fullgraph=True)`` takes. Over ranks, the first one's: its draws
            are those of one process on the whole batch.

    Returns:
        One term for each anchor, by its name. The total is their mean.

    Raises:
        ValueError: on fewer than two modalities, shapes that disagree, a score, anchor or kind of
            negatives that does not exist, or a float temperature that is not positive.

    Example:
        >>> eye = torch.eye(2)
        >>> features = {"text": eye, "audio": eye, "vision": eye}
        >>> terms = joint_contrast(features, negatives="all", temperature=1.0)
        >>> list(terms), terms.total  # log(e + 3) - 1
        (['text', 'audio', 'vision'], tensor(0.7437))

    Note:
        With unit rows and ``logit_scale = 1 / temperature``, symile's ``Symile("n_squared")`` is
        the product with all tuples, and ``Symile("n")`` that with shuffled ones, draw for draw. It
        keeps a shuffled tuple that happens to be the anchor's own as a negative, which is left out
        here; and it shuffles two modalities as well. The code of GRAM and TRIANGLE smooths the
        labels by 0.1. GRAM's takes the root of the determinant's absolute value, whose gradient is
        NaN where it is 0; here value and gradient are finite everywhere. TRIANGLE's leaves the root
        out, and so has twice the squared area.

    References: Symile, arXiv:2411.01053, section 3; GRAM, arXiv:2412.11959, section 3, the losses
        called A2D and D2A; TRIANGLE, arXiv:2509.24734, NeurIPS 2025.
    """
    check_names("features", features, group)
    arguments.features(features)
    _check_kind(score, negatives)
    if anchor is not None:
        arguments.one_of("anchor", anchor, list(features))
    first = next(iter(features.values()))
    temperature = replicated(arguments.temperature(temperature), group, first)
    normalize = replicated_module(normalize, group)
    arguments.reduction(reduction)
    arguments.generator(generator)
    chunk_size = arguments.chunk(chunk_size)
    there = presence(features, present)
    given = only_present(features, there)
    if score == "product":
        wide = normalize is None and out_of_range(given, group)
    else:  # of a flat tuple's height, float32 leaves three digits; MPS has no float64
        wide = not any(x.dtype == torch.float64 or x.device.type == "mps" for x in given.values())
    # As they are given, so that gradients are capped in their own dtype. A map of the caller's own
    # may have parameters of float32.
    early = wide and normalize in (None, *ROW_MAPS)
    rows = {k: map_rows(x, normalize) for k, x in (widen(given) if early else given).items()}
    rows = widen(rows) if wide else rows
    kind = negatives if score == "product" else score
    some = None if present is None else there
    samples = gathered(rows, some, group, products=score == "product")
    terms = {}
    for name in rows if anchor is None else [anchor]:
        orders = {}
        if kind == "shuffled" and len(rows) > 2:
            others = [other for other in rows if other != name]
            size = samples.every[name].shape[0]
            orders = shuffled_orders(others, size, first, group, generator)
        term = joint_term(
            samples,
            name,
            orders,
            kind=kind,
            temperature=exact_number(temperature),
            reduction=Reduction(reduction, weight, group),
            chunk_size=chunk_size,
            group=group,
        )
        terms[name] = narrow(term) if wide else term
    return LossTerms(terms, dict.fromkeys(terms, 1 / len(terms)))


def _check_kind(score: str, negatives: str) -> None:
    arguments.one_of("score", score, SCORES)
    arguments.one_of("negatives", negatives, NEGATIVES)
    if score != "product" and negatives != "shuffled":
        expected = f"the default with score={score!r}, whose negatives are other samples' tuples"
        arguments.fail("negatives", expected, arguments.shown(negatives))


class JointContrast(nn.Module):
    """:func:`joint_contrast` with its settings held.

    Args:
        temperature: a float, or a :class:`LearnableTemperature`.
        score, anchor, negatives, normalize, reduction, chunk_size, group: as in
            :func:`joint_contrast`.

    Example:
        >>> loss = JointContrast(score="volume")
        >>> list(loss({"text": torch.eye(2), "audio": torch.eye(2), "vision": torch.eye(2)}))
        ['text', 'audio', 'vision']
    """

    load_state_dict = load_checked

    def __init__(
        self,
        *,
        score: str = "product",
        anchor: str | None = None,
        negatives: str = "shuffled",
        temperature: float | LearnableTemperature = 0.07,
        normalize: RowMap | None = l2_normalize,
        reduction: str = "mean",
        chunk_size: int | None = None,
        group: Group | None = None,
    ):
        super().__init__()
        self.score = score
        self.anchor = anchor
        self.negatives = negatives
        self.temperature = temperature
        self.normalize = normalize
        self.reduction = reduction
        self.chunk_size = chunk_size
        self.group = group
        _check_kind(score, negatives)
        if anchor is not None:
            arguments.word("anchor", anchor)
        check_settings(self)

    def forward(
        self,
        features: Mapping[str, Tensor],
        *,
        present: Mapping[str, Tensor] | None = None,
        weight: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> LossTerms:
        """See :func:`joint_contrast`."""
        return joint_contrast(
            features,
            score=self.score,
            anchor=self.anchor,
            negatives=self.negatives,
            temperature=current(self.temperature),
            present=present,
            weight=weight,
            normalize=self.normalize,
            reduction=self.reduction,
            chunk_size=self.chunk_size,
            group=self.group,
            generator=generator,
        )
