"""Our own losses, through the same public door as anybody's."""

import pytest
from torch import nn

from mmcontrast.testing import CHECKS
from mmcontrast.testing.suite import report_on
from tests.mmcontrast.testing.own import OWN, PUBLIC_LOSSES
from tests.mmcontrast.testing.own_miners import OWN_DISTANCES, OWN_MINERS

SLOW = ["compiles_into_one_graph", "gradgradcheck"]
"""Every public function is compiled, and has its second derivative checked, in test_package.py."""
OF_MODULES = [
    *("returns_a_scalar", "repeats_itself", "copies_are_worth_the_same", "modes_do_not_matter"),
    *("parameters_get_gradients", "functional_gradient", "vectorizes"),
]
"""Those that a Module could break by itself: to its function, which keeps all of them, it hands on
every setting and input, as test_package.py shows."""


def test_every_public_loss_has_its_claims():
    """A new loss without a line in own.py fails here, and so does a line without a loss."""
    assert {name.split(":")[0] for name in OWN} == PUBLIC_LOSSES


@pytest.mark.parametrize("name", OWN)
def test_every_law_that_it_claims_holds(name, examples, seed):
    loss, traits = OWN[name]
    few = examples < 100
    report_on(
        loss,
        traits,
        max_examples=examples,
        seed=seed,
        checks=OF_MODULES if few and isinstance(loss, nn.Module) else None,
        exclude=SLOW if few else [],
        on_fail="raise",
        name=name,
    )


@pytest.mark.parametrize("name", ["symmetric_info_nce", "sup_con", "hybrid_contrast", "triplet"])
def test_one_of_each_kind_keeps_the_slow_laws_too(name):
    loss, traits = OWN[name]
    report_on(loss, traits, checks=SLOW, max_examples=1, on_fail="raise")


def test_every_law_is_claimed_by_one_of_ours():
    claims = [traits for own in (OWN, OWN_MINERS, OWN_DISTANCES) for _, traits in own.values()]
    claimed = {
        name for name, law in CHECKS.items() if any(law.applies(traits) for traits in claims)
    }
    assert set(CHECKS) - claimed == {"equals_the_reference"}
