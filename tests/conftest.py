"""Settings that every test shares, and the folder of real data where there is one."""

import gc
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from tests import examples
from tests.capabilities import autograd_in_a_fork, autograd_of_fake_cuda_tensors, need

# No test asks a model hub for anything; a name that is not on this machine shall fail at once.
os.environ.setdefault("HF_HUB_OFFLINE", "1")

examples.register()


def pytest_collection_finish() -> None:
    """All tests and modules stay to the end: the collector of garbage need not visit them again."""
    gc.collect()
    gc.freeze()


@pytest.fixture
def generator() -> torch.Generator:
    """One source of random numbers a test, the same on every run."""
    return torch.Generator().manual_seed(20240607)


@pytest.fixture(params=["meta", "cuda"])
def fake_device(request: pytest.FixtureRequest) -> str:
    """Where fake tensors lie that are not on the CPU."""
    if request.param == "cuda":
        need(autograd_of_fake_cuda_tensors)
    return request.param


@pytest.fixture(scope="module")
def no_plugins() -> Iterator[None]:
    """For tests that start pytest on a toy: the plugins of libraries are not even imported."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
        yield


@pytest.fixture
def a_fork() -> None:
    """For tests that fork a process in which there is a backward pass."""
    need(autograd_in_a_fork, anew=True)


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """The real data: the folder MMCONTRAST_DATA names, else shared/data beside the checkout."""
    beside = Path(__file__).resolve().parents[2] / "shared" / "data"
    folder = Path(os.environ.get("MMCONTRAST_DATA", beside))
    if not folder.is_dir():
        pytest.skip(f"the data folder is absent: {folder}; set MMCONTRAST_DATA to run these tests")
    return folder
