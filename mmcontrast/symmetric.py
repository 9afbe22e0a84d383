"""InfoNCE in both directions, from one set of logits."""

from typing import Any

import torch
from torch import Tensor, nn

from mmcontrast import arguments
from mmcontrast.distributed import Group, Places, active, joined, part, rows_of_ranks
from mmcontrast.eager import calls_operators, takes_ways
from mmcontrast.exact.beside_both import BothWays
from mmcontrast.exact.choose import rows_at_a_time
from mmcontrast.exact.infonce_choice import both_ways_info_nce
from mmcontrast.exact.pair_rules import pair_rules
from mmcontrast.exact.pair_tile import PairTerm
from mmcontrast.exact.rules_choice import both_ways_by_rules, rules_of_pairs
from mmcontrast.gaps import Variant
from mmcontrast.held import check_settings
from mmcontrast.infonce import info_nce
from mmcontrast.learned import replicated, replicated_module
from mmcontrast.loading import load_checked
from mmcontrast.masks import columns_of
from mmcontrast.presence import zero_outside
from mmcontrast.reductions import Reduction
from mmcontrast.rows import RowMap, dot, exact_number, l2_normalize, map_rows
from mmcontrast.sharded import local_rows
from mmcontrast.softmax import biased, log_share
from mmcontrast.temperature import LearnableTemperature, current
from mmcontrast.wide import retry_in_float64


