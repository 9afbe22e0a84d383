"""MCL-MCF's contrast on several levels of a network, each a sum over pairs of views."""

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn

from mmcontrast import arguments
from mmcontrast.distributed import Group, check_names, joined, part, rows_of_ranks
from mmcontrast.held import check_settings
from mmcontrast.infonce import info_nce
from mmcontrast.loading import load_checked
from mmcontrast.masks import columns_of, different_label, labelled, same_label
from mmcontrast.rows import RowMap, checked_map, exact_number, l2_normalize, upcast
from mmcontrast.sharded import local_rows
from mmcontrast.symmetric import symmetric_info_nce
from mmcontrast.temperature import LearnableTemperature, current
from mmcontrast.terms import LossTerms

Level = Sequence[tuple[Tensor, Tensor] | tuple[Tensor, Tensor, Tensor]]
"""Pairs of views (B, D), (B, D); a third member, (B,) bool, marks the samples that have both."""

LEVELS = "a list of pairs, or a callable without arguments that returns it"

DESIGNS = ("A", "B", "C")


@local_rows
def multilevel_contrast(
    levels: Mapping[str, Level | Callable[[], Level]],
    *,
    weights: Mapping[str, float] | None = None,
    temperature: float | Tensor = 0.07,
    symmetric: bool = True,
    pair_design: str = "A",
    labels: Tensor | None = None,
    positives: Tensor | None = None,
    keep: Tensor | None = None,
    weight: Tensor | None = None,
    normalize: RowMap | None = l2_normalize,
    reduction: str = "mean",
    chunk_size: int | None = None,
    group: Group | None = None,
) -> LossTerms:
    r"""Multi-level contrast: InfoNCE between pairs of views, summed by level.

    .. math:: L_{level} = \sum_{(x, y)} \tfrac12 \big(\mathrm{InfoNCE}(x, y) +
              \mathrm{InfoNCE}(y, x)\big)

    MCL-MCF has three: single modalities, fused against single ones, and fused against fused.
    Three pair designs define the positives and the negatives:

    * ``"A"``: the positive is the same sample, the negatives are all others. Needs no labels.
    * ``"B"``: the positive is the same sample, the negatives are samples of another class.
    * ``"C"``: the positives are other samples of the class, the negatives those of another class.

    Args:
        levels: by name, pairs (x, y) of (B, D) views, B the same everywhere; or (x, y, present)
            with (B,) bool, the samples that have both: the other rows affect neither value nor
            gradient. Or a callable without arguments that returns such pairs: it is only called if
            the level's weight is not 0, so that an unused level is not even computed. A level
            without pairs is 0.
        weights: a number for each level, 1 where left out. A level of weight 0 is not evaluated,
            and is 0.
        temperature: :math:`\tau > 0`; a float, or a tensor of shape () or (1,) when it is learned.
        symmetric: False for the first direction only, from x to y.
        pair_design: ``"A"``, ``"B"`` or ``"C"``.
        labels: (B,) or (B, L) classes, for designs B and C; -100 takes no part in them. For
            sentiment scores, :func:`sentiment_classes`.
        positives: (B, B) bool or floating, in place of design A's diagonal; see :func:`info_nce`.
        keep: (B, B) bool, which of a design's pairs take part, rows for x and columns for y.
        weight: (B,) sample weights.
        normalize: row map before the dot product; None for raw dot products.
        reduction: ``"mean"`` and ``"sum"`` give scalar terms, ``"none"`` gives (B,).
        chunk_size: rows at a time, as in :func:`info_nce`.
        group: a process group, or ``"world"``: views are compared with those of all its ranks, and
            mean and sum are those of all its anchors. Masks are (B, B of all ranks), and every rank
            evaluates the same levels and pairs. None: this rank alone.

    Returns:
        One term for each level, in the mapping's order. Where no level is evaluated and all of them
        are callables, there is no device to put the zeros on: they are scalars on the CPU.

    Raises:
        ValueError: on no levels, weights for levels that are not there, shapes or dtypes that
            disagree, another design, labels missing in B or C or with fractions, positives given in
            B or C, or a float temperature that is not positive.

    Example:
        >>> eye = torch.eye(3)
        >>> levels = {"first": [(eye, eye), (eye, eye)], "second": [(eye, eye)]}
        >>> terms = multilevel_contrast(levels, weights={"second": 0.5}, temperature=1.0)
        >>> terms["first"], terms["second"], terms.total
        (tensor(1.1029), tensor(0.5514), tensor(1.3786))

    References: MCL-MCF, eq. 5, 12, 18 and 23, Algorithm 1, and table 7 for the designs.
    """
    check_names("levels", _counted(levels), group)
    if not isinstance(levels, Mapping) or not levels:
        arguments.fail("levels", "a mapping of at least one name to pairs", arguments.shown(levels))
    _check_weights(weights)
    factors = dict.fromkeys(levels, 1.0) | dict(weights or {})
    for name in factors:
        arguments.one_of("weights", name, list(levels))
    arguments.one_of("pair_design", pair_design, DESIGNS)
    temperature = arguments.temperature(temperature)
    temperature = exact_number(temperature)
    arguments.reduction(reduction)
    arguments.flag("symmetric", symmetric)
    chunk_size = arguments.chunk(chunk_size)
    checked_map(normalize)
    if positives is not None and pair_design != "A":
        arguments.fail("positives", f"None in design {pair_design}", arguments.shown(positives))
    if labels is not None:
        arguments.tensor("labels", labels)
    if labels is None and pair_design != "A":
        arguments.fail("labels", f"classes in design {pair_design}", None)
    wanted = {name: factors[name] != 0 for name in levels}
    pairs = {
        name: arguments.called(f"levels[{name!r}]", level, LEVELS) if callable(level) else level
        for name, level in levels.items()
        if wanted[name] or not callable(level)
    }
    some = _first_view(pairs)
    if some is None:
        return LossTerms({name: upcast(torch.zeros(())) for name in levels}, factors)
    size = some.shape[0]
    if keep is not None:
        arguments.mask("keep", keep, (size, rows_of_ranks(some, group, size=columns_of(keep))[0]))
    known = None
    if pair_design != "A" and labels is not None:
        labels = arguments.labels("labels", labels, size)
        known = labelled(labels)
        positives, compared = _design_masks(pair_design, *joined(labels, group))
        keep = _and(keep, compared)

    def contrast(x: Tensor, y: Tensor, present: Tensor | None = None) -> Tensor:
        compared, here = keep, _and(known, present)
        if here is not None:
            everywhere, _ = joined(here, group, size=columns_of(keep, positives))
            compared = _and(keep, here[:, None] & everywhere)
            x, y = torch.where(here[:, None], x, 0), torch.where(here[:, None], y, 0)
        loss = symmetric_info_nce if symmetric else info_nce
        return loss(
            x,
            y,
            temperature=temperature,
            positives=positives,
            keep=compared,
            weight=weight,
            normalize=normalize,
            reduction=reduction,
            chunk_size=chunk_size,
            group=group,
        )

    shape = (size,) if reduction == "none" else ()
    nothing = torch.zeros(shape, dtype=upcast(some).dtype, device=some.device)
    terms = {}
    for name in levels:
        values = [contrast(*pair) for pair in pairs[name]] if wanted[name] else []
        terms[name] = torch.stack(values).sum(0) if values else nothing
    return LossTerms(terms, factors)


