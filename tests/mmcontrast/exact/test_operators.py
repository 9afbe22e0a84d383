"""Under a compiler a loss is one operator: the same value, gradients and memory for any size."""

import pytest
import torch
from torch._dynamo.testing import CompileCounterWithBackend
from torch._dynamo.utils import counters

import mmcontrast as mm
from tests.mmcontrast.strategies import normal

OPERATORS = torch.ops.mmcontrast


def leaf(seed, *shape):
    return normal(seed, *shape).float().requires_grad_()


def number(value):
    return torch.tensor(value, requires_grad=True)


def samples(name):
    """Inputs of an operator: with 0-d weights, with (B,) ones, and without."""
    x, y = leaf(1, 5, 3), leaf(2, 7, 3)
    weights = (torch.tensor(0.2), leaf(3, 5), None)
    targets = torch.tensor([6, 0, -100, 2, 2])
    masks = normal(4, 5, 7) > 0, normal(5, 5, 7) > -1
    scores = torch.arange(5.0)[:, None] % 3, torch.arange(7.0)[:, None] % 4
    classes = torch.tensor([0, 1, 0, 1, 2]), torch.tensor([0, 0, 0, 1, 1, -100, 5])
    each = {
        "weighted_one_way": lambda w: (x, y, number(0.5), w, targets, None, "", ""),
        "weighted_both_ways": lambda w: (x, leaf(2, 5, 3), number(0.5), w, 2, "", ""),
        "weighted_sigmoid": lambda w: (
            *(x, y, number(0.5), number(-1.0), w, *masks, 0, None, "", ""),
        ),
        "weighted_ranks": lambda w: (
            *(x, y, number(0.5), w, *scores, scores[0][:, 0] > 0, scores[1][:, 0] > 0),
            *(None, 1e-7, 1, 2),
        ),
        "weighted_one_way_masked": lambda w: (x, y, number(0.5), w, targets, masks[1], 2),
        "weighted_both_ways_masked": lambda w: (
            *(x, leaf(2, 5, 3), number(0.5), w, masks[1][:, :5], 2, ""),
        ),
        "weighted_masked": lambda w: (
            *(x, y, number(0.5), w, *classes, masks[1], classes[1] >= 0, 1, 2, "out"),
        ),
    }
    for weight in weights:
        given = each[name](weight)
        place = [x is weight for x in given].index(True)
        for needed in ([False] * (place + 1), [True] * place + [weight is not None]):
            if weight is not None or not any(needed):
                yield *given, needed


NAMES = ["weighted_one_way", "weighted_both_ways", "weighted_sigmoid", "weighted_ranks"]
NAMES += ["weighted_one_way_masked", "weighted_both_ways_masked", "weighted_masked"]


# The check itself reads it, of its copies of the inputs.
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")
@pytest.mark.parametrize("name", NAMES)
def test_operators_do_what_they_say_to_compilers(name):
    for given in samples(name):
        torch.library.opcheck(getattr(OPERATORS, name).default, given)


def lower(x, y):
    return torch.ones(x.shape[0], y.shape[0], dtype=torch.bool, device=x.device).tril()


def ranked(x, y, **settings):
    scores = torch.arange(x.shape[0]) % 5, torch.arange(y.shape[0]) % 3
    return mm.rank_n_contrast(x, scores[0], y, scores[1], distance=mm.manhattan, **settings)


MASKED = {
    "one way": lambda x, y, **k: mm.info_nce(x, y, keep=lower(x, y), **k),
    "both ways": lambda x, y, **k: mm.symmetric_info_nce(x, y, keep=lower(x, y), **k),
    "bool": lambda x, y, **k: mm.info_nce(x, y, positives=lower(x, y), keep=~lower(y, x).T, **k),
    "soft": lambda x, y, **k: mm.info_nce(x, y, positives=(x @ y.T).detach().exp(), **k),
    "classes": lambda x, y, **k: mm.sup_con(
        x, torch.arange(x.shape[0]) // 3, y, torch.arange(y.shape[0]) // 2, **k
    ),
}
LOSSES = {
    "one way": mm.info_nce,
    "both ways": mm.symmetric_info_nce,
    "sigmoid": mm.sigmoid_contrast,
    "sigmoid, masked": lambda x, y, **k: mm.sigmoid_contrast(x, y, keep=lower(x, y), **k),
    "ranks": ranked,
}
SETTINGS = {
    "mean": {},
    "sum in tiles": {"reduction": "sum", "chunk_size": 3},
    "none": {"reduction": "none"},
}


def found(loss, x, y, t):
    """The value and all gradients, under an upstream that is not 1."""
    x, y, t = (z.detach().clone().requires_grad_() for z in (x, y, t))
    value = loss(x, y, t)
    upstream = torch.linspace(1, 2, value.numel(), dtype=value.dtype).view_as(value)
    return value.detach(), *torch.autograd.grad(value, (x, y, t), upstream)


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
@pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)
def test_compiled_is_eager_for_all_sizes_after_two_compilations(loss, settings):
    compiled_is_eager(loss, settings)


@pytest.mark.parametrize("loss", MASKED.values(), ids=MASKED)
def test_compiled_masks_are_eager_ones(loss):
    compiled_is_eager(loss, SETTINGS["mean"])


def compiled_is_eager(loss, settings):
    def call(x, y, t):
        weight = x.detach()[:, 0].exp()
        return loss(x, y, temperature=t, weight=weight, **settings)

    torch._dynamo.reset()
    counters.clear()
    counter = CompileCounterWithBackend("aot_eager")
    compiled = torch.compile(call, backend=counter, fullgraph=True)
    for n in (4, 5, 33, 300, 2):
        given = normal(n, n, 3), normal(n + 1, n, 3), torch.tensor(0.5, dtype=torch.float64)
        for mine, truth in zip(found(compiled, *given), found(call, *given), strict=True):
            torch.testing.assert_close(mine, truth, rtol=1e-12, atol=1e-14)
    assert counters["stats"]["unique_graphs"] == 2
    targets = [str(node.target) for node in counter.graphs[-1].graph.nodes]
    assert sum("weighted" in target for target in targets) == 1


@pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)
def test_exported_programs_take_any_size_and_can_be_trained(loss):
    class Program(torch.nn.Module):
        def forward(self, x, y):
            return loss(x, y, temperature=0.5)

    size = torch.export.Dim("size", min=2, max=4096)
    given = normal(1, 8, 3), normal(2, 8, 3)
    program = torch.export.export(Program(), given, dynamic_shapes=({0: size}, {0: size}))
    for n in (3, 8, 300):
        x, y = normal(n, n, 3).requires_grad_(), normal(n + 1, n, 3).requires_grad_()
        mine, truth = program.module()(x, y), loss(x, y, temperature=0.5)
        torch.testing.assert_close(mine, truth, rtol=1e-12, atol=0)
        pairs = zip(*(torch.autograd.grad(v, (x, y)) for v in (mine, truth)), strict=True)
        for a, b in pairs:
            torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-15)
        # The second derivative, which only eager mode has.
        twice = [
            torch.autograd.grad(v, x, create_graph=True)[0].square().sum()
            for v in (program.module()(x, y), loss(x, y, temperature=0.5))
        ]
        a, b = (torch.autograd.grad(v, y)[0] for v in twice)
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-12)
