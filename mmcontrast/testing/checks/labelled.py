"""Labels: only which of them are equal matters."""

import torch
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from mmcontrast.testing import draws, formula
from mmcontrast.testing.batch import Batch
from mmcontrast.testing.registry import check, generic, one_to_spare
from mmcontrast.testing.strategies import unit_rows
from mmcontrast.testing.subject import Subject, demand

KINDS = ("labelled", "multimodal")
LABELS = [
    [2, 0, 1],
    [-1, -7, 3],
    [7, 255, -1000],
    [2**24, 2**24 + 1, 5],  # the first two are equal in float32
    [2**53, 2**53 + 1, -(2**62)],  # and here in float64
]


def _new_labels(batch: Batch) -> SearchStrategy[list[int]]:
    """Three different labels: in another order, negative, or too large for a float."""
    return st.sampled_from(LABELS)


@check(
    "26",
    kinds=KINDS,
    when=lambda t: t.labelled and t.relabelling_invariant and t.classes is None,
    needs="labels, relabelling_invariant, no classes",
    draws={"names": _new_labels},
)
def relabelling_invariant(subject: Subject, batch: Batch, names: list[int]) -> None:
    """Only which labels are equal matters, not what they are.

    Labels that are used as indices or numbers, compared as floats, or mistaken for a sentinel.
    """
    assert batch.labels is not None
    renamed = torch.tensor(names)[batch.labels]
    subject.same(
        subject.value(batch),
        subject.value(batch.with_labels(renamed)),
        ("the loss", f"with the labels {renamed.tolist()} it"),
    )


@check(
    "62", kinds=KINDS, when=lambda t: t.labelled and t.classes is None, needs="labels, no classes"
)
def label_dtypes(subject: Subject, batch: Batch) -> None:
    """Labels of any integer dtype, or bool for two classes, give the same loss.

    uint8 that wraps around in a difference, or a comparison that needs int64. A loss with a
    parameter for each class, whose labels are indices, says classes=.
    """
    assert batch.labels is not None
    expected = subject.value(batch)
    dtypes = [torch.int32, torch.int16, torch.int8, torch.uint8]
    if batch.labels.max() <= 1:
        dtypes.append(torch.bool)
    for dtype in dtypes:
        found = subject.value(batch.with_labels(batch.labels.to(dtype)))
        subject.same(expected, found, ("the loss", f"with labels of {dtype} it"))


@check(
    "47",
    kinds=("labelled",),
    when=lambda t: t.needs_positive and t.classes is None,
    needs="needs_positive, no classes",
    batches=generic,
)
def no_positives_is_zero(subject: Subject, batch: Batch) -> None:
    """Where no anchor has a positive the loss is 0, with a graph and a gradient of 0.

    0 / 0, a logarithm of an empty sum, or an anchor that is its own positive.
    """
    value, gradients = subject.gradients(batch.with_labels(torch.arange(len(batch))))
    subject.same(value, 0.0, ("without positives the loss", "the expected loss"))
    for name, gradient in gradients.items():
        demand(gradient.abs().max() == 0, f"without positives {name} gets {gradient.tolist()}")


@check("53, 54", kinds=KINDS, when=lambda t: t.labelled, needs="labels")
def one_class_is_finite(subject: Subject, batch: Batch) -> None:
    """For a batch of one class, without negatives, the loss and its gradients are finite.

    The hardest of no negatives, or a logarithm of an empty sum.
    """
    subject.gradients(batch.with_labels(torch.zeros(len(batch), dtype=torch.int64)))


@check(
    "25",
    kinds=KINDS,
    when=lambda t: t.ignore_index is not None and t.labelled,
    needs="ignore_index",
    batches=one_to_spare,
    draws={"i": draws.sample},
)
def ignored_sample_is_removed(subject: Subject, batch: Batch, i: int) -> None:
    """A sample with the ignored label changes nothing, and gets no gradient.

    It is still a negative in a denominator, or still counts in the mean.
    """
    assert batch.labels is not None
    assert subject.traits.ignore_index is not None
    labels = batch.labels.clone()
    labels[i] = subject.traits.ignore_index
    value, gradients = subject.gradients(batch.with_labels(labels))
    what = (f"with sample {i} ignored the loss", "without it")
    subject.same(value, subject.value(batch.without(i)), what)
    for name, gradient in gradients.items():
        demand(gradient[i].abs().max() == 0, f"the ignored row of {name} gets a gradient")


@check(
    "14",
    kinds=("labelled",),
    when=lambda t: t.form == "sup_con",
    needs="form='sup_con'",
)
def stranger_never_lowers(subject: Subject, batch: Batch) -> None:
    """A further sample of a new class never lowers the loss: it is a negative for all anchors.

    Negatives that are averaged in the denominator, or anchors without positives in the mean.
    """
    assert batch.labels is not None
    labels = torch.cat([batch.labels, torch.tensor([99])])
    longer = batch.take([*range(len(batch)), 0]).with_labels(labels)
    longer = longer.map(lambda x: torch.cat([x[:-1], -x[:1]]))
    what = ("the loss", "that with a sample of a new class")
    subject.at_most(subject.value(batch), subject.value(longer), what)


@check(
    "30",
    kinds=("labelled",),
    when=lambda t: t.form == "sup_con" and t.temperature is not None,
    needs="form='sup_con' and temperature",
)
def two_views_are_nt_xent(subject: Subject, batch: Batch) -> None:
    """Two views of each sample, labelled by the sample, are SimCLR's NT-Xent.

    A mean over the wrong number of views or positives, or the anchor among its candidates.
    """
    temperature = subject.traits.temperature
    assert temperature is not None
    n = len(batch)
    views = batch.map(lambda x: torch.cat([x, x.flip(1) + 0.5 * x]))
    views = views.with_labels(torch.arange(n).repeat(2))
    if any((x.norm(dim=1) < 1e-6).any() for x in views.rows.values()):
        return
    views = views.map(unit_rows) if subject.traits.unit else views
    expected = formula.mean_loss(subject.traits, views, temperature)
    what = ("the loss of two views", "NT-Xent")
    subject.same(subject.value(views), expected, what, scale=1 / temperature)
