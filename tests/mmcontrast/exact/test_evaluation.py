"""The one autograd function: what a way is given and asked for, and what comes of it."""

import itertools
import weakref

import pytest
import torch

from mmcontrast.exact import evaluation, sizes
from mmcontrast.exact.evaluation import evaluate, evaluate_in_one_pass
from mmcontrast.exact.operators import recording
from tests.mmcontrast.exact.ways import FORMS, Allocations, every_form, same
from tests.mmcontrast.strategies import close, gradients, leaf, normal

# --- a small way ---------------------------------------------------------------------------------


class Watched:
    """Its calls: (name, what of the inputs is needed, the inputs, whether autocast is on)."""

    def __init__(self):
        self.calls, self.kept, self.weights = [], [], []

    def note(self, name, needed, *inputs):
        autocast = torch.is_autocast_enabled("cpu")
        self.calls.append((name, None if needed is None else tuple(needed), inputs, autocast))

    @property
    def names(self):
        return [name for name, *_ in self.calls]


class Cubes(Watched):
    """factor x^3 + offset of (B,) x, a 0-d tensor or number, and such a one or None."""

    def forward(self, needed, x, factor, offset):
        self.note("forward", needed, x, factor, offset)
        kept = [3 * x**2 if needed[0] else None, x**3 if needed[1] else None]
        self.kept.append([None if z is None else weakref.ref(z) for z in kept])
        self.pointers = [None if z is None else z.data_ptr() for z in kept]
        return factor * x**3 + (0 if offset is None else offset), kept

    def backward(self, needed, kept, upstream, x, factor, offset):
        self.note("backward", needed, x, factor, offset)
        assert [None if z is None else z.data_ptr() for z in kept] == self.pointers
        squares, cubes = kept
        return (
            upstream * factor * squares if needed[0] else None,
            (upstream * cubes).sum() if needed[1] else None,
            upstream.sum() if needed[2] else None,
        )

    def plain(self, x, factor, offset):
        self.note("plain", None, x, factor, offset)
        return factor * x**3 + (0 if offset is None else offset)


class OnePassCubes(Watched):
    """factor x^3, with gradients from the same pass."""

    def losses(self, needed, weight, x, factor):
        self.note("losses", needed, x, factor)
        self.weights.append(weight)
        losses = factor * x**3
        self.kept.append(weakref.ref(losses))
        by_x = weight * factor * 3 * x**2 if needed[0] else None
        by_factor = (weight * x**3).sum() if needed[1] else None
        return losses, (by_x, by_factor)

    def plain(self, x, factor):
        self.note("plain", None, x, factor)
        return factor * x**3


def double(*values):
    return torch.tensor(values, dtype=torch.float64)


X, FACTOR, OFFSET = double(0.5, -1.0, 2.0), torch.tensor(3.0).double(), torch.tensor(7.0).double()
UPSTREAM = double(1.0, -2.0, 0.5)
SQUARES, CUBES = double(0.25, 1.0, 4.0), double(0.125, -1.0, 8.0)
of_three = list(itertools.product([False, True], repeat=3))


@pytest.mark.parametrize("wanted", [flags for flags in of_three if any(flags)])
def test_a_way_is_asked_for_the_gradients_that_are_needed(wanted):
    way, inputs = Cubes(), (X, FACTOR, OFFSET)
    leaves = [leaf(z) if wants else z for z, wants in zip(inputs, wanted, strict=True)]
    value = evaluate(way, *leaves)
    close(value, 3 * CUBES + 7)
    value.backward(UPSTREAM)
    assert [(name, needed) for name, needed, *_ in way.calls] == [
        ("forward", wanted),
        ("backward", wanted),
    ]
    expected = (UPSTREAM * 9 * SQUARES, (UPSTREAM * CUBES).sum(), UPSTREAM.sum())
    for z, wants, gradient in zip(leaves, wanted, expected, strict=True):
        if wants:
            close(z.grad, gradient)
        else:
            assert z.grad is None


@pytest.mark.parametrize("create_graph", [False, True])
@pytest.mark.parametrize("offset", [None, 0, 2.0])
def test_numbers_and_none_arrive_as_they_are(offset, create_graph):
    way, x = Cubes(), leaf(X)
    value = evaluate(way, x, 0, offset)
    (gradient,) = torch.autograd.grad(value, x, UPSTREAM, create_graph=create_graph)
    assert (gradient == 0).all()
    assert way.names == ["forward", "plain" if create_graph else "backward"]
    for name, needed, (first, *numbers), _ in way.calls:
        assert torch.equal(first, X)
        assert numbers == [0, offset]
        assert [type(n) for n in numbers] == [int, type(offset)]
        assert needed == (None if name == "plain" else (True, False, False))


