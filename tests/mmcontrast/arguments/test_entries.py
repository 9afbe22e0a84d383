"""Checks that read entries: what each takes, and what it says of everything else."""

import re

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from mmcontrast import arguments

X = torch.ones(3, 2)
INDICES = torch.tensor([0, 4, -100])


@pytest.mark.parametrize(
    "call",
    [
        lambda: arguments.labels("x", torch.zeros(3, 2), 3),
        lambda: arguments.labels("x", torch.zeros(3), 3),
        lambda: arguments.targets("x", INDICES, 3, 5, ignore=-100),
    ],
)
def test_what_is_right_of_entries_passes(call):
    call()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: arguments.labels("x", X, 2), "x: expected shape (2,) or (2, L), got (3, 2)"),
        (lambda: arguments.labels("x", X[..., None], 3), "x: expected shape (3,) or (3, L), got"),
        (
            lambda: arguments.targets("x", INDICES, 3, 4, ignore=-100),
            "x: expected indices from 0 to 3, or -100 for none, got 4",
        ),
        (
            lambda: arguments.targets("x", INDICES.float(), 3, 5, ignore=-100),
            "x: expected integer indices, got torch.float32",
        ),
        (lambda: arguments.targets("x", INDICES, 2, 5, ignore=-100), "x: expected shape (2,)"),
    ],
)
def test_each_error_of_entries_names_what_was_expected_and_what_came(call, message):
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
