"""Which way HyCon's losses are evaluated; under a compiler, as an operator."""

from contextlib import contextmanager

import pytest
import torch
from torch._dynamo.testing import CompileCounterWithBackend
from torch._subclasses.fake_tensor import FakeTensorMode

import mmcontrast as mm
from mmcontrast.hybrid import contrasts
from tests.mmcontrast.hybrid.evaluations import by_pairs, loss, sizes
from tests.mmcontrast.strategies import (
    close,
    gradients,
    labels,
    mask,
    modalities,
    normal,
    of_any_rows,
)


@contextmanager
def refused():
    """Moments may not be asked."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            contrasts, "values_by_moments", lambda *_, **__: pytest.fail("moments were asked")
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


def test_transforms_and_fake_tensors_take_the_pairs():
    features, classes = modalities(1, 30, 3), labels(1, 30)
    function, inputs = loss(features, classes)
    value, expected = gradients(function, *inputs)
    with sizes(), refused():
        found = torch.func.grad(function, argnums=(0, 1, 2))(*inputs)
        for gradient, reference in zip(found, expected, strict=True):
            close(gradient, reference)
        together = torch.vmap(function)(*[torch.stack([x, x]) for x in inputs])
        close(together, value.expand(2))
        with FakeTensorMode(allow_non_fake_inputs=True):
            there = [torch.empty(30, 3, device="meta", requires_grad=True) for _ in inputs]
            fake = mm.hybrid_contrast(
                dict(zip(features, there, strict=True)), torch.empty(30, device="meta")
            )
            assert fake.total.device.type == "meta"
            torch.autograd.grad(fake.total, there)


# --- under a compiler ----------------------------------------------------------------------------

OPERATOR = torch.ops.mmcontrast.values_by_label.default
SLOPE = torch.ops.mmcontrast.values_by_label_slope.default


# The check itself reads it, of its copies of the inputs.
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")
def test_the_operators_do_what_they_say_to_compilers():
    x = normal(1, 7, 3, 4).requires_grad_()
    here, classes = mask(1, 7, 3), torch.arange(7) % 3
    aims = torch.tensor([1.0, 0.8])
    given = x, here, classes, 0, "intra inter", aims, True, False, 1, ""
    torch.library.opcheck(OPERATOR, given)
    upstream = normal(2, 7, 2 * len(aims), 3)
    torch.library.opcheck(SLOPE, (upstream, *(torch.detach(x), *given[1:])))


def own_map(x):
    return x.exp() / (1 + x.square().sum(-1, keepdim=True))


@pytest.mark.parametrize("normalize", [mm.softmax_normalize, own_map])
def test_compiled_is_eager_for_all_sizes_after_one_compilation(normalize):
    """Small batches take the pairs and large ones moments, in the same graph.

    The size is marked, as a compiler marks it by itself once a second batch has another.
    """

    def total(x, y, z, classes, here, weight):
        features = {"text": x, "audio": y, "vision": z}
        options = {"normalize": normalize, "weight": weight, "present": {"audio": here}}
        return mm.hybrid_contrast(features, classes, **options).total

    torch._dynamo.reset()
    counter = CompileCounterWithBackend("aot_eager")
    compiled = of_any_rows(torch.compile(total, backend=counter, fullgraph=True))
    for n in (4, 5, 300, 2):
        rows = list(modalities(n, n, 3).values())
        rows[1] = torch.where(mask(n, n)[:, None], rows[1], torch.nan)  # read by nobody
        rest = torch.arange(n) % 3, mask(n, n), normal(n, n).exp()
        value, expected = gradients(lambda *x: 2 * total(*x, *rest), *rows)  # noqa: B023
        found, slopes = gradients(lambda *x: 2 * compiled(*x, *rest), *rows)  # noqa: B023
        close(found, value, rtol=1e-12, atol=1e-14)
        for slope, reference in zip(slopes, expected, strict=True):
            close(slope, reference, rtol=1e-12, atol=1e-14)
    assert counter.frame_count == 1
    assert sum(node.target is OPERATOR for node in counter.graphs[-1].graph.nodes) == 1


def test_an_exported_program_chooses_by_the_batch_that_it_is_run_with():
    class Program(torch.nn.Module):
        def forward(self, x, y, classes):
            features = {"text": x, "audio": y}
            return mm.hybrid_contrast(features, classes, log=True).total

    size = {0: torch.export.Dim("size", min=2, max=4096)}
    given = normal(1, 8, 3), normal(2, 8, 3), torch.arange(8) % 2
    program = torch.export.export(Program(), given, dynamic_shapes=(size,) * 3).module()
    for n in (3, 300):
        x, y = normal(n, n, 3).requires_grad_(), normal(n + 1, n, 3)
        # The second derivative is eager mode's.
        each = []
        for function in (program, Program()):
            value = function(x, y, torch.arange(n) % 2)
            (slope,) = torch.autograd.grad(value, x, create_graph=True)
            each.append((value, slope, *torch.autograd.grad(slope.square().sum(), x)))
        for found, expected in zip(*each, strict=True):
            close(found, expected, rtol=1e-10, atol=1e-13)
