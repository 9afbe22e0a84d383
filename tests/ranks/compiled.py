"""Functions of all ranks' rows in one graph of a compiler: the numbers of one process without."""

import pytest
import torch
import torch.distributed as dist
from torch._dynamo.testing import CompileCounterWithBackend

import mmcontrast as mm
from mmcontrast import distributed
from tests.mmcontrast.strategies import of_any_rows
from tests.ranks import run
from tests.ranks.distributed import batch

CUTS = (3, 5, 2)
"""The first rank's rows of 8; the other rank has the rest."""


def both(a, b):
    return {"text": a, "audio": b}


def three(a, b):
    return {**both(a, b), "vision": a * b}


def levels(a, b):
    return {"first": [(a, b), (b, a, a[:, 1] > -1)], "second": lambda: [(a, b)]}


LOSSES = {
    "one way": lambda a, b, t, m, **g: mm.info_nce(
        a, b, temperature=t, **({"group": dist.group.WORLD} if g else {})
    ),
    "both ways": lambda a, b, t, m, **g: mm.symmetric_info_nce(a, b, temperature=t, **g),
    "sup_con": lambda a, b, t, m, **g: mm.sup_con(a + b, m["labels"], temperature=t, **g),
    "one way, positives": lambda a, b, t, m, **g: mm.info_nce(
        a, b, temperature=t, positives=m["pairs"], **g
    ),
    "both ways, keep": lambda a, b, t, m, **g: mm.symmetric_info_nce(
        a, b, temperature=t, keep=m["keep"], **g
    ),
    "anchored": lambda a, b, t, m, **g: (
        mm.anchored_info_nce(
            both(a, b), direction="both", temperature=t, present=m["present"], **g
        ).total
    ),
    "joint, shuffled": lambda a, b, t, m, **g: (
        mm.joint_contrast(
            three(a, b), anchor="text", temperature=t, present=m["present"], **g
        ).total
    ),
    "ranked": lambda a, b, t, m, **g: mm.rank_n_contrast(a + b, m["scores"], temperature=t, **g),
    "semi": lambda a, b, t, m, **g: mm.semi_contrast(both(a, b), margin=t, **g),
    "hybrid, masks": lambda a, b, t, m, **g: (
        mm.hybrid_contrast(both(a, b), None, positives=m["pairs"], negatives=~m["pairs"], **g).total
    ),
    "sigmoid": lambda a, b, t, m, **g: mm.sigmoid_contrast(
        a, b, temperature=t, reduction="sum", **g
    ),
    "gathered": lambda a, b, t, m, **g: mm.info_nce(
        a, mm.gather(b) if g else b, m["targets"], temperature=t, reduction="sum"
    ),
}


