"""Supervised losses and miners over ranks: labels, positives and miners, shared out."""

import pytest
import torch
import torch.distributed as dist

import mmcontrast as mm
from mmcontrast import supervised
from mmcontrast.exact import sizes as limits
from mmcontrast.exact import supcon_choice
from tests import oracles
from tests.mmcontrast.strategies import labels, mask, numpy
from tests.ranks import run
from tests.ranks.distributed import SIZES, batch

CLOSE = {torch.float64: 1e-12, torch.float32: 1e-6}


def same_on_every_rank(value):
    every = [torch.empty_like(value) for _ in range(dist.get_world_size())]
    dist.all_gather(every, value)
    assert all(torch.equal(other, value) for other in every)


def compare(loss, alone, leaves, own, tolerance):
    """One process on the whole batch and this rank's part: values and gradients.

    ``leaves`` are whole; the rows of the first ones are shared out, a temperature at the end is
    everybody's, and so is its gradient. ``loss`` and ``alone`` take the leaves and a reduction.
    """
    settings = {"rtol": tolerance, "atol": tolerance}
    whole = [x.clone().requires_grad_() for x in leaves]
    here = [(x[own] if x.ndim else x).clone().requires_grad_() for x in leaves]
    torch.testing.assert_close(loss(*here, "none"), alone(*whole, "none")[own], **settings)
    for reduction in ("mean", "sum"):
        value, expected = loss(*here, reduction), alone(*whole, reduction)
        same_on_every_rank(value.detach())
        torch.testing.assert_close(value, expected, **settings)
        ours = torch.autograd.grad(value, here)
        truth = torch.autograd.grad(expected, whole)
        for mine, everybody in zip(ours, truth, strict=True):
            if mine.ndim:
                # A rank's rows are its own: the mean over ranks leaves 1 / W of their gradient.
                torch.testing.assert_close(mine / dist.get_world_size(), everybody[own], **settings)
            else:
                torch.testing.assert_close(mine, everybody, **settings)


def sup_con(rank, world):
    """Labels alone, with candidates, with positives; both forms, at once and in blocks."""
    size = sum(SIZES[world])
    ids, theirs = labels(1, size, 3, ignored=0.2), labels(2, size, 3, ignored=0.2)
    columns = torch.stack([ids, ids % 2], dim=1)
    keep, positives = mask(3, size, size), mask(4, size, size)
    soft = torch.rand(size, size, generator=torch.Generator().manual_seed(5)).double()
    weight = torch.linspace(0.5, 2, size, dtype=torch.float64)
    for dtype, tolerance in CLOSE.items():
        x, y, own = batch(rank, world, dtype)
        t = torch.tensor(0.3, dtype=dtype)

        def check(call, leaves=(x, t), own=own, tolerance=tolerance):
            def alone(*args):
                return call(slice(None), None, *args)

            def loss(*args):
                return call(own, "world", *args)

            compare(loss, alone, leaves, own, tolerance)

        for form in ("out", "in"):
            for chunk_size in (None, 2):

                def shared(i, group, reduction, t, form=form, chunk_size=chunk_size, **given):
                    given |= {"weight": weight[i], "temperature": t, "chunk_size": chunk_size}
                    return given | {"group": group, "reduction": reduction, "form": form}

                check(lambda i, g, x, t, r: mm.sup_con(x, ids[i], **shared(i, g, r, t)))
                check(lambda i, g, x, t, r: mm.sup_con(x, columns[i], **shared(i, g, r, t)))
                check(
                    lambda i, g, x, t, r: mm.sup_con(x, ids[i], keep=keep[i], **shared(i, g, r, t))
                )
                check(
                    lambda i, g, x, y, t, r: mm.sup_con(
                        x, ids[i], y, theirs[i], **shared(i, g, r, t)
                    ),
                    (x, y, t),
                )
                for given in (positives, soft):
                    check(
                        lambda i, g, x, t, r, given=given: mm.sup_con(
                            x, None, positives=given[i], **shared(i, g, r, t)
                        )
                    )