def test_what_was_kept_arrives_in_the_backward_pass_and_is_freed_with_the_graph():
    """`Cubes.backward` looks whether it is the same memory; None stays None."""
    way, x = Cubes(), leaf(X)
    value = evaluate(way, x, FACTOR, None)
    ((squares, cubes),) = way.kept
    assert cubes is None
    assert squares() is not None
    value.backward(UPSTREAM)
    close(x.grad, UPSTREAM * 9 * SQUARES)
    assert squares() is None


def test_a_way_of_no_derivatives_is_differentiated_by_its_plain_form():
    way, x, factor = Cubes(), leaf(X), leaf(FACTOR)
    value = evaluate(way, x, factor, None)
    slopes = torch.autograd.grad(value.sum(), (x, factor), create_graph=True)
    close(slopes[0], 9 * SQUARES)
    close(slopes[1], CUBES.sum())
    assert way.names == ["forward", "plain"]
    by_x, by_factor = torch.autograd.grad(slopes[0].sum(), (x, factor))
    close(by_x, 18 * X)
    close(by_factor, 3 * SQUARES.sum())
    assert way.names == ["forward", "plain"]


def test_a_second_derivative_by_one_of_two_inputs():
    way, x = Cubes(), leaf(X)
    (slope,) = torch.autograd.grad(evaluate(way, x, FACTOR, OFFSET).sum(), x, create_graph=True)
    (curve,) = torch.autograd.grad(slope.sum(), x)
    close(curve, 18 * X)
    assert way.names == ["forward", "plain"]


@pytest.mark.parametrize("create_graph", [False, True])
def test_inputs_that_are_made_of_one_another(create_graph):
    """x^3 times the sum of x, plus that of x^2: by each input, x gets its part once."""
    x = leaf(X)
    value = evaluate(Cubes(), x, x.sum(), x.square().sum())
    (slope,) = torch.autograd.grad(value.sum(), x, create_graph=create_graph)
    close(slope, X.sum() * 3 * SQUARES + CUBES.sum() + 3 * 2 * X)


@every_form
def test_a_gradient_that_can_be_differentiated_again_where_both_views_are_one(form):
    x = leaf(normal(1, 5, 3))
    value = FORMS[form](x, x, normalize=None, temperature=x.square().mean())
    (slope,) = torch.autograd.grad(value, x, retain_graph=True)
    (same_slope,) = torch.autograd.grad(value, x, create_graph=True)
    close(same_slope, slope)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_without_gradients_nothing_is_needed_and_nothing_kept(mode):
    class Keeps(Cubes):
        """It keeps a tensor, whether it is needed or not."""

        def forward(self, needed, x, factor, offset):
            value, _ = super().forward(needed, x, factor, offset)
            kept = x.clone()
            self.kept.append([weakref.ref(kept)])
            return value, [kept]

    for way in (Cubes(), Keeps()):
        with mode():
            value = evaluate(way, leaf(X), leaf(FACTOR), 1.0)
        close(value, 3 * CUBES + 1)
        assert not value.requires_grad
        assert value.grad_fn is None
        assert [(name, needed) for name, needed, *_ in way.calls] == [("forward", (False,) * 3)]
        assert all(z is None or z() is None for z in way.kept[-1])


@pytest.mark.parametrize("gradients_too", [False, True])
def test_autocast_is_off_inside_and_on_again_outside(gradients_too):
    way, x = Cubes(), leaf(X.float())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        if gradients_too:
            evaluate(way, x, 2.0, None).sum().backward()
        else:
            with torch.no_grad():
                evaluate(way, x, 2.0, None)
        assert torch.is_autocast_enabled("cpu")
    assert way.names == (["forward", "backward"] if gradients_too else ["forward"])
    assert not any(autocast for *_, autocast in way.calls)


# --- a small way of one pass ---------------------------------------------------------------------

WEIGHTS = {"none": None, "0-d": torch.tensor(0.25).double(), "vector": double(1.0, 0.0, -3.0)}


