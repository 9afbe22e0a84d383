"""One law tried on one loss: the same examples every time."""

import json

import hypothesis
import pytest
import torch
from hypothesis.database import InMemoryExampleDatabase

import mmcontrast as mm
from mmcontrast.testing import LawsBroken, iter_checks
from mmcontrast.testing.suite import report_on
from tests.mmcontrast.testing import losses


def test_a_check_is_called_with_the_loss():
    ((loss, check),) = iter_checks(losses.half, {"form": "info_nce"}, checks=["collapse_value"])
    check(mm.info_nce)
    with pytest.raises(LawsBroken, match="collapse_value"):
        check(loss)


def test_a_broken_law_keeps_the_cosines_of_its_example():
    found = report_on(losses.half, {"form": "info_nce"}, checks=["collapse_value"], max_examples=5)
    similarities = found["collapse_value"].similarities
    assert similarities.columns[0] == "b1"
    assert all(x == pytest.approx(1) for row in similarities.cosines for x in row)  # equal rows
    assert json.loads(found.to_json())["checks"][0]["similarities"]["rows"][0] == "a1"


@pytest.mark.parametrize("seed", [None, 5])
def test_the_same_examples_every_time(seed):
    drawn = []
    for _ in range(2):
        seen = []

        def recorded(a, b, seen=seen):
            seen.append((a.detach().clone(), b.detach().clone()))
            return mm.info_nce(a, b)

        report_on(recorded, checks=["nonnegative"], max_examples=8, seed=seed)
        drawn.append(seen)
    assert len(drawn[0]) == len(drawn[1]) == 8
    for first, second in zip(*drawn, strict=True):
        assert all(torch.equal(x, y) for x, y in zip(first, second, strict=True))


def test_another_seed_draws_other_examples():
    sizes = []
    for seed in (1, 2):
        seen = []

        def recorded(a, b, seen=seen):
            seen.append(a.shape)
            return mm.info_nce(a, b)

        report_on(recorded, checks=["nonnegative"], max_examples=8, seed=seed)
        sizes.append(seen)
    assert sizes[0] != sizes[1]


def test_nothing_is_kept_in_the_callers_database():
    """Its examples belong to its own tests, and a law would meet them in their place."""
    database, before = InMemoryExampleDatabase(), hypothesis.settings.get_current_profile_name()
    hypothesis.settings.register_profile("kept", database=database, derandomize=False)
    hypothesis.settings.load_profile("kept")
    try:
        found = report_on(losses.half, {"form": "info_nce"}, checks=["collapse_value"], seed=5)
    finally:
        hypothesis.settings.load_profile(before)
    assert found["collapse_value"].status == "failed"
    assert not database.data


def test_uniform_targets_are_what_costs_log_n():
    """Not what the loss is without them."""

    def nothing_without(a, b, positives=None):
        return mm.info_nce(a, b, positives=positives) * (positives is not None)

    traits = {"form": "info_nce", "positives": True}
    name = "uniform_targets_cost_log_n"
    assert (
        report_on(nothing_without, traits, checks=[name], max_examples=9)[name].status == "passed"
    )