class MultilevelContrast(nn.Module):
    """:func:`multilevel_contrast` with its settings held.

    Args:
        temperature: a float, or a :class:`LearnableTemperature`.
        weights, symmetric, pair_design, normalize, reduction, chunk_size, group: as in
            :func:`multilevel_contrast`.

    Example:
        >>> loss = MultilevelContrast(weights={"first": 0.05}, temperature=1.0)
        >>> loss({"first": [(torch.eye(3), torch.eye(3))]})["first"]
        tensor(0.5514)
    """

    load_state_dict = load_checked

    def __init__(
        self,
        *,
        weights: Mapping[str, float] | None = None,
        temperature: float | LearnableTemperature = 0.07,
        symmetric: bool = True,
        pair_design: str = "A",
        normalize: RowMap | None = l2_normalize,
        reduction: str = "mean",
        chunk_size: int | None = None,
        group: Group | None = None,
    ):
        super().__init__()
        self.weights = weights
        self.temperature = temperature
        self.symmetric = symmetric
        self.pair_design = pair_design
        self.normalize = normalize
        self.reduction = reduction
        self.chunk_size = chunk_size
        self.group = group
        arguments.one_of("pair_design", pair_design, DESIGNS)
        _check_weights(weights)
        check_settings(self)

    def forward(
        self,
        levels: Mapping[str, Level | Callable[[], Level]],
        *,
        labels: Tensor | None = None,
        positives: Tensor | None = None,
        keep: Tensor | None = None,
        weight: Tensor | None = None,
    ) -> LossTerms:
        """See :func:`multilevel_contrast`."""
        return multilevel_contrast(
            levels,
            weights=self.weights,
            temperature=current(self.temperature),
            symmetric=self.symmetric,
            pair_design=self.pair_design,
            labels=labels,
            positives=positives,
            keep=keep,
            weight=weight,
            normalize=self.normalize,
            reduction=self.reduction,
            chunk_size=self.chunk_size,
            group=self.group,
        )


