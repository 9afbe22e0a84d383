"""Two towers and a loss that learns, in wrappers over two ranks: what test_learned.py runs."""

from functools import partial

import torch
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FullyShardedDataParallel, fully_shard
from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module
from torch.nn.parallel import DistributedDataParallel

import mmcontrast as mm
from tests.mmcontrast.strategies import normal
from tests.ranks import run

SIZES = [3, 5]
STEPS = 4


class Towers(nn.Module):
    """Two encoders of their own parameters, drawn alike everywhere."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.x, self.y = (
            nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3)).double() for _ in "xy"
        )

    def forward(self, x, y):
        return self.x(x), self.y(y)


class WithLoss(nn.Module):
    """A model whose output is its loss."""

    def __init__(self, loss):
        super().__init__()
        self.towers, self.loss = Towers(), loss

    def forward(self, x, y):
        return self.loss(*self.towers(x, y))


def learned_temperature(group=None):
    return mm.SymmetricInfoNCE(temperature=mm.LearnableTemperature(0.3), group=group).double()


def sigmoid(group=None):
    return mm.SigmoidContrast(temperature=0.3, bias=-2.0, group=group).double()


def distance(group=None):
    return mm.RankNContrast(distance=mm.Mahalanobis.learned(3), group=group).double()


LOSSES = (learned_temperature, sigmoid)


def whole_parameters(model):
    """By name, from wherever they are sharded."""
    if isinstance(model, FullyShardedDataParallel):
        with FullyShardedDataParallel.summon_full_params(model):
            found = [(name, x.detach().clone()) for name, x in model.named_parameters()]
    else:
        found = list(model.named_parameters())
    marks = ("_fsdp_wrapped_module.", "module.")
    names = [name for name, _ in found]
    for mark in marks:
        names = [name.replace(mark, "") for name in names]
    tensors = [x.full_tensor() if hasattr(x, "full_tensor") else x for _, x in found]
    return dict(zip(names, tensors, strict=True))


def trained(model, rows, value=None):
    """The parameters after a few steps on some rows of the same batches."""
    # One by one: sharded and plain parameters do not share a step.
    optimizer = torch.optim.Adam(model.parameters(), 0.05, foreach=False)
    for step in range(STEPS):
        optimizer.zero_grad()
        batch = (normal(2 * step + k, sum(SIZES), 4)[rows] for k in (0, 1))
        (value or model)(*batch).backward()
        optimizer.step()
    return whole_parameters(model)


def expected(make):
    """Those of one process, which have all moved."""
    found, begun = trained(WithLoss(make()), slice(None)), dict(WithLoss(make()).named_parameters())
    assert all((x - begun[name]).abs().max() > 0.01 for name, x in found.items())
    return found


def same(found, truth):
    assert found.keys() == truth.keys()
    for name, x in truth.items():
        torch.testing.assert_close(found[name], x, rtol=1e-10, atol=1e-10, msg=name)


def own_rows(rank):
    return slice(sum(SIZES[:rank]), sum(SIZES[: rank + 1]))


def inside(rank, world, wrap=DistributedDataParallel):
    """The loss is part of what is wrapped."""
    for make in LOSSES:
        same(trained(wrap(WithLoss(make("world"))), own_rows(rank)), expected(make))


def outside(rank, world, wrap=DistributedDataParallel):
    """The towers alone are wrapped, and the loss stands beside them."""
    for make in LOSSES:
        model = WithLoss(make("world"))
        model.towers = wrap(model.towers)
        same(trained(model, own_rows(rank)), expected(make))


def fsdp2(rank, world):
    """At the root, in parts, around the loss itself, and around the towers alone."""
    shard = partial(fully_shard, mesh=init_device_mesh("cpu", (world,)))

    def in_parts(model):
        for part in (model.towers.x, model.towers.y, model.loss):
            shard(part)
        return shard(model)

    inside(rank, world, shard)
    inside(rank, world, in_parts)
    outside(rank, world, shard)


def fsdp1(rank, world):
    def wrap(model):
        return FullyShardedDataParallel(model, use_orig_params=True, device_id=torch.device("cpu"))

    inside(rank, world, wrap)


def tensor_parallel(rank, world):
    """Both ranks have all rows, and a part of each layer; the rows that come out are whole."""
    mesh = init_device_mesh("cpu", (world,))
    plan = {f"{tower}.0": ColwiseParallel() for tower in "xy"}
    plan |= {f"{tower}.2": RowwiseParallel() for tower in "xy"}
    for make in LOSSES:
        model = WithLoss(make())
        parallelize_module(model.towers, mesh, plan)
        same(trained(model, slice(None)), expected(make))


if __name__ == "__main__":
    run(globals())
