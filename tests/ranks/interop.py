"""Losses of other libraries over three ranks: what interop/test_ranks.py runs, by name."""

import importlib.util
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.nn.functional as F

from mmcontrast import LearnableTemperature, info_nce
from mmcontrast.interop import open_clip as ours
from mmcontrast.interop import pml
from mmcontrast.interop.sentence_transformers import InfoNCELoss
from tests.mmcontrast.peers import peer
from tests.ranks import run

EVEN, UNEVEN = [3, 3, 3], [0, 4, 3]
SCALE, BIAS = 14.0, -3.0


def library():
    """open_clip's losses without the rest of it, which takes each rank seconds to import."""
    (folder,) = importlib.util.find_spec("open_clip").submodule_search_locations
    spec = importlib.util.spec_from_file_location("open_clip_loss", Path(folder, "loss.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def batch(rank, sizes):
    """Unit rows of every rank, drawn alike everywhere, and which are this rank's."""
    source = torch.Generator().manual_seed(5)
    images, texts = (
        F.normalize(torch.randn(sum(sizes), 4, dtype=torch.float64, generator=source), dim=-1)
        for _ in range(2)
    )
    start = sum(sizes[:rank])
    return images, texts, slice(start, start + sizes[rank])


def value_and_gradients(loss, images, texts):
    scale = torch.tensor(SCALE, dtype=torch.float64)
    bias = torch.tensor(BIAS, dtype=torch.float64)
    leaves = [x.detach().clone().requires_grad_() for x in (images, texts, scale, bias)]
    value = loss(*leaves)
    return [value.detach(), *torch.autograd.grad(value, leaves)]


def same(found, expected):
    for x, y in zip(found, expected, strict=True):
        torch.testing.assert_close(x, y, rtol=1e-12, atol=1e-12)


def alike(found, expected):
    """Value and rows' gradients on each rank; those of what all ranks share, in their sum."""
    same(found[:3], expected[:3])
    for x, y in zip(found[3:], expected[3:], strict=True):
        dist.all_reduce(x)
        dist.all_reduce(y)
        same([x], [y])


def clip(rank, world):
    """The value and the gradients of open_clip's, local or not, with gradients."""
    images, texts, own = batch(rank, EVEN)
    losses = library()
    for local in (True, False):
        settings = {"local_loss": local, "rank": rank, "world_size": world}
        theirs = losses.ClipLoss(gather_with_grad=True, **settings)
        for cut in (True, False):
            mine = ours.ClipLoss(gather_with_grad=cut, **settings)
            alike(*(value_and_gradients(loss, images[own], texts[own]) for loss in (mine, theirs)))


def sig_lip(rank, world):
    images, texts, own = batch(rank, EVEN)
    losses = library()
    for way in ("bidir", "shift", "reduce", "gather"):
        settings = {"rank": rank, "world_size": world, "dist_impl": way}
        both = ours.SigLipLoss(**settings), losses.SigLipLoss(**settings)
        alike(*(value_and_gradients(loss, images[own], texts[own]) for loss in both))


def whole(rank, world):
    """Batches of any size: the mean over ranks is the whole batch's, in value and gradient.

    The gradient of the scale and the bias is on each rank the whole batch's.
    """
    for sizes in (EVEN, UNEVEN):
        images, texts, own = batch(rank, sizes)
        expected = value_and_gradients(ours.ClipLoss(), images, texts)
        found = value_and_gradients(ours.ClipLoss(world_size=world), images[own], texts[own])
        same([found[0]], [expected[0]])
        same([x / world for x in found[1:3]], [x[own] for x in expected[1:3]])
        same(found[3:], expected[3:])


def metric_learning(rank, world):
    """Its wrappers for several ranks, around our loss and our miner."""
    wrappers = peer("pytorch_metric_learning.utils.distributed")
    images, _, own = batch(rank, EVEN)
    labels = torch.arange(len(images)) % 4
    alone = pml.MaskLoss(info_nce)
    miner = pml.HardTripletMiner()
    for efficient in (False, True):
        for mined in (False, True):
            whole = images.clone().requires_grad_()
            expected = alone(whole, labels, miner(whole, labels) if mined else None)
            (gradient,) = torch.autograd.grad(expected, whole)
            leaf = images[own].clone().requires_grad_()
            loss = wrappers.DistributedLossWrapper(pml.MaskLoss(info_nce), efficient=efficient)
            find = wrappers.DistributedMinerWrapper(pml.HardTripletMiner(), efficient=efficient)
            found = find(leaf, labels[own]) if mined else None
            value = loss(leaf, labels[own], found)
            if not efficient:  # there a rank's loss is that of its own anchors
                same([value.detach() / world], [expected.detach()])
                same([torch.autograd.grad(value, leaf)[0] / world], [gradient[own]])
            total = value.detach().clone()
            dist.all_reduce(total)
            same([total / world**2], [expected.detach()])


def ranking(rank, world):
    """Anchors, positives and 0 to 2 mined negatives each, of one process and of many."""
    for symmetric in (False, True):
        for negatives in (0, 1, 2):
            for sizes in (EVEN, UNEVEN):
                source = torch.Generator().manual_seed(7)
                shape = (sum(sizes), 4)
                columns = [
                    torch.randn(shape, dtype=torch.float64, generator=source)
                    for _ in range(2 + negatives)
                ]
                start = sum(sizes[:rank])
                own = slice(start, start + sizes[rank])
                results = []
                for group, rows in ((None, slice(None)), ("world", own)):
                    loss = InfoNCELoss(torch.nn.Identity(), symmetric=symmetric, group=group)
                    leaves = [x[rows].clone().requires_grad_() for x in columns]
                    value = sum(loss.compute_loss_from_embeddings(leaves).values())
                    results.append((value.detach(), torch.autograd.grad(value, leaves)))
                (expected, whole), (found, mine) = results
                same([found], [expected])
                same([x / world for x in mine], [x[own] for x in whole])


def learned(rank, world):
    """A temperature that every rank learns from its own rows is that of the whole batch."""
    images, texts, own = batch(rank, EVEN)
    taus = []
    for group, rows in ((None, slice(None)), ("world", own)):
        temperature = LearnableTemperature(0.2).double()
        loss = InfoNCELoss(
            torch.nn.Identity(), temperature=temperature, symmetric=True, group=group
        )
        optimizer = torch.optim.SGD(loss.parameters(), 0.5)
        for _ in range(3):
            optimizer.zero_grad()
            sum(loss.compute_loss_from_embeddings([images[rows], texts[rows]]).values()).backward()
            optimizer.step()
        taus.append(temperature().detach())
    same([taus[1]], [taus[0]])
    assert abs(taus[0] - 0.2) > 1e-3


def sizes(rank, world):
    with pytest.raises(ValueError, match=f"world_size: expected the .* group's, {world}, got 9"):
        ours.ClipLoss(world_size=9)(torch.eye(2), torch.eye(2), 1.0)


if __name__ == "__main__":
    run(globals())
