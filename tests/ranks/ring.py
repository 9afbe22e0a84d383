"""Candidates that go round the ranks, and one process: what test_ring.py runs, by name."""

import torch
import torch.distributed as dist

import mmcontrast as mm
from mmcontrast import distributed
from mmcontrast.exact import infonce_choice
from mmcontrast.exact import sizes as limits
from mmcontrast.exact.ring import info_nce_on_ring
from mmcontrast.gaps import Variant
from tests.mmcontrast.memory import Made
from tests.ranks import run
from tests.ranks.distributed import batch

CLOSE = {torch.float64: 1e-12, torch.float32: 1e-6}


def near(got, truth, whole=None):
    """Within rounding of the largest entry of all ranks' truth."""
    largest = (truth if whole is None else whole).abs().max()
    torch.testing.assert_close(got, truth, rtol=0, atol=CLOSE[truth.dtype] * float(largest))


def compare(whole, here, loss, alone, own, world, dtype):
    """Values and gradients of this rank's rows, and the mean over ranks of the temperature's."""
    expected = alone(*whole)
    got = loss(*here)
    near(got, expected[own], expected)
    upstream = torch.linspace(-1, 2, len(expected), dtype=dtype)
    ours = torch.autograd.grad((got * upstream[own]).sum(), here)
    truth = torch.autograd.grad((expected * upstream).sum(), whole)
    for mine, all_rows in zip(ours[:2], truth[:2], strict=True):
        near(mine, all_rows[own], all_rows)
    # A sum of terms of both signs: its rounding is theirs.
    terms = (whole[0] * truth[0]).sum(1) / whole[2]
    near(distributed.total(ours[2], "world"), truth[2], terms.abs().sum())


def unit_rows(rank, world, dtype=torch.float64):
    x, y, own = batch(rank, world, dtype)
    return mm.l2_normalize(x), mm.l2_normalize(y), own


def leaves(*tensors):
    return [x.detach().clone().requires_grad_() for x in tensors]


def both_ways(rank, world):
    for dtype in CLOSE:
        for temperature in (0.05, 1.0):
            for tile in (2, 64):
                x, y, own = unit_rows(rank, world, dtype)
                t = torch.tensor(temperature, dtype=dtype)
                options = {"side": tile, "group": dist.group.WORLD}
                sizes = distributed.rank_sizes(y[own], dist.group.WORLD)

                def loss(x, y, t, sizes=sizes, options=options):
                    targets = torch.arange(len(x))
                    return info_nce_on_ring(x, y, targets, t, both=True, counts=sizes, **options)

                def alone(x, y, t):
                    return mm.symmetric_info_nce(
                        x, y, temperature=t, normalize=None, reduction="none", chunk_size=99
                    )

                compare(leaves(x, y, t), leaves(x[own], y[own], t), loss, alone, own, world, dtype)


def one_way(rank, world):
    """Each rank has two candidates more than anchors; its first anchor has no partner."""
    for dtype in CLOSE:
        x, y, own = unit_rows(rank, world, dtype)
        extra = torch.randn(2 * world, 4, dtype=dtype, generator=torch.Generator().manual_seed(4))
        extra = mm.l2_normalize(extra)
        mine = torch.cat([y[own], extra[2 * rank : 2 * rank + 2]])
        every, place = distributed.joined(mine, "world")
        targets = torch.arange(len(x[own]))
        targets[:1] = -100
        shifted = torch.where(targets < 0, targets, targets + place.start)
        everybody = mm.gather(shifted)
        t = torch.tensor(0.1, dtype=dtype)
        sizes = distributed.rank_sizes(mine, dist.group.WORLD)
        options = {"side": 3, "group": dist.group.WORLD, "counts": sizes, "both": False}
        whole, here = leaves(x, every, t), leaves(x[own], mine, t)
        expected = mm.info_nce(
            whole[0],
            whole[1],
            everybody,
            temperature=whole[2],
            normalize=None,
            reduction="none",
            chunk_size=99,
        )
        got = info_nce_on_ring(here[0], here[1], targets, here[2], **options)
        near(got, expected[own], expected)
        truth = torch.autograd.grad(expected.square().sum(), whole)
        ours = torch.autograd.grad(got.square().sum(), here)
        near(ours[0], truth[0][own], truth[0])
        near(ours[1], truth[1][place], truth[1])
        near(distributed.total(ours[2], "world"), truth[2])


