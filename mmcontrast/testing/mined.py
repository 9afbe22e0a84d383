"""What a miner returned, in any of its forms, and what it could have returned."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from mmcontrast.distances import cosine_distance
from mmcontrast.testing.batch import Batch
from mmcontrast.testing.subject import LawBroken, Subject, demand, show
from mmcontrast.testing.traits import Loss, Traits

FORMS = (
    "expected (N, K) indices, alone or as .indices with a .valid mask; index tensors (a, p, n) or "
    "(a, p, a, n); or bool (N, C) masks: of negatives, or of positives and of negatives"
)


@dataclass(frozen=True, eq=False)
class Mined:
    """The pairs that a miner chose, as masks of anchors and candidates."""

    negatives: Tensor
    """(N, C) bool."""
    positives: Tensor | None
    """(N, C) bool; None of a miner that chooses no positives."""
    tuples: tuple[Tensor, ...]
    """One by one as returned: (R, 3) triplets, or (R, 2) pairs of each side, negatives last."""

    @property
    def sides(self) -> dict[str, Tensor]:
        """The masks by the names of the trait ``hardest``."""
        found = {"negatives": self.negatives}
        return found if self.positives is None else {"positives": self.positives, **found}

    def take(self, order: list[int]) -> "Mined":
        """With anchors and candidates in another order; of the masks alone."""
        moved = {name: mask[order][:, order] for name, mask in self.sides.items()}
        return Mined(moved["negatives"], moved.get("positives"), self.tuples)


def tensors_in(result: Any) -> list[Tensor]:
    """All tensors in what a miner returned; LawBroken where there is none."""
    if isinstance(result, Tensor):
        return [result]
    if isinstance(result, tuple | list):
        parts = list(result)
    else:  # one with __slots__ has no __dict__
        named = dict.fromkeys(["indices", "valid", *getattr(result, "__dict__", ())])
        parts = [getattr(result, name, None) for name in named]
    found = [x for x in parts if isinstance(x, Tensor)]
    if not found:
        raise LawBroken(f"the miner returned a {type(result).__name__}: {FORMS}")
    return found


def mine(subject: Subject, batch: Batch, miner: Loss | None = None) -> Mined:
    """What the miner, or another one in its place, chooses for a batch."""
    return mined_of(subject.call(batch, miner), len(batch))


def mined_of(result: Any, n: int) -> Mined:
    """What a miner returned for n rows; LawBroken where it cannot be read."""
    if hasattr(result, "indices") and not isinstance(result, Tensor):
        return _of_table(result.indices, getattr(result, "valid", None), n)
    if isinstance(result, Tensor):
        return _of_masks([result], n) if result.dtype == torch.bool else _of_table(result, None, n)
    parts = list(result) if isinstance(result, tuple | list) else []
    if not all(isinstance(x, Tensor) for x in parts) or len(parts) not in (1, 2, 3, 4):
        raise LawBroken(f"the miner returned {_shown(result)}: {FORMS}")
    if len(parts) <= 2:
        return _of_masks(parts, n)
    return _of_tuples(parts, n)


def _of_table(indices: Tensor, valid: Tensor | None, n: int) -> Mined:
    """Of row i, the negatives of anchor i."""
    _whole("indices", indices)
    if indices.ndim != 2 or indices.shape[0] != n:
        raise LawBroken(f"indices of shape {tuple(indices.shape)} for {n} anchors: {FORMS}")
    if valid is None:
        valid = torch.ones_like(indices, dtype=torch.bool)
    bools = isinstance(valid, Tensor) and valid.dtype == torch.bool
    if not bools or valid.shape != indices.shape:
        raise LawBroken(f"valid is {_shown(valid)}, indices are {tuple(indices.shape)}")
    a = torch.arange(n)[:, None].expand_as(indices)[valid]
    pairs = torch.stack([a, _inside("indices", indices[valid], n)], dim=1)
    return Mined(_mask(pairs, n), None, (pairs,))


def _of_masks(parts: list[Tensor], n: int) -> Mined:
    """The positives first, where there are two."""
    for mask in parts:
        if mask.dtype != torch.bool or mask.shape != (n, n):
            raise LawBroken(f"a mask of {mask.dtype} {tuple(mask.shape)} for {n} rows: {FORMS}")
    *positives, negatives = parts
    return Mined(negatives, positives[0] if positives else None, (negatives.nonzero(),))


def _of_tuples(parts: list[Tensor], n: int) -> Mined:
    """Triplets (a, p, n) without those of one row alone, or pairs (a, p, a, n)."""
    for x in parts:
        _whole("an index", x)
        if x.ndim != 1:
            raise LawBroken(f"an index tensor of shape {tuple(x.shape)}, expected one axis")
        _inside("an index", x, n)
    lengths = [x.shape[0] for x in parts]
    if len(parts) == 3:
        demand(len(set(lengths)) == 1, f"index tensors of the lengths {lengths}")
        triplets = torch.stack(parts, dim=1).long()
        triplets = triplets[(triplets != triplets[:, :1]).any(1)]  # (a, a, a) says: none
        return Mined(_mask(triplets[:, [0, 2]], n), _mask(triplets[:, :2], n), (triplets,))
    equal = lengths[0] == lengths[1] and lengths[2] == lengths[3]
    demand(equal, f"pairs of the lengths {lengths}")
    positives, negatives = (torch.stack(parts[k : k + 2], dim=1).long() for k in (0, 2))
    return Mined(_mask(negatives, n), _mask(positives, n), (positives, negatives))


def _whole(name: str, x: Tensor) -> None:
    whole = isinstance(x, Tensor) and not (x.is_floating_point() or x.is_complex())
    if not whole or x.dtype == torch.bool:
        raise LawBroken(f"{name} is {_shown(x)}, expected integers: {FORMS}")


def _inside(name: str, x: Tensor, n: int) -> Tensor:
    """The indices, if all of them are rows."""
    wrong = x[(x < 0) | (x >= n)]
    demand(wrong.numel() == 0, f"{name} is {wrong.tolist()}, where rows are 0 to {n - 1}")
    return x.long()


def _mask(pairs: Tensor, n: int) -> Tensor:
    """(R, 2) pairs as an (N, N) mask."""
    mask = torch.zeros(n, n, dtype=torch.bool)
    mask[pairs[:, 0], pairs[:, 1]] = True
    return mask


def _shown(x: Any) -> str:
    if isinstance(x, Tensor):
        return f"{x.dtype} {tuple(x.shape)}"
    return f"{len(x)} values" if isinstance(x, tuple | list) else f"a {type(x).__name__}"


def legal(traits: Traits, batch: Batch) -> dict[str, Tensor]:
    """(N, N) masks of the pairs that a miner may choose, by side.

    Example:
        >>> rows = torch.eye(3)
        >>> batch = Batch("labelled_miner", {"z": rows}, torch.tensor([0, 0, 1]))
        >>> legal(Traits(kind="labelled_miner"), batch)["positives"].nonzero().tolist()
        [[0, 1], [1, 0]]
    """
    own = torch.eye(len(batch), dtype=torch.bool)
    if batch.labels is None:
        return {"positives": own, "negatives": ~own}
    here = torch.ones_like(batch.labels, dtype=torch.bool)
    if traits.ignore_index is not None:
        here = batch.labels != traits.ignore_index
    both = here[:, None] & here
    same = batch.labels[:, None] == batch.labels
    return {"positives": same & ~own & both, "negatives": ~same & both}


def complete(may: dict[str, Tensor]) -> Tensor:
    """(N,) bool: the anchors that have a positive and a negative."""
    return may["positives"].any(1) & may["negatives"].any(1)


def apart(traits: Traits, batch: Batch) -> Tensor:
    """(N, N) float64 distances of anchors and candidates: close negatives are hard."""
    first, *others = (x.detach().double() for x in batch.rows.values())
    second = others[0] if others else first
    distance: Callable[..., Any] = traits.distance or cosine_distance
    size = (len(first), len(second), first.shape[1])
    found: Tensor = distance(first[:, None].expand(size), second[None].expand(size))
    return found.detach()


def takes_hardest(traits: Traits) -> bool:
    """Whether a miner's negatives are the hardest that there are."""
    return "negatives" in traits.hardest


