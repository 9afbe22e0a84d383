"""Gathering, sums and parameters over ranks: what test_distributed.py runs there, by name."""

import os

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

import mmcontrast as mm
from mmcontrast import distributed
from mmcontrast.reductions import Reduction
from tests.ranks import run

SIZES = {2: [3, 5], 3: [4, 0, 6], 4: [2, 3, 0, 4]}


def batch(rank, world, dtype=torch.float64):
    """Rows of every rank, drawn alike everywhere, and which are this rank's."""
    source = torch.Generator().manual_seed(3)
    sizes = SIZES[world]
    x = torch.randn(sum(sizes), 4, dtype=dtype, generator=source)
    y = torch.randn(sum(sizes), 4, dtype=dtype, generator=source)
    start = sum(sizes[:rank])
    return x, y, slice(start, start + sizes[rank])


def gathered_in(call):
    """How often the ranks gather something in a call."""
    calls, gather = [], dist.all_gather

    def counting(*args, **options):
        calls.append(args)
        return gather(*args, **options)

    dist.all_gather = counting
    try:
        call()
    finally:
        dist.all_gather = gather
    return len(calls)


def rows(rank, world):
    x, _, own = batch(rank, world)
    for values in (x, x.float(), x > 0, (x * 10).long(), x.bfloat16(), x[:, 0], x[:, :, None]):
        got = mm.gather(values[own].clone())
        assert got.dtype == values.dtype
        assert torch.equal(got, values), values.dtype
    assert not mm.gather(x[own].clone()).requires_grad


def gradients(rank, world):
    """Each rank's own loss of all rows; a row's gradient is the sum over the ranks' losses."""
    x, y, own = batch(rank, world)
    leaf = x[own].clone().requires_grad_()
    every = mm.gather(leaf)
    (every * y * (rank + 1)).sum().backward()
    expected = y[own] * sum(range(1, world + 1))
    torch.testing.assert_close(leaf.grad, expected)


def second_derivatives(rank, world):
    """Of gathered rows and of a sum over ranks, as of one process."""
    x, y, own = batch(rank, world)

    def loss(rows, every, add):
        return add((rows.sin() * every.square().sum(0)).sum())

    whole = x.clone().requires_grad_()
    (first,) = torch.autograd.grad(loss(whole, whole, lambda v: v), whole, create_graph=True)
    (second,) = torch.autograd.grad((first * y).sum(), whole)
    leaf = x[own].clone().requires_grad_()
    value = loss(leaf, mm.gather(leaf), lambda v: distributed.total(v, "world"))
    # What every rank returns is the whole loss: their sum is the number of ranks times it.
    (got,) = torch.autograd.grad(value / world, leaf, create_graph=True)
    torch.testing.assert_close(got, first[own], rtol=1e-12, atol=1e-12)
    (got,) = torch.autograd.grad((got * y[own]).sum(), leaf)
    torch.testing.assert_close(got, second[own], rtol=1e-12, atol=1e-12)


def reductions(rank, world):
    """Means and sums of all ranks' anchors, some of which do not count, with gradients."""
    x, y, own = batch(rank, world)
    counted = x[:, 0] > 0
    for weight in (None, y[:, 1].abs()):
        for columns in (slice(0, 1), slice(0, 3)):
            for reduction in ("mean", "sum", "none"):
                whole, leaf = (rows.clone().requires_grad_() for rows in (x, x[own]))
                every, here = whole[:, columns].sin(), leaf[:, columns].sin()
                mask = counted[:, None].expand(every.shape)
                expected = Reduction(reduction, weight).reduce(every, mask)
                kept = None if weight is None else weight[own]
                got = Reduction(reduction, kept, "world").reduce(here, mask[own])
                none = reduction == "none"
                torch.testing.assert_close(got, expected[own] if none else expected)
                if not none:
                    expected.backward()
                    (got / world).backward()
                    torch.testing.assert_close(leaf.grad, whole.grad[own], rtol=1e-12, atol=1e-12)
    everyone = Reduction("mean", None, dist.group.WORLD)
    nobody = everyone.reduce(x[own, 0], counted[own] & False)
    assert nobody == 0


