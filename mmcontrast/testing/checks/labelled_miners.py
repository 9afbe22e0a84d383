"""Miners of labelled batches: positives, and what the labels mean."""

import torch

from mmcontrast.testing import draws
from mmcontrast.testing.batch import Batch
from mmcontrast.testing.mined import apart, complete, demand_hardest, legal, mine, same_choice
from mmcontrast.testing.registry import check, generic
from mmcontrast.testing.subject import Subject, demand
from mmcontrast.testing.traits import Traits

KINDS = ("labelled_miner",)


def _takes_hard_positives(traits: Traits) -> bool:
    return "positives" in traits.hardest


@check("47", kinds=KINDS)
def positives_have_the_same_label(subject: Subject, batch: Batch) -> None:
    """An anchor's positives are other samples of its label.

    A sample that is its own positive, an argmin over a row without positives, or a mask of the
    wrong sign.
    """
    positives = mine(subject, batch).positives
    if positives is not None:
        wrong = positives & ~legal(subject.traits, batch)["positives"]
        demand(~wrong.any(), f"these pairs are no positives: {wrong.nonzero().tolist()}")


@check("52", kinds=KINDS, when=_takes_hard_positives, needs="hardest")
def mined_positives_are_hardest(subject: Subject, batch: Batch) -> None:
    """No positive that is left is farther than one that is chosen, and who has some gets one.

    The closest positive, which is the easy one, or a maximum over distances where the masked
    entries are not lowest.
    """
    traits = subject.traits
    positives = mine(subject, batch).positives
    if positives is not None:
        may = legal(traits, batch)
        far = apart(traits, batch)
        # Where negatives are limited, as semi-hard ones, an anchor may have no triplet at all.
        rows = complete(may) if "negatives" in traits.hardest else positives.any(1)
        demand_hardest("positives", positives, may["positives"], rows, far, traits.tol)


@check("26", kinds=KINDS, when=lambda t: t.relabelling_invariant, needs="relabelling_invariant")
def relabelling_changes_no_mining(subject: Subject, batch: Batch) -> None:
    """Other numbers for the classes, negative and large ones, have the same pairs.

    Labels as indices, as floats or in a narrower dtype, or a label of 0 taken for none.
    """
    assert batch.labels is not None
    # The low bits of the first two are the same, and the last two are one float.
    names = torch.tensor([-3, 2**60 - 3, 2**60 - 2])
    renamed = mine(subject, batch.with_labels(names[batch.labels]))
    same_choice(mine(subject, batch), renamed, ("one set of labels", "another"))


@check(
    "25",
    kinds=KINDS,
    when=lambda t: t.ignore_index is not None,
    needs="ignore_index",
    batches=generic,
    draws={"i": draws.sample},
)
def ignored_samples_are_not_mined(subject: Subject, batch: Batch, i: int) -> None:
    """A sample with the ignored label is in no pair, and the others have theirs without it.

    Samples without a label are taken for a class of their own, or their negatives are all others.
    """
    assert batch.labels is not None
    labels = batch.labels.clone()
    ignored = subject.traits.ignore_index
    assert ignored is not None
    labels[i] = ignored
    found = mine(subject, batch.with_labels(labels))
    rest = [k for k in range(len(batch)) if k != i]
    alone = mine(subject, batch.without(i))
    for name, mask in found.sides.items():
        pairs = mask.nonzero().tolist()
        demand(not mask[i].any() and not mask[:, i].any(), f"sample {i} is in the {name} {pairs}")
        demand(
            torch.equal(mask[rest][:, rest], alone.sides[name]),
            f"the {name} are {pairs} with sample {i} ignored, and others without it",
        )


@check("47", kinds=KINDS)
def one_class_has_no_negatives(subject: Subject, batch: Batch) -> None:
    """One class has no negatives, and samples of as many classes have no positives.

    An argmax over a row that is all masked is index 0; -inf and inf entries chosen as the hardest.
    """
    n = len(batch)
    for said, side, labels in (
        ("of one class", "negatives", torch.zeros(n, dtype=torch.int64)),
        ("of a class each", "positives", torch.arange(n)),
    ):
        found = mine(subject, batch.with_labels(labels)).sides.get(side)
        if found is not None:
            pairs = found.nonzero().tolist()
            demand(len(pairs) == 0, f"{n} samples {said} have the {side} {pairs}")
