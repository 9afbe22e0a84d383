"""Several modalities, some of them missing."""

import torch

from mmcontrast.testing import strategies as draws
from mmcontrast.testing.batch import Batch
from mmcontrast.testing.registry import check
from mmcontrast.testing.subject import Subject, demand

KINDS = ("multimodal",)
Flags = dict[str, list[bool]]


def _masks(present: Flags) -> dict[str, torch.Tensor]:
    return {name: torch.tensor(flags) for name, flags in present.items()}


@check("54", kinds=KINDS, when=lambda t: t.symmetric, needs="symmetric")
def names_do_not_matter(subject: Subject, batch: Batch) -> None:
    """Other names, in another order in the mapping, change nothing.

    A name that is written into the loss, or an order that is taken for a role.
    """
    renamed = {f"m{k}": x for k, x in enumerate(reversed(batch.rows.values()))}
    said = ("the loss", f"with the names {list(renamed)} it")
    subject.same(subject.value(batch), subject.value(batch.with_rows(renamed)), said)


@check("4", kinds=KINDS)
def two_modalities_are_enough(subject: Subject, batch: Batch) -> None:
    """With two of the modalities the loss is finite, with finite gradients.

    Three modalities that are unpacked by name, or a division by M - 2.
    """
    two = dict(list(batch.rows.items())[:2])
    subject.value(batch.with_rows(two))


@check(
    "25",
    kinds=KINDS,
    when=lambda t: t.present,
    needs="present",
    draws={"present": draws.presences},
)
def absent_rows_reach_nothing(subject: Subject, batch: Batch, present: Flags) -> None:
    """What stands in an absent modality's row changes nothing, NaN too, and gets no gradient.

    Rows multiplied by a mask (0 times NaN is NaN), or a mask that only guards the anchors.
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
    draws={"present": draws.presences, "i": draws.sample},
)
def absent_sample_is_removed(subject: Subject, batch: Batch, present: Flags, i: int) -> None:
    """A sample without any modality is worth as much as its absence.

    It still counts in the mean, or stands in a denominator as a row of zeros.
    """
    masks = _masks(present)
    for mask in masks.values():
        mask[i] = False
    others = [k for k in range(len(batch)) if k != i]
    rest = {name: mask[others] for name, mask in masks.items()}
    said = (f"with sample {i} absent the loss", "without it")
    subject.same(
        subject.value(batch, present=masks), subject.value(batch.take(others), present=rest), said
    )


@check("25", kinds=KINDS, when=lambda t: t.present, needs="present")
def all_present_is_the_default(subject: Subject, batch: Batch) -> None:
    """Masks that say that all are present change nothing.

    A mean that divides by the number of modalities in one case and by that of pairs in the other.
    """
    masks = {name: torch.ones(len(batch), dtype=torch.bool) for name in batch.rows}
    said = ("the loss", "with everything present it")
    subject.same(subject.value(batch), subject.value(batch, present=masks), said)


@check("25, 47", kinds=KINDS, when=lambda t: t.present, needs="present")
def nothing_present_is_zero(subject: Subject, batch: Batch) -> None:
    """Where every modality of every sample is absent the loss is 0, with a gradient of 0.

    The mean of nothing, or a logarithm of an empty sum.
    """
    masks = {name: torch.zeros(len(batch), dtype=torch.bool) for name in batch.rows}
    value, gradients = subject.gradients(batch, present=masks)
    subject.same(value, 0.0, ("with nothing present the loss", "nothing"))
    for name, gradient in gradients.items():
        demand((gradient == 0).all(), f"with nothing present {name} gets {gradient.tolist()}")
