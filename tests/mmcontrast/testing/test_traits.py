"""What a loss claims."""

import copy
import inspect
from dataclasses import fields, replace

import pytest
import torch

from mmcontrast.testing import Traits, check_contrastive_loss, iter_checks
from mmcontrast.testing.suite import report_on
from mmcontrast.testing.traits import ALL_KINDS, as_traits
from tests.mmcontrast.testing.legal import LEGAL, ProxyNCA, decoupled, of_unit_rows, vicreg

NOT_OF_LOSSES = {"hardest", "distance", "count", "metric", "degree", "matrix"}
"""Those of miners and distances, which test_doors.py looks at."""


def test_the_keywords_are_the_traits():
    """check_contrastive_loss spells out Traits: the same names, the same defaults."""
    keywords = inspect.signature(check_contrastive_loss).parameters
    usual = Traits()
    for field in fields(Traits):
        if field.name in NOT_OF_LOSSES:
            assert field.name not in keywords
            continue
        assert field.name in keywords
        if field.name != "dtypes":
            assert keywords[field.name].default == getattr(usual, field.name)


def test_traits_are_compared_with_what_is_usual():
    assert Traits().claimed() == {}
    assert copy.deepcopy(Traits(kind="triplet")).claimed() == {"kind": "triplet"}


def test_a_kind_has_its_own_usual_claims():
    assert as_traits(None) == Traits()
    found = as_traits({"kind": "distance"})
    assert (found.metric, found.symmetric, found.normalized) == (True, True, False)
    assert not as_traits({"kind": "distance", "metric": False}).metric
    assert as_traits({"kind": "miner"}) == Traits(kind="miner")


def test_who_has_labels():
    assert {kind for kind in ALL_KINDS if Traits(kind=kind).labelled} == {
        "labelled",
        "labelled_miner",
    }
    assert Traits(kind="multimodal", labels=True).labelled


def test_what_is_checked_has_a_name():
    nouns = {kind: Traits(kind=kind).noun for kind in ALL_KINDS}
    assert nouns == {
        **dict.fromkeys(("paired", "labelled", "triplet", "multimodal"), "loss"),
        **dict.fromkeys(("miner", "labelled_miner"), "miner"),
        "distance": "distance",
    }


@pytest.mark.parametrize("loss", LEGAL, ids=lambda loss: loss.__name__)
def test_a_legal_loss_with_its_traits_is_right(loss, examples, seed):
    report = report_on(loss, LEGAL[loss], max_examples=examples, seed=seed)
    assert report.ok, str(report)


@pytest.mark.parametrize(
    ("loss", "left_out", "laws", "hint"),
    [
        (decoupled, {"smallest": 1}, {"single_sample"}, "smallest=2"),
        (vicreg, {"smallest": 1}, {"single_sample"}, "smallest=2"),
        (of_unit_rows, {"unit": False}, {"returns_a_scalar"}, ""),
        (
            ProxyNCA,
            {"classes": None},
            {"rotation_invariant", "gradients_rotate_along", "relabelling_invariant"},
            "",
        ),
    ],
)
def test_the_trait_is_what_it_needs(loss, left_out, laws, hint):
    traits = replace(LEGAL[loss], **left_out)
    report = report_on(loss, traits, checks=laws, max_examples=10, shrink=False)
    assert set(report.failed) == laws
    assert hint in str(report)


def seen(traits):
    """The batches of two examples of all laws but those of derivatives."""
    found = []

    def recorded(*inputs):
        found.append(inputs)
        return sum((x * x).sum() / (1 + (x * x).sum()) for x in inputs if x.is_floating_point())

    report_on(recorded, traits, max_examples=2, exclude=("gradcheck", "gradgradcheck"))
    return found


def test_batches_are_never_smaller_than_the_smallest():
    assert min(len(inputs[0]) for inputs in seen(Traits())) == 1
    assert min(len(inputs[0]) for inputs in seen(Traits(smallest=2))) == 2


def test_rows_are_of_length_one_where_the_loss_takes_no_others():
    # In bfloat16 a length is rounded, and expanded or strided rows are the same rows.
    for inputs in seen(Traits(unit=True)):
        for x in inputs:
            assert (x.detach().double().norm(dim=1) - 1).abs().max() < 0.02


@pytest.mark.parametrize("classes", [1, 2, 3])
def test_labels_are_indices_of_the_classes(classes):
    found = seen(Traits(kind="labelled", classes=classes))
    assert found
    for _, labels in found:
        assert labels.dtype == torch.int64
        assert 0 <= labels.min() <= labels.max() < classes


def test_laws_that_need_the_traits_are_not_claimed():
    def laws(**claims):
        return {check.name for _, check in iter_checks(decoupled, claims)}

    assert laws() - laws(smallest=2) == {"single_sample"}
    assert laws() - laws(unit=True) == {
        "row_scale_invariant",
        "gradient_is_tangent",
        "gradient_falls_with_length",
        "zero_row_is_finite",
    }


@pytest.mark.parametrize(
    "wrong",
    [
        {"smallest": 3},
        {"smallest": 0},
        {"kind": "labelled", "classes": 0},
        {"classes": 3},
        {"kind": "labelled", "classes": 3, "form": "sup_con"},
    ],
)
def test_wrong_traits(wrong):
    with pytest.raises(ValueError, match=r"smallest: expected|classes: expected"):
        Traits(**wrong)


@pytest.mark.parametrize("kind", ["miner", "labelled_miner"])
@pytest.mark.parametrize("claim", [{"reference": len}, {"bounds": (0.0, 1.0)}, {"degree": 1.0}])
def test_a_miner_has_no_value_to_compare(kind, claim):
    with pytest.raises(ValueError, match=f"{next(iter(claim))}: expected None for a miner, got"):
        Traits(kind=kind, **claim)
