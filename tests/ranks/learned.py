"""What losses learn themselves, over ranks: what test_learned.py runs there, by name."""

import inspect
import sys
from functools import partial
from typing import get_args

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

import mmcontrast as mm
from mmcontrast import supervised
from mmcontrast.exact import sizes as limits
from mmcontrast.learned import replicated, replicated_module
from tests.mmcontrast.strategies import labels, mask, normal
from tests.ranks import run

SIZES = {2: [1, 6], 3: [5, 0, 6]}
WIDTH = 4


class Projected(nn.Module):
    """A row map of a user's own, with parameters and a buffer."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(WIDTH, 3).double()
        self.register_buffer("scale", torch.tensor(1.5, dtype=torch.float64))

    def forward(self, x):
        return (self.scale * self.layer(x)).softmax(-1)


class Stretched(Projected):
    """A distance of a user's own."""

    def forward(self, x, y):
        return self.layer(x - y).abs().sum(-1)


def number(value):
    """A parameter of shape (1,)."""
    return lambda: nn.Parameter(torch.tensor([value], dtype=torch.float64))


LEARNED = {
    "temperature": number(0.4),
    "bias": number(-1.3),
    "margin": number(0.3),
    "distance": Stretched,
    "normalize": Projected,
}
"""The arguments that may be learned."""


def features(*rows):
    return dict(zip(("text", "audio", "vision"), rows, strict=True))


def changed(*rows):
    return {name: x.flip(1) for name, x in features(*rows).items()}


def steps(rows):
    """(B, D) features as (B, D / 4, 4) maps."""
    return {name: x.unflatten(1, (1, WIDTH)) for name, x in rows.items()}


def calls(n, first):
    """Each loss of (B, D) x, y and z, of this rank's rows i; masks and labels of n samples.

    "later" has no anchor among the first samples, those of the first rank.
    """
    keep, several = mask(1, n, n) | torch.eye(n, dtype=torch.bool), mask(2, n, n)
    classes, scores = labels(3, n, 3, ignored=0.1), normal(4, n)
    later = torch.arange(n) >= first
    selection = mm.PairSelection(0.4)
    return {
        "info_nce": lambda x, y, z, i, **k: mm.info_nce(x, y, **k),
        "info_nce:keep": lambda x, y, z, i, **k: mm.info_nce(x, y, keep=keep[i], **k),
        "info_nce:later": lambda x, y, z, i, **k: mm.info_nce(
            x, y, keep=keep[i] & later[i, None], **k
        ),
        "symmetric_info_nce": lambda x, y, z, i, **k: mm.symmetric_info_nce(x, y, **k),
        "symmetric_info_nce:keep": lambda x, y, z, i, **k: mm.symmetric_info_nce(
            x, y, keep=keep[i], **k
        ),
        "matched_pair_nce": lambda x, y, z, i, **k: mm.matched_pair_nce(x, y, **k),
        "n_pair": lambda x, y, z, i, **k: mm.n_pair(x, y, **k),
        "sigmoid_contrast": lambda x, y, z, i, **k: mm.sigmoid_contrast(x, y, **k),
        "sigmoid_contrast:masks": lambda x, y, z, i, **k: mm.sigmoid_contrast(
            x, y, positives=several[i], keep=keep[i], **k
        ),
        "anchored_info_nce": lambda x, y, z, i, **k: mm.anchored_info_nce(features(x, y, z), **k),
        "joint_contrast": lambda x, y, z, i, **k: mm.joint_contrast(
            features(x, y, z), negatives="all", **k
        ),
        "joint_contrast:shuffled": lambda x, y, z, i, **k: mm.joint_contrast(
            features(x, y, z), generator=torch.Generator().manual_seed(1), **k
        ),
        "joint_contrast:volume": lambda x, y, z, i, **k: mm.joint_contrast(
            features(x, y, z), score="volume", **k
        ),
        "multilevel_contrast": lambda x, y, z, i, **k: mm.multilevel_contrast(
            {"one": [(x, y), (y, z)], "two": [(x, z)]}, weights={"two": 0.5}, **k
        ),
        "sup_con": lambda x, y, z, i, **k: mm.sup_con(x, classes[i], **k),
        "sup_con:in": lambda x, y, z, i, **k: mm.sup_con(x, classes[i], form="in", **k),
        "sup_con:later": lambda x, y, z, i, **k: mm.sup_con(
            x, torch.where(later, classes, -100)[i], **k
        ),
        "rank_n_contrast": lambda x, y, z, i, **k: mm.rank_n_contrast(x, scores[i], **k),
        "rank_n_contrast:later": lambda x, y, z, i, **k: mm.rank_n_contrast(
            x, torch.where(later, scores, torch.nan)[i], **k
        ),
        "triplet": lambda x, y, z, i, **k: mm.triplet(x, y, z, **k),
        "triplet:later": lambda x, y, z, i, **k: mm.triplet(x, y, z, keep=later[i], **k),
        "semi_contrast": lambda x, y, z, i, **k: mm.semi_contrast(features(x, y, z), **k),
        "intra_modal_contrast": lambda x, y, z, i, **k: mm.intra_modal_contrast(
            features(x, y, z), classes[i], **k
        ),
        "inter_modal_contrast": lambda x, y, z, i, **k: mm.inter_modal_contrast(
            features(x, y, z), classes[i], **k
        ),
        "hybrid_contrast": lambda x, y, z, i, **k: mm.hybrid_contrast(
            features(x, y, z), classes[i], **k
        ),
        "hybrid_contrast:selection": lambda x, y, z, i, **k: mm.hybrid_contrast(
            features(x, y, z), classes[i], selection=selection, **k
        ),
        "hybrid_contrast:later": lambda x, y, z, i, **k: mm.hybrid_contrast(
            features(x, y, z), torch.where(later, classes, -100)[i], **k
        ),
        "modality_correlation_triplet": lambda x, y, z, i, **k: mm.modality_correlation_triplet(
            features(x, y, z), changed(x, y, z), **k
        ),
        "modality_correlation_triplet:per_step": lambda x, y, z, i, **k: (
            mm.modality_correlation_triplet(
                steps(features(x, y, z)), steps(changed(x, y, z)), reduce="per_step", **k
            )
        ),
    }


