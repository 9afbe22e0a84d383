"""Batches larger than memory over ranks: what test_gradcache.py runs there, by name."""

from contextlib import ExitStack
from functools import partial

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import allreduce_hook
from torch.nn.parallel import DistributedDataParallel

import mmcontrast as mm
from tests.ranks import run

SIZES = {2: [3, 5], 3: [4, 0, 3]}
TEMPERATURE = 0.3


def batch(rank, world, seed=3):
    """All rows of two modalities, and those of this rank."""
    source = torch.Generator().manual_seed(seed)
    sizes = SIZES[world]
    whole = {k: torch.randn(sum(sizes), 4, generator=source).double() for k in ("x", "y")}
    start = sum(sizes[:rank])
    return whole, {k: x[start : start + sizes[rank]] for k, x in whole.items()}


def tower(seed):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3)).double()


def counted(model):
    """In DistributedDataParallel, with a list that grows by one an all-reduce of all gradients."""
    model = DistributedDataParallel(model)
    calls = []

    def hook(state, bucket):
        if bucket.is_last():
            calls.append(bucket.index())
        return allreduce_hook(state, bucket)

    model.register_comm_hook(None, hook)
    return model, calls


def plain(features):
    return mm.symmetric_info_nce(features["x"], features["y"], temperature=TEMPERATURE)


def gathered(features):
    return plain({name: mm.gather(x) for name, x in features.items()})


def within(features, group=None):
    """A loss within the sample: the ranks have only the mean in common."""
    x, y = features["x"], features["y"]
    return mm.triplet(x, y, x.flip(1), margin=2.0, group=group)


def same_gradients(model, alone):
    for one, other in zip(alone.parameters(), model.parameters(), strict=True):
        torch.testing.assert_close(other.grad, one.grad, rtol=1e-12, atol=1e-12)


def one_process(encoders, inputs, loss=plain):
    value = loss({name: encoders[name](x) for name, x in inputs.items()})
    value.backward()
    return value


def towers(rank, world, loss=gathered, alone_loss=plain):
    """An encoder for each modality, in three steps: the buckets are rebuilt after the first."""
    many = {name: counted(tower(k)) for k, name in enumerate(("x", "y"))}
    alone = {name: tower(k) for k, name in enumerate(("x", "y"))}
    cache = mm.GradCache({k: model for k, (model, _) in many.items()}, loss, chunk_size=2)
    for seed in range(3):
        whole, own = batch(rank, world, seed)
        expected = one_process(alone, whole, alone_loss)
        torch.testing.assert_close(cache(own), expected.detach(), rtol=1e-12, atol=1e-12)
        for name, (model, calls) in many.items():
            assert len(calls) == seed + 1
            same_gradients(model, alone[name])


def group(rank, world):
    """The loss has the group itself."""
    towers(rank, world, partial(within, group="world"), within)


def shared(rank, world):
    """One encoder for both, once itself and once inside a module."""

    class Inside(nn.Module):
        def __init__(self, model):
            super().__init__()
            self.model = model

        def forward(self, x):
            return 2 * self.model(x)

    model, calls = counted(tower(0))
    alone = tower(0)
    whole, own = batch(rank, world)
    one_process({"x": alone, "y": lambda x: 2 * alone(x)}, whole)
    mm.GradCache({"x": model, "y": Inside(model)}, gathered, chunk_size=1)(own)
    assert len(calls) == 1
    same_gradients(model, alone)


def accumulated(rank, world):
    """The caller's own no_sync is kept: two batches, one all-reduce."""
    many = {name: counted(tower(k)) for k, name in enumerate(("x", "y"))}
    alone = {name: tower(k) for k, name in enumerate(("x", "y"))}
    cache = mm.GradCache({k: model for k, (model, _) in many.items()}, gathered, chunk_size=2)
    first, second = (batch(rank, world, seed) for seed in (1, 2))
    with ExitStack() as stack:
        for model, _ in many.values():
            stack.enter_context(model.no_sync())
        cache(first[1])
    assert not any(calls for _, calls in many.values())
    cache(second[1])
    one_process(alone, first[0])
    one_process(alone, second[0])
    for name, (model, calls) in many.items():
        assert len(calls) == 1
        same_gradients(model, alone[name])


class Pair(nn.Module):
    """Two towers and a learned temperature in one model."""

    def __init__(self):
        super().__init__()
        self.x, self.y = tower(0), tower(1)
        self.log_temperature = nn.Parameter(torch.tensor(-1.0, dtype=torch.float64))

    def forward(self, inputs):
        return {
            "x": self.x(inputs["x"]),
            "y": self.y(inputs["y"]),
            "temperature": self.log_temperature.exp(),
        }


def together(rank, world):
    """One model that encodes both; its temperature comes out beside the representations."""

    def loss(features):
        found = dict(features["pair"])
        temperature = found.pop("temperature")
        pair = (mm.gather(x) if gathers else x for x in found.values())
        return mm.symmetric_info_nce(*pair, temperature=temperature)

    model, calls = counted(Pair())
    alone = Pair()
    whole, own = batch(rank, world)
    gathers = False
    loss({"pair": alone(whole)}).backward()
    gathers = True
    mm.GradCache({"pair": model}, loss, chunk_size=2)({"pair": own})
    assert len(calls) == 1
    same_gradients(model, alone)


def frozen(rank, world):
    """Beside an encoder without gradients; and the other modality's rows are more."""
    model, calls = counted(tower(0))
    fixed, alone = tower(1).requires_grad_(False), tower(0)
    whole, own = batch(rank, world)
    one_process({"x": alone, "y": fixed}, whole)
    mm.GradCache({"y": fixed, "x": model}, gathered, chunk_size={"x": 2, "y": 3})(own)
    assert len(calls) == 1
    same_gradients(model, alone)


def buffers(rank, world):
    """Running statistics are sent once a step, whatever the number of micro-batches by rank."""

    def normed():
        return nn.Sequential(tower(0), nn.BatchNorm1d(3).double())

    model, calls = counted(normed())
    twin = normed()
    cache = mm.GradCache({"x": model, "y": model}, gathered, chunk_size=3)
    for seed in range(2):
        _, own = batch(rank, world, seed)
        cache(own)
        twin.load_state_dict(agreed(twin))  # as at the beginning of the forward pass
        with torch.no_grad():
            for x in own.values():
                for part in x.split(3):
                    twin(part)
        for name, x in twin.named_buffers():
            assert torch.equal(dict(model.module.named_buffers())[name], x), name
    assert len(calls) == 2


def agreed(module):
    """The state of the first rank."""
    states = [module.state_dict()]
    dist.broadcast_object_list(states, src=0)
    return states[0]


if __name__ == "__main__":
    run(globals())
