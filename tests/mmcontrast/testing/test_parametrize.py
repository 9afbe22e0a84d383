"""The pytest decorator, used as its users use it."""

import pytest

import mmcontrast as mm
from mmcontrast.testing import parametrize_with_checks
from tests.mmcontrast.testing import losses

FAST = {"max_examples": 3, "exclude": ("gradcheck", "gradgradcheck")}


@parametrize_with_checks(
    {"one way": mm.info_nce, "both": mm.SymmetricInfoNCE()},
    traits=lambda loss: {"symmetric": isinstance(loss, mm.SymmetricInfoNCE)},
    **FAST,
)
def test_losses_that_are_right(loss, check):
    check(loss)


@parametrize_with_checks(
    [losses.half],
    traits={"form": "info_nce", "temperature": 0.07},
    checks=["nonnegative", "collapse_value", "equals_its_formula"],
    expected_failures={"collapse_value": "half", "equals_its_formula": "half"},
)
def test_known_failures_are_strict_xfails(loss, check):
    check(loss)


def cases(mark):
    return {case.id: case for case in mark.mark.args[1]}


def test_ids_and_marks():
    found = cases(
        parametrize_with_checks(
            [losses.half, mm.info_nce],
            checks=["nonnegative", "symmetric"],
            traits=lambda loss: {"symmetric": loss is losses.half},
            expected_failures=lambda loss: {"symmetric": "one way"} if loss is losses.half else {},
        )
    )
    assert list(found) == ["nonnegative-half", "symmetric-half", "nonnegative-info_nce"]
    (mark,) = found["symmetric-half"].marks
    assert (mark.name, mark.kwargs) == ("xfail", {"reason": "one way", "strict": True})
    assert not found["nonnegative-half"].marks


def test_a_broken_law_fails_the_test():
    (case,) = cases(
        parametrize_with_checks(
            [losses.half], checks=["collapse_value"], traits={"form": "info_nce"}
        )
    ).values()
    loss, check = case.values
    with pytest.raises(AssertionError, match="the loss of 2 equal rows"):
        check(loss)


def test_an_expectation_of_a_law_that_is_not_claimed():
    with pytest.raises(ValueError, match="expected_failures: expected one of"):
        parametrize_with_checks([mm.info_nce], expected_failures={"symmetric": "why"})
