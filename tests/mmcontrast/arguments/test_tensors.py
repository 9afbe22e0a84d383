"""Checks of shapes and dtypes: what each takes, and what it says of everything else."""

import re

import numpy as np
import pytest
import torch

from mmcontrast import arguments

X = torch.ones(3, 2)


@pytest.mark.parametrize(
    "call",
    [
        lambda: arguments.tensor("x", X),
        lambda: arguments.matrix("x", X.half(), rows=3, like=torch.ones(7, 2)),
        lambda: arguments.matrix("x", torch.ones(0, 1)),
        lambda: arguments.table("x", torch.ones(0, 0)),
        lambda: arguments.vector("x", X[:, 0], 3),
        lambda: arguments.mask("x", X > 0, (3, 2)),
        lambda: arguments.mask("x", X, (3, 2), weights=True),
        lambda: arguments.features({"a": X, "b": X}),
    ],
)
def test_what_is_right_of_tensors_passes(call):
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
        (lambda: arguments.mask("x", X > 0, (3,)), "x: expected shape (3,), got (3, 2)"),
        (lambda: arguments.mask("x", X, (3, 2)), "x: expected a bool mask, got torch.float32"),
        (
            lambda: arguments.mask("x", X.int(), (3, 2), weights=True),
            "x: expected a bool mask or floating weights, got torch.int32",
        ),
        (lambda: arguments.features([X, X]), "features: expected a mapping of modality to (B, D)"),
        (
            lambda: arguments.features({"a": X}),
            "features: expected at least two modalities, got ['a']",
        ),
        (
            lambda: arguments.features({"a": X, "b": X[:2]}),
            "features['b']: expected shape (3, 2), got (2, 2)",
        ),
    ],
)
def test_each_error_of_tensors_names_what_was_expected_and_what_came(call, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        call()