@local_rows
@retry_in_float64
def symmetric_info_nce(
    x: Tensor,
    y: Tensor,
    *,
    temperature: float | Tensor = 0.07,
    positives: Tensor | None = None,
    keep: PairTerm | None = None,
    bias: PairTerm | None = None,
    decoupled: bool = False,
    prior: float | Tensor = 0.0,
    smoothing: float = 0.0,
    within: bool = False,
    weight: Tensor | None = None,
    normalize: RowMap | None = l2_normalize,
    reduction: str = "mean",
    chunk_size: int | None = None,
    group: Group | None = None,
) -> Tensor:
    r"""InfoNCE in both directions, averaged: the loss of CLIP.

    .. math:: \tfrac12 \big(\mathrm{InfoNCE}(x, y) + \mathrm{InfoNCE}(y, x)\big)

    With ``positives``, rows of one side may have several partners on the other, or none, and the
    sides may differ in size: several captions of an image, for instance.

    Args:
        x: (B, D) one view of each sample.
        y: (B, D) the other view; row ``i`` belongs to row ``i`` of ``x``. With positives, (C, D).
        temperature: :math:`\tau > 0`; a float, or a tensor of shape () or (1,) when it is learned.
        positives: (B, C) bool or floating, rows for ``x`` and columns for ``y``; see
            :func:`info_nce`. ``same_label(ids, other_ids)`` makes them from ids. Default: the
            diagonal.
        keep: (B, C) bool, rows for ``x`` and columns for ``y``: which pairs take part. Or a
            function of a :class:`Tile` of such rows and columns, or a list; see :func:`info_nce`.
            With positives only tensors, here and in ``bias``; :func:`info_nce` takes functions,
            too, for each direction.
        bias: (B, C) floating, added to the logits; or a function of a :class:`Tile`, or a list. It
            is the same for both directions.
        decoupled, prior, smoothing: as in :func:`info_nce`, of both directions.
        within: the other rows of an anchor's own side are negatives, too, those of the samples that
            ``keep`` leaves it; a mask made by a function is then made of all pairs at once. Not
            with positives or bias.
        weight: (B,) sample weights, of both directions; where C is not B, there is none.
        normalize: row map before the dot product; None for raw dot products.
        reduction: ``"mean"`` and ``"sum"`` give a scalar, ``"none"`` gives (B,), the mean of a
            sample's two losses; where C is not B, there is none.
        chunk_size: side of the square tiles in which both directions are computed together, in
            O(chunk_size^2 + B D) memory beyond ``keep``; with ``positives``, number of rows at a
            time, for each direction. None chooses tiles of 2^18 logits. Without masks, a chunk_size
            of B or more keeps one (B, B) matrix, which saves one of four matrix products and pays
            off when D is in the hundreds. That is the default up to B = 512, with two such matrices
            up to B = 256. The plain path is as in :func:`info_nce`.
        group: as in :func:`info_nce`; this rank's rows of ``x`` are compared with all ranks' rows
            of ``y``, and both directions share the products. Masks are (B of this rank, C of all).

    Returns:
        Scalar or (B,), float32, or float64 for float64 input.

    Raises:
        ValueError: on shapes or dtypes that disagree, negative soft targets or a prior outside
            [0, 1) (read on the CPU only), smoothing with positives, a float temperature that is not
            positive, or sides of different size without positives, with weights or with ``"none"``;
            for those, call :func:`info_nce` for each direction.

    Example:
        >>> eye = torch.eye(3)
        >>> symmetric_info_nce(eye, eye, temperature=1.0)
        tensor(0.5514)
        >>> from mmcontrast import same_label
        >>> images, captions = torch.tensor([0, 1, 2]), torch.tensor([0, 0, 1, 1, 2, 2])
        >>> positives = same_label(images, captions)
        >>> symmetric_info_nce(eye, eye[captions], positives=positives, temperature=1.0)
        tensor(0.8980)

    Note:
        Equals open_clip's ``ClipLoss`` at ``logit_scale = 1 / temperature`` on unit rows, and
        sentence-transformers' ``MultipleNegativesRankingLoss`` of both directions with
        ``partition_mode="per_direction"``. With ``within`` it equals SimCLR's NT-Xent, lightly's
        ``NTXentLoss``; with ``prior`` as well, the debiased paper's code; with ``decoupled``, eq. 6
        of DCL, lightly's ``DCLLoss``.

    References: CLIP, arXiv:2103.00020; MCL-MCF, Algorithm 1; within, SimCLR, arXiv:2002.05709;
        decoupled, arXiv:2110.06848; prior, arXiv:2007.00224.
    """
    arguments.matrix("x", x)
    arguments.matrix("y", y, rows=x.shape[0] if positives is None else None, like=x)
    temperature = arguments.temperature(temperature)
    arguments.reduction(reduction)
    if positives is not None:
        _check_paired(x, y, weight, reduction, prior)
    chunk_size = arguments.chunk(chunk_size)
    by_ways = positives is None and takes_ways()
    settings: dict[str, Any] = {
        "temperature": replicated(temperature, group, x) if by_ways else temperature,
        "normalize": replicated_module(normalize, group) if by_ways else normalize,
        "reduction": Reduction(reduction, weight, group),
        "chunk_size": chunk_size,
    }
    variant = Variant(arguments.flag("decoupled", decoupled), arguments.chances("prior", prior, x))
    arguments.below_one("smoothing", smoothing)
    if arguments.flag("within", within) and not (positives is None and bias is None):
        arguments.fail("within", "False with positives or bias", within)
    given = variant, smoothing, settings["temperature"], group, within, chunk_size
    beside = BothWays(*given).or_none()
    if by_ways and keep is None and bias is None:
        return both_ways_info_nce(x, y, **settings, beside=beside)
    everyone, own, counts = where = rows_of_ranks(y, group, size=columns_of(positives, keep, bias))
    size = x.shape[0], everyone
    rules, bias = pair_rules(keep, bias, size)
    if by_ways:
        return both_ways_by_rules(x, y, where, rules, bias, **settings, beside=beside)
    if rules.has_functions():
        if positives is not None:
            name = "keep" if rules.keep_functions else "bias"
            expected = "a tensor where positives are given (info_nce takes functions, too)"
            arguments.fail(name, expected, "a function of a tile")
        rows, columns = (map_rows(z.detach(), normalize) for z in (x, y))
        every, _ = joined(columns, group, counts, size=everyone)
        rules, bias = rules_of_pairs(rules, bias, rows, every, own, group)
    keep = rules.keep
    if positives is not None:
        arguments.weights("positives", positives, size, keep)
    apart = active(group) is not None or calls_operators()
    if not (apart or beside) and rows_at_a_time(*size, chunk_size) is None:
        both = _at_once(x, y, positives, keep, bias, temperature, normalize)
        ways = [Reduction(reduction, weight).reduce(*way) for way in both]
        return (ways[0] + ways[1]) / 2
    # One info_nce for each direction.
    masks = positives, keep, bias
    # With positives the sides may differ in size: how many rows of x all ranks have is to be asked.
    there = where if positives is None else rows_of_ranks(x, group)
    backwards = tuple(_backwards(mask, own, group, there) for mask in masks)
    temperature = exact_number(temperature)
    sides: list[Any] = [(x, y, *masks), (y, x, *backwards)]
    if within and counts is not None:  # which they are: compilers go by rules, above
        sides = [(a, *_with_own_side(a, b, k, own, counts), z) for a, b, _, k, z in sides]
    ways = [
        info_nce(
            a,
            b,
            temperature=temperature,
            positives=partners,
            keep=kept_pairs,
            bias=added,
            decoupled=decoupled,
            prior=prior,
            smoothing=smoothing,
            weight=weight,
            normalize=normalize,
            reduction=reduction,
            chunk_size=chunk_size,
            group=group,
        )
        for a, b, partners, kept_pairs, added in sides
    ]
    return (ways[0] + ways[1]) / 2


