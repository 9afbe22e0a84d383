"""Autograd of losses that are evaluated in tiles or at once: whose gradients, and how often."""

import pytest
import torch

from mmcontrast.exact import sizes
from tests.mmcontrast.exact.ways import FORMS, Allocations, every_form, same
from tests.mmcontrast.strategies import close, gradients, leaf, normal


@every_form
@pytest.mark.parametrize("wanted", [(0,), (1,), (2,), (0, 1), (1, 2), (0, 1, 2)])
def test_only_some_inputs_require_a_gradient(form, wanted, monkeypatch):
    inputs = [normal(1, 7, 3), normal(2, 7, 3), torch.tensor(0.3, dtype=torch.float64)]

    def of(chunk_size):
        given = [leaf(z) if k in wanted else z for k, z in enumerate(inputs)]
        value = FORMS[form](*given[:2], temperature=given[2], chunk_size=chunk_size)
        value.backward()
        assert all(given[k].grad is None for k in range(3) if k not in wanted)
        return [given[k].grad for k in wanted]

    small = of(None)
    same(of(3), small)
    monkeypatch.setattr(sizes, "AT_ONCE", 0)
    same(of(None), small)


@every_form
@pytest.mark.parametrize("chunk_size", [3, None])
@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_a_graph_that_is_kept_can_be_used_twice(form, reduction, chunk_size):
    x, y = leaf(normal(1, 7, 3)), leaf(normal(2, 7, 3))
    value = FORMS[form](x, y, chunk_size=chunk_size, reduction=reduction).sum()
    once = torch.autograd.grad(value, (x, y), retain_graph=True)
    twice = torch.autograd.grad(5 * value, (x, y))
    same(twice, [5 * gradient for gradient in once])


@every_form
@pytest.mark.parametrize("chunk_size", [3, None])
@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_a_second_derivative_takes_the_plain_form(form, reduction, chunk_size):
    """Of the views, the temperature and the weights: create_graph tells the backward pass."""
    inputs = [normal(1, 4, 2), normal(2, 4, 2), torch.tensor(0.5).double(), normal(3, 4).abs() + 1]
    leaves = [leaf(z) for z in inputs]

    def loss(x, y, t, w):
        return FORMS[form](
            x, y, temperature=t, weight=w, reduction=reduction, chunk_size=chunk_size
        )

    assert torch.autograd.gradcheck(loss, leaves)
    assert torch.autograd.gradgradcheck(loss, leaves)


@every_form
@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_without_gradients_none_are_made(form, mode):
    x, y = leaf(normal(1, 9, 4)), leaf(normal(2, 9, 4))
    whole = FORMS[form](x, y)
    with mode(), Allocations() as made:
        value = FORMS[form](x, y, chunk_size=4)
    close(value, whole)
    assert not value.requires_grad
    assert made.products == (9 if form != "one way" else 3)


@every_form
def test_strides_and_expanded_rows(form, monkeypatch):
    x, y = normal(1, 3, 9).T, normal(2, 1, 3).expand(9, 3)
    settings = {"normalize": None, "temperature": 1.0}
    tiled = gradients(lambda x, y: FORMS[form](x, y, **settings, chunk_size=4), x, y)
    for small in (sizes.AT_ONCE, 0):
        monkeypatch.setattr(sizes, "AT_ONCE", small)
        whole = gradients(lambda x, y: FORMS[form](x, y, **settings), x, y)
        same([tiled[0], *tiled[1]], [whole[0], *whole[1]])


@every_form
def test_other_devices_need_no_device(form):
    """Nothing in the tiles is made on the CPU or reads a value."""
    x, y = (leaf(normal(k, 9, 4).float()).to("meta") for k in (1, 2))
    for chunk_size in (4, None):
        value = FORMS[form](x, y, chunk_size=chunk_size)
        slopes = torch.autograd.grad(value, (x, y), create_graph=True)
        slopes += torch.autograd.grad(FORMS[form](x, y, chunk_size=chunk_size), (x, y))
        slopes += torch.autograd.grad(sum(z.sum() for z in slopes), (x, y))
        assert all(gradient.device.type == "meta" for gradient in slopes)
