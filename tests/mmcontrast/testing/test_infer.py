"""The nearest known form: found with its temperature, and how a wrong loss departs from it."""

from functools import partial

import pytest
import torch

import mmcontrast as mm
from mmcontrast.testing import Traits, check_contrastive_loss
from mmcontrast.testing.infer import EXACT, nearest_forms, proposal
from tests.mmcontrast.testing import losses
from tests.mmcontrast.testing.plausible import MEANT


def claims(loss, **traits):
    """What is proposed, if it is exact."""
    _, _, found = nearest_forms(loss, Traits(**traits))
    assert found[0].distance <= EXACT
    return found[0].claims


@pytest.mark.parametrize("temperature", [0.01, 0.07, 1.0, 5.0])
def test_every_form_is_found_with_its_temperature(temperature):
    one = {"form": "info_nce", "temperature": temperature}
    assert claims(partial(mm.info_nce, temperature=temperature)) == one
    both = {"form": "info_nce", "symmetric": True, "temperature": temperature}
    assert claims(partial(mm.symmetric_info_nce, temperature=temperature)) == both
    raw = {"form": "info_nce", "normalized": False, "temperature": temperature}
    found = claims(partial(mm.info_nce, temperature=temperature, normalize=None))
    assert found == raw
    by_label = {"form": "sup_con", "temperature": temperature}
    assert claims(partial(mm.sup_con, temperature=temperature), kind="labelled") == by_label


def test_two_views_of_each_sample():
    def nt_xent(a, b):
        ids = torch.arange(len(a)).repeat(2)
        return mm.sup_con(torch.cat([a, b]), ids, temperature=0.3)

    expected = {"form": "nt_xent", "symmetric": True, "temperature": 0.3}
    assert claims(nt_xent) == expected
    assert claims(nt_xent, unit=True) == expected
    assert claims(nt_xent, features=3) == expected


def test_what_is_proposed_can_be_declared():
    for loss in (mm.symmetric_info_nce, mm.n_pair):
        found = claims(loss)
        report = check_contrastive_loss(loss, **found, checks=["equals_its_formula"])
        assert report["equals_its_formula"].status == "passed"


def test_the_report_has_it_below_its_first_line():
    options = {"max_examples": 1, "exclude": ("gradgradcheck",)}
    report = check_contrastive_loss(mm.info_nce, infer=True, **options)
    lines = str(report).splitlines()
    assert lines[1] == "nearest known form: form='info_nce', temperature=0.07"
    assert report.proposal in report.to_markdown()
    assert check_contrastive_loss(mm.info_nce, **options).proposal == ""


@pytest.mark.parametrize("loss", MEANT, ids=lambda loss: loss.__name__)
def test_a_wrong_loss_is_told_how_it_departs(loss):
    meant, words = MEANT[loss]
    assert words in proposal(loss, Traits(kind=meant.get("kind", "paired")))


@pytest.mark.parametrize(
    ("form", "words"), [("in", "shares are summed inside the logarithm"), ("out", "equals it")]
)
def test_the_forms_of_sup_con(form, words):
    assert words in proposal(partial(mm.sup_con, form=form), Traits(kind="labelled"))


@pytest.mark.parametrize("step", [1, -1])
def test_partners_one_row_off_are_told_which_way(step):
    loss = mm.info_nce
    text = proposal(lambda a, b: loss(a, b.roll(-step, 0), temperature=0.5), Traits())
    assert f"the partner of row i is row i {'+' if step > 0 else '-'} 1" in text


def test_a_temperature_above_1_may_be_an_inverse():
    words = "is 0.4 meant to divide them?"
    assert words in proposal(partial(mm.info_nce, temperature=2.5), Traits())
    assert "meant to divide" not in proposal(partial(mm.info_nce, temperature=1.5), Traits())


def test_the_batch_on_which_it_differs_most_is_shown():
    def doubled_where_large(a, b):
        return mm.info_nce(a, b, temperature=0.5) * (2 if len(a) == 5 else 1)

    text = proposal(doubled_where_large, Traits())
    assert "for 5 samples" in text


def test_a_loss_that_is_near_to_nothing():
    text = proposal(mm.sigmoid_contrast, Traits())
    assert "The loss does not equal it" in text
    assert "may be a loss of another kind" in text


def test_where_there_is_nothing_to_propose():
    assert "none is known of a triplet loss" in proposal(mm.triplet, Traits(kind="triplet"))
    text = proposal(losses.raises, Traits())
    assert text.endswith("on a generic batch it raised IndexError: nobody is here")
    assert "the loss is nan" in proposal(losses.nan, Traits())