def many_rows(rank, world):
    """By default: tiles of everybody, or where they are too many, blocks of the rank's own rows."""
    x, _, own = batch(rank, world)
    ids = labels(1, len(x), 3, ignored=0.2)
    whole = x.clone().requires_grad_()
    expected = mm.sup_con(whole, ids, temperature=0.2)
    (truth,) = torch.autograd.grad(expected, whole)
    loss = mm.SupCon(temperature=0.2, group="world")
    calls = []

    def watched(way):
        return lambda *args, **options: calls.append(1) or way(*args, **options)

    for name in ("sup_con_at_once", "sup_con_in_tiles"):
        setattr(supcon_choice, name, watched(getattr(supcon_choice, name)))
    for ranks, side in ((16, 384), (16, 3), (1, 384), (1, 2)):
        limits.SUPCON_RANKS = {"cpu": ranks, "other": ranks}
        supervised.supcon_side = lambda *args, side=side: side
        leaf = x[own].clone().requires_grad_()
        value = loss(leaf, ids[own])
        assert len(calls) == (len(x) <= len(leaf) * ranks)
        calls.clear()
        torch.testing.assert_close(value, expected, rtol=1e-12, atol=1e-12)
        (mine,) = torch.autograd.grad(value, leaf)
        torch.testing.assert_close(mine / world, truth[own], rtol=1e-12, atol=1e-12)


def shares(rank, world):
    """Ratio contrast: the similarities are the caller's, only the mean is everybody's."""
    x, _, own = batch(rank, world)
    similarity = x @ x.T / 10 + 5
    positives, negatives = mask(1, *similarity.shape), mask(2, *similarity.shape)

    def call(i, group, similarity, reduction):
        chosen = positives[i], negatives[i]
        return mm.ratio_contrast(similarity, *chosen, reduction=reduction, group=group)

    compare(
        lambda *args: call(own, "world", *args),
        lambda *args: call(slice(None), None, *args),
        (similarity,),
        own,
        1e-12,
    )


def n_pairs(rank, world):
    for dtype, tolerance in CLOSE.items():
        x, y, own = batch(rank, world, dtype)
        compare(
            lambda x, y, reduction: mm.n_pair(x, y, reduction=reduction, group="world"),
            lambda x, y, reduction: mm.n_pair(x, y, reduction=reduction),
            (x, y),
            own,
            tolerance,
        )


def nobody(rank, world):
    """No positive on any rank: zero everywhere, with a graph."""
    x, _, own = batch(rank, world)
    leaf = x[own].clone().requires_grad_()
    value = mm.sup_con(leaf, torch.full((len(leaf),), -100), group="world")
    (gradient,) = torch.autograd.grad(value, leaf)
    assert value == 0
    assert (gradient == 0).all()


def negatives(rank, world):
    """The indices name all ranks' candidates; targets name this rank's own."""
    x, y, own = batch(rank, world)
    size = len(x)
    ids, theirs = labels(1, size, 3, ignored=0.2), labels(2, size, 3, ignored=0.2)
    allowed = mask(3, size, size, share=0.8)
    local = torch.arange(own.stop - own.start).flip(0)
    local[:1] = -100
    given = torch.where(local < 0, -100, local + own.start)
    different = mm.different_label(ids, theirs)
    for targets, everybody, exclude, chunk_size, k in (
        (None, torch.arange(size)[own], True, None, 3),
        (None, torch.arange(size)[own], True, 2, 3),
        (local, given, True, 1, 2),
        (local, given, "after", None, 99),
        (local, given, False, 3, 99),
    ):
        for limited in (False, True):
            for classes in (False, True):
                options = {"chunk_size": chunk_size, "exclude_positive": exclude}
                found = mm.hard_negatives(
                    x[own],
                    y[own],
                    k,
                    targets=targets,
                    allowed=allowed[own] if limited else None,
                    labels=ids[own] if classes else None,
                    candidate_labels=theirs[own] if classes else None,
                    group="world",
                    **options,
                )
                among = allowed if limited else torch.ones_like(allowed)
                among = among & different if classes else among
                if exclude is True:
                    expected = oracles.hard_negatives(
                        numpy(x[own]),
                        numpy(y),
                        min(k, size - 1),
                        targets=everybody,
                        allowed=among[own],
                    )
                else:
                    expected = oracles.ranked_candidates(
                        numpy(x[own]),
                        numpy(y),
                        min(k, size),
                        targets=everybody,
                        allowed=among[own],
                        after=exclude == "after",
                    )
                check_found(found, expected, min(k, size - (exclude is True)))


