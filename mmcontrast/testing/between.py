"""A distance under test: called on rows, on one pair, and on all pairs."""

import torch
from torch import Tensor

from mmcontrast.testing.batch import Batch
from mmcontrast.testing.subject import LawBroken, Subject, demand
from mmcontrast.testing.traits import Loss


def between(subject: Subject, batch: Batch, distance: Loss | None = None) -> Tensor:
    """(N,) distances of the rows of x from those of y, with their graph; LawBroken if not finite.

    ``distance`` is called in place of the one under test where it is given, with (N, D), (N, D).
    """
    n = len(batch)
    found = subject.call(batch, distance)
    matrix = subject.traits.matrix and distance is None
    expected = (n, n) if matrix else (n,)
    if not isinstance(found, Tensor):
        raise LawBroken(f"the distance returned a {type(found).__name__}, expected a tensor")
    if found.shape != expected or not found.is_floating_point():
        raise LawBroken(
            f"the distance returned {found.dtype} {tuple(found.shape)}, expected {expected}"
        )
    found = found.diagonal() if matrix else found
    demand(found.isfinite().all(), f"the distances are {found.tolist()}")
    return found


def all_distances(subject: Subject, batch: Batch) -> Tensor:
    """(N, N) detached distances of all rows of x from all rows of y, in one call."""
    x, y = batch.rows.values()
    rows = {"x": x, "y": y} if subject.traits.matrix else {"x": x[:, None], "y": y[None]}
    found = subject.call(batch.with_rows(rows))
    n = len(x)
    if not isinstance(found, Tensor) or found.shape != (n, n):
        shape = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
        raise LawBroken(f"rows (N, 1, D) and (1, N, D) gave {shape}, expected ({n}, {n})")
    return found.detach()


def same_distances(
    subject: Subject, left: Tensor, right: Tensor, what: tuple[str, str], scale: float = 1.0
) -> None:
    """LawBroken unless distances are equal up to rounding, relative to scale + the larger."""
    left, right = left.detach(), right.detach()
    allowed = subject.allowed(left, right) * (scale + right.abs().double())
    demand(
        ((left.double() - right.double()).abs() <= allowed).all(),
        f"{what[0]} are {left.tolist()} but {what[1]} are {right.tolist()}",
    )


def largest(batch: Batch) -> float:
    """The length of the longest row."""
    lengths = torch.cat([x.detach().double().norm(dim=1) for x in batch.rows.values()])
    return float(lengths.max())
