"""The adapters on several ranks, in real processes."""

import importlib.util

import pytest

from tests.ranks import launch

PEERS = {"open_clip": ["clip", "sig_lip"], "pytorch_metric_learning": ["metric_learning"]}


@pytest.mark.slow
def test_losses():
    """Ours as one process, as open_clip's, and in pytorch-metric-learning's wrappers."""
    absent = [name for name in PEERS if importlib.util.find_spec(name) is None]
    compared = [name for peer in PEERS if peer not in absent for name in PEERS[peer]]
    module = "tests.ranks.interop"
    launch(3, module, "whole", "sizes", "ranking", "learned", *compared)
    if absent:
        pytest.skip(f"{' and '.join(absent)} not installed: what does without them passed")


@pytest.mark.slow
def test_hf_trainer():
    """Two processes with labels, whose count would otherwise multiply the loss by two."""
    pytest.importorskip("accelerate")
    launch(2, "tests.mmcontrast.interop.hf_programs")