def samples(rank, world):
    """Losses within a sample: the means are the whole batch's where the ranks are not alike."""
    x, y, own = batch(rank, world)
    maps = {"text": x, "audio": y, "vision": x * y}
    others = {name: rows.flip(0) for name, rows in maps.items()}
    here = {"audio": x[:, 1] > 0}
    losses = {
        "kl_distill": lambda rows, i, **group: mm.kl_distill(rows, y[i], mask=y[i, 0] > 0, **group),
        "triplet": lambda rows, i, **group: mm.triplet(
            rows, y[i], x[i].flip(1), keep=y[i, 0] > 0, weight=x[i, 0].abs(), **group
        ),
        "modality_correlation_triplet": lambda rows, i, **group: (
            mm.modality_correlation_triplet(
                {**{name: m[i] for name, m in maps.items()}, "text": rows},
                {name: m[i] for name, m in others.items()},
                present={name: m[i] for name, m in here.items()},
                **group,
            ).total
        ),
    }
    everybody = slice(0, len(x))
    for name, loss in losses.items():
        for reduction in ("mean", "sum"):
            whole, leaf = (rows.clone().requires_grad_() for rows in (x, x[own]))
            expected = loss(whole, everybody, reduction=reduction)
            got = loss(leaf, own, reduction=reduction, group="world")
            torch.testing.assert_close(got, expected, rtol=1e-12, atol=1e-12, msg=name)
            expected.backward()
            (got / world).backward()
            torch.testing.assert_close(leaf.grad, whole.grad[own], rtol=1e-12, atol=1e-12, msg=name)


def retrieved(rank, world):
    """Ranks among all ranks' candidates, and means over all ranks' anchors."""
    x, y, own = batch(rank, world)
    mask = (x @ y.T) > 1
    for whole, mine in (
        (mm.retrieval(x, y, ks=(1, 3)), mm.retrieval(x[own], y[own], ks=(1, 3), group="world")),
        (
            mm.retrieval(x, y, positives=mask),
            mm.retrieval(x[own], y[own], positives=mask[own], group="world"),
        ),
    ):
        for name in ("ranks", "average_precision", "counted"):
            torch.testing.assert_close(getattr(mine, name), getattr(whole, name)[own])
        torch.testing.assert_close(mine[3:], whole[3:], rtol=1e-12, atol=0)


def cached(rank, world):
    """GradCache around a loss of all ranks' rows: the gradient of one process on the batch."""
    x, y, own = batch(rank, world)
    results = []
    for group, i in ((None, slice(0, len(x))), ("world", own)):
        torch.manual_seed(0)
        towers = {"x": nn.Linear(4, 3).double(), "y": nn.Linear(4, 3).double()}
        cache = mm.GradCache(
            towers,
            lambda z, group=group: mm.symmetric_info_nce(z["x"], z["y"], group=group),
            chunk_size=2,
        )
        value = cache({"x": x[i], "y": y[i]})
        gradients = [p.grad for tower in towers.values() for p in tower.parameters()]
        results.append((value, gradients))
    (expected, alone), (value, many) = results
    torch.testing.assert_close(value, expected, rtol=1e-12, atol=1e-12)
    for mine, truth in zip(many, alone, strict=True):
        mean = distributed.total(mine, "world") / world
        torch.testing.assert_close(mean, truth, rtol=1e-12, atol=1e-12)


def dies(rank, world):
    """A rank that is gone is an error on the others, long before any timeout."""
    x, _, own = batch(rank, world)
    mm.gather(x[own])
    if rank == 1:
        os._exit(0)
    with pytest.raises(RuntimeError):
        distributed.total(mm.gather(x[own]), "world")
    os._exit(0)


def outsiders(rank, world):
    """A group is only for those who are in it."""
    inside = dist.new_group([0])
    if rank == 0:
        assert distributed.active(inside) is None
    else:
        with pytest.raises(ValueError, match="a process group that this rank is in, got"):
            mm.gather(torch.zeros(2, 2), inside)


