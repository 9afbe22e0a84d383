"""Argument checks: what each takes, and what it says of everything else."""

import re

import numpy as np
import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from mmcontrast import arguments

X = torch.ones(3, 2)
INDICES = torch.tensor([0, 4, -100])


@pytest.mark.parametrize(
    "call",
    [
        lambda: arguments.tensor("x", X),
        lambda: arguments.matrix("x", X.half(), rows=3, like=torch.ones(7, 2)),
        lambda: arguments.matrix("x", torch.ones(0, 1)),
        lambda: arguments.table("x", torch.ones(0, 0)),
        lambda: arguments.vector("x", X[:, 0], 3),
        lambda: arguments.labels("x", torch.zeros(3, 2), 3),
        lambda: arguments.labels("x", torch.zeros(3), 3),
        lambda: arguments.mask("x", X > 0, (3, 2)),
        lambda: arguments.mask("x", X, (3, 2), weights=True),
        lambda: arguments.one_of("x", None, ("a", None)),
        lambda: arguments.positive("x", 1e-9),
        lambda: arguments.probability(0),
        lambda: arguments.probability(1.0),
        lambda: arguments.whole("x", 1),
        lambda: arguments.temperature(torch.tensor(-1.0)),  # a learned one is not read
        lambda: arguments.targets("x", INDICES, 3, 5, ignore=-100),
        lambda: arguments.features({"a": X, "b": X}),
        lambda: arguments.reduction("none"),
        lambda: arguments.device("meta"),
    ],
)
def test_what_is_right_passes(call):
    call()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: arguments.tensor("x", np.ones(3)), "x: expected a tensor, got ndarray"),
        (
            lambda: arguments.matrix("x", X[0]),
            "x: expected shape (rows, D) with at least one feature, got (2,)",
        ),
        (
            lambda: arguments.matrix("x", X[:, :0], rows=3, like=X),
            "x: expected shape (3, 2) with at least one feature, got (3, 0)",
        ),
        (lambda: arguments.matrix("x", X.int()), "x: expected a floating dtype, got torch.int32"),
        (lambda: arguments.matrix("x", X, rows=4), "x: expected shape (4, D), got (3, 2)"),
        (
            lambda: arguments.matrix("x", X, like=torch.ones(1, 5)),
            "x: expected shape (rows, 5), got (3, 2)",
        ),
        (lambda: arguments.table("x", X[0]), "x: expected shape (B, C), got (2,)"),
        (lambda: arguments.table("x", X > 0), "x: expected a floating dtype, got torch.bool"),
        (lambda: arguments.vector("x", X, 3), "x: expected shape (3,), got (3, 2)"),
        (lambda: arguments.vector("x", [1], 1), "x: expected a tensor, got list"),
        (lambda: arguments.labels("x", X, 2), "x: expected shape (2,) or (2, L), got (3, 2)"),
        (lambda: arguments.labels("x", X[..., None], 3), "x: expected shape (3,) or (3, L), got"),
        (lambda: arguments.mask("x", X > 0, (3,)), "x: expected shape (3,), got (3, 2)"),
        (lambda: arguments.mask("x", X, (3, 2)), "x: expected a bool mask, got torch.float32"),
        (
            lambda: arguments.mask("x", X.int(), (3, 2), weights=True),
            "x: expected a bool mask or floating weights, got torch.int32",
        ),
        (lambda: arguments.one_of("x", "c", ("a", "b")), "x: expected one of 'a', 'b', got 'c'"),
        (lambda: arguments.positive("x", 0), "x: expected a number above 0, got 0"),
        (lambda: arguments.positive("x", float("nan")), "x: expected a number above 0, got nan"),
        (
            lambda: arguments.positive("x", torch.tensor(1.0)),
            "x: expected a number above 0, got tensor(1.) torch.float32",
        ),
        (lambda: arguments.probability(1.1), "probability: expected a number in [0, 1], got 1.1"),
        (lambda: arguments.probability(torch.tensor(0.5)), "probability: expected a number in"),
        (lambda: arguments.whole("x", 0), "x: expected an int of at least 1, got 0"),
        (lambda: arguments.whole("x", True), "x: expected an int of at least 1, got True"),
        (lambda: arguments.whole("x", 2.0), "x: expected an int of at least 1, got 2.0"),
        (lambda: arguments.temperature(0.0), "temperature: expected a number above 0, got 0.0"),
        (
            lambda: arguments.temperature(torch.ones(1, 1)),
            "temperature: expected a number above 0 or a floating tensor of shape () or (1,), got "
            "(1, 1) torch.float32",
        ),
        (lambda: arguments.temperature(torch.tensor(1)), "temperature: expected a number above 0"),
        (
            lambda: arguments.targets("x", INDICES, 3, 4, ignore=-100),
            "x: expected indices from 0 to 3, or -100 for none, got 4",
        ),
        (
            lambda: arguments.targets("x", INDICES.float(), 3, 5, ignore=-100),
            "x: expected integer indices, got torch.float32",
        ),
        (lambda: arguments.targets("x", INDICES, 2, 5, ignore=-100), "x: expected shape (2,)"),
        (lambda: arguments.features([X, X]), "features: expected a mapping of modality to (B, D)"),
        (
            lambda: arguments.features({"a": X}),
            "features: expected at least two modalities, got ['a']",
        ),
        (
            lambda: arguments.features({"a": X, "b": X[:2]}),
            "features['b']: expected shape (3, 2), got (2, 2)",
        ),
        (
            lambda: arguments.reduction("avg"),
            "reduction: expected one of 'mean', 'sum', 'none', got 'avg'",
        ),
        (
            lambda: arguments.device("nowhere"),
            "device: expected a torch.device or its name, got 'nowhere'",
        ),
        # A build for GPUs would take it.
        (lambda: arguments.device(0), "device: expected a torch.device or its name, got 0"),
    ],
)
def test_each_error_names_the_argument_what_was_expected_and_what_came(call, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        call()


def test_indices_are_read_on_the_cpu_alone():
    wrong = torch.tensor([9])
    arguments.targets("x", wrong.to("meta"), 1, 1, ignore=-100)
    with FakeTensorMode() as mode:
        arguments.targets("x", mode.from_tensor(wrong), 1, 1, ignore=-100)

    def traced(x):
        arguments.targets("x", x, 1, 1, ignore=-100)
        return x + 1

    assert torch.equal(torch.vmap(traced)(wrong[None]), wrong[None] + 1)
    torch._dynamo.reset()
    assert torch.compile(traced, fullgraph=True, backend="eager")(wrong) == 10


def test_a_constant_is_no_learned_number():
    arguments.constant("x", torch.tensor(0.5))
    with pytest.raises(ValueError, match=r"^x: expected a number, as no gradient by it is made"):
        arguments.constant("x", torch.nn.Parameter(torch.tensor(0.5)))


@pytest.mark.parametrize("shape", [(), (1,)])
def test_a_learned_number_comes_back_without_a_dimension(shape):
    given = torch.full(shape, 0.5, requires_grad=True)
    for found in (arguments.temperature(given), arguments.number_or_scalar("x", given)):
        assert found.shape == ()
        assert torch.autograd.grad(found, given)[0].shape == shape
    assert arguments.constant("x", given.detach()).shape == ()
    for number in (2, 0.5, np.float32(0.5)):
        assert arguments.temperature(number) is number
        assert arguments.number_or_scalar("x", number) is number
        assert arguments.constant("x", number) is number


@pytest.mark.parametrize(
    "other", [torch.ones(2), torch.ones(1, 1), torch.ones(0), torch.ones(1).int()]
)
def test_a_learned_number_is_one_number(other):
    expected = r"x: expected a number or a floating tensor of shape \(\) or \(1,\), got"
    for check in (arguments.number_or_scalar, arguments.constant):
        with pytest.raises(ValueError, match=expected):
            check("x", other)


def test_whole_numbers_of_any_length_are_shown():
    with pytest.raises(ValueError, match=r"^x: expected an int of at least 1, got a whole number"):
        arguments.whole("x", 10**5000)
    assert not arguments.is_number(10**400)
    assert arguments.is_number(10**300)