def same_choice(left: Mined, right: Mined, what: tuple[str, str]) -> None:
    """LawBroken unless two choices have the same pairs."""
    for name, mask in left.sides.items():
        other = right.sides[name]
        if not torch.equal(mask, other):
            raise LawBroken(
                f"the {name} are {mask.nonzero().tolist()} for {what[0]} "
                f"but {other.nonzero().tolist()} for {what[1]}"
            )


def demand_hardest(
    name: str, chosen: Tensor, may: Tensor, rows: Tensor, far: Tensor, slack: float
) -> None:
    """LawBroken where one that was left is harder than one that was chosen, or none was chosen.

    Args:
        name: the side, positives or negatives.
        chosen, may: (N, C) bool.
        rows: (N,) bool: the anchors that must get one.
        far: (N, C) distances.
        slack: relative to 1 + distance.
    """
    hard = far if name == "positives" else -far
    for i in rows.nonzero()[:, 0].tolist():
        taken, left = chosen[i] & may[i], may[i] & ~chosen[i]
        demand(taken.any(), f"anchor {i} gets none of its {int(may[i].sum())} {name}")
        if not left.any():
            continue
        easiest, best = hard[i][taken].min(), hard[i][left].max()
        demand(
            best <= easiest + slack * (1 + far[i].abs().max()),
            f"anchor {i} gets {name} {taken.nonzero()[:, 0].tolist()}, one at the distance "
            f"{show(easiest.abs())}, and not one at {show(best.abs())}",
        )
