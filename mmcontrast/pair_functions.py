"""Masks and biases of pairs as functions of a tile, for ``keep=`` and ``bias=`` of the losses.

A loss calls them for one :class:`Tile` after the other, so that no matrix of all pairs is made.
Your own is a line: ``keep=lambda tile: tile.positive | (tile.similarity < 0.9)``.
"""

import functools
import math

import numpy as np
import torch
from torch import Tensor

from mmcontrast import arguments
from mmcontrast.distributed import Group, joined
from mmcontrast.eager import is_eager, known
from mmcontrast.exact.pair_rules import most_similar
from mmcontrast.exact.pair_tile import Tile, TileFunction
from mmcontrast.masks import labelled
from mmcontrast.rows import dot, l2_normalize, map_rows
from mmcontrast.sharded import local_rows


@local_rows
def different_id(
    ids: Tensor, candidate_ids: Tensor | None = None, *, group: Group | None = None
) -> TileFunction:
    """For ``keep=``: candidates with the anchor's id are no negatives; its partner stays.

    In a batch where a text, an image or a speaker occurs twice, an anchor is otherwise pushed away
    from a copy of its own partner.

    Args:
        ids: (B,) whole numbers, or (B, L) for ids of L numbers; -100 and NaN equal no other.
        candidate_ids: (C,) or (C, L) of all candidates. Default: those of the anchors.
        group: gather the ids of all ranks, for a loss with that ``group=``. None: ``ids`` are those
            of all the anchors already.

    Returns:
        A function of a :class:`Tile` that returns its mask. It compares whole numbers, in O(R C)
        for a tile, and asks for no similarities. On a CPU it compares only the anchors that have a
        copy of their partner in the tile, and masks nothing where none has.

    Raises:
        ValueError: on other shapes, ids with fractions (read on the CPU only), or, in the loss,
            another number of ids than of anchors and candidates.

    Example:
        >>> from mmcontrast import symmetric_info_nce
        >>> x = torch.eye(3)[[0, 1, 2, 2]]  # the last two are the same sample
        >>> keep = different_id(torch.tensor([5, 6, 7, 7]))
        >>> symmetric_info_nce(x, x, temperature=1.0, keep=keep, reduction="none")
        tensor([0.7437, 0.7437, 0.5514, 0.5514])
    """
    if candidate_ids is None:
        candidate_ids = ids
    _check_ids("ids", ids)
    _check_ids("candidate_ids", candidate_ids, like=ids)
    numbers = _numbered_ids(joined(ids, group)[0], joined(candidate_ids, group)[0])
    return functools.partial(_different_id, *numbers, None)


@local_rows
def cross_batch_ids(
    ids: Tensor,
    earlier_ids: Tensor,
    candidate_ids: Tensor | None = None,
    *,
    filled: Tensor | None = None,
) -> TileFunction:
    """For ``keep=``, with the rows of earlier batches after the candidates: :func:`different_id`.

    A sample that is still in an :class:`EmbeddingQueue` from an earlier batch does not become a
    negative of itself or of its copies.

    Args:
        ids: (B,) or (B, L), as in :func:`different_id`.
        earlier_ids: (Q,) or (Q, L) of the rows after the candidates; -100 equals no other.
        candidate_ids: (C,) or (C, L) of the candidates before these. Default: the anchors'.
        filled: (Q,) bool, which places of the queue hold a row. Default: all.

    Raises:
        ValueError: as :func:`different_id`.

    Example:
        >>> from mmcontrast import EmbeddingQueue, info_nce
        >>> queue, ids = EmbeddingQueue(4, features=3), torch.tensor([5, 6, 7])
        >>> places = queue.push(torch.eye(3)[:2], ids[:2])
        >>> candidates = torch.cat([torch.eye(3), queue.embeddings])
        >>> keep = cross_batch_ids(ids, queue.labels, filled=queue.filled)
        >>> info_nce(torch.eye(3), candidates, temperature=1.0, keep=keep, reduction="none")
        tensor([0.7437, 0.7437, 0.9048])
    """
    if candidate_ids is None:
        candidate_ids = ids
    _check_ids("ids", ids)
    _check_ids("candidate_ids", candidate_ids, like=ids)
    _check_ids("earlier_ids", earlier_ids, like=ids)
    numbers = _numbered_ids(ids, torch.cat([_id_columns(candidate_ids), _id_columns(earlier_ids)]))
    if filled is None:
        return functools.partial(_different_id, *numbers, None)
    arguments.mask("filled", filled, earlier_ids.shape[:1])
    there = torch.ones(candidate_ids.shape[0], dtype=torch.bool, device=filled.device)
    return functools.partial(_different_id, *numbers, torch.cat([there, filled]))