@pytest.mark.parametrize("weight", [torch.tensor(0.25).double(), double(1.0, 0.0, -3.0)])
@pytest.mark.parametrize("wanted", [flags for flags in of_three if any(flags)])
def test_with_a_weight_the_gradients_come_from_the_same_pass(weight, wanted):
    """Of the sum of all losses times the weight, and of the weight itself: the losses."""
    way, inputs = OnePassCubes(), (X, FACTOR, weight)
    x, factor, weight = leaves = [
        leaf(z) if wants else z for z, wants in zip(inputs, wanted, strict=True)
    ]
    value = evaluate_in_one_pass(way, weight, x, factor)
    close(value, (inputs[2] * 3 * CUBES).sum())
    (5 * value).backward()
    assert [(name, needed) for name, needed, *_ in way.calls] == [("losses", wanted[:2])]
    assert torch.equal(way.weights[0], inputs[2])
    by_weight = 15 * CUBES
    expected = (
        5 * inputs[2] * 9 * SQUARES,
        (5 * inputs[2] * CUBES).sum(),
        by_weight if inputs[2].ndim else by_weight.sum(),
    )
    for z, wants, gradient in zip(leaves, wanted, expected, strict=True):
        if wants:
            close(z.grad, gradient)
        else:
            assert z.grad is None


@pytest.mark.parametrize("learned", [False, True])
def test_the_losses_are_kept_for_the_gradient_of_the_weight_alone(learned):
    way, weight = OnePassCubes(), leaf(WEIGHTS["vector"])
    value = evaluate_in_one_pass(way, weight if learned else weight.detach(), leaf(X), 3.0)
    assert value.requires_grad
    (losses,) = way.kept
    assert (losses() is not None) == learned


@pytest.mark.parametrize("wanted", [(False, True), (True, False), (True, True)])
def test_without_a_weight_the_gradients_take_a_second_pass_weighted_by_the_upstream(wanted):
    way = OnePassCubes()
    x, factor = (leaf(z) if wants else z for z, wants in zip((X, FACTOR), wanted, strict=True))
    value = evaluate_in_one_pass(way, None, x, factor)
    close(value, 3 * CUBES)
    value.backward(UPSTREAM)
    assert [(name, needed) for name, needed, *_ in way.calls] == [
        ("losses", (False, False)),
        ("losses", wanted),
    ]
    assert way.weights[0] is None
    assert torch.equal(way.weights[1], UPSTREAM)
    if wanted[0]:
        close(x.grad, UPSTREAM * 9 * SQUARES)
    if wanted[1]:
        close(factor.grad, (UPSTREAM * CUBES).sum())


@pytest.mark.parametrize("weight", WEIGHTS)
def test_a_way_of_one_pass_has_second_derivatives_by_its_plain_form(weight):
    inputs = [leaf(z) for z in (X, FACTOR, WEIGHTS[weight]) if z is not None]
    ways = []

    def loss(x, factor, weight=None):
        ways.append(OnePassCubes())
        return evaluate_in_one_pass(ways[-1], weight, x, factor)

    assert torch.autograd.gradcheck(loss, inputs)
    assert torch.autograd.gradgradcheck(loss, inputs)
    ways.clear()
    torch.autograd.grad(loss(*inputs).sum(), inputs, create_graph=True)
    assert ways[0].names == ["losses", "plain"]


@pytest.mark.parametrize("weight", WEIGHTS)
def test_a_way_of_one_pass_makes_no_gradients_that_nobody_needs(weight):
    way, w = OnePassCubes(), WEIGHTS[weight]
    with torch.no_grad():
        value = evaluate_in_one_pass(way, w, leaf(X), leaf(FACTOR))
    close(value, 3 * CUBES if w is None else (w * 3 * CUBES).sum())
    assert [(name, needed) for name, needed, *_ in way.calls] == [("losses", (False, False))]


# --- the losses ----------------------------------------------------------------------------------


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


class KeepsGradients(OnePassCubes):
    """It remembers where the gradients of its last pass are."""

    def losses(self, needed, weight, x, factor):
        losses, (by_x, by_factor) = super().losses(needed, weight, x, factor)
        self.pointers = [losses.data_ptr(), by_x.data_ptr()]
        return losses, (by_x, by_factor)