def parameters(rank, world):
    """DistributedDataParallel with gathered rows has the gradient of one process on the batch."""
    x, y, own = batch(rank, world)

    def towers():
        torch.manual_seed(0)
        return nn.ModuleDict({"x": nn.Linear(4, 3), "y": nn.Linear(4, 3)}).double()

    class Loss(nn.Module):
        def __init__(self, gathered):
            super().__init__()
            self.towers, self.gathered = towers(), gathered

        def forward(self, x, y):
            pair = self.towers["x"](x), self.towers["y"](y)
            if self.gathered:
                pair = tuple(map(mm.gather, pair))
            return mm.symmetric_info_nce(*pair, temperature=0.1)

    alone = Loss(False)
    expected = alone(x, y)
    expected.backward()
    many = DistributedDataParallel(Loss(True))
    loss = many(x[own], y[own])
    loss.backward()
    torch.testing.assert_close(loss, expected, rtol=1e-12, atol=1e-12)
    for one, other in zip(alone.parameters(), many.parameters(), strict=True):
        torch.testing.assert_close(other.grad, one.grad, rtol=1e-12, atol=1e-12)


def disagree(rank, world):
    """Rows that do not fit together are refused on every rank, and none of them waits."""
    for own in (torch.zeros(2, 3 + rank), torch.zeros(2, 3, dtype=torch.float64).to(DTYPES[rank])):
        with pytest.raises(ValueError, match="expected rows of one shape and dtype on every rank"):
            mm.gather(own)


NAMES = {
    "another name": (["text", "audio"], ["text", "vision"]),
    "another order": (["text", "audio"], ["audio", "text"]),
    "one more": (["text", "audio"], ["text", "audio", "vision"]),
    "one alone": (["text", "audio"], ["text"]),
    "none": (["text", "audio"], []),
}


def modalities_disagree(rank, world):
    """Every loss of a mapping refuses other names, or another order, on every rank alike."""
    labels = torch.arange(4) % 2
    losses = {
        "anchored_info_nce": lambda f: mm.anchored_info_nce(f, group="world"),
        "semi_contrast": lambda f: mm.semi_contrast(f, group="world"),
        "intra_modal_contrast": lambda f: mm.intra_modal_contrast(f, labels, group="world"),
        "inter_modal_contrast": lambda f: mm.inter_modal_contrast(f, labels, group="world"),
        "hybrid_contrast": lambda f: mm.hybrid_contrast(f, labels, group="world").total,
        "modality_correlation_triplet": lambda f: mm.modality_correlation_triplet(
            f, {name: x + 1 for name, x in f.items()}, group="world"
        ),
        "multilevel_contrast": lambda f: mm.multilevel_contrast(
            {name: [(x, x)] for name, x in f.items()}, group="world"
        ),
    }
    for names in NAMES.values():
        features = {name: torch.eye(4) for name in names[rank]}
        for name, loss in losses.items():
            with pytest.raises(ValueError, match="the same names in the same order") as error:
                loss(features)
            assert "on rank 0, [" in str(error.value), name
            assert str(error.value).endswith("on rank 1")
            if name != "multilevel_contrast":
                found = f"got {names[0]} on rank 0, {names[1]} on rank 1"
                assert str(error.value).startswith("features: expected")
                assert found in str(error.value)


def containers_disagree(rank, world):
    """What is no mapping on one rank, and levels of other lengths, are refused on all of them."""
    features = {"text": torch.eye(4), "audio": torch.eye(4)}
    with pytest.raises(ValueError, match=r"got \['text', 'audio'\] on rank 0, Tensor on rank 1"):
        mm.semi_contrast((features, torch.eye(4))[rank], group="world")
    pairs = [(torch.eye(4), torch.eye(4))] * (1 + rank)
    with pytest.raises(ValueError, match=r"got .'a: 1 pairs', 'b'. on rank 0, .'a: 2 pairs', 'b'"):
        mm.multilevel_contrast({"a": pairs, "b": lambda: pairs}, group="world")


DTYPES = (torch.float32, torch.float64)


def groups(rank, world):
    """Two groups of one process each, and one of all."""
    own = [dist.new_group([r]) for r in range(world)][rank]
    x = torch.full((2, 2), float(rank))
    assert mm.gather(x, own) is x
    assert distributed.joined(x, own)[0] is x
    assert distributed.total(x, own) is x
    y = torch.eye(2)
    assert torch.equal(mm.info_nce(x, y, group=own), mm.info_nce(x, y))
    assert torch.equal(mm.gather(x)[:, 0], torch.arange(world).float().repeat_interleave(2))


if __name__ == "__main__":
    run(globals())