@local_rows
def not_closer_than_partner(
    margin: float = 0.0,
    *,
    relative_margin: float = 0.0,
    guide: tuple[Tensor, Tensor] | None = None,
) -> TileFunction:
    """For ``keep=``: candidates closer to the anchor than its partner are no negatives.

    They are likely positives that nobody marked. Left out is a candidate whose similarity is above
    ``partner - margin - relative_margin * abs(partner)``; the partner stays. Between directions, in
    :func:`symmetric_info_nce`, a pair is left out of both where it is closer than the partner of
    either. With several positives, the most similar one counts.

    Args:
        margin: how much less similar than the partner a negative is at least; below 0, how much
            closer it may be.
        relative_margin: the same as a share of the partner's similarity.
        guide: (B, E) and (C, E) embeddings of the anchors and candidates by another model, with
            ``group=`` of all ranks; their cosines are compared. Default: the loss's own rows.

    Raises:
        ValueError: on a margin that is no number, or, in the loss, a guide of another number of
            rows than there are anchors and candidates.

    Example:
        >>> from mmcontrast import info_nce
        >>> x, y = torch.eye(3), torch.tensor([[0.6, 0.8, 0.0], [0.0, 1.0, 0.0], [1.0, 0.0, 0.0]])
        >>> keep = not_closer_than_partner(-0.1)  # the first anchor's last candidate goes
        >>> info_nce(x, y, temperature=1.0, keep=keep, reduction="none")
        tensor([0.4375, 0.7824, 1.0986])

    Note:
        GISTEmbed's and sentence-transformers' ``GISTEmbedLoss(margin_strategy="absolute")`` for the
        anchors' candidates, with ``guide``; ``"relative"`` is ``relative_margin``. Qwen3-Embedding
        is a margin of -0.1. Rounding decides for a candidate that is equal to the partner: such
        copies are what :func:`different_id` is for.

    References: GISTEmbed, arXiv:2402.16829, section 3.2; Qwen3 Embedding, arXiv:2506.05176, eq. 1;
        margins to the partner: NV-Retriever, arXiv:2407.15831.
    """
    arguments.number("margin", margin)
    arguments.number("relative_margin", relative_margin)
    if guide is None:
        return functools.partial(_not_closer, margin, relative_margin, None)
    if not isinstance(guide, tuple | list) or len(guide) != 2:
        arguments.fail("guide", "embeddings of anchors and candidates", arguments.shown(guide))
    arguments.matrix("guide", guide[0])
    arguments.matrix("guide", guide[1], like=guide[0])
    rows = [map_rows(x.detach(), l2_normalize) for x in guide]
    return functools.partial(_not_closer, margin, relative_margin, (rows[0], rows[1]))


def hardness_bias(beta: float) -> TileFunction:
    r"""For ``bias=``: :math:`\beta` times the similarity, so that hard negatives weigh more.

    A negative counts :math:`e^{\beta \cos}` times; a partner counts once. The weight has no
    gradient.

    Args:
        beta: 0 changes nothing; below 0, easy negatives weigh more.

    Raises:
        ValueError: on a beta that is no number.

    Example:
        >>> from mmcontrast import info_nce
        >>> x, y = torch.eye(2), torch.tensor([[0.6, 0.8], [0.0, 1.0]])
        >>> info_nce(x, y, temperature=1.0, bias=hardness_bias(2.0), reduction="none")
        tensor([0.4375, 1.6204])

    Note:
        Equals sentence-transformers' ``MultipleNegativesRankingLoss`` with
        ``hardness_strength=beta`` and ``hardness_mode="all_negatives"``, or
        ``"in_batch_negatives"`` where there are no others. arXiv:2010.04592 also divides the
        weights by their mean for each anchor, which this does not; its beta, of the similarity over
        the temperature, is beta times the temperature here.

    References: arXiv:2010.04592, section 4; LLaVE, arXiv:2503.04812, eq. 5.
    """
    arguments.number("beta", beta)
    return functools.partial(_hardness, beta)


def _check_ids(name: str, ids: Tensor, *, like: Tensor | None = None) -> None:
    size = arguments.tensor(name, ids).shape[:1]  # none of a number
    arguments.labels(name, ids, *size or (0,), like=like)


def _numbered_ids(ids: Tensor, others: Tensor) -> tuple[Tensor, Tensor]:
    """(B,) and (C,) integers from 0, equal where the ids are; those of none are unequal to all."""
    # In operations whose shapes do not depend on values: a column after the other is numbered by
    # its order, together with what the columns before it gave. Short integers compare the fastest.
    x, y = _id_columns(ids), _id_columns(others)
    dtype = x.dtype if x.dtype == y.dtype else torch.float64
    every = torch.cat([x.to(dtype), y.to(dtype)])  # (B + C, L)
    size = max(every.shape[0], 1)
    found = torch.zeros_like(every[:, 0], dtype=torch.int64)
    for column in every.unbind(1):
        found = _numbered_by_order(found * size + _numbered_by_order(column))
    short = is_eager() and size + 2 < 2**15  # a program of any size has none that depends on it
    found = found.to(torch.int16 if short else torch.int32)
    first, second = found[: ids.shape[0]], found[ids.shape[0] :]
    return torch.where(labelled(x), first, size), torch.where(labelled(y), second, size + 1)


