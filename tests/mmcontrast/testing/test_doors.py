"""Miners and distances through the suite's door: our own, broken ones, and wrong calls."""

import inspect
import json
from dataclasses import fields
from functools import partial

import pytest
import torch

import mmcontrast as mm
from mmcontrast.interop import pml
from mmcontrast.testing import (
    CHECKS,
    LawsBroken,
    Traits,
    Vary,
    check_contrastive_loss,
    check_distance,
    check_miner,
    parametrize_with_checks,
)
from mmcontrast.testing.suite import report_on
from mmcontrast.testing.traits import as_traits
from tests.mmcontrast.peers import peer
from tests.mmcontrast.testing.own_miners import OWN_DISTANCES, OWN_MINERS, angle

DOORS = {"miner": check_miner, "distance": check_distance}
MODULES = {
    "mmcontrast.mining": OWN_MINERS,
    "mmcontrast.triplet_mining": OWN_MINERS,
    "mmcontrast.distances": OWN_DISTANCES,
    "mmcontrast.distance_matrix": OWN_DISTANCES,
    "mmcontrast.mahalanobis": OWN_DISTANCES,
}
RESULTS = {"HardNegatives"}


def test_every_public_miner_and_distance_has_its_claims():
    public = [getattr(mm, name) for name in mm.__all__ if name not in RESULTS]
    for found in public:
        claims = MODULES.get(getattr(found, "__module__", None))
        if claims is not None:
            assert found.__name__ in {name.split(":")[0] for name in claims}


@pytest.mark.parametrize("name", OWN_MINERS)
def test_every_law_of_our_miners_holds(name, examples, seed):
    miner, traits = OWN_MINERS[name]
    drawn = {"max_examples": examples, "seed": seed}
    report_on(miner, traits, **drawn, on_fail="raise", name=name)


@pytest.mark.parametrize("name", OWN_DISTANCES)
def test_every_law_of_our_distances_holds(name, examples, seed):
    distance, traits = OWN_DISTANCES[name]
    drawn = {"max_examples": examples, "seed": seed}
    report_on(distance, traits, **drawn, on_fail="raise", name=name)


def test_law_33_the_angle_is_a_metric_where_the_cosine_distance_is_none():
    wrong = "triangle_inequality"
    assert check_distance(angle, normalized=True, checks=[wrong], max_examples=100).ok
    found = check_distance(mm.cosine_distance, checks=[wrong], shrink=False, on_fail="report")
    assert found.failed == (wrong,)


def test_a_distance_is_rounded_as_one_without_a_temperature():
    """A fifth less is more than bfloat16 rounds, though not more than a loss may be off."""

    def shrinks(x, y):
        found = mm.euclidean(x, y)
        return 0.8 * found if x.dtype == torch.bfloat16 else found

    law = "distance_is_close_in_every_dtype"
    report = check_distance(shrinks, checks=[law], max_examples=20, on_fail="report")
    assert report.failed == (law,)
    assert Traits(kind="distance").tolerance(torch.bfloat16) == 16 * 2**-7
    assert Traits().tolerance(torch.bfloat16) == pytest.approx(8 * 2**-7 * (1 + 1 / 0.07))


@pytest.mark.parametrize("name", DOORS)
def test_the_keywords_are_traits_with_what_is_usual_for_the_kind(name):
    usual = as_traits({"kind": name})
    known = {field.name for field in fields(Traits)}
    for keyword in inspect.signature(DOORS[name]).parameters.values():
        if keyword.kind is keyword.KEYWORD_ONLY:
            assert keyword.name in known
            if keyword.name != "dtypes":
                assert keyword.default == getattr(usual, keyword.name), keyword.name


def test_every_trait_has_a_door():
    doors = [check_contrastive_loss, *DOORS.values()]
    keywords = {name for door in doors for name in inspect.signature(door).parameters}
    assert {field.name for field in fields(Traits)} <= keywords


# --- what a report says --------------------------------------------------------------------------


def nearest(a, b):
    """The partner is not left out."""
    return (mm.l2_normalize(a) @ mm.l2_normalize(b).T).topk(1).indices


def test_a_report_speaks_of_the_miner_and_its_code_breaks_the_law_again():
    with pytest.raises(LawsBroken) as caught:
        check_miner(nearest, max_examples=20, checks=["negatives_are_others"])
    report = caught.value.report
    result = report["negatives_are_others"]
    assert result.status == "failed"
    assert report.kind == "miner"
    assert "these pairs are no negatives" in result.message
    assert "miner = nearest" in result.code
    assert json.loads(report.to_json())["kind"] == "miner"
    with pytest.raises(AssertionError, match="no negatives"):
        exec(compile(result.code, "pasted", "exec"), {})


@pytest.mark.parametrize(
    "call",
    [
        lambda: check_miner(nearest, on_fail="warn", max_examples=3),
        lambda: check_distance(mm.cosine_distance, on_fail="warn", checks=["triangle_inequality"]),
        lambda: check_contrastive_loss(
            mm.info_nce, bounds=(0, 0), on_fail="warn", checks=["within_bounds"]
        ),
    ],
)
def test_a_warning_is_of_the_line_that_called(call):
    with pytest.warns(UserWarning, match="laws hold") as told:
        call()
    assert [warning.filename for warning in told] == [__file__]


