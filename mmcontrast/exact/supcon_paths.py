"""SupCon of a batch among itself, in eager mode: the way that suits the size is taken."""

from torch import Tensor

from mmcontrast import arguments
from mmcontrast.distributed import Group
from mmcontrast.eager import is_eager
from mmcontrast.exact import kernels
from mmcontrast.exact.supcon_tiles import tiled_sup_con
from mmcontrast.exact.supcon_whole import whole_sup_con
from mmcontrast.reductions import Reduction
from mmcontrast.rows import RowMap


def tile_side(anchors: Tensor, labels: Tensor, chunk_size: int | None) -> int | None:
    """The side of a tile, or None for the plain path: under a compiler or a transform."""
    if chunk_size is not None:
        arguments.whole("chunk_size", chunk_size)
    if not is_eager(anchors, labels):
        return None
    return chunk_size or (384 if anchors.device.type == "cpu" else 4096)


def tile_shares(anchors: Tensor) -> int:
    """Among how many ranks the tiles of everybody are worth their while.

    They serve every sample, of which a rank needs its own only. A rank's own rows take twice the
    products of all tiles, divided by the ranks, and on the CPU many times that in exponentials.
    """
    return 16 if anchors.device.type == "cpu" else 2


def among_themselves(
    rows: Tensor,
    labels: Tensor,
    own: slice,
    side: int,
    *,
    temperature: float | Tensor,
    weight: Tensor | None,
    normalize: RowMap | None,
    reduction: str,
    group: Group | None,
) -> Tensor | None:
    """The "out" form of :func:`sup_con`; None where blocks of this rank's rows had better serve.

    Args:
        rows: (N, D) those of all ranks.
        labels: (N,) or (N, L).
        own: which are this rank's.
        side: of a tile, see :func:`tile_side`.
        temperature, weight, normalize, reduction, group: as in :func:`sup_con`.
    """
    if len(rows) > (own.stop - own.start) * tile_shares(rows):
        return None
    every: tuple[Tensor, Tensor] | None
    if kernels.usable(rows):
        precision = kernels.precision(rows)
        every = kernels.sup_con(
            rows, labels, temperature=temperature, normalize=normalize, precision=precision
        )
    elif 0 < len(rows) <= side:
        return whole_sup_con(
            rows,
            labels,
            own,
            temperature=temperature,
            weight=weight,
            normalize=normalize,
            reduction=reduction,
            group=group,
        )
    else:
        every = tiled_sup_con(rows, labels, temperature=temperature, normalize=normalize, side=side)
    if every is None:
        return None
    losses, counted = (x[own] for x in every)
    return Reduction(reduction, weight, group).reduce(losses, counted)
