"""Triplets and their margin; most laws need a factory that makes the loss for a margin."""

import torch

from mmcontrast.testing import draws
from mmcontrast.testing.batch import Batch
from mmcontrast.testing.registry import check
from mmcontrast.testing.subject import Subject
from mmcontrast.testing.traits import Traits

KINDS = ("triplet",)
NEEDS = "factory (margin -> loss)"


def _has_factory(traits: Traits) -> bool:
    return traits.factory is not None


def _hinged(traits: Traits) -> bool:
    return traits.factory is not None and traits.nonnegative


@check("31", kinds=KINDS, when=_has_factory, needs=NEEDS, draws={"margins": draws.margins})
def larger_margin_costs_more(subject: Subject, batch: Batch, margins: tuple[float, float]) -> None:
    """A larger margin never lowers the loss, and raises it by at most the difference.

    A margin with the wrong sign, squared, or added to both distances.
    """
    low, high = (subject.value(batch, loss=subject.from_factory(margin)) for margin in margins)
    subject.at_most(low, high, (f"margin {margins[0]}", f"margin {margins[1]}"))
    most = float(low) + margins[1] - margins[0]
    subject.at_most(
        high, most, (f"margin {margins[1]}", f"margin {margins[0]} plus the difference")
    )


@check("31", kinds=KINDS, when=_has_factory, needs=NEEDS, draws={"margins": draws.margins})
def equal_rows_are_at_the_margin(
    subject: Subject, batch: Batch, margins: tuple[float, float]
) -> None:
    """If positive and negative are equal, the loss is the margin.

    The margin on the wrong side of the hinge, or with one of the distances only.
    """
    margin = margins[1]
    rows = {**batch.rows, "n": batch.rows["p"].clone()}
    value = subject.value(batch.with_rows(rows), loss=subject.from_factory(margin))
    subject.same(value, margin, ("with p = n the loss", "the margin"))


@check("31", kinds=KINDS, when=_hinged, needs=f"{NEEDS}, nonnegative")
def satisfied_triplet_is_zero(subject: Subject, batch: Batch) -> None:
    """For p = a and n = -a the loss with a small margin is 0.

    Positives and negatives exchanged, or a hinge that is missing or soft.
    """
    a = batch.rows["a"]
    rows = {"a": a, "p": a.clone(), "n": -a}
    margin = 1e-3 * min(1.0, a.norm(dim=1).min().item() ** 2)
    value = subject.value(batch.with_rows(rows), loss=subject.from_factory(margin))
    subject.same(value, 0.0, ("with p = a, n = -a the loss", "the expected loss"))


@check("31", kinds=KINDS)
def exchange_cannot_win_twice(subject: Subject, batch: Batch) -> None:
    """The losses of (a, p, n) and (a, n, p) sum to at least twice the loss with n = p.

    A distance that is subtracted twice, an absolute value, or a wrong sign: for a difference d of
    the distances, max(0, d + m) + max(0, m - d) is never below 2 m.
    """
    a, p, n = batch.rows.values()
    there = subject.value(batch)
    back = subject.value(batch.with_rows({"a": a, "p": n, "n": p}))
    level = subject.value(batch.with_rows({"a": a, "p": p, "n": p}))
    subject.at_most(2 * level, there + back, ("twice the loss with p = n", "both ways, summed,"))


@check("4", kinds=KINDS, when=lambda t: t.smallest == 1, needs="smallest=1")
def triplets_do_not_meet(subject: Subject, batch: Batch) -> None:
    """The loss of a batch of triplets is the mean of the losses of the triplets.

    A sum in place of a mean, a mean over the triplets above 0 only, or distances across triplets.
    """
    each = [float(subject.value(batch.take([i]))) for i in range(len(batch))]
    mean = torch.tensor(each, dtype=torch.float64).mean()
    subject.same(subject.value(batch), mean, ("the loss", "the mean over the triplets"))