CONSTANT = {("inter_modal_contrast", "margin"), ("hybrid_contrast", "margin")}
"""Arguments without a gradient."""


def learnable(name):
    """What a loss may learn: fresh parameters and Modules by argument."""
    parameters = inspect.signature(getattr(mm, name)).parameters
    # A bias of pairs is no number.
    accepted = [k for k, p in parameters.items() if k != "bias" or float in get_args(p.annotation)]
    torch.manual_seed(3)
    return {
        argument: make()
        for argument, make in LEARNED.items()
        if argument in accepted and (name, argument) not in CONSTANT
    }


def parameters(learned):
    return [p for v in learned.values() for p in (v.parameters() if callable(v) else [v])]


def inputs(rows):
    return [normal(k, 40, WIDTH)[rows].requires_grad_() for k in (5, 6, 7)]


def shared_out(rank, world):
    """All samples, and this rank's."""
    sizes = SIZES[world]
    return slice(0, sum(sizes)), slice(sum(sizes[:rank]), sum(sizes[: rank + 1]))


def gradients(call, rows, learned, reduction, group=None):
    """Of all that is learned, by the loss of these rows."""
    x, parts = inputs(rows), parameters(learned)
    found = call(*x, rows, reduction=reduction, group=group, **learned)
    value = found.total if isinstance(found, mm.LossTerms) else found
    return torch.autograd.grad(value.sum(), [*parts, *x], materialize_grads=True)[: len(parts)]


def agree(rank, world, reductions=("mean", "none"), **settings):
    """On every rank the gradient is that of one process on the whole batch."""
    whole, own = shared_out(rank, world)
    for name, call in calls(whole.stop, SIZES[world][0]).items():
        base = name.split(":")[0]
        accepted = inspect.signature(getattr(mm, base)).parameters
        given = {k: v for k, v in settings.items() if k in accepted}
        if settings and not given:
            continue
        for reduction in reductions:
            sys.stderr.write(f"  {name}, {reduction}\n")
            learned = learnable(base)
            expected = gradients(call, whole, learned, reduction)
            found = gradients(partial(call, **given), own, learned, reduction, "world")
            share = world if reduction == "none" else 1  # of the mean over ranks of their sums
            for mine, truth in zip(found, expected, strict=True):
                torch.testing.assert_close(share * mine, truth, rtol=1e-11, atol=1e-11)
                assert truth.abs().max() > 1e-6


def chunks(rank, world):
    agree(rank, world, ("none",), chunk_size=2)


def many(rank, world):
    """Sums over classes, blocks of anchors, and a ring of ranks, however few the rows."""
    limits.MOMENTS = limits.MOMENTS_CLASS = 1
    limits.SUPCON_RANKS = {"cpu": 1, "other": 1}
    supervised.supcon_side = lambda *args: 2
    limits.RING = 1
    agree(rank, world, ("mean",), chunk_size=3)


def twice(rank, world):
    """A gradient that is differentiated in turn."""
    whole, own = shared_out(rank, world)
    for name in ("info_nce", "symmetric_info_nce", "sigmoid_contrast", "semi_contrast"):
        call, learned = calls(whole.stop, SIZES[world][0])[name], learnable(name)
        parts = parameters(learned)

        def second(rows, call=call, learned=learned, parts=parts, **group):
            x = inputs(rows)
            value = call(*x, rows, **learned, **group)
            first = torch.autograd.grad(value, parts, create_graph=True)
            slope = sum(g.square().sum() for g in first)
            found = torch.autograd.grad(slope, [*parts, *x], materialize_grads=True)
            return found[: len(parts)], found[len(parts) :]

        (expected, by_rows), (found, by_own) = second(whole), second(own, group="world")
        for mine, truth in zip(found, expected, strict=True):
            torch.testing.assert_close(mine, truth, rtol=1e-10, atol=1e-10)
            assert truth.abs().max() > 1e-6
        for mine, truth in zip(by_own, by_rows, strict=True):
            torch.testing.assert_close(mine / world, truth[own], rtol=1e-10, atol=1e-10)


def kinds(rank, world):
    """What is replicated and what is not; half precision; a wrapper's Module is its own."""
    rows = torch.eye(2)
    number = nn.Parameter(torch.tensor([0.1], dtype=torch.bfloat16))
    value = replicated(number, "world", rows)
    assert value.dtype == torch.float32
    (3 * value * (1 + rank)).backward()
    mean = 3 * (1 + (world - 1) / 2)
    torch.testing.assert_close(number.grad.float(), torch.tensor([mean]), rtol=2**-8, atol=0)
    with torch.no_grad():
        assert replicated(number, "world", rows) is number
    frozen = number.detach()
    assert replicated(frozen, "world", rows) is frozen

    module = Projected()
    assert replicated_module(module, "world") is not module
    wrapped = DistributedDataParallel(module)
    assert replicated_module(wrapped, "world") is wrapped
    assert replicated_module(module.requires_grad_(False), "world") is module


if __name__ == "__main__":
    run(globals())
