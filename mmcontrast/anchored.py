"""InfoNCE between one anchor modality and each of the others."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from mmcontrast import arguments
from mmcontrast.distributed import Group, check_names, joined
from mmcontrast.held import check_settings
from mmcontrast.infonce import info_nce
from mmcontrast.loading import load_checked
from mmcontrast.presence import only_present, presence
from mmcontrast.rows import RowMap, exact_number, l2_normalize
from mmcontrast.sharded import local_rows
from mmcontrast.temperature import LearnableTemperature, current
from mmcontrast.terms import LossTerms

DIRECTIONS = ("from_anchor", "to_anchor", "both")


@local_rows
def anchored_info_nce(
    features: Mapping[str, Tensor],
    *,
    anchor: str = "text",
    direction: str = "from_anchor",
    temperature: float | Tensor = 0.1,
    present: Mapping[str, Tensor] | None = None,
    decoupled: bool = False,
    prior: float | Tensor = 0.0,
    smoothing: float = 0.0,
    weight: Tensor | None = None,
    normalize: RowMap | None = l2_normalize,
    reduction: str = "mean",
    group: Group | None = None,
) -> LossTerms:
    r"""InfoNCE between one anchor modality and each of the others, text-centred by default.

    .. math:: L = \sum_{m \ne a} \mathrm{InfoNCE}(x_a, x_m)

    A sample takes part in the term of a pair of modalities if it has both.

    Args:
        features: (B, D) by modality, two or more.
        anchor: the modality that all others are compared with.
        direction: ``"from_anchor"`` (the anchor picks its partner), ``"to_anchor"`` (the partner
            picks the anchor), or ``"both"`` (the sum of the two).
        temperature: above 0; a float, or a tensor of shape () or (1,) when it is learned.
        present: (B,) bool by modality, which samples have it; all where it is left out. Absent rows
            affect neither value nor gradient.
        decoupled, prior, smoothing: as in :func:`info_nce`.
        weight: (B,) sample weights.
        normalize: row map before the dot product; None for raw dot products.
        reduction: ``"mean"`` and ``"sum"`` give scalar terms, ``"none"`` gives (B,).
        group: as in :func:`info_nce`: candidates are all ranks' samples. Every rank must have the
            same modalities in the same order, which is checked.

    Returns:
        One term for each other modality, ``"text-audio"`` and so on in the mapping's order, each of
        weight 1.

    Raises:
        ValueError: on fewer than two modalities, shapes that disagree, an anchor or a direction
            that does not exist, a prior or smoothing outside [0, 1), or a float temperature that is
            not positive.

    Example:
        >>> eye = torch.eye(3)
        >>> terms = anchored_info_nce({"text": eye, "audio": eye, "vision": eye}, temperature=1.0)
        >>> list(terms), terms.total
        (['text-audio', 'text-vision'], tensor(1.1029))

    References: TeCaFN, eq. 6 and the sum below it (from_anchor, temperature 0.1 in its code); MFON,
        eq. 7-8.
    """
    check_names("features", features, group)
    arguments.features(features)
    arguments.one_of("anchor", anchor, list(features))
    arguments.one_of("direction", direction, DIRECTIONS)
    temperature = arguments.temperature(temperature)
    arguments.reduction(reduction)
    present = presence(features, present)
    rows = only_present(features, present)
    temperature = exact_number(temperature)
    # Presence is gathered once and always: every rank must reach this collective, whatever it has.
    together, _ = joined(torch.stack(list(present.values()), dim=1), group)  # (B of all ranks, M)
    everywhere = dict(zip(present, together.unbind(1), strict=True))

    def one_way(a: str, b: str) -> Tensor:
        here, both = present[a] & present[b], everywhere[a] & everywhere[b]
        return info_nce(
            rows[a],
            rows[b],
            temperature=temperature,
            keep=here[:, None] & both,
            decoupled=decoupled,
            prior=prior,
            smoothing=smoothing,
            weight=weight,
            normalize=normalize,
            reduction=reduction,
            group=group,
        )

    terms = {}
    for other in rows:
        if other == anchor:
            continue
        ways = {"from_anchor": [(anchor, other)], "to_anchor": [(other, anchor)]}
        chosen = ways.get(direction, ways["from_anchor"] + ways["to_anchor"])
        terms[f"{anchor}-{other}"] = torch.stack([one_way(a, b) for a, b in chosen]).sum(0)
    return LossTerms(terms)


class AnchoredInfoNCE(nn.Module):
    """:func:`anchored_info_nce` with its settings held.

    Args:
        temperature: a float, or a :class:`LearnableTemperature`.
        decoupled, prior, smoothing: as in :func:`anchored_info_nce`; prior is a float.
        anchor, direction, normalize, reduction, group: as in :func:`anchored_info_nce`.

    Example:
        >>> loss = AnchoredInfoNCE(anchor="text", direction="both")
        >>> list(loss({"text": torch.eye(2), "audio": torch.eye(2)}))
        ['text-audio']
    """

    load_state_dict = load_checked

    def __init__(
        self,
        *,
        anchor: str = "text",
        direction: str = "from_anchor",
        temperature: float | LearnableTemperature = 0.1,
        decoupled: bool = False,
        prior: float = 0.0,
        smoothing: float = 0.0,
        normalize: RowMap | None = l2_normalize,
        reduction: str = "mean",
        group: Group | None = None,
    ):
        super().__init__()
        self.anchor = anchor
        self.direction = direction
        self.temperature = temperature
        self.decoupled = decoupled
        self.prior = prior
        self.smoothing = smoothing
        self.normalize = normalize
        self.reduction = reduction
        self.group = group
        arguments.word("anchor", anchor)
        arguments.one_of("direction", direction, DIRECTIONS)
        check_settings(self)

    def forward(
        self,
        features: Mapping[str, Tensor],
        *,
        present: Mapping[str, Tensor] | None = None,
        weight: Tensor | None = None,
    ) -> LossTerms:
        """See :func:`anchored_info_nce`."""
        return anchored_info_nce(
            features,
            anchor=self.anchor,
            direction=self.direction,
            temperature=current(self.temperature),
            present=present,
            decoupled=self.decoupled,
            prior=self.prior,
            smoothing=self.smoothing,
            weight=weight,
            normalize=self.normalize,
            reduction=self.reduction,
            group=self.group,
        )
