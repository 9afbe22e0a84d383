"""A model that returns LossTerms, wrapped over two ranks: what interop/test_containers.py runs."""

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
from torch.nn.parallel import DistributedDataParallel

import mmcontrast as mm
from tests.ranks import run

STEPS, HALF = 3, 4


class Model(nn.Module):
    """Three heads on one trunk; the parameters of one with weight 0 take no part in the total."""

    def __init__(self, off):
        super().__init__()
        self.weights = {"semi": 0.3, "off": off}
        source = torch.Generator().manual_seed(5)
        self.trunk = nn.Linear(3, 4)
        self.heads = nn.ModuleDict({name: nn.Linear(4, 2) for name in ("task", "semi", "off")})
        with torch.no_grad():
            for value in self.parameters():
                value.copy_(torch.randn(value.shape, generator=source))

    def forward(self, x):
        hidden = self.trunk(x).tanh()
        found = {name: head(hidden).square().mean() for name, head in self.heads.items()}
        return mm.LossTerms(found, self.weights)


def trained(off, wrap=lambda model: model, part=slice(None)):
    """Parameters and totals of a few steps on a part of the same batches."""
    source = torch.Generator().manual_seed(7)
    model = wrap(Model(off).double())
    optimizer = torch.optim.SGD(model.parameters(), 0.2)
    totals = []
    for _ in range(STEPS):
        batch = torch.randn(2 * HALF, 3, dtype=torch.float64, generator=source)
        optimizer.zero_grad()
        terms = model(batch[part])
        assert type(terms) is mm.LossTerms
        assert terms.weights == {"task": 1, "semi": 0.3, "off": off}
        terms.total.backward()
        optimizer.step()
        totals.append(terms.total.detach().double())
    return {name.removeprefix("module."): x for name, x in model.named_parameters()}, totals


def same(rank, wrap, off=0.0, tolerance=1e-12):
    """Two halves of a batch on two ranks are the whole batch in one process."""
    expected, whole = trained(off)
    found, totals = trained(off, wrap, slice(HALF * rank, HALF * (rank + 1)))
    for mine, total in zip(totals, whole, strict=True):
        dist.all_reduce(mine)
        torch.testing.assert_close(mine / 2, total, rtol=tolerance, atol=tolerance)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        mine = found[name]
        mine = mine.full_tensor() if hasattr(mine, "full_tensor") else mine
        torch.testing.assert_close(mine, value, rtol=tolerance, atol=tolerance)
    assert not torch.equal(expected["trunk.weight"], Model(off).double().trunk.weight)


def ddp(rank, world):
    """Searching for unused parameters, with a graph that never changes, or neither."""

    def searching(model):
        return DistributedDataParallel(model, find_unused_parameters=True)

    same(rank, searching)
    same(rank, searching, off=0.7)
    same(rank, lambda model: DistributedDataParallel(model, static_graph=True), off=0.7)
    same(rank, DistributedDataParallel, off=0.7)


def fsdp(rank, world):
    """The root alone, its parts too, and outputs that are cast."""
    mesh = init_device_mesh("cpu", (world,))
    same(rank, lambda model: fully_shard(model, mesh=mesh))

    def parts(model):
        for head in model.heads.values():
            fully_shard(head, mesh=mesh)
        return fully_shard(model, mesh=mesh)

    same(rank, parts)
    policy = MixedPrecisionPolicy(output_dtype=torch.float32)
    same(rank, lambda model: fully_shard(model, mesh=mesh, mp_policy=policy), tolerance=1e-5)


if __name__ == "__main__":
    run(globals())
