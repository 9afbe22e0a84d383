"""Requirements of training loops: inputs, strides, copies, modes, compilers."""

import copy
import pickle
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from mmcontrast.testing.batch import Batch
from mmcontrast.testing.registry import check, few_samples, generic
from mmcontrast.testing.subject import LawBroken, Subject, demand, tensor_of


@contextmanager
def only_read(batch: Batch) -> Iterator[None]:
    """LawBroken where what runs inside writes to the rows or labels."""
    inputs = dict(batch.rows)
    if batch.labels is not None:
        inputs["labels"] = batch.labels
    before = [(x.detach().clone(), x._version) for x in inputs.values()]
    yield
    for (name, x), (same, version) in zip(inputs.items(), before, strict=True):
        demand(torch.equal(x, same) and x._version == version, f"{name} was written to")


def strided(x: Tensor) -> Tensor:
    """The same rows, transposed in memory and with NaN between any two numbers."""
    wide = torch.full((2 * x.shape[1], 2 * len(x)), torch.nan, dtype=x.dtype)
    return wide[::2, ::2].copy_(x.T).T


@check("57")
def inputs_are_not_written(subject: Subject, batch: Batch) -> None:
    """Forward and backward leave the values and versions of the inputs unchanged.

    An in-place operation: a diagonal filled, a row normalised by `/=`, a label overwritten.
    """
    leaves = batch.leaves()
    with only_read(batch), only_read(leaves):
        try:
            value = subject.tensor(leaves)
        except RuntimeError as error:
            if "in-place" in str(error):
                raise LawBroken(f"the loss writes to an input: {error}") from error
            raise
        if value.requires_grad:
            value.backward()  # type: ignore[no-untyped-call]  # torch's lacks types
        subject.tensor(batch)


@check("58")
def strides_do_not_matter(subject: Subject, batch: Batch) -> None:
    """Rows that are not contiguous, a slice or a transpose, give the same loss.

    `.view()` of an unknown layout, or a kernel that assumes contiguous rows.
    """
    what = ("the loss", "on strided rows it")
    subject.same(subject.value(batch), subject.value(batch.map(strided)), what)


@check("58")
def expanded_rows(subject: Subject, batch: Batch) -> None:
    """One row repeated by `.expand` gives the same loss as N copies of it.

    An in-place write to memory that all rows share.
    """
    seen = batch.map(lambda x: x[:1].expand(len(x), -1))
    what = ("the loss of copies", "of an expanded row it")
    subject.same(
        subject.value(batch.map(lambda x: x[:1].repeat(len(x), 1))), subject.value(seen), what
    )


@check("65", when=lambda t: t.deterministic, needs="deterministic", batches=generic)
def repeats_itself(subject: Subject, batch: Batch) -> None:
    """Two calls with the same batch give the same loss, and draw no random numbers.

    Dropout or noise inside, or a queue or a running mean that the loss updates itself.
    """
    loss = subject.fresh()
    before = torch.get_rng_state()
    first, second = (tensor_of(loss(*batch.arguments())).detach() for _ in range(2))
    demand(torch.equal(first, second), f"first {first.tolist()}, then {second.tolist()}")
    demand(torch.equal(before, torch.get_rng_state()), "the loss drew from torch's generator")


@check("64", batches=generic)
def works_without_gradients(subject: Subject, batch: Batch) -> None:
    """Under no_grad and inference_mode the value is the same.

    A gradient that is computed inside, or a tensor that is changed in place.
    """
    expected = subject.value(batch)
    for mode in (torch.no_grad, torch.inference_mode):
        with mode():
            found = subject.value(batch.copy())
        subject.same(expected, found, ("the loss", f"under {mode.__name__} it"))


@check("66", batches=generic)
def modes_do_not_matter(subject: Subject, batch: Batch) -> None:
    """A Module gives the same loss in training and in evaluation mode.

    Dropout, batch norm, or a queue that fills in training only.
    """
    values = []
    for mode in (True, False):
        module = subject.module()
        if module is None:
            return
        values.append(subject.value(batch, loss=module.train(mode)))
    subject.same(values[0], values[1], ("in training the loss", "in evaluation it"))


