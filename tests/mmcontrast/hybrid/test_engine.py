"""Which way HyCon's losses are evaluated."""

from contextlib import contextmanager

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

import mmcontrast as mm
from mmcontrast.hybrid import engine
from tests.mmcontrast.hybrid.evaluations import by_pairs, loss, sizes
from tests.mmcontrast.strategies import close, gradients, labels, mask, modalities


@contextmanager
def refused():
    """Moments may not be asked."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            engine, "values_by_moments", lambda *_, **__: pytest.fail("moments were asked")
        )
        yield


def test_a_large_batch_takes_moments_and_a_small_one_does_not():
    features, classes = modalities(1, 200, 3), labels(1, 200)
    with by_pairs():
        expected = mm.hybrid_contrast(features, classes).total
    close(mm.hybrid_contrast(features, classes).total, expected, atol=1e-12, rtol=1e-12)
    with refused():
        mm.hybrid_contrast(modalities(1, 199, 3), labels(1, 199))
        with pytest.raises(pytest.fail.Exception, match="moments were asked"):
            mm.hybrid_contrast(features, classes)


def test_what_moments_cannot_say_is_said_by_the_pairs():
    features, classes = modalities(1, 30, 3), labels(1, 30)
    masks = {"positives": mask(1, 30, 30), "negatives": mask(2, 30, 30)}
    with sizes(), refused():
        mm.hybrid_contrast(features, classes, selection=mm.PairSelection())
        mm.hybrid_contrast(features, None, **masks)
        mm.hybrid_contrast(features, classes, weights=(0, 0, 1))


def test_transforms_and_compilers_take_the_pairs():
    features, classes = modalities(1, 30, 3), labels(1, 30)
    function, inputs = loss(features, classes)
    value, expected = gradients(function, *inputs)
    with sizes(), refused():
        found = torch.func.grad(function, argnums=(0, 1, 2))(*inputs)
        for gradient, reference in zip(found, expected, strict=True):
            close(gradient, reference)
        together = torch.vmap(function)(*[torch.stack([x, x]) for x in inputs])
        close(together, value.expand(2))
        torch._dynamo.reset()
        close(torch.compile(function, fullgraph=True, backend="eager")(*inputs), value)
        with FakeTensorMode(allow_non_fake_inputs=True):
            there = [torch.empty(30, 3, device="meta", requires_grad=True) for _ in inputs]
            fake = mm.hybrid_contrast(
                dict(zip(features, there, strict=True)), torch.empty(30, device="meta")
            )
            assert fake.total.device.type == "meta"
            torch.autograd.grad(fake.total, there)


def test_without_gradients_and_with_one_of_three():
    features, classes = modalities(1, 300, 3), labels(1, 300, 5)
    function, inputs = loss(features, classes)
    value, expected = gradients(function, *inputs)
    for mode in (torch.no_grad, torch.inference_mode):
        with mode():
            assert function(*inputs) == value
    moved = inputs[1].clone().requires_grad_()
    close(torch.autograd.grad(function(inputs[0], moved, inputs[2]), moved)[0], expected[1])
