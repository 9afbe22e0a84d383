"""The catalogue of laws: how many, what they say, and who claims them."""

import inspect
from dataclasses import fields, replace

import pytest

import mmcontrast as mm
from mmcontrast.testing import CHECKS, iter_checks
from mmcontrast.testing.registry import Check
from mmcontrast.testing.traits import ALL_KINDS, as_traits


def test_there_are_forty_laws_of_the_catalogue():
    numbers = {int(x) for law in CHECKS.values() for x in law.number.split(",") if x.strip()}
    assert len(numbers) >= 40
    assert all(1 <= number <= 66 for number in numbers)


@pytest.mark.parametrize("name", CHECKS)
def test_each_law_is_one_line_and_says_what_a_failure_means(name):
    check = CHECKS[name]
    assert check.name == check.body.__name__ == name
    assert check.law.endswith((".", ":"))
    assert len(check.law) < 100
    assert len(check.hint) > 20
    assert inspect.getdoc(check.body).splitlines()[1] == ""


def test_a_law_that_not_all_losses_claim_says_what_claims_it():
    usual = {kind: as_traits({"kind": kind}) for kind in ALL_KINDS}
    for check in CHECKS.values():
        assert isinstance(check, Check)
        if not all(check.when(traits) for kind, traits in usual.items() if kind in check.kinds):
            assert check.needs


def without_claims(traits):
    claimed = [f.name for f in fields(traits) if getattr(traits, f.name) is True]
    return replace(traits, **dict.fromkeys(claimed, False), smallest=2, unit=True, hardest=())


def test_a_law_that_says_what_claims_it_is_not_claimed_without():
    usual = [as_traits({"kind": kind}) for kind in ALL_KINDS]
    every = [*usual, *map(without_claims, usual)]
    for check in CHECKS.values():
        claims = [check.when(traits) for traits in every if traits.kind in check.kinds]
        assert not (check.needs and all(claims)), check.name


def test_laws_that_need_other_numbers_of_features_are_not_claimed():
    raw = {"form": "info_nce", "normalized": False}
    free = {c.name for _, c in iter_checks(mm.info_nce, raw)}
    bound = {c.name for _, c in iter_checks(mm.info_nce, {**raw, "features": 3})}
    assert free - bound == {"logit_gradients", "logit_shift_invariant", "zero_padding_invariant"}
    one = {c.name for _, c in iter_checks(mm.info_nce, {**raw, "features": 1})}
    assert bound - one == {"partners_are_worth_less"}
