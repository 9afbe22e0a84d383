"""The public door: what it takes, what it leaves as it was, and how it ends."""

import copy
import functools
import inspect
import random
from dataclasses import fields

import numpy as np
import pytest
import torch

import mmcontrast as mm
from mmcontrast.testing import (
    CHECKS,
    CheckReport,
    LawBroken,
    LawsBroken,
    Traits,
    Vary,
    check_contrastive_loss,
    iter_checks,
    replay,
)
from mmcontrast.testing.registry import Check
from mmcontrast.testing.suite import report_on
from tests.mmcontrast.testing import losses
from tests.processes import python

FEW = {"max_examples": 4, "on_fail": "report"}
PLAIN = {**FEW, "exclude": ("gradcheck", "gradgradcheck")}


# --- the catalogue --------------------------------------------------------------------------------


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
    usual = {kind: Traits(kind=kind) for kind in ("paired", "labelled", "triplet", "multimodal")}
    for check in CHECKS.values():
        assert isinstance(check, Check)
        if not all(check.when(traits) for kind, traits in usual.items() if kind in check.kinds):
            assert check.needs


def test_the_keywords_are_the_traits():
    """check_contrastive_loss spells out Traits: the same names, the same defaults."""
    keywords = inspect.signature(check_contrastive_loss).parameters
    usual = Traits()
    for field in fields(Traits):
        assert field.name in keywords
        if field.name != "dtypes":
            assert keywords[field.name].default == getattr(usual, field.name)


def test_importing_mmcontrast_does_not_import_hypothesis():
    program = "import sys, mmcontrast; print('hypothesis' in sys.modules)"
    done = python("-c", program)
    assert done.stdout.strip() == "False"


def test_without_hypothesis_it_says_what_to_install():
    program = "import sys; sys.modules['hypothesis'] = None; import mmcontrast.testing"
    done = python("-c", program)
    assert done.returncode == 1
    assert "pip install 'mmcontrast[testing]'" in done.stderr


def test_importing_the_suite_does_not_import_pytest():
    program = "import sys, mmcontrast.testing; print('pytest' in sys.modules)"
    done = python("-c", program)
    assert done.stdout.strip() == "False"


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


@pytest.mark.parametrize("features", [1, 3, 7])
@pytest.mark.parametrize("kind", ["paired", "labelled", "triplet", "multimodal"])
def test_a_loss_that_needs_a_number_of_features_sees_no_other(kind, features):
    seen = set()

    def recorded(*inputs):
        rows = inputs[0].values() if kind == "multimodal" else [x for x in inputs if x.ndim == 2]
        seen.update(x.shape[1] for x in rows)
        return sum((x * x).sum() / (1 + (x * x).sum()) for x in rows)

    report_on(recorded, {"kind": kind, "features": features, "normalized": False}, max_examples=2)
    assert seen == {features}


def test_a_broken_law_raises_with_the_report():
    with pytest.raises(LawsBroken, match="collapse_value") as caught:
        check_contrastive_loss(losses.half, form="info_nce", max_examples=3)
    assert isinstance(caught.value, AssertionError)
    assert isinstance(caught.value.report, CheckReport)
    assert "collapse_value" in caught.value.report.failed


def test_it_warns_where_that_is_asked_for():
    with pytest.warns(UserWarning, match="collapse_value"):
        check_contrastive_loss(losses.half, form="info_nce", max_examples=3, on_fail="warn")


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


def test_a_check_is_called_with_the_loss():
    ((loss, check),) = iter_checks(losses.half, {"form": "info_nce"}, checks=["collapse_value"])
    check(mm.info_nce)
    with pytest.raises(LawsBroken, match="collapse_value"):
        check(loss)


def test_more_claims_bring_more_laws():
    few = {c.name for _, c in iter_checks(mm.symmetric_info_nce)}
    more = {c.name for _, c in iter_checks(mm.symmetric_info_nce, {"symmetric": True})}
    assert more - few == {"symmetric"}
    report = report_on(mm.symmetric_info_nce, max_examples=1, exclude=("gradgradcheck",))
    assert report.not_claimed["symmetric"] == "symmetric"


# --- the same every time --------------------------------------------------------------------------


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


# --- what it leaves as it was ---------------------------------------------------------------------