def _with_own_side(
    x: Tensor, y: Tensor, keep: Tensor | None, own: slice, counts: list[int]
) -> tuple[Tensor, None, Tensor]:
    """Candidates of both sides, no positives, and the mask of all ranks' candidates for x."""
    columns = torch.arange(sum(counts), device=x.device)
    if keep is None:
        keep = columns.new_ones(x.shape[0], len(columns), dtype=torch.bool)
    others = keep & (columns != columns[own, None])
    both = zip(*(torch.split(z, counts, 1) for z in (keep, others)), strict=True)
    return torch.cat([y, x]), None, torch.cat([part for rank in both for part in rank], 1)


def _check_paired(x: Tensor, y: Tensor, weight: Any, reduction: str, prior: Any) -> None:
    """Weights, priors and unreduced losses are those of samples, a row on either side each."""
    each = isinstance(prior, Tensor) and prior.ndim > 0
    if (weight is None and reduction != "none" and not each) or x.shape[0] == y.shape[0]:
        return
    apart = f"{x.shape[0]} rows of x and {y.shape[0]} of y (info_nce has each direction)"
    if weight is not None:
        arguments.fail("weight", "None where the sides differ in size", apart)
    if each:
        arguments.fail("prior", "one number where the sides differ in size", apart)
    arguments.fail("reduction", '"mean" or "sum" where the sides differ in size', apart)


def _backwards(
    mask: Tensor | None, own: slice, group: Group | None, there: Places
) -> Tensor | None:
    """(B, C of all) of rows of x and all of y -> that of this rank's rows of y and all of x."""
    if mask is None or active(group) is None:
        return None if mask is None else mask.mT
    # Its columns of all ranks' masks, transposed: (all B, all C) -> (all B, C) -> (C, all B).
    size, _, counts = there
    return part(joined(mask, group, counts, size=size)[0], own, 1).mT


def _at_once(
    x: Tensor,
    y: Tensor,
    positives: Tensor | None,
    keep: Tensor | None,
    bias: Tensor | None,
    temperature: float | Tensor,
    normalize: RowMap | None,
) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """Each direction's losses and mask of counted anchors, (B,) and (C,), from the same logits."""
    if keep is not None:
        x, y = zero_outside(x, keep.any(1)), zero_outside(y, keep.any(0))
    if positives is None:
        positives = torch.eye(len(x), dtype=torch.bool, device=x.device)
    logits = dot(map_rows(x, normalize), map_rows(y, normalize)) / temperature  # (B, C)
    logits, keep = biased(logits, keep, bias)
    back = log_share(logits.mT, positives.mT, None if keep is None else keep.mT)
    return log_share(logits, positives, keep), back


class SymmetricInfoNCE(nn.Module):
    """:func:`symmetric_info_nce` with its settings held.

    Args:
        temperature: a float, or a :class:`LearnableTemperature`.
        decoupled, prior, smoothing, within: as in :func:`symmetric_info_nce`; prior is a float.
        normalize, reduction, chunk_size, group: as in :func:`symmetric_info_nce`.

    Example:
        >>> SymmetricInfoNCE(temperature=1.0)(torch.eye(3), torch.eye(3))
        tensor(0.5514)
    """

    load_state_dict = load_checked

    def __init__(
        self,
        *,
        temperature: float | LearnableTemperature = 0.07,
        decoupled: bool = False,
        prior: float = 0.0,
        smoothing: float = 0.0,
        within: bool = False,
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
        self.within = within
        self.normalize = normalize
        self.reduction = reduction
        self.chunk_size = chunk_size
        self.group = group
        check_settings(self)

    def forward(
        self,
        x: Tensor,
        y: Tensor,
        *,
        positives: Tensor | None = None,
        keep: PairTerm | None = None,
        bias: PairTerm | None = None,
        weight: Tensor | None = None,
    ) -> Tensor:
        """See :func:`symmetric_info_nce`."""
        return symmetric_info_nce(
            x,
            y,
            temperature=current(self.temperature),
            positives=positives,
            keep=keep,
            bias=bias,
            decoupled=self.decoupled,
            prior=self.prior,
            smoothing=self.smoothing,
            within=self.within,
            weight=weight,
            normalize=self.normalize,
            reduction=self.reduction,
            chunk_size=self.chunk_size,
            group=self.group,
        )
