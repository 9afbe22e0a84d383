"""What the torch at hand can do, found by doing it. No test asks for a version.

A test that needs something of this list is skipped by its name where it fails.
"""

from collections.abc import Callable

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode


def can(attempt: Callable[[], object]) -> bool:
    """Whether it ends without an error."""
    try:
        attempt()
    except (RuntimeError, AssertionError, AttributeError, ImportError):
        return False
    return True


def needs(name: str, attempt: Callable[[], object]) -> pytest.MarkDecorator:
    return pytest.mark.skipif(not can(attempt), reason=f"not with this torch: {name}")


def fake_cuda() -> None:
    """Its backward pass asks for a GPU, although nothing is computed."""
    if not torch.backends.cuda.is_built():
        raise RuntimeError(
            "without CUDA in the build the process would end in a segmentation fault"
        )
    with FakeTensorMode():
        torch.ones(1, device="cuda", requires_grad=True).sum().backward()


needs_fake_cuda = needs("autograd on fake CUDA tensors", fake_cuda)
every_fake_device = pytest.mark.parametrize(
    "device", ["meta", pytest.param("cuda", marks=needs_fake_cuda)]
)
