"""Miners: what a choice does not depend on, and what it leaves as it was."""

import torch
from torch import Tensor

from mmcontrast.testing import draws
from mmcontrast.testing.batch import Batch
from mmcontrast.testing.checks.engineering import only_read, strided
from mmcontrast.testing.checks.precision import usable
from mmcontrast.testing.mined import (
    apart,
    complete,
    demand_hardest,
    legal,
    mine,
    mined_of,
    same_choice,
    takes_hardest,
    tensors_in,
)
from mmcontrast.testing.registry import check, crowded, generic, one_sample
from mmcontrast.testing.subject import Subject, demand
from mmcontrast.testing.traits import MINERS, rounding


@check(
    "51",
    kinds=MINERS,
    when=lambda t: t.permutation_invariant,
    needs="permutation_invariant",
    batches=generic,
    draws={"order": draws.orders},
)
def mining_permutes_along(subject: Subject, batch: Batch, order: list[int]) -> None:
    """Samples in another order have the same pairs, where no two distances are equal.

    A neighbour by index, a queue or a chunk that sees part of the batch, or random draws.
    """
    moved = mine(subject, batch.take(order))
    same_choice(mine(subject, batch).take(order), moved, ("one order", "another"))


@check(
    "6",
    kinds=MINERS,
    when=lambda t: t.normalized and not t.unit,
    needs="normalized, not unit",
    batches=generic,
    draws={"scales": draws.row_scales},
)
def mining_ignores_row_scales(subject: Subject, batch: Batch, scales: list[float]) -> None:
    """A row times a positive number is mined as before.

    Rows that are not normalised, or on one side only.
    """
    factors = torch.tensor(scales, dtype=torch.float64)[:, None]
    scaled = mine(subject, batch.map(lambda x: x * factors))
    same_choice(mine(subject, batch), scaled, ("the rows", "scaled rows"))


@check(
    "5",
    kinds=MINERS,
    when=lambda t: t.rotation_invariant,
    needs="rotation_invariant",
    batches=generic,
    draws={"rotation": draws.rotations},
)
def mining_ignores_rotations(subject: Subject, batch: Batch, rotation: Tensor) -> None:
    """All rows rotated together are mined as before.

    Distances of other than Euclidean geometry, or statistics by feature.
    """
    turned = mine(subject, batch.map(lambda x: x @ rotation))
    same_choice(mine(subject, batch), turned, ("the rows", "rotated rows"))


@check("51, 65", kinds=MINERS, when=lambda t: t.deterministic, needs="deterministic")
def mining_is_repeatable(subject: Subject, batch: Batch) -> None:
    """A second call on the same rows chooses the same pairs, ties included.

    State that one call leaves for the next, or draws from an unseeded generator.
    """
    miner = subject.fresh(torch.float64)
    first, second = (mined_of(miner(*batch.arguments()), len(batch)) for _ in range(2))
    same_choice(first, second, ("a call", "the next"))


@check("38, 43", kinds=MINERS)
def mining_has_no_gradient(subject: Subject, batch: Batch) -> None:
    """Nothing that a miner returns has a graph: a choice has no derivative.

    No `torch.no_grad()`: scores that keep the graph of all similarities in memory, or let a
    gradient through what should be a constant weight.
    """
    for x in tensors_in(subject.call(batch.leaves())):
        demand(not x.requires_grad, f"a result of {x.dtype} {tuple(x.shape)} requires a gradient")


@check("57, 58", kinds=MINERS, batches=generic)
def mining_leaves_its_inputs(subject: Subject, batch: Batch) -> None:
    """Rows and labels are not changed, and need not lie in one piece.

    An in-place normalisation or `fill_diagonal_`, or `.view` of rows that are not contiguous.
    """
    with only_read(batch):
        found = mine(subject, batch)
    same_choice(found, mine(subject, batch.map(strided)), ("contiguous rows", "strided ones"))


@check("17", kinds=MINERS, when=lambda t: t.smallest == 1, needs="smallest=1", batches=one_sample)
def one_sample_has_no_negative(subject: Subject, batch: Batch) -> None:
    """Of one sample nothing is mined, and nothing is raised.

    `topk` with k = 1 of no candidates, an argmax of an empty row, or a `squeeze()` of one row.
    """
    found = mine(subject, batch).negatives
    demand(~found.any(), f"one sample has the negatives {found.nonzero().tolist()}")


@check("24", kinds=MINERS, when=takes_hardest, needs="hardest", batches=crowded)
def mining_is_right_in_low_precision(subject: Subject, batch: Batch) -> None:
    """In each dtype the negatives are the hardest, up to the rounding of one distance.

    Similarities in half precision whatever comes in, a fill of -1e9 that float16 does not hold, or
    a squared distance that overflows.
    """
    traits = subject.traits
    for dtype in traits.dtypes:
        rounded = batch.to(dtype)
        if not all(usable(x) for x in rounded.rows.values()):
            continue
        may = legal(traits, batch)
        chosen = mine(subject, rounded).negatives
        wrong = chosen & ~may["negatives"]
        demand(~wrong.any(), f"in {dtype} these are no negatives: {wrong.nonzero().tolist()}")
        far, slack = apart(traits, rounded), rounding(dtype, 1)
        demand_hardest("negatives", chosen, may["negatives"], complete(may), far, slack)
