"""The declared softmax forms, row by row, against the loops of the oracles."""

import math

import pytest
import torch

from mmcontrast.testing import Traits
from mmcontrast.testing.batch import batch_of
from mmcontrast.testing.formula import anchors, mean_lead, mean_log_candidates, mean_loss
from tests import oracles
from tests.mmcontrast.strategies import normal

X, Y = normal(1, 5, 3), normal(2, 5, 3)
PAIR = batch_of("paired", (X, Y))
LABELS = torch.tensor([4, 7, 4, -100, 4])
LABELLED = batch_of("labelled", (X, LABELS))
INFO_NCE = Traits(form="info_nce")
SUP_CON = Traits(kind="labelled", form="sup_con", ignore_index=-100)


@pytest.mark.parametrize("temperature", [0.05, 0.7])
@pytest.mark.parametrize("normalized", [True, False])
def test_every_form_is_the_oracles(temperature, normalized):
    options = {"temperature": temperature, "normalize": "l2" if normalized else None}
    one_way, both = (
        Traits(form="info_nce", symmetric=symmetric, normalized=normalized)
        for symmetric in (False, True)
    )
    assert mean_loss(one_way, PAIR, temperature) == pytest.approx(
        float(oracles.info_nce(X.numpy(), Y.numpy(), **options)), rel=1e-12
    )
    assert mean_loss(both, PAIR, temperature) == pytest.approx(
        float(oracles.symmetric_info_nce(X.numpy(), Y.numpy(), **options)), rel=1e-12
    )
    views = torch.cat([X, Y]).numpy()
    nt_xent = Traits(form="nt_xent", normalized=normalized)
    assert mean_loss(nt_xent, PAIR, temperature) == pytest.approx(
        float(oracles.sup_con(views, [*range(5), *range(5)], **options)), rel=1e-12
    )
    sup_con = Traits(kind="labelled", form="sup_con", ignore_index=-100, normalized=normalized)
    assert mean_loss(sup_con, LABELLED, temperature) == pytest.approx(
        float(oracles.sup_con(X.numpy(), LABELS.numpy(), **options)), rel=1e-12
    )


@pytest.mark.parametrize(("traits", "batch"), [(INFO_NCE, PAIR), (SUP_CON, LABELLED)])
def test_the_lead_is_the_temperature_times_the_loss_as_it_vanishes(traits, batch):
    temperature = 1e-5
    scaled = temperature * mean_loss(traits, batch, temperature)
    assert mean_lead(traits, batch) == pytest.approx(scaled, abs=1e-4)
    assert mean_lead(traits, batch) > 0


def test_who_is_an_anchor_and_among_how_many():
    found = anchors(SUP_CON, LABELLED)
    assert [row.positives for row in found] == [[1, 2], [0, 2], [0, 2]]
    assert mean_log_candidates(SUP_CON, LABELLED) == pytest.approx(math.log(3))
    heeded = anchors(Traits(kind="labelled", form="sup_con"), LABELLED)
    assert [len(row.similarities) for row in heeded] == [4, 4, 4]
    assert mean_log_candidates(Traits(form="nt_xent"), PAIR) == pytest.approx(math.log(9))


def test_without_an_anchor_all_of_them_are_zero():
    alone = LABELLED.with_labels(torch.arange(5))
    assert mean_loss(SUP_CON, alone, 0.1) == 0
    assert mean_lead(SUP_CON, alone) == 0
    assert mean_log_candidates(SUP_CON, alone) == 0
