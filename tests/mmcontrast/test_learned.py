"""What losses learn themselves: numbers of shape () or (1,), and everything over ranks."""

import inspect
from typing import get_args

import pytest
import torch
from torch import nn

import mmcontrast as mm
from mmcontrast import learned
from tests.mmcontrast.strategies import normal
from tests.ranks import launch
from tests.ranks import learned as on_ranks

N = 8
CALLS = on_ranks.calls(N, 3)
NUMBERS = {"temperature": 0.3, "bias": -1.0, "margin": 0.4}
WITHOUT = {
    "kl_distill": "its temperature is a number: a learned one would make the loss 0",
    "hard_negatives": "a miner: what it finds has no gradient by the row map",
    "hard_triplets": "a miner",
    "ratio_contrast": "of similarities",
    "different_id": "a mask",
    "gather": "no loss",
    "retrieval": "a report",
}


def options(name, among):
    return [x for x in among if x in inspect.signature(getattr(mm, name)).parameters]


def numbers_of(name):
    """Arguments that are a number or a learned one; a bias of pairs is none."""
    given = inspect.signature(getattr(mm, name)).parameters
    return [x for x in options(name, NUMBERS) if float in get_args(given[x].annotation)]


def test_every_loss_with_a_group_is_tried_over_ranks():
    functions = [name for name in mm.__all__ if inspect.isfunction(getattr(mm, name))]
    grouped = {name for name in functions if options(name, ["group"])}
    assert {name.split(":")[0] for name in CALLS} == grouped - set(WITHOUT)


def test_every_loss_with_a_number_is_tried_with_a_dimension():
    functions = [name for name in mm.__all__ if inspect.isfunction(getattr(mm, name))]
    numbered = {name for name in functions if numbers_of(name)}
    assert {name.split(":")[0] for name in CALLS} >= numbered - set(WITHOUT) - {"diagnose"}


def value_and_slopes(name, shape):
    """With numbers of a shape; their gradients as numbers, and the rows'."""
    base = name.split(":")[0]
    x = [normal(k, N, on_ranks.WIDTH).requires_grad_() for k in range(3)]
    numbers = {k: torch.full(shape, NUMBERS[k]).double() for k in numbers_of(base)}
    leaves = [v.requires_grad_() for k, v in numbers.items() if (base, k) not in on_ranks.CONSTANT]
    value = CALLS[name](*x, slice(0, N), **numbers)
    value = value.total if isinstance(value, mm.LossTerms) else value
    assert value.shape == ()
    slopes = torch.autograd.grad(value, [*x, *leaves], materialize_grads=True)
    assert [g.shape for g in slopes[3:]] == [shape] * len(leaves)
    return value.detach(), *slopes[:3], *(g.reshape(()) for g in slopes[3:])


@pytest.mark.parametrize("name", [k for k in CALLS if numbers_of(k.split(":")[0])])
def test_a_number_with_a_dimension_is_the_number(name):
    """Bit by bit, in the value and in the gradients, of the rows and of the number itself."""
    for found, expected in zip(
        value_and_slopes(name, (1,)), value_and_slopes(name, ()), strict=True
    ):
        assert torch.equal(found, expected)


def test_a_report_at_a_temperature_with_a_dimension():
    x, y = normal(1, 6, 4), normal(2, 6, 4)
    found = mm.diagnose(x, y, temperature=torch.tensor([0.5]))
    assert found.loss == mm.diagnose(x, y, temperature=0.5).loss


@pytest.mark.parametrize("shape", [(2,), (0,), (1, 1)])
@pytest.mark.parametrize("name", CALLS)
def test_other_shapes_are_refused(name, shape):
    x = [normal(k, N, on_ranks.WIDTH) for k in range(3)]
    for argument in numbers_of(name.split(":")[0]):
        # Two dimensions are a bias for each pair.
        wanted = rf"\({N}, {N}\)" if argument == "bias" and len(shape) == 2 else r"\(\) or \(1,\)"
        with pytest.raises(ValueError, match=rf"{argument}: expected .*shape {wanted}, got"):
            CALLS[name](*x, slice(0, N), **{argument: torch.ones(shape)})


class OfOne(nn.Module):
    """A temperature of a user's own, with a dimension."""

    def __init__(self):
        super().__init__()
        self.log = nn.Parameter(torch.tensor([-1.0]))

    def forward(self):
        return self.log.exp()


@pytest.mark.parametrize("module", [mm.InfoNCE, mm.SymmetricInfoNCE, mm.SigmoidContrast, mm.SupCon])
def test_modules_learn_from_a_parameter_with_a_dimension(module):
    loss = module() if module is mm.SigmoidContrast else module(temperature=OfOne())
    other = torch.arange(N) % 3 if module is mm.SupCon else normal(2, N, 4)
    value = loss(normal(1, N, 4), other)
    assert value.shape == ()
    value.backward()
    for x in loss.parameters():
        assert x.shape == x.grad.shape == (1,)
        assert x.grad != 0


def test_no_parameter_lacks_a_dimension():
    """FSDP2 shards the first dimension of every parameter, and refuses those without."""
    modules = [mm.LearnableTemperature(), mm.SigmoidContrast(), mm.Mahalanobis.learned(2)]
    assert min(x.ndim for module in modules for x in module.parameters()) == 1


def test_alone_nothing_is_replicated():
    """Without a group, and in one of a single rank, which is none here."""
    number, rows = nn.Parameter(torch.ones(1)), torch.eye(2)
    distance = mm.Mahalanobis.learned(2)
    for group in (None, "world"):
        assert learned.replicated(number, group, rows) is number
        assert learned.replicated(0.3, group, rows) == 0.3
        for function in (distance, mm.euclidean, None):
            assert learned.replicated_module(function, group) is function


def test_a_loss_that_learns_compiles_into_one_graph():
    """Here of one rank: a group is none."""
    torch.compiler.reset()
    loss = mm.SigmoidContrast(group="world")
    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")
    rows = normal(1, N, 4).float(), normal(2, N, 4).float()
    expected = torch.autograd.grad(loss(*rows), list(loss.parameters()))
    found = torch.autograd.grad(compiled(*rows), list(loss.parameters()))
    torch.testing.assert_close(found, expected)


@pytest.mark.slow
def test_gradients_over_ranks():
    """On every rank those of one process: rows few, many, none at all, or without an anchor."""
    launch(3, "tests.ranks.learned", "agree", "chunks", "many", "twice", "kinds")


@pytest.mark.slow
def test_wrapped_and_sharded_models_end_as_one_process_does():
    """The loss inside DistributedDataParallel and beside it; FSDP2, FSDP1, tensor parallel."""
    programs = ("inside", "outside", "fsdp2", "fsdp1", "tensor_parallel")
    launch(2, "tests.ranks.wrappers", *programs)
