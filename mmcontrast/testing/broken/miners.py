"""Miners of the nearest other candidates, with one mistake each."""

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from mmcontrast.distances import manhattan
from mmcontrast.testing.broken.correct import cosines, not_self
from mmcontrast.testing.broken.mistake import Mistake
from mmcontrast.testing.traits import Loss, Traits
from mmcontrast.testing.vary import Vary


class Scored(NamedTuple):
    """What some of the miners return; (N, K) each."""

    indices: Tensor
    scores: Tensor
    valid: Tensor


def others_by(similarity: Tensor, k: int) -> Tensor:
    """(N, K) indices of the k most similar others: correct."""
    n = len(similarity)
    apart = similarity.detach().masked_fill(~not_self(n), -torch.inf)
    return apart.argsort(dim=1, descending=True, stable=True)[:, : min(k, n - 1)]


def correct_miner(a: Tensor, b: Tensor, k: int = 2) -> Tensor:
    """The k nearest candidates other than the partner, without a mistake."""
    return others_by(cosines(a, b), k)


def minus_one_for_none(a: Tensor, b: Tensor, k: int = 2) -> Tensor:
    """Places that nobody is left for hold -1."""
    found = correct_miner(a, b, k)
    return torch.nn.functional.pad(found, (0, k - found.shape[1]), value=-1)


def partner_not_masked(a: Tensor, b: Tensor, k: int = 2) -> Tensor:
    """The k nearest of all, the partner among them."""
    return cosines(a, b).detach().argsort(dim=1, descending=True, stable=True)[:, :k]


def padded_with_the_first(a: Tensor, b: Tensor, k: int = 2) -> Tensor:
    """Places that nobody is left for repeat the first one."""
    found = correct_miner(a, b, k)
    more = max(0, k - found.shape[1]) if found.shape[1] else 0
    return torch.cat([found, found[:, :1].expand(-1, more)], dim=1)


def farthest_first(a: Tensor, b: Tensor, k: int = 2) -> Tensor:
    """The easiest negatives."""
    return others_by(-cosines(a, b), k)


def partner_takes_a_place(a: Tensor, b: Tensor, k: int = 2) -> Scored:
    """The partner is removed after the k nearest are taken."""
    found = partner_not_masked(a, b, k)
    return Scored(found, torch.zeros_like(found), found != torch.arange(len(a))[:, None])


def above_the_mean(a: Tensor, b: Tensor) -> Tensor:
    """A mask of what is at least as similar as the anchor's mean, which easy ones lower."""
    similarity = cosines(a, b).detach()
    mine = not_self(len(a))
    mean = (similarity * mine).sum(1, keepdim=True) / mine.sum(1, keepdim=True).clamp_min(1)
    return mine & (similarity >= mean - 1e-12)


def skips_more_for_more(a: Tensor, b: Tensor, k: int = 2) -> Tensor:
    """k after the k - 1 nearest, which may be unmarked positives."""
    return correct_miner(a, b, 2 * k - 1)[:, k - 1 :]


def one_too_few(a: Tensor, b: Tensor, k: int = 2) -> Tensor:
    """At most N - 2: the partner is subtracted twice."""
    return correct_miner(a, b, max(0, min(k, len(a) - 2)))


def next_by_index(a: Tensor, b: Tensor) -> Tensor:
    """The next row, whatever is in it."""
    n = len(a)
    return ((torch.arange(n) + 1) % n)[:, None] if n > 1 else torch.empty(n, 0, dtype=torch.int64)


def raw_products_mined(a: Tensor, b: Tensor, k: int = 2) -> Tensor:
    """Of rows that are not normalised."""
    return others_by(a @ b.T, k)


def nearest_by_axes(a: Tensor, b: Tensor, k: int = 2) -> Tensor:
    """By the Manhattan distance, declared to be invariant to rotations."""
    return others_by(-manhattan(a[:, None], b[None]), k)


class TakesTurns(nn.Module):
    """Every other call leaves the nearest out."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        """The nearest two, or the second and third."""
        self.calls += 1
        return correct_miner(a, b, 3)[:, self.calls % 2 :][:, :2]


def scores_keep_the_graph(a: Tensor, b: Tensor, k: int = 2) -> Scored:
    """Scores through which the losses of miners' users differentiate."""
    found = correct_miner(a, b, k)
    return Scored(found, cosines(a, b).gather(1, found), torch.ones_like(found, dtype=torch.bool))


def normalizes_in_place(a: Tensor, b: Tensor, k: int = 2) -> Tensor:
    """Divides its input by the length of its rows."""
    with torch.no_grad():
        a /= a.norm(dim=1, keepdim=True)
        return correct_miner(a, b, k)


def always_one(a: Tensor, b: Tensor, k: int = 2) -> Tensor:
    """An argmax where nobody is left: a batch of one sample has itself."""
    return cosines(a, b).detach().argmax(1)[:, None] if len(a) == 1 else correct_miner(a, b, k)


def similarities_in_half(a: Tensor, b: Tensor, k: int = 2) -> Tensor:
    """Similarities of float32 rows in float16."""
    similarity = cosines(a, b)
    return others_by(similarity.half() if similarity.dtype == torch.float32 else similarity, k)


def _mined(loss: Loss, wrong: str, law: str, **claims: Any) -> Mistake:
    stated = {"factory": Vary(loss, "k"), "count": two_of, **claims}
    return Mistake(loss, wrong, law, Traits(kind="miner", **stated))


def two_of(possible: int) -> int:
    """How many negatives the miners promise by default."""
    return min(2, possible)


_free = {"factory": None, "count": None}
MINERS = (
    _mined(minus_one_for_none, "-1 for none", "mined_indices_are_rows", **_free),
    _mined(partner_not_masked, "the partner not masked", "negatives_are_others"),
    _mined(padded_with_the_first, "the first one again", "mined_pairs_come_once"),
    _mined(farthest_first, "the easiest for the hardest", "mined_negatives_are_hardest"),
    _mined(partner_takes_a_place, "k - 1 where the partner ranks", "mined_number_is_as_declared"),
    _mined(
        above_the_mean,
        "a threshold that easy ones move",
        "easier_negatives_change_nothing",
        **_free,
    ),
    _mined(
        skips_more_for_more,
        "k - 1 skipped, whatever k is",
        "more_contain_fewer",
        hardest=(),
        count=None,
    ),
    _mined(one_too_few, "one too few", "many_are_all"),
    _mined(next_by_index, "the next row", "mining_permutes_along", hardest=(), **_free),
    _mined(raw_products_mined, "no normalisation", "mining_ignores_row_scales"),
    _mined(
        nearest_by_axes,
        "a Manhattan distance",
        "mining_ignores_rotations",
        distance=manhattan,
        normalized=False,
    ),
    _mined(TakesTurns, "other pairs at every call", "mining_is_repeatable", **_free),
    _mined(scores_keep_the_graph, "scores with a graph", "mining_has_no_gradient"),
    _mined(normalizes_in_place, "writes to its rows", "mining_leaves_its_inputs"),
    _mined(always_one, "itself where nobody is left", "one_sample_has_no_negative"),
    _mined(similarities_in_half, "similarities in float16", "mining_is_right_in_low_precision"),
)
