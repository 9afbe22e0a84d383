"""Picking one candidate of each row: drawn, or the most or least similar one of a mask."""

import math

import torch
from torch import Tensor

from mmcontrast import arguments
from mmcontrast.sharded import local_rows


@local_rows
@torch.no_grad()
def sample_one(mask: Tensor, *, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
    """Draw one True entry of each row, uniformly.

    Args:
        mask: (B, C) bool.
        generator: source of randomness, on the mask's device; None: torch's default generator.

    Returns:
        (B,) int64 index, 0 for a row without True, and (B,) bool: rows with a True entry.

    Raises:
        ValueError: on a mask that is not (B, C) bool.

    Example:
        >>> sample_one(torch.tensor([[False, True], [False, False]]))
        (tensor([1, 0]), tensor([ True, False]))
    """
    if arguments.tensor("mask", mask).ndim != 2:
        arguments.fail("mask", "shape (B, C)", arguments.shape(mask))
    # Of independent uniform draws, each True entry's is the largest with equal probability.
    return extreme(uniform_draws(mask.shape, mask.device, generator), mask, largest=True)


def sample_some(mask: Tensor, k: int, generator: torch.Generator | None) -> Tensor:
    """(B, K) ascending columns of k True entries of each row, drawn uniformly, no entry twice.

    A row with fewer has some of its others, and a mask with fewer columns all of them.
    """
    draws = torch.where(mask, uniform_draws(mask.shape, mask.device, generator), -1)
    drawn = draws.sort(dim=1, descending=True, stable=True).indices[:, :k]
    return drawn.sort(dim=1).values


def uniform_draws(
    shape: tuple[int, ...], device: torch.device, generator: torch.Generator | None
) -> Tensor:
    """Draws from [0, 1), in float32 where torch's default dtype is lower.

    A bfloat16 has 256 values there: most draws would tie, and the lower index would win.
    """
    arguments.generator(generator)
    dtype = torch.promote_types(torch.get_default_dtype(), torch.float32)
    return torch.rand(shape, generator=generator, device=device, dtype=dtype)


@local_rows
@torch.no_grad()
def extreme(similarity: Tensor, mask: Tensor, *, largest: bool) -> tuple[Tensor, Tensor]:
    """The most or the least similar candidate of each anchor among those in the mask.

    Args:
        similarity: (B, C).
        mask: (B, C) bool.
        largest: True for the most similar, False for the least.

    Returns:
        (B,) int64 index, 0 for a row without True, and (B,) bool: rows with a True entry. Ties go
        to the lower index. A NaN counts as outside the mask.

    Raises:
        ValueError: on shapes or dtypes that disagree.

    Example:
        >>> mask = torch.tensor([[True, False, True]])
        >>> extreme(torch.tensor([[0.9, 0.2, 0.5]]), mask, largest=False)
        (tensor([2]), tensor([True]))
    """
    arguments.table("similarity", similarity)
    arguments.flag("largest", largest)
    arguments.mask("mask", mask, tuple(similarity.shape))
    if similarity.shape[1] == 0:
        return mask.new_zeros(len(mask), dtype=torch.int64), mask.any(-1)
    mask = mask & ~similarity.isnan()
    # Infinities in the mask become the largest finite numbers: what is outside is beyond them.
    similarity = similarity.nan_to_num()
    if largest:  # argmax and argmin return the first of several equal entries
        first = torch.where(mask, similarity, -math.inf).argmax(-1)
    else:
        first = torch.where(mask, similarity, math.inf).argmin(-1)
    valid = mask.any(-1)
    return torch.where(valid, first, 0), valid