MORE = {
    "variants": lambda a, b, t, m, **g: mm.symmetric_info_nce(
        a, b, temperature=t, keep=m["keep"], smoothing=0.1, prior=0.1, within=True, **g
    ),
    "both ways, sides of two sizes": lambda a, b, t, m, **g: mm.symmetric_info_nce(
        a.repeat_interleave(2, 0),
        b,
        temperature=t,
        positives=m["pairs"].repeat_interleave(2, 0),
        keep=m["keep"].repeat_interleave(2, 0),
        **g,
    ),
    "matched": lambda a, b, t, m, **g: mm.matched_pair_nce(a, b, temperature=t, **g),
    "sup_con, in": lambda a, b, t, m, **g: mm.sup_con(
        a + b, m["labels"], form="in", temperature=t, **g
    ),
    "sup_con, candidates": lambda a, b, t, m, **g: mm.sup_con(
        a, m["labels"], b, m["labels"], temperature=t, **g
    ),
    "hybrid": lambda a, b, t, m, **g: (
        mm.hybrid_contrast(both(a, b), m["labels"], present=m["present"], **g).total
    ),
    "sigmoid, positives": lambda a, b, t, m, **g: mm.sigmoid_contrast(
        a, b, temperature=t, positives=m["pairs"], **g
    ),
    "one way, keep": lambda a, b, t, m, **g: mm.info_nce(a, b, temperature=t, keep=m["keep"], **g),
    "both ways, positives": lambda a, b, t, m, **g: mm.symmetric_info_nce(
        a, b, temperature=t, positives=m["pairs"], keep=m["keep"], **g
    ),
    "n_pair": lambda a, b, t, m, **g: mm.n_pair(a, b, keep=m["keep"], **g) * t,
    "sup_con, positives": lambda a, b, t, m, **g: mm.sup_con(
        a, None, b, temperature=t, positives=m["pairs"], keep=m["keep"], **g
    ),
    "joint, all": lambda a, b, t, m, **g: (
        mm.joint_contrast(
            three(a, b), negatives="all", temperature=t, present=m["present"], **g
        ).total
    ),
    "joint, volume": lambda a, b, t, m, **g: (
        mm.joint_contrast(
            three(a, b), score="volume", anchor="text", temperature=t, present=m["present"], **g
        ).total
    ),
    "joint, area": lambda a, b, t, m, **g: (
        mm.joint_contrast(
            three(a, b), score="area", anchor="text", temperature=t, present=m["present"], **g
        ).total
    ),
    "levels": lambda a, b, t, m, **g: (
        mm.multilevel_contrast(levels(a, b), temperature=t, keep=m["keep"], **g).total
    ),
    "levels by class": lambda a, b, t, m, **g: (
        mm.multilevel_contrast(
            levels(a, b), temperature=t, pair_design="C", labels=m["labels"], **g
        ).total
    ),
    "ranked, candidates": lambda a, b, t, m, **g: mm.rank_n_contrast(
        a,
        m["scores"],
        b,
        m["scores"] + 1,
        temperature=t,
        distance=mm.manhattan,
        chunk_size=2,
        **g,
    ),
    "intra": lambda a, b, t, m, **g: mm.intra_modal_contrast(both(a, b), m["labels"], **g) * t,
    "hybrid, selected": lambda a, b, t, m, **g: (
        mm.hybrid_contrast(both(a, b), m["labels"], selection=mm.PairSelection(0.5), **g).total
    ),
    "correlation": lambda a, b, t, m, **g: (
        mm.modality_correlation_triplet(both(a, b), both(b, a), margin=t, **g).total
    ),
    "distilled": lambda a, b, t, m, **g: mm.kl_distill(a, b, temperature=2.0, **g),
    "triplet": lambda a, b, t, m, **g: mm.triplet(a, b, a * b, margin=t, **g),
}
"""Those that share their way with one above; they take minutes, and run by the name alone."""


TRACED = (
    *("anchored", "joint, shuffled", "hybrid, masks", "semi", "gathered", "one way", "both ways"),
    *("ranked", "sigmoid", "one way, positives"),
)
"""Of which the compiler's backward pass is not tested, for the sake of time."""


AS_IT_COMES = "both ways, keep"
"""The one loss whose rows are not marked as dynamic: the compiler makes a second graph, for all
numbers of rows, when it meets another one."""


def one_graph(name, loss, rank, world, backend="aot_eager"):
    """What eager mode makes of this rank's rows, however many they are, in one graph."""
    torch.compiler.reset()
    counter = CompileCounterWithBackend(backend)
    traced = torch.compile(loss, backend=counter, fullgraph=True)
    if name != AS_IT_COMES:
        traced = of_any_rows(traced)
    for cut in CUTS:
        own = slice(0, cut) if rank == 0 else slice(cut, 8)
        eager = derivatives(loss, rank, world, own, group="world")
        found = derivatives(traced, rank, world, own, group="world")
        torch.testing.assert_close(found, eager, rtol=1e-12, atol=1e-12, msg=name)
        if name == "gathered":  # each rank's own part of a sum
            continue
        whole = derivatives(loss, rank, world, slice(0, 8))
        value, a, b, temperature = whole
        expected = value, a[own] * world, b[own] * world, temperature
        torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10, msg=name)
    graphs = [graph for graph in counter.graphs if len(graph.graph.nodes) > 0]
    assert len(graphs) <= 1 + (name == AS_IT_COMES), name


def derivatives(loss, rank, world, own, **group):
    torch.manual_seed(0)  # of shuffled tuples
    x, y, _ = batch(rank, world)
    keep = torch.ones(8, 8, dtype=torch.bool).tril(3)
    pairs = torch.arange(8)[:, None] % 3 == torch.arange(8) % 3
    given = {
        "keep": keep[own],
        "pairs": pairs[own],
        "labels": (torch.arange(8) % 3)[own],
        "scores": y[own, 0],
        "present": {"text": x[own, 1] > -1, "audio": x[own, 2] > -0.5},
        "targets": torch.arange(8)[own],
    }
    learned = torch.tensor(0.5, dtype=torch.float64)
    leaves = [x.clone().requires_grad_() for x in (x[own], y[own], learned)]
    value = loss(*leaves, given, **group)
    return value.detach(), *torch.autograd.grad(
        value * 3, leaves, allow_unused=True, materialize_grads=True
    )