def searched(rank, world):
    """By distance and within limits: what one process finds among all ranks' candidates."""
    x, y, own = batch(rank, world)
    ids = labels(1, len(x), 3, ignored=0.2)

    def own_distance(a, b):
        return (a - b).abs().pow(3).sum(-1)

    for options in (
        {"distance": mm.euclidean, "margin": 0.1},
        {"distance": own_distance, "semi_hard": 2.0},
        {"distance": mm.chebyshev, "skip": 1, "below": 2.0, "exclude_positive": False},
        {"relative_margin": 0.1, "above": -0.5, "exclude_positive": "after"},
    ):
        found = mm.hard_negatives(x[own], y[own], 3, group="world", **options)
        for mine, truth in zip(found, mm.hard_negatives(x, y, 3, **options), strict=True):
            assert torch.equal(mine, truth[own])
    for distance in (mm.euclidean, own_distance, None):
        for semi_hard in (None, 0.5):
            given = {"distance": distance, "semi_hard": semi_hard}
            found = mm.hard_triplets(x[own], ids[own], group="world", **given)
            for mine, truth in zip(found, mm.hard_triplets(x, ids, **given), strict=True):
                assert torch.equal(mine, truth[own])
    if world > 1:
        with pytest.raises(ValueError, match="group: expected None where candidates are an array"):
            mm.hard_negatives(x[own], y[own].numpy(), 1, group="world")


def check_found(found, expected, width):
    assert found.indices.shape == (len(expected), width)
    for i, row in enumerate(expected):
        row = row + [None] * (width - len(row))
        assert found.valid[i].tolist() == [pair is not None for pair in row]
        assert found.indices[i].tolist() == [0 if pair is None else pair[0] for pair in row]
        truth = [0.0 if pair is None else float(pair[1]) for pair in row]
        truth = torch.tensor(truth, dtype=torch.float64)
        torch.testing.assert_close(found.scores[i], truth, rtol=1e-12, atol=1e-12)


def triplets(rank, world):
    """Rows of the whole batch: with them the loss is that of one process."""
    x, _, own = batch(rank, world)
    for ids in (labels(1, len(x), 3, ignored=0.2), labels(2, len(x), 2)):
        for several in (ids, torch.stack([ids, ids % 2], dim=1)):
            for chunk_size in (None, 1, 3):
                found = mm.hard_triplets(x[own], several[own], chunk_size=chunk_size, group="world")
                expected = oracles.hard_triplets(numpy(x), numpy(ids))[own]
                assert list(zip(*[v.tolist() for v in found], strict=True)) == expected
        every = mm.gather(leaf := x[own].clone().requires_grad_(), "world")
        a, p, n = mm.hard_triplets(leaf, ids[own], group="world")
        value = mm.triplet(every[a], every[p], every[n], keep=p != a, group="world")
        (gradient,) = torch.autograd.grad(value, leaf)
        whole = x.clone().requires_grad_()
        a, p, n = mm.hard_triplets(whole, ids)
        expected = mm.triplet(whole, whole[p], whole[n], keep=p != a)
        torch.testing.assert_close(value, expected, rtol=1e-12, atol=1e-12)
        (truth,) = torch.autograd.grad(expected, whole)
        torch.testing.assert_close(gradient / world, truth[own], rtol=1e-12, atol=1e-12)


def large_rows_of_one_rank(rank, world):
    """Whose products leave a float32's range: the rows of the other ranks stay of one dtype."""
    x, _, own = batch(rank, world)
    x = 1e25 * x.float()[own] if rank == 0 else x.float()[own]
    a, p, n = mm.hard_triplets(x, labels(2, len(x), 2), normalize=None, group="world")
    assert {v.dtype for v in (a, p, n)} == {torch.int64}


def blocks(rank, world):
    """The default for many candidates, and ties across ranks, which go to the lower index."""
    limits.RANKED = 2
    x, _, own = batch(rank, world)
    x = torch.eye(4, dtype=torch.float64)[(x[:, 0] > 0).long()]
    ids = labels(3, len(x), 2)
    found = mm.hard_negatives(x[own], x[own], 2, group="world")
    expected = oracles.hard_negatives(numpy(x[own]), numpy(x), 2, targets=torch.arange(len(x))[own])
    check_found(found, expected, 2)
    triplets = mm.hard_triplets(x[own], ids[own], group="world")
    expected = oracles.hard_triplets(numpy(x), numpy(ids))[own]
    assert list(zip(*[v.tolist() for v in triplets], strict=True)) == expected


if __name__ == "__main__":
    run(globals())