def state_of(module):
    return (
        {name: x.clone() for name, x in module.state_dict().items()},
        [x.clone() for x in module.buffers()],
        [m.training for m in module.modules()],
        {k: v for k, v in vars(module).items() if not k.startswith("_")},
    )


def same_state(left, right):
    assert list(left[0]) == list(right[0])
    for x, y in zip([*left[0].values(), *left[1]], [*right[0].values(), *right[1]], strict=True):
        assert torch.equal(x, y)
    assert left[2:] == right[2:]


@pytest.mark.parametrize("cls", [losses.Counts, losses.CannotBeCopied])
@pytest.mark.parametrize("mode", [True, False])
def test_a_module_is_what_it_was(cls, mode):
    module = cls()
    module.last += 3.0
    module.seen += 7
    module.train(mode)
    module.inner.train(not mode)
    before = state_of(module)
    losses.calls.clear()
    report_on(module, max_examples=3, exclude=("copies_are_worth_the_same",))
    assert len(losses.calls) > 20
    same_state(before, state_of(module))
    touched = id(module) in losses.calls
    assert touched == (cls is losses.CannotBeCopied)


def test_every_call_starts_from_the_same_state():
    """A queue that grew from one call to the next would make the two values differ."""

    report = report_on(losses.Grows(), {"form": "info_nce", "temperature": 0.07}, max_examples=3)
    assert report.failed == ("repeats_itself",)


def test_a_loss_of_the_factory_starts_every_call_from_the_same_state():
    report = report_on(
        losses.Grows(),
        {"factory": lambda temperature: losses.Grows()},
        checks=["precise_at_any_temperature", "finite_at_any_temperature"],
        max_examples=3,
    )
    assert report.ok


def test_the_random_states_are_what_they_were():
    torch.manual_seed(3)
    np.random.seed(3)  # noqa: NPY002  the global generator is what is restored
    random.seed(3)
    before = (torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate())  # noqa: NPY002
    report_on(losses.Counts(), max_examples=2)
    assert torch.equal(before[0], torch.get_rng_state())
    assert (before[1] == np.random.get_state()[1]).all()  # noqa: NPY002
    assert before[2] == random.getstate()


def test_dropout_draws_the_same_numbers_in_every_call():
    loss = torch.nn.Dropout(0.5)

    def noisy(a, b):
        return mm.info_nce(loss(a) + 1e-3, b)

    report = report_on(noisy, checks=["returns_a_scalar", "works_without_gradients"])
    assert report.ok
    assert not report_on(noisy, checks=["repeats_itself"]).ok


def test_replay_restores_the_random_state():
    before = torch.get_rng_state()
    replay("nonnegative", losses.Counts(), torch.ones(2, 2), torch.ones(2, 2))
    assert torch.equal(before, torch.get_rng_state())
    with pytest.raises(LawBroken, match=r"the loss is -0\.69"):
        replay("nonnegative", lambda a, b: -mm.info_nce(a, b), torch.ones(2, 2), torch.ones(2, 2))


def test_a_module_that_cannot_be_pickled():
    report = report_on(losses.Unpicklable(), checks=["copies_are_worth_the_same"], max_examples=2)
    assert "cannot be pickled" in report["copies_are_worth_the_same"].message


def test_vary_makes_functions_and_modules():
    x = torch.eye(3)
    assert torch.equal(
        Vary(mm.info_nce, "temperature")(0.5)(x, x), mm.info_nce(x, x, temperature=0.5)
    )
    module = Vary(mm.InfoNCE, "temperature", {"reduction": "sum"})(0.5)
    assert (module.temperature, module.reduction) == (0.5, "sum")


def test_traits_are_compared_with_what_is_usual():
    assert Traits().claimed() == {}
    assert copy.deepcopy(Traits(kind="triplet")).claimed() == {"kind": "triplet"}


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


def test_laws_that_need_other_numbers_of_features_are_not_claimed():
    raw = {"form": "info_nce", "normalized": False}
    free = {c.name for _, c in iter_checks(mm.info_nce, raw)}
    bound = {c.name for _, c in iter_checks(mm.info_nce, {**raw, "features": 3})}
    assert free - bound == {"logit_gradients", "logit_shift_invariant", "zero_padding_invariant"}
    one = {c.name for _, c in iter_checks(mm.info_nce, {**raw, "features": 1})}
    assert bound - one == {"partners_are_worth_less"}
