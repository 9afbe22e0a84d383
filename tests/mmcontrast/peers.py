"""Other libraries, where they are installed, and that ours gives their numbers."""

import importlib
import sys
import types
import warnings

import pytest
import torch


def peer(name):
    """A peer's module, imported with its own warnings out of the way."""
    # torchvision's operators are not registered beside a CPU build of torch, and nothing here
    # needs them: this empty module stands in for the one that would look for them.
    sys.modules.setdefault("torchvision._meta_registrations", types.ModuleType("_meta"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return importlib.import_module(name)
        except ModuleNotFoundError as error:
            pytest.skip(f"{name} is not installed: {error}")


def same_value_and_gradient(ours, theirs, *inputs):
    results = []
    for loss in (ours, theirs):
        leaves = [x.detach().clone().requires_grad_() for x in inputs]
        value = loss(*leaves)
        results.append((value.detach(), *torch.autograd.grad(value, leaves)))
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-12)
