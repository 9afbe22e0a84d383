"""HyCon's and MCL-MCF's losses over ranks: what tests of them run there, by name."""

from itertools import product

import pytest
import torch

import mmcontrast as mm
from mmcontrast.exact import sizes as limits
from mmcontrast.hybrid import moments
from tests.mmcontrast.strategies import labels, mask, modalities, normal, presence
from tests.ranks import run

SIZES = {1: [11], 3: [8, 0, 5]}
NAMES = ("text", "audio", "vision")
SETTINGS = [
    (limits, "MOMENTS"),
    (limits, "MOMENTS_CLASS"),
    (limits, "MOMENTS_PART"),
    (limits, "SIMILARITIES"),
]
"""What the programs change."""


def batch(rank, world, case):
    """All ranks' samples, drawn alike everywhere, and which are this rank's."""
    sizes = SIZES[world]
    n = sum(sizes)
    classes = labels(case, n, 1 + case % 4, 0.2)
    start = sum(sizes[:rank])
    if case == 3 and world > 1:
        classes[: sizes[0]] = -100  # a rank without a valid anchor
    return (
        modalities(case, n, 3, NAMES),
        classes,
        presence(case, n, NAMES),
        normal(case, n).abs(),
        slice(start, start + sizes[rank]),
    )


def agree(rank, world, call, dtype=torch.float64, atol=1e-12, case=0):
    """``call(features, rows, group)`` on ranks is what it is in one process, gradients too."""
    features, *_, own = batch(rank, world, case)
    alone = {k: x.to(dtype).clone().requires_grad_() for k, x in features.items()}
    mine = {k: x[own].to(dtype).clone().requires_grad_() for k, x in features.items()}
    value, expected = call(mine, own, "world"), call(alone, slice(None), None)
    if expected.ndim:
        expected = expected[own]
    torch.testing.assert_close(value, expected, rtol=atol, atol=atol)
    if value.ndim:  # every rank's own anchors: the sum of the ranks' losses is the whole
        value, expected = world * value.sum(), call(alone, slice(None), None).sum()
    value.backward()
    expected.backward()
    for name in features:
        found = mine[name].grad / world
        torch.testing.assert_close(found, alone[name].grad[own], rtol=atol, atol=atol)


def hybrid(rank, world, case, **options):
    _, classes, present, weight, _ = batch(rank, world, case)

    def call(x, rows, group):
        return mm.hybrid_contrast(
            x,
            classes[rows],
            present={k: y[rows] for k, y in present.items()},
            weight=weight[rows],
            group=group,
            **options,
        ).total

    return call


REDUCTIONS = [("mean", False), ("sum", True), ("none", False)]


def by_labels(rank, world):
    """Pairs, moments of large classes, small classes, and both."""
    several = [(10**9, 1), (1, 1), (1, 10**9), (1, 5)]
    for case, (way, (batch_from, class_from)) in product(range(4), enumerate(several)):
        limits.MOMENTS, limits.MOMENTS_CLASS, limits.MOMENTS_PART = batch_from, class_from, 3
        limits.SIMILARITIES = 40
        reduction, log = REDUCTIONS[(case + way) % 3]
        call = hybrid(rank, world, case, reduction=reduction, log=log, refine=case != 2)
        agree(rank, world, call, case=case)
        if case == 0:
            agree(rank, world, hybrid(rank, world, case), torch.float32, 1e-6, case)


def selected(rank, world):
    """HyCon-v2: the number of pairs is that of all ranks' samples."""
    for case in range(4):
        reduction, log = REDUCTIONS[case % 3]
        selection = mm.PairSelection(0.4)
        agree(
            rank,
            world,
            hybrid(rank, world, case, reduction=reduction, log=log, selection=selection),
            case=case,
        )


def by_masks(rank, world):
    """Masks and weights of this rank's rows and all ranks' columns."""
    for case, floating in product(range(3), (False, True)):
        n = sum(SIZES[world])
        positives, negatives = mask(case, n, n), mask(case + 9, n, n)
        # Related as a candidate only, and to another rank's sample only.
        positives[0] = negatives[0] = positives[:, 0] = negatives[:, 0] = False
        positives[-1, 0] = True
        if floating:
            positives, negatives = (x * normal(case, n, n).abs() for x in (positives, negatives))

        def call(x, rows, group, positives=positives, negatives=negatives):
            given = {"positives": positives[rows], "negatives": negatives[rows]}
            return mm.hybrid_contrast(x, None, **given, group=group).total

        agree(rank, world, call, case=case)


def one_loss(rank, world):
    """Each loss alone, and the module."""
    _, classes, _, weight, _ = batch(rank, world, 1)
    losses = [
        lambda x, rows, group: mm.semi_contrast(x, weight=weight[rows], group=group),
        lambda x, rows, group: mm.intra_modal_contrast(x, classes[rows], group=group),
        lambda x, rows, group: mm.inter_modal_contrast(x, classes[rows], group=group),
        lambda x, rows, group: mm.HybridContrast(group=group)(x, classes[rows]).total,
    ]
    for loss, least in product(losses, (1, 10**9)):
        limits.MOMENTS = limits.MOMENTS_CLASS = least
        agree(rank, world, loss, case=1)


def no_rows(rank, world):
    """Where all classes are large, none of their rows are sent."""
    limits.MOMENTS = limits.MOMENTS_CLASS = 1
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(moments, "joined", lambda *_: pytest.fail("rows were sent"))
        agree(rank, world, hybrid(rank, world, 1), case=1)


def levels(rank, world):
    """Several levels, with pairs that are not all there, in the three designs."""
    for case, design in product(range(2), "ABC"):
        _, classes, present, weight, _ = batch(rank, world, case)
        keep = mask(case, len(classes), len(classes)) if case else None

        def call(x, rows, group, design=design, given=(classes, present, weight, keep)):
            classes, present, weight, keep = given
            text, audio, vision = x.values()
            return mm.multilevel_contrast(
                {"one": [(text, audio), (audio, vision, present["audio"][rows])]},
                pair_design=design,
                labels=classes[rows],
                keep=None if keep is None else keep[rows],
                weight=weight[rows],
                temperature=0.5,
                group=group,
            ).total

        agree(rank, world, call, case=case)


if __name__ == "__main__":
    run(globals())
