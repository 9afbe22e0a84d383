"""The public door: what it takes, what it leaves as it was, and how it ends."""

import functools
import inspect

import pytest
import torch

import mmcontrast as mm
from mmcontrast.testing import (
    CheckReport,
    LawBroken,
    LawsBroken,
    check_contrastive_loss,
    iter_checks,
    replay,
)
from mmcontrast.testing.suite import report_on
from tests.mmcontrast.testing import losses

FEW = {"max_examples": 4, "on_fail": "report"}
PLAIN = {"max_examples": 1, "on_fail": "report", "exclude": ("gradcheck", "gradgradcheck")}
SOME = ["nonnegative", "collapse_value"]


# --- what it takes --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "loss",
    [
        mm.info_nce,
        mm.InfoNCE(),
        mm.InfoNCE,
        functools.partial(mm.info_nce, chunk_size=2),
        losses.Scaled(1.0).forward,
        losses.terms,
        lambda a, b: mm.info_nce(a, b),
    ],
    ids=["function", "module", "class", "partial", "method", "terms", "lambda"],
)
def test_it_takes(loss):
    assert check_contrastive_loss(loss, empty="zero", **PLAIN).ok


def test_a_callable_that_makes_a_loss_is_stateful():
    made = []

    def make():
        made.append(losses.Counts())
        return made[-1]

    report = check_contrastive_loss(make, stateful=True, **PLAIN)
    assert len(made) > 20
    assert all(loss.calls <= 2 for loss in made)
    assert "repeats_itself" in report.failed  # it draws from the generator


# --- how it ends ----------------------------------------------------------------------------------


@pytest.mark.parametrize("features", [1, 7])
@pytest.mark.parametrize("kind", ["paired", "labelled", "triplet", "multimodal"])
def test_a_loss_that_needs_a_number_of_features_sees_no_other(kind, features):
    seen = set()

    def recorded(*inputs):
        rows = inputs[0].values() if kind == "multimodal" else [x for x in inputs if x.ndim == 2]
        seen.update(x.shape[1] for x in rows)
        return sum((x * x).sum() / (1 + (x * x).sum()) for x in rows)

    traits = {"kind": kind, "features": features, "normalized": False}
    report_on(recorded, traits, max_examples=1, exclude=("gradcheck", "gradgradcheck"))
    assert seen == {features}


@pytest.mark.parametrize("features", [2, 3])
def test_no_more_rows_are_orthogonal_than_there_are_features(features):
    traits = {"kind": "labelled", "features": features}
    report = report_on(mm.sup_con, traits, checks=["partners_are_worth_less"], max_examples=20)
    assert report["partners_are_worth_less"].status == "passed"


def test_a_broken_law_raises_with_the_report():
    with pytest.raises(LawsBroken, match="collapse_value") as caught:
        check_contrastive_loss(losses.half, form="info_nce", checks=SOME, max_examples=3)
    assert isinstance(caught.value, AssertionError)
    assert isinstance(caught.value.report, CheckReport)
    assert "collapse_value" in caught.value.report.failed


def test_it_warns_where_that_is_asked_for():
    options = {"checks": SOME, "max_examples": 3, "on_fail": "warn"}
    with pytest.warns(UserWarning, match="collapse_value"):
        check_contrastive_loss(losses.half, form="info_nce", **options)


def test_a_loss_that_raises_says_what_it_raised():
    report = check_contrastive_loss(losses.raises, **FEW)
    assert report.failed == ("returns_a_scalar",)
    assert report["returns_a_scalar"].message == "raised IndexError: nobody is here"
    assert len(report.named("not_run")) == len(report.results) - 1
    assert not report.ok


def test_a_loss_that_raises_at_times_is_shrunk_to_such_a_time():
    report = check_contrastive_loss(losses.raises_for_three, max_examples=30, on_fail="report")
    assert "KeyError" in report["returns_a_scalar"].message
    assert report["returns_a_scalar"].code.count("],") >= 2