def _counted(levels: object) -> object:
    """The mapping with each list's number of pairs in its name; anything else as it is."""
    if not isinstance(levels, Mapping):
        return levels
    lists = {name: level for name, level in levels.items() if isinstance(level, list | tuple)}
    return {f"{k}: {len(lists[k])} pairs" if k in lists else k: v for k, v in levels.items()}


def _check_weights(weights: object) -> None:
    """None, or a number for each level."""
    if weights is not None:
        for name, weight in arguments.mapping("weights", weights, "level to number").items():
            arguments.number_or_scalar(f"weights[{name!r}]", weight)


def _first_view(pairs: Mapping[str, Level]) -> Tensor | None:
    """The first view, once all views are (B, D) and all masks (B,); None without any view."""
    first: Tensor | None = None
    for name, level in pairs.items():
        if isinstance(level, Tensor) or not isinstance(level, Sequence):
            arguments.fail(f"levels[{name!r}]", "a list of pairs", type(level).__name__)
        for place, pair in enumerate(level):
            here = f"levels[{name!r}][{place}]"
            if not isinstance(pair, tuple | list) or len(pair) not in (2, 3):
                arguments.fail(here, "(x, y) or (x, y, present)", type(pair).__name__)
            rows = None if first is None else first.shape[0]
            arguments.matrix(f"{here}[0]", pair[0], rows=rows)
            arguments.matrix(f"{here}[1]", pair[1], rows=pair[0].shape[0], like=pair[0])
            if len(pair) == 3:
                arguments.mask(f"{here}[2]", pair[2], (len(pair[0]),))
            first = pair[0] if first is None else first
    return first


def _design_masks(design: str, labels: Tensor, own: slice) -> tuple[Tensor, Tensor]:
    """Designs B and C: (B, B of all ranks) bool: the positives, and the pairs compared."""
    place = torch.arange(labels.shape[0], device=labels.device)
    here, others = part(labels, own), part(place, own)[:, None] != place
    positives = same_label(here, labels) & others if design == "C" else ~others
    return positives, positives | different_label(here, labels)


def _and(mask: Tensor | None, other: Tensor | None) -> Tensor | None:
    """Both of two masks, where None masks nothing."""
    if mask is None or other is None:
        return mask if other is None else other
    return mask & other
