"""Which way Rank-N-Contrast is evaluated, also as an operator."""

from torch import Tensor

from mmcontrast.distances import WITHOUT_PARAMETERS, Distance
from mmcontrast.eager import takes_ways
from mmcontrast.exact import sizes
from mmcontrast.exact.choose import rows_at_a_time
from mmcontrast.exact.operators import as_operator
from mmcontrast.exact.ranked_blocks import (
    ranked_at_once,
    ranked_checkpointed,
    ranked_in_one_pass,
)
from mmcontrast.exact.ranked_scores import Scores
from mmcontrast.exact.tiles import scalar
from mmcontrast.reductions import Reduction


def ranked_losses(
    scores: Scores,
    distance: Distance,
    x: Tensor,
    candidates: Tensor,
    temperature: float | Tensor,
    *,
    chunk_size: int | None,
    reduction: Reduction,
) -> Tensor:
    """:func:`rank_n_contrast` with checked arguments."""
    counted = scores.counted()
    # The gradient of a caller's distance may go to more than its arguments.
    if takes_ways() and distance in WITHOUT_PARAMETERS:
        inputs = x, candidates, scalar(temperature, x), reduction.shares(counted, x)
        name = WITHOUT_PARAMETERS.index(distance)
        return reduction.finish(weighted_ranks(*inputs, *scores, name, chunk_size), counted)
    step = _ranked_rows_at_a_time(x, candidates, chunk_size)
    given = scores, distance, x, candidates, temperature
    losses = ranked_at_once(*given) if step is None else ranked_checkpointed(*given, step)
    return reduction.reduce(losses, counted)


@as_operator
def weighted_ranks(
    x: Tensor,
    candidates: Tensor,
    temperature: Tensor,
    weight: Tensor | None,
    scores: Tensor,
    candidate_scores: Tensor,
    rated: Tensor,
    candidates_rated: Tensor,
    own: Tensor | None,
    rounding: float,
    distance: int,
    chunk_size: int | None,
) -> Tensor:
    """Rank-N-Contrast of (B, D) rows with (C, D) candidates.

    Args:
        weight: as in :func:`weighted_one_way`.
        scores, candidate_scores, rated, candidates_rated, own, rounding: of a :class:`Scores`.
        distance: which of ``WITHOUT_PARAMETERS``.
        chunk_size: as in :func:`rank_n_contrast`.
    """
    among = Scores(scores, candidate_scores, rated, candidates_rated, own, rounding)
    step = _ranked_rows_at_a_time(x, candidates, chunk_size) or max(len(x), 1)
    inputs = among, WITHOUT_PARAMETERS[distance], x, candidates, temperature
    return ranked_in_one_pass(*inputs, step, weight)


def _ranked_rows_at_a_time(x: Tensor, candidates: Tensor, chunk_size: int | None) -> int | None:
    rows, columns = x.shape[0], candidates.shape[0]
    step = rows_at_a_time(rows, columns, chunk_size)
    return step if step is None or chunk_size is not None else max(sizes.ORDERED // columns, 8)
