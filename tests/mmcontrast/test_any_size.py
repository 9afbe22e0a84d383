"""Compiled and exported losses take batches of any size: nothing in them depends on the first."""

import pytest
import torch
from torch._dynamo.testing import CompileCounter

from tests.mmcontrast.public_cases import ANY_SIZE, CASES, Make, replace, results, tensors
from tests.mmcontrast.strategies import close

# Selection takes long to export; intra_modal_contrast:selection is.
REPEATED = ["inter_modal_contrast:selection", "hybrid_contrast:present"]

# Tiles of a few rows or tuples are many already among 40 samples, and take seconds among 250.
LARGE = {"joint_contrast:present": 40, "joint_contrast:volume": 40}


def large(name):
    return LARGE.get(name, 250)


def inputs(name, n):
    return CASES[name].inputs(Make(n=n, d=4, seed=n))


def is_eager(function, name, n):
    given = inputs(name, n)
    for found, expected in zip(function(*given), results(name, given), strict=True):
        close(found, expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", ANY_SIZE)
def test_two_compilations_serve_all_sizes(name):
    torch._dynamo.reset()
    counter = CompileCounter()
    compiled = torch.compile(lambda *x: tuple(results(name, x)), backend=counter, fullgraph=True)
    for n in (6, 9, large(name)):
        is_eager(compiled, name, n)
    assert counter.frame_count <= 2


@pytest.mark.parametrize("name", [name for name in ANY_SIZE if name not in REPEATED])
def test_an_exported_loss_takes_any_size(name):
    class Program(torch.nn.Module):
        def forward(self, *x):
            return tuple(results(name, x))

    n = torch.export.Dim("n", min=3, max=4096)
    given, larger = inputs(name, 6), inputs(name, 9)
    sizes = [
        {
            k: n + (size - 6) if size != 6 else n
            for k, size in enumerate(x.shape)
            if size != other[k]
        }
        for x, other in zip(tensors(given), (y.shape for y in tensors(larger)), strict=True)
    ]
    dynamic = replace(given, iter(sizes))
    program = torch.export.export(Program(), given, dynamic_shapes=(dynamic,)).module()
    for size in (3, 9, large(name)):
        is_eager(program, name, size)
