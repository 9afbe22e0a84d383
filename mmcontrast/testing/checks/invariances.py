"""Changes of a batch that must not change the loss."""

import torch
import torch.nn.functional as F
from torch import Tensor

from mmcontrast.testing import draws
from mmcontrast.testing.batch import Batch
from mmcontrast.testing.registry import check, generic
from mmcontrast.testing.subject import Subject


@check(
    "4, 49",
    when=lambda t: t.permutation_invariant,
    needs="permutation_invariant",
    draws={"order": draws.orders},
)
def permutation_invariant(subject: Subject, batch: Batch, order: list[int]) -> None:
    """The order of the samples, or of views among them, does not change the loss.

    A positive that is expected at a fixed index, an index off by one, or a mask for views in
    another order than that of the rows.
    """
    moved = subject.value(batch.take(order))
    subject.same(subject.value(batch), moved, ("the loss", f"in the order {order} it"))


@check(
    "4",
    when=lambda t: t.permutation_invariant,
    needs="permutation_invariant",
    batches=generic,
    draws={"order": draws.orders},
)
def gradients_permute_along(subject: Subject, batch: Batch, order: list[int]) -> None:
    """Permuting the samples permutes the gradients.

    A correct value with a wrong hand-written backward, or an in-place write.
    """
    _, gradients = subject.gradients(batch)
    _, moved = subject.gradients(batch.take(order))
    there = {name: g[order] for name, g in gradients.items()}
    subject.same_gradients(there, moved, ("the batch, moved", f"the order {order}"))


@check(
    "5",
    when=lambda t: t.rotation_invariant and t.classes is None,
    needs="rotation_invariant, no classes",
    draws={"rotation": draws.rotations},
)
def rotation_invariant(subject: Subject, batch: Batch, rotation: Tensor) -> None:
    """One rotation of all rows changes nothing: the loss depends on dot products only.

    A similarity over the wrong axis, a term for each coordinate, or statistics of features. A loss
    of products of three rows or more, as Symile's, says rotation_invariant=False and
    discriminative=False.
    """
    turned = subject.value(batch.map(lambda x: x @ rotation))
    subject.same(subject.value(batch), turned, ("the loss", "on rotated rows it"))


@check(
    "5",
    when=lambda t: t.rotation_invariant and t.classes is None,
    needs="rotation_invariant, no classes",
    batches=generic,
    draws={"rotation": draws.rotations},
)
def gradients_rotate_along(subject: Subject, batch: Batch, rotation: Tensor) -> None:
    """Rotating the rows rotates the gradients.

    A hand-written backward, or a gradient that is clipped or scaled coordinate by coordinate.
    """
    _, gradients = subject.gradients(batch)
    _, turned = subject.gradients(batch.map(lambda x: x @ rotation))
    there = {name: g @ rotation for name, g in gradients.items()}
    subject.same_gradients(there, turned, ("the batch, rotated", "the rotated batch"))


@check(
    "6",
    when=lambda t: t.normalized and not t.unit,
    needs="normalized, not unit",
    draws={"scales": draws.row_scales, "name": draws.chosen_name},
)
def row_scale_invariant(subject: Subject, batch: Batch, scales: list[float], name: str) -> None:
    """A row times a positive number changes nothing.

    No normalisation, one over the wrong axis or the whole matrix, or one of a single input. A loss
    of raw dot products says normalized=False; one that takes normalised rows only, unit=True.
    """
    factor = torch.tensor(scales, dtype=torch.float64)[:, None]
    scaled = batch.with_rows({**batch.rows, name: batch.rows[name] * factor})
    what = ("the loss", f"with the rows of {name} times {scales} it")
    subject.same(subject.value(batch), subject.value(scaled), what)


@check(
    "16",
    when=lambda t: t.rotation_invariant and t.features is None and t.classes is None,
    needs="rotation_invariant, any number of features",
)
def zero_padding_invariant(subject: Subject, batch: Batch) -> None:
    """Features that are zero in every row change nothing.

    A mean over the features in place of a sum, a scale of 1 / sqrt(D), or a softmax over features.
    """
    wider = subject.value(batch.map(lambda x: F.pad(x, (0, 2))))
    subject.same(subject.value(batch), wider, ("the loss", "with two zero features more it"))


@check(
    "10, 54",
    kinds=("paired", "multimodal"),
    when=lambda t: t.symmetric,
    needs="symmetric",
)
def symmetric(subject: Subject, batch: Batch) -> None:
    """Exchanging the two inputs, or the modalities' order, changes nothing.

    One direction only, or a second one whose logits were not transposed.
    """
    names = list(batch.rows)
    turned = batch.with_rows(dict(zip(names, reversed(batch.rows.values()), strict=True)))
    subject.same(subject.value(batch), subject.value(turned), ("the loss", "exchanged it"))


@check(
    "31",
    when=lambda t: t.translation_invariant,
    needs="translation_invariant",
    draws={"vector": draws.vectors},
)
def translation_invariant(subject: Subject, batch: Batch, vector: list[float]) -> None:
    """One vector added to all rows changes nothing: the loss depends on differences of rows.

    Rows that are normalised before the distance, or a squared distance that lacks one of its terms.
    """
    step = torch.tensor(vector, dtype=torch.float64)
    moved = subject.value(batch.map(lambda x: x + step))
    subject.same(subject.value(batch), moved, ("the loss", f"with {vector} added it"))


@check(
    "9, 35",
    when=lambda t: t.row_shift_invariant,
    needs="row_shift_invariant",
    draws={"shifts": draws.numbers, "name": draws.chosen_name},
)
def row_shift_invariant(subject: Subject, batch: Batch, shifts: list[float], name: str) -> None:
    """A number added to all features of a row changes nothing: rows go through a softmax.

    exp() without subtracting the maximum of the row, or a softmax over the wrong axis.
    """
    step = torch.tensor(shifts, dtype=torch.float64)[:, None]
    shifted = batch.with_rows({**batch.rows, name: batch.rows[name] + step})
    what = ("the loss", f"with {shifts} added to the rows of {name} it")
    subject.same(subject.value(batch), subject.value(shifted), what)
