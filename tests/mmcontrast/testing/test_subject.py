"""The loss under test is left as it was, and starts every call from the same state."""

import random

import numpy as np
import pytest
import torch

import mmcontrast as mm
from mmcontrast.testing.suite import report_on
from tests.mmcontrast.testing import losses


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
    left_out = ("copies_are_worth_the_same", "gradcheck", "gradgradcheck")
    report_on(module, max_examples=1, exclude=left_out)
    assert len(losses.calls) > 20
    same_state(before, state_of(module))
    touched = id(module) in losses.calls
    assert touched == (cls is losses.CannotBeCopied)


def test_every_call_starts_from_the_same_state():
    """A queue that grew from one call to the next would make the two values differ."""

    report = report_on(losses.Grows(), {"form": "info_nce", "temperature": 0.07}, max_examples=2)
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
    report_on(losses.Counts(), max_examples=1)
    assert torch.equal(before[0], torch.get_rng_state())
    assert (before[1] == np.random.get_state()[1]).all()  # noqa: NPY002
    assert before[2] == random.getstate()


def test_dropout_draws_the_same_numbers_in_every_call():
    loss = torch.nn.Dropout(0.5)

    def noisy(a, b):
        return mm.info_nce(loss(a) + 1e-3, b)

    laws = ["returns_a_scalar", "works_without_gradients"]
    assert report_on(noisy, checks=laws, max_examples=20).ok
    assert not report_on(noisy, checks=["repeats_itself"], max_examples=20).ok
