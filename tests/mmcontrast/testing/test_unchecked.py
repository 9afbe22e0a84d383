"""The first line says what no law looked at; wrong losses are caught, or it says so."""

import itertools
from functools import partial

import pytest

import mmcontrast as mm
from mmcontrast.testing import CHECKS, Traits, Vary, check_contrastive_loss, iter_checks
from mmcontrast.testing.suite import report_on
from mmcontrast.testing.traits import MINERS
from mmcontrast.testing.unchecked import MEANT_FOR, TOPICS, unchecked
from tests.mmcontrast.testing.plausible import (
    MEANT,
    candidates_detached,
    denominator_without_gradient,
    no_maximum_subtracted,
    normalised_in_place,
)

CAUGHT_ANYHOW = (  # by a law that needs no form
    candidates_detached,
    denominator_without_gradient,
    no_maximum_subtracted,
    normalised_in_place,
)
FORM_LAWS = ["collapse_value", "duplicated_batch", "stranger_never_lowers", "equals_its_formula"]
NAMED = ("denominator", "temperature", "masks", "form=", "infer=True")
OF_NO_TOPIC = set(CHECKS) - {"returns_a_scalar", *itertools.chain(*TOPICS.values())}


def first_line(loss, traits, exclude=OF_NO_TOPIC):
    report = report_on(loss, traits, max_examples=1, exclude=exclude)
    return str(report).splitlines()[0]


def test_nothing_declared():
    line = first_line(mm.info_nce, {}, exclude=("gradgradcheck",))
    assert line.startswith("info_nce (paired): 28 of 28 laws hold; no law was run on the ")
    assert all(word in line for word in NAMED)
    line = first_line(mm.sup_con, {"kind": "labelled"})
    assert all(word in line for word in NAMED)


def test_what_is_declared_is_not_named():
    assert "temperature" in first_line(mm.info_nce, {"form": "info_nce"})
    assert "denominator" not in first_line(mm.info_nce, {"form": "info_nce"})
    whole = {"form": "info_nce", "temperature": 0.07}
    assert first_line(mm.info_nce, whole).endswith("laws hold")
    assert first_line(mm.info_nce, {"reference": mm.info_nce}).endswith("laws hold")


def test_other_kinds_have_other_ways():
    line = first_line(mm.triplet, {"kind": "triplet", "normalized": False})
    assert line.endswith("on the margin: declare factory= (margin -> loss), or reference=")
    declared = {"kind": "triplet", "normalized": False, "factory": Vary(mm.triplet, "margin")}
    assert first_line(mm.triplet, declared).endswith("laws hold")
    assert "reference=" in first_line(mm.semi_contrast, {"kind": "multimodal"})


def test_miners_and_distances_have_theirs():
    assert "number of negatives" in unchecked("miner", ["mined_negatives_are_hardest"])
    assert unchecked("labelled_miner", TOPICS["hardness"] + TOPICS["number of negatives"]) == ""
    assert unchecked("distance", []).endswith(
        "on the values: declare metric=, degree= or reference="
    )


def test_chosen_laws_are_the_callers_choice():
    report = report_on(mm.info_nce, checks=["nonnegative"], max_examples=1)
    assert report.headline() == "info_nce (paired): 1 of 1 laws hold"


@pytest.mark.parametrize("kind", MEANT_FOR)
def test_topics_name_laws_that_traits_bring(kind):
    """A law that is renamed would be missing for ever."""
    everything = Traits(
        kind=kind,
        form={"paired": "info_nce", "labelled": "sup_con"}.get(kind),
        temperature=0.1,
        factory=Vary(mm.info_nce, "temperature"),
        reference=None if kind in MINERS else mm.info_nce,
        keep=kind == "paired",
        labels=kind == "multimodal",
        present=kind == "multimodal",
        ignore_index=-100,
        count=len,
        degree=None if kind in MINERS else 1.0,
    )
    laws = {check.name for _, check in iter_checks(mm.info_nce, everything)}
    assert unchecked(kind, laws) == ""
    for topic in MEANT_FOR[kind][0]:
        assert set(TOPICS[topic]) & laws


def test_what_a_decoupled_loss_is_told_to_declare_is_what_it_may():
    """``form=`` is refused beside ``decoupled=``."""
    loss = partial(mm.info_nce, decoupled=True)

    def told(**traits):
        options = {"max_examples": 1, "exclude": OF_NO_TOPIC, **traits}
        return check_contrastive_loss(loss, decoupled=True, **options).headline()

    declare = "declare temperature=, and keep= for masks, or reference="
    assert f"no law was run on the denominator, temperature or masks: {declare}" in told()
    assert f"no law was run on the masks: {declare}" in told(temperature=0.07)
    assert "no law was run" not in told(temperature=0.07, keep=True)
    assert "no law was run" not in told(reference=loss)


@pytest.mark.parametrize("loss", MEANT, ids=lambda loss: loss.__name__)
def test_a_plausible_mistake_is_caught_with_the_form_that_it_is_meant_to_have_or_without(loss):
    """Where it takes the form, the first line says so as long as none is declared: see above."""
    meant, _ = MEANT[loss]
    if loss in CAUGHT_ANYHOW:
        options = {"max_examples": 5, "exclude": ("gradgradcheck",)}
        report = report_on(loss, {"kind": meant.get("kind", "paired")}, shrink=False, **options)
    else:
        report = report_on(loss, meant, checks=FORM_LAWS, max_examples=10, shrink=False)
    assert not report.ok
