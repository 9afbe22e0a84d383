"""Programs on several ranks, in real processes: how a test starts them, and how they run."""

import os
import sys
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist

from tests.forks import Forks


def launch(world: int, module: str, *programs: Any, timeout: float = 300) -> None:
    """Run programs of a module, one after the other, on several ranks; they must all succeed.

    Each rank is a new process that starts with torch imported, and sees what `torchrun` sets.
    """
    # Here, as `torchrun` has it: a port that a rank opened could be another's by then.
    store = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    together = {
        "WORLD_SIZE": str(world),
        "LOCAL_WORLD_SIZE": str(world),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(store.port),
        "TORCHELASTIC_USE_AGENT_STORE": "True",
    }
    forks = Forks()
    for rank in range(world):
        forks.start(module, *programs, RANK=str(rank), LOCAL_RANK=str(rank), **together)
    failed = forks.wait(timeout)
    assert not failed, "\n".join(f"rank {rank}: {said}" for rank, said in failed.items())


def run(programs: Mapping[str, Any]) -> None:
    """What such a module does as a command: the programs named, each with rank and world size."""
    # No test waits for the timeout: a rank that is gone is seen at once.
    dist.init_process_group("gloo", timeout=timedelta(minutes=5))
    torch.set_num_threads(1)
    for name in sys.argv[1:]:
        sys.stderr.write(f"{name}\n")
        programs[name](dist.get_rank(), dist.get_world_size())
    dist.barrier()
    # What threads of torch are left may abort while the interpreter goes down.
    os._exit(0)
