"""Several modalities, with missing ones."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from mmcontrast.testing import draws
from mmcontrast.testing.batch import Batch
from mmcontrast.testing.registry import check, one_to_spare
from mmcontrast.testing.subject import Subject, demand

KINDS = ("multimodal",)
Flags = dict[str, list[bool]]


def _masks(present: Flags) -> dict[str, torch.Tensor]:
    return {name: torch.tensor(flags) for name, flags in present.items()}


@check("54", kinds=KINDS, when=lambda t: t.symmetric, needs="symmetric")
def names_do_not_matter(subject: Subject, batch: Batch) -> None:
    """Other names, in another order in the mapping, change nothing.

    A name that is hard-coded in the loss, or a role that depends on the order.
    """
    renamed = {f"m{k}": x for k, x in enumerate(reversed(batch.rows.values()))}
    what = ("the loss", f"with the names {list(renamed)} it")
    subject.same(subject.value(batch), subject.value(batch.with_rows(renamed)), what)


@check("4", kinds=KINDS)
def two_modalities_are_enough(subject: Subject, batch: Batch) -> None:
    """With two of the modalities the loss is finite.

    Three modalities that are unpacked by name, or a division by M - 2.
    """
    two = dict(list(batch.rows.items())[:2])
    subject.value(batch.with_rows(two))


@check(kinds=KINDS, when=lambda t: t.pairwise is not None, needs="pairwise")
def two_modalities_are_the_pairwise_loss(subject: Subject, batch: Batch) -> None:
    """With two of the modalities the loss is the declared loss of pairs, in value and gradient.

    A sum where a mean is meant, or a score of many modalities that two of them do not reduce.
    """

    def pairs(features: Mapping[str, Tensor]) -> Any:
        assert subject.traits.pairwise is not None
        return subject.traits.pairwise(*features.values())

    two = batch.with_rows(dict(list(batch.rows.items())[:2]))
    value, gradients = subject.gradients(two)
    expected, theirs = subject.gradients(two, loss=pairs)
    what = ("the loss of two modalities", "the pairwise loss")
    subject.same(value, expected, what)
    subject.same_gradients(gradients, theirs, what)


@check(
    "25",
    kinds=KINDS,
    when=lambda t: t.present,
    needs="present",
    draws={"present": draws.presences},
)
def absent_rows_reach_nothing(subject: Subject, batch: Batch, present: Flags) -> None:
    """Rows of absent modalities change nothing, even if NaN, and get no gradient.

    Rows multiplied by a mask (0 times NaN is NaN), or a mask of the anchors only.
    """
    masks = _masks(present)
    expected = subject.value(batch, present=masks)
    spoilt = {
        name: torch.where(masks[name][:, None], x, torch.nan) for name, x in batch.rows.items()
    }
    value, gradients = subject.gradients(batch.with_rows(spoilt), present=masks)
    subject.same(expected, value, ("the loss", "with NaN in the absent rows it"))
    for name, gradient in gradients.items():
        absent = gradient[~masks[name]]
        demand((absent == 0).all(), f"absent rows of {name} get a gradient: {gradient.tolist()}")


@check(
    "25",
    kinds=KINDS,
    when=lambda t: t.present,
    needs="present",
    batches=one_to_spare,
    draws={"present": draws.presences, "i": draws.sample},
)
def absent_sample_is_removed(subject: Subject, batch: Batch, present: Flags, i: int) -> None:
    """A sample without any modality changes nothing.

    It still counts in the mean, or is a negative in a denominator as a row of zeros.
    """
    masks = _masks(present)
    for mask in masks.values():
        mask[i] = False
    rest = {name: torch.cat([mask[:i], mask[i + 1 :]]) for name, mask in masks.items()}
    what = (f"with sample {i} absent the loss", "without it")
    subject.same(
        subject.value(batch, present=masks), subject.value(batch.without(i), present=rest), what
    )


@check("25", kinds=KINDS, when=lambda t: t.present, needs="present")
def all_present_is_the_default(subject: Subject, batch: Batch) -> None:
    """Masks in which every modality is present change nothing.

    A mean over modalities in one case and over pairs of modalities in the other.
    """
    masks = {name: torch.ones(len(batch), dtype=torch.bool) for name in batch.rows}
    what = ("the loss", "with everything present it")
    subject.same(subject.value(batch), subject.value(batch, present=masks), what)


@check("25, 47", kinds=KINDS, when=lambda t: t.present, needs="present")
def nothing_present_is_zero(subject: Subject, batch: Batch) -> None:
    """Where every modality of every sample is absent the loss is 0, with a gradient of 0.

    The mean of an empty tensor, or a logarithm of an empty sum.
    """
    masks = {name: torch.zeros(len(batch), dtype=torch.bool) for name in batch.rows}
    value, gradients = subject.gradients(batch, present=masks)
    subject.same(value, 0.0, ("with nothing present the loss", "the expected loss"))
    for name, gradient in gradients.items():
        demand((gradient == 0).all(), f"with nothing present {name} gets {gradient.tolist()}")
