"""The record that functions of a tile get, and the errors about what they return."""

import re

import numpy as np
import pytest
import torch

import mmcontrast as mm
from mmcontrast import arguments
from mmcontrast.exact.pair_tile import called_for

ROWS, COLUMNS = torch.tensor([2, 3]), torch.tensor([0, 2, 5])


def tile(**options):
    return mm.Tile(ROWS, COLUMNS, torch.rand(2, 3), torch.ones(2), **options)


def test_what_is_not_read_is_not_made():
    def refuse(_):
        raise AssertionError("nobody asked")

    lazy = mm.Tile(ROWS, COLUMNS, refuse, refuse, positive=refuse)
    assert torch.equal(lazy.rows, ROWS)
    calls = []
    lazy = mm.Tile(ROWS, COLUMNS, lambda _: calls.append(1) or torch.ones(2, 3), refuse)
    assert lazy.similarity is lazy.similarity
    assert calls == [1]


def test_partners_are_the_same_index_unless_said_otherwise():
    assert tile().positive.tolist() == [[False, True, False], [False, False, False]]
    given = torch.ones(2, 3, dtype=torch.bool)
    assert tile(positive=given).positive is given


WRONG = {
    "a number": (lambda t: 1.0, "got 1.0"),
    "one axis": (lambda t: t.columns > 1, r"got \(3,\) torch.bool"),
    "the other dtype": (lambda t: t.similarity.int(), r"got \(2, 3\) torch.int32"),
    "another device": (
        lambda t: torch.ones(2, 3, dtype=torch.bool, device="meta"),
        r"got \(2, 3\) torch.bool on meta",
    ),
}


@pytest.mark.parametrize("case", WRONG)
@pytest.mark.parametrize("name", ["keep", "bias"])
def test_what_a_function_may_return(name, case):
    function, got = WRONG[case]
    with pytest.raises(ValueError, match=rf"^{name}: expected a function that returns .*{got}"):
        called_for(name, function, tile())


def test_the_dtype_is_that_of_the_argument():
    assert called_for("keep", lambda t: t.similarity > 0.5, tile()).dtype == torch.bool
    assert called_for("bias", lambda t: t.similarity.half(), tile()).dtype == torch.half
    with pytest.raises(ValueError, match=r"keep: .* bool on cpu .*got .*float32"):
        called_for("keep", lambda t: t.similarity, tile())
    with pytest.raises(ValueError, match=r"bias: .* floating on cpu .*got .*bool"):
        called_for("bias", lambda t: t.similarity > 0, tile())


def test_a_mask_of_all_pairs_may_be_true():
    assert called_for("keep", lambda t: True, tile()) is None
    for name, found in (("bias", True), ("keep", False), ("keep", None)):
        with pytest.raises(ValueError, match=rf"^{name}: expected .*got {found}"):
            called_for(name, lambda t, found=found: found, tile())


def test_another_true_is_told_which_one_is_meant():
    for found in (torch.tensor(True), np.True_):
        got = re.escape(arguments.shown(found))
        with pytest.raises(ValueError, match=rf"^keep: .* a tile, or Python's True, got {got}$"):
            called_for("keep", lambda t, found=found: found, tile())


def test_no_gradient_comes_out():
    weight = torch.ones((), requires_grad=True)
    assert not called_for("bias", lambda t: weight * t.similarity, tile()).requires_grad
