"""Programs on several ranks, in real processes: how a test starts them, and how they run."""

import os
import sys
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist

from tests.processes import python


def launch(world: int, module: str, *programs: str) -> None:
    """Run programs of a module, one after the other, on several ranks; they must all succeed."""
    call = ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={world}"]
    done = python(*call, "-m", module, *programs)
    assert done.returncode == 0, done.stderr[:6000]


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