@check("59", batches=generic, most=10)
def copies_are_worth_the_same(subject: Subject, batch: Batch) -> None:
    """A Module that is copied, pickled, or loaded from its state_dict gives the same loss.

    State in plain attributes, buffers that are not persistent, or a lambda in an attribute.
    """
    module = subject.module()
    if module is None:
        return
    tensor_of(module(*batch.arguments()))  # fills a queue, so that the state is not the initial one
    expected = subject.value(batch, loss=copy.deepcopy(module))
    try:
        pickled = pickle.loads(pickle.dumps(module))
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise LawBroken(f"the Module cannot be pickled: {error}") from error
    reloaded = subject.module()
    assert isinstance(reloaded, nn.Module)
    reloaded.load_state_dict(module.state_dict())
    for name, twin in (("pickled", pickled), ("loaded from its state_dict", reloaded)):
        found = subject.value(batch, loss=twin)
        subject.same(expected, found, ("the loss", f"{name}, it"))


@check("44", batches=generic, most=10)
def parameters_get_gradients(subject: Subject, batch: Batch) -> None:
    """Learned parameters get a finite gradient.

    A temperature that is read with `.item()`, clamped by writing to `.data`, or not used.
    """
    module = subject.module()
    if module is None:
        return
    learned = {n: p for n, p in module.named_parameters() if p.requires_grad}
    if not learned:
        return
    value = subject.tensor(batch, loss=module)
    demand(value.requires_grad, "no parameter is in the loss's graph")
    found = torch.autograd.grad(value, list(learned.values()), allow_unused=True)
    for name, gradient in zip(learned, found, strict=True):
        if gradient is None:
            raise LawBroken(f"the parameter {name} is not in the loss's graph")
        demand(gradient.isfinite().all(), f"the gradient of {name} is {gradient.tolist()}")


@check("60", when=lambda t: t.traceable, needs="traceable", batches=few_samples, most=1)
def compiles_into_one_graph(subject: Subject, batch: Batch) -> None:
    """`torch.compile(fullgraph=True)` traces the loss and gives the same value.

    A branch on a value, `.item()`, `.nonzero()`, or a Python object in the result.
    """
    torch._dynamo.reset()
    loss = subject.fresh()
    compiled = torch.compile(
        lambda *inputs: tensor_of(loss(*inputs)), fullgraph=True, backend="eager"
    )
    try:
        found = compiled(*batch.arguments())
    except (torch._dynamo.exc.TorchDynamoException, RuntimeError) as error:
        raise LawBroken(
            f"torch.compile(fullgraph=True): {type(error).__name__}: {str(error)[:300]}"
        ) from error
    subject.same(subject.value(batch), found.detach(), ("the loss", "compiled it"))


@check("61", when=lambda t: t.functional, needs="functional", batches=generic, most=10)
def functional_gradient(subject: Subject, batch: Batch) -> None:
    """`torch.func.grad` gives the same gradient as autograd.

    A branch on a value, `.data`, `.backward()` or a write in place inside the loss.
    """
    _, expected = subject.gradients(batch)
    names = tuple(expected)
    loss = subject.fresh()  # torch.func does not let a Module be converted inside

    def function(moved: dict[str, Tensor]) -> Tensor:
        return tensor_of(loss(*batch.with_rows({**batch.rows, **moved}).arguments()))

    found = torch.func.grad(function)({name: batch.rows[name] for name in names})
    subject.same_gradients(expected, found, ("autograd", "torch.func.grad"))


@check("61", when=lambda t: t.functional, needs="functional", batches=generic, most=10)
def vectorizes(subject: Subject, batch: Batch) -> None:
    """`torch.vmap` over two batches gives the values of the two.

    A branch on a value, a shape that depends on one, or an index into a fixed axis.
    """
    other = batch.take([*range(1, len(batch)), 0]).map(lambda x: x + 0.5)
    loss = subject.fresh()
    rows = {k: torch.stack([x, other.rows[k]]) for k, x in batch.rows.items()}
    labels = None
    if batch.labels is not None and other.labels is not None:
        labels = torch.stack([batch.labels, other.labels])
    together = Batch(batch.kind, rows, labels)
    found = torch.vmap(lambda *inputs: tensor_of(loss(*inputs)))(*together.arguments())
    for k, one in enumerate((batch, other)):
        what = ("the loss", f"of batch {k} under vmap it")
        subject.same(subject.value(one), found[k], what)