@pytest.mark.parametrize(
    ("door", "wrong", "said"),
    [
        (check_miner, lambda a, b: a @ b.T, "miner returns no pairs"),
        (check_distance, lambda x, y: (x - y).norm(), "distance returns no number for each pair"),
    ],
)
def test_the_other_laws_are_not_run_where_the_result_cannot_be_read(door, wrong, said):
    report = door(wrong, max_examples=5, on_fail="report")
    assert len(report.failed) == 1
    assert said in str(report)
    assert len(report.named("not_run")) == len(report.results) - 1 > 5


def triplets_of_partners(a, b, *, k=2):
    """One right miner in another form: the positive of row i is row i."""
    found = mm.hard_negatives(a, b, k)
    i, place = found.valid.nonzero(as_tuple=True)
    return i, i, found.indices[i, place]


def pairs_of_partners(a, b, *, k=2):
    """The same as pairs."""
    own = torch.arange(len(a))
    i, _, n = triplets_of_partners(a, b, k=k)
    return own, own, i, n


@pytest.mark.parametrize("form", [triplets_of_partners, pairs_of_partners])
def test_a_miner_of_pairs_may_return_any_form(form):
    report = check_miner(form, factory=Vary(form, "k"), count=lambda m: min(2, m), max_examples=4)
    assert "loss_grows_with_k" in report.named("passed")


def test_a_positive_that_comes_twice_counts_twice():
    def doubled(a, b):
        own, _, i, n = pairs_of_partners(a, b)
        return torch.cat([own, own]), torch.cat([own, own]), i, n

    report = check_miner(doubled, max_examples=5, on_fail="report")
    assert report.failed == ("mined_pairs_come_once",)


def test_what_no_law_was_run_on_is_said():
    report = check_miner(partial(mm.hard_negatives, k=1), max_examples=2)
    assert "no law was run on the number of negatives" in report.headline()
    claimed = check_miner(partial(mm.hard_negatives, k=1), count=lambda m: 1, max_examples=2)
    assert "no law was run" not in claimed.headline()


def test_one_pytest_test_for_each_law():
    marked = parametrize_with_checks({"near": mm.euclidean}, traits={"kind": "distance"})
    ids = {case.id for case in marked.args[1]}
    assert "triangle_inequality-near" in ids
    assert "nonnegative-near" not in ids


def test_laws_of_losses_are_not_those_of_miners_and_distances():
    loss = {name for name, law in CHECKS.items() if law.applies(Traits())}
    for kind in ("miner", "labelled_miner", "distance"):
        assert not loss & {name for name, law in CHECKS.items() if law.applies(Traits(kind=kind))}


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: check_miner(nearest, kind="paired"), "kind: expected"),
        (lambda: check_contrastive_loss(nearest, kind="miner"), "kind: expected"),
        (lambda: check_miner(nearest, hardest=("partners",)), "hardest: expected"),
        (lambda: Traits(metric=True), "metric: expected False unless the kind is 'distance'"),
        (lambda: Traits(matrix=True), "matrix: expected False unless the kind is 'distance'"),
        (lambda: check_distance(mm.euclidean, checks=["no_law"]), "checks: expected"),
        (lambda: check_distance(mm.euclidean, on_fail="shout"), "on_fail: expected"),
    ],
)
def test_wrong_calls(call, message):
    with pytest.raises(ValueError, match=message):
        call()


# --- others' miners and distances ----------------------------------------------------------------


def test_miners_of_pytorch_metric_learning():
    """Its batch-hard miner is right; its triplet miner takes all, so it is no hardest one."""
    miners = peer("pytorch_metric_learning.miners")
    claims = {"kind": "labelled_miner", "dtypes": {}, "max_examples": 5}
    check_miner(miners.BatchHardMiner(), count=lambda m: 1, **claims)
    check_miner(miners.BatchEasyHardMiner("easy", "hard"), hardest=("negatives",), **claims)
    everything = miners.TripletMarginMiner(margin=10)
    wrong = ["mined_number_is_as_declared"]
    found = check_miner(
        everything, count=lambda m: 1, checks=wrong, shrink=False, on_fail="report", **claims
    )
    assert found.failed == tuple(wrong)


def test_our_adapters_for_its_losses():
    peer("pytorch_metric_learning.miners")
    claims = {"kind": "labelled_miner", "ignore_index": -100, "max_examples": 5}
    check_miner(pml.HardTripletMiner(), **claims)
    check_miner(pml.HardNegativeMiner(2), count=lambda m: min(2, m), **claims)


def test_torchs_distance_adds_an_epsilon_to_every_feature():
    """``PairwiseDistance`` has the norm of x - y + 1e-6, so x is not as far from y as y from x."""
    wrong = ("distance_is_symmetric", "distance_to_itself_is_zero")
    options = {"max_examples": 20, "shrink": False, "checks": wrong}
    found = check_distance(torch.nn.PairwiseDistance(), on_fail="report", **options)
    assert found.failed == wrong
    check_distance(torch.nn.PairwiseDistance(eps=0), **options)
