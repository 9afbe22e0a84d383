"""Compiled and exported losses take batches of any size: nothing in them depends on the first."""

import pytest
import torch
from torch._dynamo.testing import CompileCounter

from tests.mmcontrast.public_cases import ANY_SIZE, of_few, replace, results, tensors
from tests.mmcontrast.strategies import close

# Compiled and exported elsewhere: in test_operators.py for more sizes and with gradients, and in
# test_package.py the hybrid loss with all that it consists of; "multilevel_contrast:C" does the
# same and more.
ELSEWHERE = [
    *("info_nce:sum", "info_nce:chunks", "symmetric_info_nce:chunks", "sigmoid_contrast:chunks"),
    *("info_nce:positives", "info_nce:soft", "symmetric_info_nce:keep"),
    *("inter_modal_contrast:selection", "hybrid_contrast:present", "multilevel_contrast"),
]
HERE = [name for name in ANY_SIZE if name not in ELSEWHERE]
# Compiled for more sizes and with gradients, in test_operators.py and hybrid/test_contrasts.py.
PLAIN = [
    *("info_nce", "symmetric_info_nce", "sigmoid_contrast", "sup_con", "rank_n_contrast"),
    "hybrid_contrast",
]
# Compiled, and not exported: no line runs then that does not run while another case is exported.
REPEATED = [
    *("info_nce:raw", "info_nce:bias", "symmetric_info_nce:captions", "matched_pair_nce:keep"),
    *("anchored_info_nce:present", "sup_con:decoupled", "triplet:squared", "semi_contrast:present"),
]

# Tiles of a few rows or tuples are many already among 40 samples, and take seconds among 250.
SMALL = ["joint_contrast", "joint_contrast:present", "joint_contrast:volume"]


def large(name):
    return 40 if name in SMALL else 250


def inputs(name, n):
    return of_few(name, n=n, d=4, seed=n)


def close_to_eager(function, name, given):
    for found, expected in zip(function(*given), results(name, given), strict=True):
        close(found, expected, rtol=1e-9, atol=1e-12)


def sizes_of_samples(name):
    """Of each tensor among 6 samples: the sizes that are others among 9."""
    given, larger = tensors(inputs(name, 6)), tensors(inputs(name, 9))
    for x, other in zip(given, (y.shape for y in larger), strict=True):
        yield {k: size for k, size in enumerate(x.shape) if size != other[k]}


@pytest.mark.parametrize("name", [name for name in HERE if name not in PLAIN])
def test_one_compilation_serves_all_sizes(name):
    """With the sizes marked, as a compiler marks by itself those that a second batch has changed.

    A loss that ties one of them to its first value is an error, not another compilation.
    """
    torch._dynamo.reset()
    counter = CompileCounter()
    compiled = torch.compile(lambda *x: tuple(results(name, x)), backend=counter, fullgraph=True)
    for n in (6, 9, large(name)):
        given = inputs(name, n)
        for x, sizes in zip(tensors(given), sizes_of_samples(name), strict=True):
            torch._dynamo.mark_dynamic(x, list(sizes))
        close_to_eager(compiled, name, given)
    assert counter.frame_count == 1


@pytest.mark.parametrize("name", [name for name in HERE if name not in REPEATED])
def test_an_exported_loss_takes_any_size(name):
    class Program(torch.nn.Module):
        def forward(self, *x):
            return tuple(results(name, x))

    n = torch.export.Dim("n", min=3, max=4096)
    given = inputs(name, 6)
    sizes = (
        {k: n + (size - 6) if size != 6 else n for k, size in changing.items()}
        for changing in sizes_of_samples(name)
    )
    dynamic = replace(given, sizes)
    program = torch.export.export(Program(), given, dynamic_shapes=(dynamic,)).module()
    for size in (3, 9, large(name)):
        close_to_eager(program, name, inputs(name, size))
