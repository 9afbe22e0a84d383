"""What the torch at hand can do, found by doing it. No test asks for a version.

A test calls :func:`need` with a function of this file, and is skipped by its words where it fails.
"""

import functools
import multiprocessing
import os
from collections import OrderedDict
from collections.abc import Callable, ItemsView, KeysView

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

CANNOT = "this torch cannot "
FAILURES = (RuntimeError, AssertionError, AttributeError, ImportError)


@functools.cache
def can(attempt: Callable[[], object]) -> bool:
    """Whether it ends without an error."""
    try:
        attempt()
    except FAILURES:
        return False
    return True


def need(attempt: Callable[[], object], *, anew: bool = False) -> None:
    """Skip the test that calls this, unless the attempt ends without an error.

    ``anew``: whether it is made each time, for what a process can at first and later not.
    """
    if not (can.__wrapped__ if anew else can)(attempt):
        pytest.skip(f"{CANNOT}{attempt.__doc__}")


def autograd_of_fake_cuda_tensors() -> None:
    """differentiate fake CUDA tensors, where there is no GPU"""
    if not torch.cuda.is_available():
        # A build without CUDA would end in a segmentation fault. One with it would fail only after
        # autograd has started its threads for devices, and no later test could fork.
        raise RuntimeError("no GPU")
    with FakeTensorMode():
        torch.ones(1, device="cuda", requires_grad=True).sum().backward()


def autograd_in_a_fork() -> None:
    """run autograd in a fork, once a fake tensor had a gradient"""
    # A build for CUDA has then started autograd's threads for devices, which no fork has.
    process = multiprocessing.get_context("fork").Process(target=_backward)
    process.start()
    process.join()
    if process.exitcode:
        raise RuntimeError(f"exit {process.exitcode}")


def _backward() -> None:
    try:
        torch.ones(1, requires_grad=True).sum().backward()
    except RuntimeError:
        os._exit(1)


class _Upper(OrderedDict[str, torch.Tensor]):
    def __iter__(self):
        return iter([name.upper() for name in super().__iter__()])

    def keys(self):
        return KeysView(self)

    def items(self):
        return ItemsView(self)

    def __getitem__(self, name):
        return super().__getitem__(name.lower())


def compiled_unpacking_by_keys() -> None:
    """compile `{**x}`, where the class of `x` has its own `keys`"""

    def call(x: torch.Tensor) -> dict[str, torch.Tensor]:
        return {**_Upper(a=x)}

    assert list(torch.compile(call, fullgraph=True, backend="eager")(torch.ones(1))) == ["A"]
