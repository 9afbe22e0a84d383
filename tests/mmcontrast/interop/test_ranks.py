"""The adapters on several ranks, in real processes."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


def launch(world, module, *programs):
    """Run programs of a module beside this one, one after the other, on several ranks."""
    call = ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={world}"]
    return subprocess.run(
        [sys.executable, *call, "-m", f"tests.mmcontrast.interop.{module}", *programs],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


PEERS = {"open_clip": ["clip", "sig_lip"], "pytorch_metric_learning": ["metric_learning"]}


@pytest.mark.slow
def test_losses():
    """Ours as one process, as open_clip's, and in pytorch-metric-learning's wrappers."""
    absent = [name for name in PEERS if importlib.util.find_spec(name) is None]
    compared = [name for peer in PEERS if peer not in absent for name in PEERS[peer]]
    done = launch(3, "rank_programs", "whole", "sizes", "ranking", *compared)
    assert done.returncode == 0, done.stderr[-3000:]
    if absent:
        pytest.skip(f"{' and '.join(absent)} not installed: what does without them passed")


@pytest.mark.slow
def test_hf_trainer():
    """Two processes with labels, whose count would otherwise multiply the loss by two."""
    pytest.importorskip("accelerate")
    done = launch(2, "hf_programs")
    assert done.returncode == 0, done.stderr[-3000:]
