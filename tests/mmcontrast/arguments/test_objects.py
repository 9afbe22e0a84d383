"""Checks of objects: what each takes, and what it says of everything else."""

import re

import pytest

from mmcontrast import arguments


@pytest.mark.parametrize(
    "call",
    [
        lambda: arguments.one_of("x", None, ("a", None)),
        lambda: arguments.reduction("none"),
        lambda: arguments.device("meta"),
    ],
)
def test_what_is_right_of_objects_passes(call):
    call()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: arguments.one_of("x", "c", ("a", "b")), "x: expected one of 'a', 'b', got 'c'"),
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
def test_each_error_of_objects_names_what_was_expected_and_what_came(call, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        call()