@pytest.mark.parametrize(
    ("loss", "message"),
    [
        (losses.nan, "the loss is nan"),
        (losses.vector, "returned shape (2,), expected a 0-d tensor"),
        (losses.number, "returned a float, expected a tensor"),
        (losses.whole, "returned torch.int64, expected a floating dtype"),
    ],
)
def test_a_loss_without_a_number_stops_at_the_first_law(loss, message):
    report = check_contrastive_loss(loss, **FEW)
    assert report.failed == ("returns_a_scalar",)
    assert message in report["returns_a_scalar"].message
    assert set(report.named("not_run")) == {r.name for r in report.results[1:]}


# --- expectations and choices ---------------------------------------------------------------------


def test_an_expected_failure_is_ok_and_keeps_its_reason():
    report = check_contrastive_loss(
        losses.half,
        form="info_nce",
        checks=["collapse_value", "nonnegative"],
        expected_failures={"collapse_value": "half of it is meant"},
    )
    assert report.ok
    assert report.named("expected_failure") == ("collapse_value",)
    assert report["collapse_value"].reason == "half of it is meant"
    assert "half of it is meant" in str(report)


def test_an_unexpected_pass_is_not_ok():
    with pytest.raises(LawsBroken, match="UNEXPECTED PASS nonnegative") as caught:
        check_contrastive_loss(
            mm.info_nce, checks=["nonnegative"], expected_failures={"nonnegative": "I thought so"}
        )
    assert caught.value.report.unexpected_passes == ("nonnegative",)
    assert caught.value.report.failed == ()


def test_an_expectation_of_a_law_that_is_not_run_is_reported_as_not_run():
    report = check_contrastive_loss(
        losses.nan, expected_failures={"nonnegative": "it is NaN"}, **FEW
    )
    assert report["nonnegative"].status == "not_run"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"checks": ["no_such_law"]}, "checks: expected one of"),
        ({"exclude": ["no_such_law"]}, "checks: expected one of"),
        ({"expected_failures": {"no_such_law": "why"}}, "expected_failures: expected one of"),
        ({"expected_failures": {"nonnegative": " "}}, "a reason"),
        ({"expected_failures": {"nonnegative": None}}, "a reason"),
        ({"on_fail": "shout"}, "on_fail: expected one of"),
        ({"max_examples": 0}, "max_examples: expected an int"),
        ({"kind": "quadruple"}, "kind: expected one of"),
        ({"form": "sup_con"}, "form: expected one that a paired loss can have"),
        ({"kind": "triplet", "form": "info_nce"}, "form: expected None"),
        ({"kind": "labelled", "keep": True}, "keep: expected False"),
        ({"present": True}, "present: expected False"),
        ({"temperature": 0.0}, "temperature: expected a number above 0"),
        ({"bounds": (1.0, 0.0)}, "bounds: expected the smaller one first"),
        ({"features": 0}, "features: expected an int of at least 1"),
        ({"empty": "nan"}, "empty: expected one of"),
    ],
)
def test_wrong_calls(options, message):
    with pytest.raises(ValueError, match=message.split(":")[0]) as caught:
        check_contrastive_loss(mm.info_nce, **options)
    assert message.split(": ")[-1] in str(caught.value)


def test_names_that_are_no_traits():
    with pytest.raises(ValueError, match="traits: expected one of"):
        list(iter_checks(mm.info_nce, {"symetric": True}))
    with pytest.raises(ValueError, match="name: expected one of"):
        replay("no_such_law", mm.info_nce, torch.ones(1, 1), torch.ones(1, 1))


def test_chosen_and_excluded_laws():
    chosen = [c.name for _, c in iter_checks(mm.info_nce, checks=["symmetric", "nonnegative"])]
    assert chosen == ["nonnegative"]  # not symmetric: not claimed
    every = [c.name for _, c in iter_checks(mm.info_nce)]
    fewer = [c.name for _, c in iter_checks(mm.info_nce, exclude=["nonnegative"])]
    assert set(every) - set(fewer) == {"nonnegative"}


def test_more_claims_bring_more_laws():
    few = {c.name for _, c in iter_checks(mm.symmetric_info_nce)}
    more = {c.name for _, c in iter_checks(mm.symmetric_info_nce, {"symmetric": True})}
    assert more - few == {"symmetric"}
    report = report_on(mm.symmetric_info_nce, max_examples=1, exclude=("gradgradcheck",))
    assert report.not_claimed["symmetric"] == "symmetric"