def losses(rank, world):
    for name, loss in LOSSES.items():
        one_graph(name, loss, rank, world, backend="eager" if name in TRACED else "aot_eager")


def more(rank, world):
    for name, loss in MORE.items():
        one_graph(name, loss, rank, world)


def found(rank, world):
    """Ranks among all ranks' candidates, and their hardest ones."""
    x, y, _ = batch(rank, world)
    labels, mask = torch.arange(8) % 3, x @ y.T > 0

    def call(a, b, classes, positives, **group):
        one = mm.retrieval(a, b, ks=(1, 3), **group)
        several = mm.retrieval(a, b, positives=positives, ks=(1,), **group)
        few = mm.hard_negatives(a, b, 2, labels=classes, **group)
        return *one[:3], *one[4:], *several[:3], *one.recall.values(), *few

    traced = torch.compile(call, backend="eager", fullgraph=True)
    whole = call(x, y, labels, mask)
    for cut in CUTS[:2]:
        own = slice(0, cut) if rank == 0 else slice(cut, 8)
        given = x[own], y[own], labels[own], mask[own]
        for part in given:
            torch._dynamo.mark_dynamic(part, 0)
        for mine, truth in zip(traced(*given, group="world"), whole, strict=True):
            torch.testing.assert_close(mine, truth[own] if truth.ndim else truth)


def disagreeing(rank, world):
    """Names and dtypes that other ranks do not have are an error on all of them, and no wait."""
    names = [["text", "audio"], ["audio", "text"]][rank]
    features = {name: torch.eye(4, requires_grad=True) for name in names}
    loss = torch.compile(mm.semi_contrast, backend="eager", fullgraph=True)
    expected = r"features: expected the same names in the same order on every rank, got .*rank 1"
    with pytest.raises(ValueError, match=expected):
        loss(features, group="world")
    rows = torch.eye(4, dtype=(torch.float32, torch.float64)[rank])
    ranked = torch.compile(mm.rank_n_contrast, backend="eager", fullgraph=True)
    with pytest.raises(ValueError, match="expected rows of one shape and dtype on every rank"):
        ranked(rows, rows[0], group="world")
    keep = torch.ones(4, 9, dtype=torch.bool)
    with pytest.raises(ValueError, match="x: expected 9 rows on all ranks, got 8"):
        torch.compile(mm.info_nce, backend="eager", fullgraph=True)(
            torch.eye(4), torch.eye(4), keep=keep, group="world"
        )


def empty(rank, world):
    """A rank without rows takes part in the others' loss; the operator of sums is a sound one."""
    x, y, _ = batch(rank, world)
    own = slice(0, 8) if rank == 0 else slice(8, 8)
    for loss in (mm.matched_pair_nce, mm.symmetric_info_nce):
        traced = torch.compile(loss, backend="aot_eager", fullgraph=True)
        given = [rows[own].clone().requires_grad_() for rows in (x, y)]
        value = traced(*given, group="world")
        torch.testing.assert_close(value, loss(x, y))
        value.backward()
    torch.library.opcheck(
        torch.ops.mmcontrast.total.default,
        (x[rank].clone().requires_grad_(), distributed.name_of("world")),
    )


def mined(rank, world):
    """What is beyond all ranks' candidates is not valid."""
    x, y, _ = batch(rank, world)
    own = slice(0, 3) if rank == 0 else slice(3, 8)
    labels = torch.arange(8) % 3

    def call(a, b, ids):
        few = mm.hard_negatives(a, b, 2, labels=ids, group="world")
        many = mm.hard_negatives(
            a, b, 9, distance=mm.manhattan, above=0.1, chunk_size=2, group="world"
        )
        return *mm.hard_triplets(a, ids, group="world"), *few, *many

    given = x[own], y[own], labels[own]
    expected = call(*given)
    found = torch.compile(call, backend="eager", fullgraph=True)(*given)
    for mine, truth in zip(found[:6], expected[:6], strict=True):
        torch.testing.assert_close(mine, truth)
    for mine, truth in zip(found[6:], expected[6:], strict=True):
        assert mine.shape == (len(x[own]), 9)
        torch.testing.assert_close(mine[:, :7], truth)
        assert not mine[:, 7:].any()


if __name__ == "__main__":
    run(globals())
