"""Pooling: one vector for each sequence, from its real steps."""

import torch
from einops import rearrange, reduce
from torch import Tensor

LAST_STEPS = ("real", "index")
POOLS = ("first", "mean", "last")


def pool(sequence: Tensor, mask: Tensor, how: str) -> Tensor:
    """One vector for each sequence, (B, T, D) -> (B, D): its "first", "last" or "mean" real step.

    Raises:
        ValueError: shapes that disagree, or another ``how``.
    """
    pools = {"first": first_step, "mean": masked_mean, "last": last_step}
    if how not in pools:
        raise ValueError(f"pool: expected one of {POOLS}, got {how!r}")
    return pools[how](sequence, mask)


def masked_mean(sequence: Tensor, mask: Tensor) -> Tensor:
    """The mean over the real steps, (B, T, D) -> (B, D); zeros for a sample without one."""
    check_sequence(sequence, mask)
    real = sequence.masked_fill(~rearrange(mask, "b t -> b t 1"), 0)
    total = reduce(real, "b t d -> b d", "sum")
    return total / mask.sum(1, keepdim=True).clamp(min=1)


def first_step(sequence: Tensor, mask: Tensor) -> Tensor:
    """The first real step, (B, T, D) -> (B, D); zeros for a sample without one."""
    check_sequence(sequence, mask)
    return _step(sequence, mask, mask.long().argmax(1))


def last_step(sequence: Tensor, mask: Tensor, *, last: str = "real") -> Tensor:
    """The last step of each sequence, (B, T, D) -> (B, D); zeros for a sample with no real step.

    Args:
        sequence: (B, T, D).
        mask: (B, T) bool, True = a real step.
        last: ``"real"`` takes the last real step of each sample; ``"index"`` the last position of
            the tensor, which for shorter samples is padding.

    Raises:
        ValueError: shapes that disagree, or another ``last``.
    """
    check_sequence(sequence, mask)
    if last == "real":
        # Positions from 1, and 0 on padding: the highest is the last real step.
        positions = mask * torch.arange(1, mask.shape[1] + 1, device=mask.device)
        return _step(sequence, mask, positions.argmax(1))
    if last == "index":
        return sequence[:, -1].masked_fill(~mask.any(1, keepdim=True), 0)
    raise ValueError(f"last: expected one of {LAST_STEPS}, got {last!r}")


def _step(sequence: Tensor, mask: Tensor, steps: Tensor) -> Tensor:
    """The step of each sample at the index ``steps`` (B,); zeros without a real step."""
    chosen = sequence[torch.arange(len(mask), device=mask.device), steps]
    return chosen.masked_fill(~mask.any(1, keepdim=True), 0)


def check_sequence(sequence: Tensor, mask: Tensor, size: int | None = None) -> None:
    """Refuse what is not a sequence (B, T, size), T >= 1, with its bool mask (B, T).

    Raises:
        ValueError: names the one that is wrong, what was expected and what came.
    """
    shape = tuple(sequence.shape)
    if sequence.ndim != 3 or shape[1] == 0 or size not in (None, shape[2]):
        raise ValueError(
            f"sequence: expected shape (B, T, {'D' if size is None else size}), T >= 1, got {shape}"
        )
    if mask.shape != shape[:2] or mask.dtype != torch.bool:
        raise ValueError(
            f"mask: expected bool of shape {shape[:2]},"
            f" got {mask.dtype} of shape {tuple(mask.shape)}"
        )