# --- an example again ----------------------------------------------------------------------------


def test_replay_restores_the_random_state():
    before = torch.get_rng_state()
    replay("nonnegative", losses.Counts(), torch.ones(2, 2), torch.ones(2, 2))
    assert torch.equal(before, torch.get_rng_state())
    with pytest.raises(LawBroken, match=r"the loss is -0\.69"):
        replay("nonnegative", lambda a, b: -mm.info_nce(a, b), torch.ones(2, 2), torch.ones(2, 2))


def test_a_module_that_cannot_be_pickled():
    report = report_on(losses.Unpicklable(), checks=["copies_are_worth_the_same"], max_examples=2)
    assert "cannot be pickled" in report["copies_are_worth_the_same"].message


# --- what a policy and a number of features mean --------------------------------------------------


def refuses_nobody(a, b):
    if len(a) == 0:
        raise ValueError("a: expected a sample")
    return mm.info_nce(a, b)


def nan_for_nobody(a, b):
    return mm.info_nce(a, b) * (1 if len(a) else torch.nan)


@pytest.mark.parametrize(
    ("loss", "held"),
    [
        (mm.info_nce, {"zero", "either"}),
        (refuses_nobody, {"raise", "either"}),
        (nan_for_nobody, set()),
        (lambda a, b: mm.info_nce(a, b) + 1, set()),
    ],
    ids=["zero", "raises", "nan", "one"],
)
def test_policies_for_an_empty_batch(loss, held):
    found = {
        policy
        for policy in ("zero", "raise", "either")
        if report_on(loss, {"empty": policy}, checks=["empty_batch"], max_examples=1).ok
    }
    assert found == held
    assert "empty_batch" not in [c.name for _, c in iter_checks(loss)]


# --- what only one way of calling shows ----------------------------------------------------------


def doubles_without_graph(a, b):
    """In evaluation, where no input needs a gradient."""
    if not a.requires_grad:
        a.mul_(2)
    return mm.info_nce(a, b)


def doubles_labels(z, labels):
    labels.mul_(2)
    return mm.sup_con(z, labels)


def rows_in_memory(a, b):
    """Of rows that lie one after the other, wherever they begin and whatever lies between."""
    a = a.as_strided(a.shape, (a.shape[1], 1))
    return mm.info_nce(a, b)


def columns_in_memory(a, b):
    """Right where numbers of a row are next to each other, whatever lies between rows."""
    return mm.info_nce(a.as_strided(a.shape, (a.stride(0), 1)), b)


@pytest.mark.parametrize(
    ("loss", "kind", "law", "said"),
    [
        (doubles_without_graph, "paired", "inputs_are_not_written", "a was written to"),
        (doubles_labels, "labelled", "inputs_are_not_written", "labels was written to"),
        (rows_in_memory, "paired", "strides_do_not_matter", "the loss is"),
        (columns_in_memory, "paired", "strides_do_not_matter", "the loss is"),
    ],
)
def test_writes_and_strides(loss, kind, law, said):
    report = report_on(loss, {"kind": kind}, checks=[law], max_examples=10, shrink=False)
    assert report.failed == (law,)
    assert report[law].message.startswith(said)


def test_a_miner_or_distance_that_reads_only():
    def miner(a, b):
        return mm.hard_negatives(a.mul_(1), b, 1)

    def distance(x, y):
        return mm.euclidean(x, y.as_strided(y.shape, (y.shape[1], 1)))

    law = "mining_leaves_its_inputs"
    found = report_on(miner, {"kind": "miner"}, checks=[law], max_examples=5)
    assert found[law].message == "a was written to"
    law = "distance_leaves_its_inputs"
    assert report_on(distance, {"kind": "distance"}, checks=[law], max_examples=5).failed == (law,)


def test_the_same_number_of_examples_is_usual_everywhere():
    doors = check_contrastive_loss, iter_checks, report_on
    usual = {inspect.signature(door).parameters["max_examples"].default for door in doors}
    assert usual == {100}