def twice(rank, world):
    """A second derivative takes the gathered form."""
    x, y, own = unit_rows(rank, world)
    t = torch.tensor(0.5, dtype=torch.float64)
    sizes = distributed.rank_sizes(y[own], dist.group.WORLD)
    whole, here = leaves(x, y, t), leaves(x[own], y[own], t)
    expected = mm.symmetric_info_nce(
        whole[0], whole[1], temperature=whole[2], normalize=None, reduction="none", chunk_size=99
    )
    targets = torch.arange(len(x[own]))
    got = info_nce_on_ring(
        *here[:2], targets, here[2], both=True, side=2, counts=sizes, group=dist.group.WORLD
    )
    results = []
    for value, inputs in ((expected, whole), (got, here)):
        (first,) = torch.autograd.grad(value.square().sum(), inputs[0], create_graph=True)
        results.append(torch.autograd.grad(first.pow(3).sum(), inputs[:2]))
    for ours, truth in zip(results[1], results[0], strict=True):
        near(ours, truth[own], truth)


def lone_pair(rank, world):
    """Without any negative on any rank the loss is 0, however it is counted."""
    x = torch.ones(int(rank == 0), 4, dtype=torch.float64) / 2
    for decoupled in (False, True):
        here, t = leaves(x, x), torch.tensor(0.1, dtype=torch.float64)
        options = {"side": 2, "counts": [1] + [0] * (world - 1), "group": dist.group.WORLD}
        options["variant"] = Variant(decoupled, None, None, None)
        losses = info_nce_on_ring(*here, torch.arange(len(x)), t, both=True, **options)
        assert losses.tolist() == [0.0] * len(x)
        for gradient in torch.autograd.grad(losses.sum(), here):
            assert not gradient.any()


def chosen(rank, world):
    """Losses take the ring by themselves where there are many candidates, and only there."""
    x, y, own = unit_rows(rank, world)
    calls = []

    def counted(x, y, targets, temperature, both, *how):
        calls.append(both)
        return around(x, y, targets, temperature, both, *how)

    around, infonce_choice.info_nce_on_ring, least = info_nce_on_ring, counted, limits.RING
    targets = torch.arange(len(x[own]))
    targets[-1:] = -100
    everybody = mm.gather(torch.where(targets < 0, targets, targets + own.start))
    weight = x[:, 0].abs()
    losses = {
        False: lambda a, b, i, t, **options: mm.info_nce(a, b, t, weight=weight[i], **options),
        True: lambda a, b, i, t, **options: mm.symmetric_info_nce(
            a, b, weight=weight[i], **options
        ),
    }
    for both, loss in losses.items():
        for reduction in ("mean", "sum"):
            for many in (True, False):
                limits.RING = y.numel() if many else y.numel() + 1
                whole, here = leaves(x, y), leaves(x[own], y[own])
                expected = loss(*whole, slice(None), everybody, reduction=reduction)
                got = loss(*here, own, targets, reduction=reduction, group="world", chunk_size=2)
                assert calls == [both] * many
                calls.clear()
                near(got, expected)
                truth = torch.autograd.grad(expected, whole)
                ours = torch.autograd.grad(got / world, here)
                for mine, all_rows in zip(ours, truth, strict=True):
                    near(mine, all_rows[own], all_rows)
    infonce_choice.info_nce_on_ring, limits.RING = around, least


def memory(rank, world):
    """No rank ever holds the rows of all, nor the logits of more than a tile."""
    x, y, own = unit_rows(rank, world)
    here = leaves(x[own], y[own])
    sizes = distributed.rank_sizes(y[own], dist.group.WORLD)
    options = {"both": True, "side": 2, "counts": sizes, "group": dist.group.WORLD}
    with Made() as made:
        losses = info_nce_on_ring(*here, torch.arange(len(here[0])), 0.1, **options)
        torch.autograd.grad(losses.sum(), here)
    assert made.largest <= max(sizes) * x.shape[1] < y.numel()


if __name__ == "__main__":
    run(globals())