def _id_columns(ids: Tensor) -> Tensor:
    """(B, L) in a dtype that compares and sorts."""
    found = arguments.classes("ids", ids)
    return found[:, None] if found.ndim == 1 else found


def _numbered_by_order(x: Tensor) -> Tensor:
    """(N,) int64: 0 for the smallest numbers, 1 for the next, and so on."""
    values, order = x.sort()
    steps = (values[1:] != values[:-1]).long().cumsum(0)
    return torch.zeros_like(order).scatter(0, order[1:], steps)


def _different_id(ids: Tensor, others: Tensor, there: Tensor | None, tile: Tile) -> Tensor | bool:
    _check_size("ids", ids, tile, 0)
    _check_size("candidate_ids", others, tile, 1)
    x, y = ids[tile.rows], others[tile.columns]
    kept = _kept_by_id(x, y, others, tile)
    if there is None or known(there.all()):
        return kept
    return there[tile.columns].expand(tile.shape) if kept is True else kept & there[tile.columns]


def _kept_by_id(x: Tensor, y: Tensor, others: Tensor, tile: Tile) -> Tensor | bool:
    """(R, C) bool: pairs of different numbers, and partners; True if all are known to be these.

    Args:
        x: (R,) numbers of the rows.
        y: (C,) of the columns.
        others: of all columns.
    """
    # The bits in which two numbers differ: many times as fast as comparing them.
    if not (x.is_cpu and is_eager(x, y)):
        differ = torch.bitwise_xor(x[:, None], y).bool()
        return differ if tile.apart else differ.logical_or_(tile.positive)
    rows = _rows_with_copies(x, y, others, tile)
    if len(rows) == 0:
        return True
    kept = torch.ones(tile.shape, dtype=torch.bool)
    kept[rows] = torch.bitwise_xor(x[rows, None], y).bool()
    if tile.apart:
        return kept
    if tile.partners is None:
        return kept.logical_or_(tile.positive)
    kept[rows] |= tile.partners[rows, None] == tile.columns
    return kept


def _rows_with_copies(x: Tensor, y: Tensor, others: Tensor, tile: Tile) -> Tensor:
    """The rows of a tile with an equal number in a column that is not their partner's.

    Numbers are counted, in O(B + C) of the batch. Where a row may have several partners, theirs
    count as well.
    """
    first, second = x.numpy(), y.numpy()

    def occurrences(numbers: np.ndarray, among: np.ndarray, size: int) -> np.ndarray:
        found: np.ndarray = np.bincount(among, minlength=size)[numbers]
        return found

    size = int(max(first.max(initial=0), second.max(initial=0))) + 1
    equal = occurrences(first, second, size)
    if not tile.apart and tile.partners is not None:
        partners = tile.partners.clamp_min(0).numpy()
        columns = occurrences(partners, tile.columns.numpy(), others.shape[0])
        of_partner = (tile.partners >= 0).numpy() & (others.numpy()[partners] == first)
        equal = equal - columns * of_partner
    return torch.from_numpy(equal.nonzero()[0])


def _not_closer(
    margin: float,
    relative_margin: float,
    guide: tuple[Tensor, Tensor] | None,
    tile: Tile,
) -> Tensor:
    similarity, partner, column_partner = _by_guide(guide, tile)
    kept = similarity <= _most(partner, margin, relative_margin)[:, None]
    if column_partner is not None:
        kept = kept & (similarity <= _most(column_partner, margin, relative_margin))
    return kept | tile.positive


def _most(partner: Tensor, margin: float, relative_margin: float) -> Tensor:
    share = torch.where(partner == math.inf, 0, partner.abs()) * relative_margin
    return partner - margin - share


def _by_guide(
    guide: tuple[Tensor, Tensor] | None, tile: Tile
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Similarities of a tile, of its rows' partners and of its columns', by a guide."""
    if guide is None:
        return tile.similarity, tile.partner, tile.column_partner
    rows, columns = guide
    _check_size("guide", rows, tile, 0)
    _check_size("guide", columns, tile, 1)
    x, y = rows[tile.rows], columns[tile.columns]
    similarity = dot(x, y)
    if tile.partners is None:
        return similarity, most_similar(similarity, tile.positive), None
    partner = (x * columns[tile.partners.clamp_min(0)]).sum(1)
    partner = torch.where(tile.partner == math.inf, math.inf, partner)
    if tile.column_partner is None:
        return similarity, partner, None
    # Where candidates are anchors too, the partner of each has its own index.
    back = (rows[tile.columns] * y).sum(1)
    return similarity, partner, torch.where(tile.column_partner == math.inf, math.inf, back)


def _hardness(beta: float, tile: Tile) -> Tensor:
    return (beta * tile.similarity).masked_fill(tile.positive, 0)


def _check_size(name: str, given: Tensor, tile: Tile, axis: int) -> None:
    """As many as there are anchors, or candidates."""
    if tile.size is not None and given.shape[0] != tile.size[axis]:
        kind = ("anchors", "candidates")[axis]
        arguments.fail(name, f"one for each of the {tile.size[axis]} {kind}", given.shape[0])