@pytest.mark.parametrize("factor", [1.0, 5.0])
def test_gradients_of_one_pass_are_scaled_in_their_own_memory_where_the_graph_ends(factor):
    way, x, weight = KeepsGradients(), leaf(X), leaf(UPSTREAM)
    value = factor * evaluate_in_one_pass(way, weight, x, FACTOR)
    expected = torch.stack([factor * UPSTREAM * 9 * SQUARES, factor * 3 * CUBES])
    for _ in range(2):
        kept = torch.autograd.grad(value, (x, weight), retain_graph=True)
        close(torch.stack(kept), expected)
        assert not {z.data_ptr() for z in kept} & {*way.pointers}
    last = torch.autograd.grad(value, (x, weight))
    close(torch.stack(last), expected)
    assert [z.data_ptr() for z in reversed(last)] == way.pointers


def test_gradients_of_one_pass_for_several_upstreams_at_once():
    x = leaf(X)
    value = evaluate_in_one_pass(OnePassCubes(), UPSTREAM, x, FACTOR)
    (found,) = torch.autograd.grad(value, x, double(1, -3), is_grads_batched=True)
    close(found, torch.stack([UPSTREAM * 9 * SQUARES, -3 * UPSTREAM * 9 * SQUARES]))


@every_form
@pytest.mark.parametrize("chunk_size", [3, None])
def test_jacobians_of_losses_for_all_upstreams_at_once(form, chunk_size):
    x, y = (normal(seed, 8, 4) for seed in (1, 2))

    def losses(x, y):
        return FORMS[form](x, y, temperature=0.5, reduction="none", chunk_size=chunk_size)

    expected = torch.autograd.functional.jacobian(losses, (x, y))
    found = torch.autograd.functional.jacobian(losses, (x, y), vectorize=True)
    same(found, expected)
    x, y = leaf(x), leaf(y)
    value = losses(x, y)
    found = torch.func.vmap(lambda u: torch.autograd.grad(value, (x, y), u))(torch.eye(8).double())
    same(found, expected)
    assert not any(z.requires_grad for z in found)


def test_hooks_of_saved_tensors_may_hold_what_they_are_given():
    held, way, x = [], KeepsGradients(), leaf(X)

    def pack(z):
        held.append(z.detach())
        return z

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda z: z):
        value = evaluate_in_one_pass(way, leaf(UPSTREAM), x, FACTOR)
    before = [z.clone() for z in held]
    (5 * value).backward()
    close(x.grad, 5 * UPSTREAM * 9 * SQUARES)
    assert all(map(torch.equal, held, before))


def test_hooks_of_saved_tensors_may_give_one_tensor_to_two_graphs():
    held, x = [], leaf(X)

    def pack(z):
        alike = [k for k, other in enumerate(held) if torch.equal(other, z)]
        held.append(z.detach())
        return alike[0] if alike else len(held) - 1

    with torch.autograd.graph.saved_tensors_hooks(pack, held.__getitem__):
        values = [evaluate_in_one_pass(OnePassCubes(), UPSTREAM, x, FACTOR) for _ in range(2)]
    for value in values:
        (found,) = torch.autograd.grad(5 * value, x)
        close(found, 5 * UPSTREAM * 9 * SQUARES)


def test_what_a_cuda_graph_records_can_run_again(monkeypatch):
    monkeypatch.setattr(evaluation, "in_cuda_graph", lambda x: True)
    way, x = KeepsGradients(), leaf(X)
    value = 5 * evaluate_in_one_pass(way, UPSTREAM, x, FACTOR)
    (found,) = torch.autograd.grad(value, x)
    close(found, 5 * UPSTREAM * 9 * SQUARES)
    assert found.data_ptr() not in way.pointers


def test_gradients_of_one_pass_are_scaled_in_their_own_memory_in_an_operator():
    way, x = KeepsGradients(), leaf(X)
    with torch.autograd.graph.save_on_cpu(), recording():
        value = evaluate_in_one_pass(way, UPSTREAM, x, FACTOR)
        (found,) = torch.autograd.grad(value, x)
    assert found.data_ptr() in way.pointers


@pytest.mark.parametrize("pass_on", [lambda z: z, lambda z: z.to(torch.float64)])
def test_gradients_of_one_pass_under_hooks_of_saved_tensors(pass_on):
    x = leaf(X)
    with torch.autograd.graph.saved_tensors_hooks(lambda z: z.float(), pass_on):
        value = evaluate_in_one_pass(OnePassCubes(), torch.ones(()).double(), x, FACTOR)
    (2 * value).backward()
    close(x.grad, 2 * 9 * SQUARES)


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
