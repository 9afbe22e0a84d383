"""Miners: which pairs they may choose, which of them are the hardest, and how many."""

from collections import Counter

import torch
from torch import Tensor

from mmcontrast.testing import draws
from mmcontrast.testing.batch import Batch
from mmcontrast.testing.mined import apart, complete, demand_hardest, legal, mine, takes_hardest
from mmcontrast.testing.registry import check, generic
from mmcontrast.testing.subject import LawBroken, Subject, demand
from mmcontrast.testing.traits import MINERS, Traits

FACTORY = "factory (number of negatives -> miner)"


def _by_number(traits: Traits) -> bool:
    return traits.factory is not None


def _hardest_by_number(traits: Traits) -> bool:
    return _by_number(traits) and takes_hardest(traits)


@check(kinds=MINERS)
def mined_indices_are_rows(subject: Subject, batch: Batch) -> None:
    """What is mined are pairs or triplets of rows: indices from 0 on, or masks of all pairs.

    A -1 or an infinity for "none" that stayed in, a table for another number of rows, scores in
    place of indices, or a k larger than what there is. The other laws are not tried where this one
    fails.
    """
    mine(subject, batch)


@check("37", kinds=MINERS)
def negatives_are_others(subject: Subject, batch: Batch) -> None:
    """An anchor's negatives are neither itself nor its partner, nor have its label.

    A diagonal that is not masked, a mask of the wrong sign, or an argmax over a row that has no
    negative: it is 0, whoever that is.
    """
    wrong = mine(subject, batch).negatives & ~legal(subject.traits, batch)["negatives"]
    demand(~wrong.any(), f"these pairs are no negatives: {wrong.nonzero().tolist()}")


@check("37", kinds=MINERS)
def mined_pairs_come_once(subject: Subject, batch: Batch) -> None:
    """No pair, or triplet, is returned twice: it would count twice in a loss.

    A draw with replacement, or padding with the first index where there are too few.
    """
    for found in mine(subject, batch).tuples:
        times = Counter(map(tuple, found.tolist()))
        twice = sorted(pair for pair, count in times.items() if count > 1)
        demand(not twice, f"more than once: {twice}")


@check("37, 52", kinds=MINERS, when=takes_hardest, needs="hardest")
def mined_negatives_are_hardest(subject: Subject, batch: Batch) -> None:
    """No negative that is left is closer than one that is chosen, and who has some gets one.

    A sort in the wrong direction, similarities of rows that are not normalised, or the partner
    counted as one of the k.
    """
    traits = subject.traits
    may = legal(traits, batch)
    chosen = mine(subject, batch).negatives
    far = apart(traits, batch)
    demand_hardest("negatives", chosen, may["negatives"], complete(may), far, traits.tol)


@check("37, 38, 51", kinds=MINERS, when=lambda t: t.count is not None, needs="count")
def mined_number_is_as_declared(subject: Subject, batch: Batch) -> None:
    """An anchor with M possible negatives gets the declared number of them.

    The partner that takes one of the k places, a k that is not limited to what there is, or a
    share of the batch in place of a share of the possible.
    """
    count = subject.traits.count
    assert count is not None
    may = legal(subject.traits, batch)
    chosen = mine(subject, batch).negatives
    for i in complete(may).nonzero()[:, 0].tolist():
        possible = int(may["negatives"][i].sum())
        got, expected = int(chosen[i].sum()), count(possible)
        demand(got == expected, f"anchor {i} gets {got} of {possible}, declared are {expected}")


@check(
    "52",
    kinds=MINERS,
    when=lambda t: takes_hardest(t) and not t.unit,
    needs="hardest, not unit",
    draws={"i": draws.sample},
)
def easier_negatives_change_nothing(subject: Subject, batch: Batch, i: int) -> None:
    """Where a negative that was not chosen moves away, the anchor's choice stays.

    A threshold that is a mean or a quantile of the batch, or a choice by rank from the wrong end.
    """
    traits = subject.traits
    chosen, may = mine(subject, batch).negatives, legal(traits, batch)["negatives"]
    anchor, name = next(iter(batch.rows.values()))[i], list(batch.rows)[-1]
    far = apart(traits, batch)
    for j in (may[i] & ~chosen[i]).nonzero()[:, 0].tolist():
        candidates = batch.rows[name].clone()
        candidates[j] = -anchor if traits.normalized else 2 * candidates[j] - anchor
        moved = batch.with_rows({**batch.rows, name: candidates})
        if apart(traits, moved)[i, j] <= far[i, j]:
            continue
        found = mine(subject, moved).negatives
        if not torch.equal(found[i], chosen[i]):
            raise LawBroken(
                f"anchor {i} has negatives {chosen[i].nonzero()[:, 0].tolist()}, but "
                f"{found[i].nonzero()[:, 0].tolist()} where {j}, not one of them, is farther"
            )


@check("37", kinds=MINERS, when=_by_number, needs=FACTORY, batches=generic)
def more_contain_fewer(subject: Subject, batch: Batch) -> None:
    """The k negatives of an anchor are among its k + 1.

    An unstable sort, a draw that depends on k, or places that are counted with the partner.
    """
    fewer: Tensor | None = None
    for k in range(1, len(batch) + 1):
        found = mine(subject, batch, subject.from_factory(k)).negatives
        lost = torch.zeros_like(found) if fewer is None else fewer & ~found
        demand(~lost.any(), f"k = {k} loses what k = {k - 1} has: {lost.nonzero().tolist()}")
        fewer = found


@check("37, 51", kinds=MINERS, when=_hardest_by_number, needs=f"{FACTORY}, hardest")
def many_are_all(subject: Subject, batch: Batch) -> None:
    """From k = N - 1 on, every possible negative is returned.

    A k that is not limited to what there is, or limited to one too few.
    """
    may = legal(subject.traits, batch)
    all_of_them = may["negatives"] & complete(may)[:, None]
    for k in (len(batch) - 1, len(batch) + 3):
        found = mine(subject, batch, subject.from_factory(k)).negatives
        lost = all_of_them & ~found
        demand(~lost.any(), f"k = {k} of {len(batch)} rows leaves {lost.nonzero().tolist()}")


@check("37", kinds=("miner",), when=_by_number, needs=FACTORY)
def loss_grows_with_k(subject: Subject, batch: Batch) -> None:
    """InfoNCE on the mined negatives grows with k, up to that on all candidates.

    Padding with what is not valid, duplicates, or the partner among its negatives.
    """
    gaps = _logit_gaps(*batch.rows.values())
    whole = gaps.logsumexp(1)  # the partner's gap is 0
    before = torch.zeros(len(batch), dtype=torch.float64)
    for k in range(1, len(batch) + 2):
        anchors, *_, negatives = mine(subject, batch, subject.from_factory(k)).tuples[-1].unbind(1)
        terms = torch.zeros(len(batch), dtype=torch.float64)
        terms.index_add_(0, anchors, gaps[anchors, negatives].exp())
        loss = terms.log1p()
        slack = subject.traits.tol * (1 + whole)
        demand((loss >= before - slack).all(), f"the loss with k = {k} is below k = {k - 1}")
        demand(
            (loss <= whole + slack).all(),
            f"with k = {k} the losses are {loss.tolist()}, with all {whole.tolist()}",
        )
        before = loss


def _logit_gaps(a: Tensor, b: Tensor) -> Tensor:
    """(N, N) logits less that of the partner, at temperature 1."""
    a, b = (x.double() / x.double().norm(dim=1, keepdim=True) for x in (a, b))
    table = a @ b.T
    return table - table.diagonal()[:, None]
