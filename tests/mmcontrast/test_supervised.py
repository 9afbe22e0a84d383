"""Supervised contrast against float64 loops, over ranks too, and its laws."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import mmcontrast as mm
from tests import oracles
from tests.mmcontrast.strategies import (
    close,
    gradients,
    labels,
    leaf,
    mask,
    normal,
    numpy,
    seeds,
)
from tests.ranks import launch

REDUCTIONS = ["mean", "sum", "none"]


@given(
    seed=seeds,
    n=st.integers(1, 6),
    extra=st.none() | st.integers(1, 7),
    classes=st.integers(1, 3),
    form=st.sampled_from(["out", "in"]),
    temperature=st.sampled_from([0.05, 0.5, 2.0]),
    kept=st.booleans(),
    decoupled=st.booleans(),
    weighted=st.booleans(),
    chunk_size=st.none() | st.integers(1, 4),
    reduction=st.sampled_from(REDUCTIONS),
)
def test_sup_con_agrees_with_the_oracle(
    seed, n, extra, classes, form, temperature, kept, decoupled, weighted, chunk_size, reduction
):
    arrays = [normal(seed, n, 3), labels(seed, n, classes, 0.2)]
    if extra is not None:
        arrays += [normal(seed + 1, extra, 3), labels(seed + 1, extra, classes, 0.2)]
    options = {
        "form": form,
        "temperature": temperature,
        "keep": mask(seed, n, extra or n, share=0.7) if kept else None,
        "decoupled": decoupled,
        "weight": normal(seed, n).abs() if weighted else None,
        "reduction": reduction,
    }
    expected = oracles.sup_con(*map(numpy, arrays), **numpy(options))
    close(mm.sup_con(*arrays, **options, chunk_size=chunk_size), expected)


@pytest.mark.parametrize("form", ["out", "in"])
def test_derivatives_of_the_decoupled_form(form):
    x, ids = normal(1, 5, 3).requires_grad_(), torch.tensor([0, 1, 0, 1, 0])
    t = torch.tensor(0.5, dtype=torch.float64, requires_grad=True)

    def loss(x, t):
        return mm.sup_con(x, ids, temperature=t, form=form, decoupled=True)

    assert torch.autograd.gradcheck(loss, (x, t))
    assert torch.autograd.gradgradcheck(loss, (x, t))


@given(seed=seeds, alone=st.booleans(), soft=st.booleans())
def test_sup_con_with_positives_instead_of_labels(seed, alone, soft):
    x, y = normal(seed, 4, 3), normal(seed + 1, 4 if alone else 6, 3)
    positives = normal(seed, 4, len(y)).relu()
    positives = positives if soft else positives > 0
    candidates = None if alone else y
    expected = oracles.sup_con(
        numpy(x), None, numpy(candidates), positives=numpy(positives), temperature=0.3
    )
    close(mm.sup_con(x, None, candidates, positives=positives, temperature=0.3), expected)


@pytest.mark.parametrize("form", ["out", "in"])
def test_sup_con_gradient_agrees_with_central_differences(form):
    x, ids = normal(1, 5, 3), torch.tensor([0, 1, 0, 1, 0])
    options = {"form": form, "temperature": 0.5}
    _, (gradient,) = gradients(lambda x: mm.sup_con(x, ids, **options), x)
    expected = oracles.central_differences(
        lambda v: oracles.sup_con(v, numpy(ids), **options), numpy(x)
    )
    close(gradient, expected, atol=1e-8)


@given(seed=seeds, n=st.integers(2, 7))
def test_law_27_28_and_29_of_sup_con(seed, n):
    """Per anchor: out >= log |P|; in <= out - log |P| (Jensen); collapse: out = log(N - 1)."""
    x, ids = normal(seed, n, 3), labels(seed, n)
    counts = (ids[:, None] == ids).sum(dim=1).double() - 1
    least = torch.where(counts > 0, counts.clamp_min(1).log(), 0.0)
    out, inside = (mm.sup_con(x, ids, form=form, reduction="none") for form in ("out", "in"))
    assert (out >= least - 1e-12).all()
    assert (inside >= 0).all()
    assert (inside <= out - least + 1e-9).all()
    collapsed = mm.sup_con(x[:1].expand(n, 3), torch.zeros(n, dtype=torch.int64))
    close(collapsed, math.log(n - 1))


@given(seed=seeds, n=st.integers(1, 4), temperature=st.sampled_from([0.07, 0.5]))
def test_law_30_two_views_with_unique_labels_are_nt_xent(seed, n, temperature):
    views = normal(seed, 2 * n, 3)
    partners = (torch.arange(2 * n) + n) % (2 * n)
    expected = mm.info_nce(
        views, views, partners, keep=mm.off_diagonal(2 * n), temperature=temperature
    )
    ids = torch.arange(2 * n) % n
    for form in ("out", "in"):
        close(mm.sup_con(views, ids, form=form, temperature=temperature), expected)


def test_h16_in_with_one_positive_is_n_pair():
    x, y = normal(1, 4, 3), normal(2, 4, 3)
    ids = torch.arange(4)
    options = {"normalize": None, "temperature": 1.0}
    close(mm.sup_con(x, ids, y, ids, form="in", **options), mm.n_pair(x, y))


@pytest.mark.parametrize("form", ["out", "in"])
def test_law_47_sup_con_without_positives_is_zero_with_a_graph(form):
    for ids in (torch.arange(3), torch.full((3,), -100)):
        value, (gradient,) = gradients(
            lambda x, ids=ids: mm.sup_con(x, ids, form=form), normal(1, 3, 2)
        )
        assert value.item() == 0
        assert (gradient == 0).all()


def test_the_sup_con_module_is_one_call_of_the_function():
    x, ids = normal(1, 5, 3), torch.tensor([0, 1, 0, 1, 0])
    settings = {
        "form": "in",
        "temperature": 0.4,
        "normalize": mm.softmax_normalize,
        "reduction": "sum",
        "chunk_size": 2,
    }
    forward = {"keep": mask(1, 5, 5), "weight": normal(2, 5).abs()}
    close(mm.SupCon(**settings)(x, ids, **forward), mm.sup_con(x, ids, **settings, **forward))
    close(mm.SupCon()(x, ids), mm.sup_con(x, ids))
    close(mm.SupCon()(x, ids, x, ids), mm.sup_con(x, ids, x, ids))
    positives = mask(3, 5, 5)
    close(mm.SupCon()(x, None, positives=positives), mm.sup_con(x, None, positives=positives))


# --- wrong calls ---------------------------------------------------------------------------------

P = torch.ones(2, 3).bool()
X, Y = torch.ones(3, 2), torch.ones(4, 2)
IDS, P3 = torch.tensor([0, 1, 0]), torch.ones(3, 3).bool()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: mm.sup_con(X, None), "labels.*: expected .*got"),
        (lambda: mm.sup_con(X, IDS, positives=P3), "labels|positives: expected .*got"),
        (lambda: mm.sup_con(X, IDS[:2]), r"labels: expected .*3.*got .*\(2,\)"),
        (lambda: mm.sup_con(X, IDS, Y), "candidate_labels: expected .*got"),
        (lambda: mm.sup_con(X, IDS, Y, IDS), r"candidate_labels: expected .*4.*got .*\(3,\)"),
        (lambda: mm.sup_con(X, IDS, None, IDS), "candidate_labels|candidates: expected .*got"),
        (
            lambda: mm.sup_con(X, None, Y, IDS, positives=torch.ones(len(X), len(Y)).bool()),
            "candidate_labels: expected None where positives are given, got",
        ),
        (lambda: mm.sup_con(X, IDS, torch.ones(4, 3), Y[:, 0]), "candidates: expected .*2.*got"),
        (lambda: mm.sup_con(X.long(), IDS), "anchors: expected .*float.*got .*int64"),
        (lambda: mm.sup_con(X, IDS, form="both"), "form: expected .*'out'.*'in'.*got 'both'"),
        (lambda: mm.sup_con(X, IDS, temperature=0.0), "temperature: expected .*got 0"),
        (lambda: mm.sup_con(X, IDS, reduction="avg"), "reduction: expected .*got 'avg'"),
        (lambda: mm.sup_con(X, IDS, keep=P), r"keep: expected .*\(3, 3\).*got .*\(2, 3\)"),
        (lambda: mm.sup_con(X, IDS, weight=torch.ones(2)), r"weight: expected .*3.*got .*\(2,\)"),
    ],
)
def test_wrong_calls(call, message):
    with pytest.raises(ValueError, match=message):
        call()


PROGRAMS = [
    "sup_con",
    "many_rows",
    "n_pairs",
    "shares",
    "nobody",
    "negatives",
    "searched",
    "triplets",
    "large_rows_of_one_rank",
    "blocks",
]


@pytest.mark.slow
def test_on_ranks():
    launch(3, "tests.ranks.supervised", *PROGRAMS)


def test_without_a_process_group_a_group_changes_nothing():
    x, ids = normal(1, 9, 3), labels(1, 9, 3)
    assert torch.equal(mm.sup_con(x, ids, group="world"), mm.sup_con(x, ids))
    assert torch.equal(mm.SupCon(group="world")(x, ids), mm.sup_con(x, ids))
    found = mm.hard_negatives(x, x, 3, labels=ids, group="world")
    for value, expected in zip(found, mm.hard_negatives(x, x, 3, labels=ids), strict=True):
        assert torch.equal(value, expected)
    triplets = mm.hard_triplets(x, ids, group="world")
    for value, expected in zip(triplets, mm.hard_triplets(x, ids), strict=True):
        assert torch.equal(value, expected)


@pytest.mark.parametrize(
    "call",
    [
        lambda x, ids: mm.sup_con(x, ids, group=1),
        lambda x, ids: mm.SupCon(group=1)(x, ids),
    ],
)
def test_what_is_no_group_is_refused(call):
    with pytest.raises(ValueError, match='group: expected "world" or a process group'):
        call(leaf(normal(1, 4, 3)), torch.tensor([0, 0, 1, 1]))


def test_an_anchor_that_is_nobodys_candidate_is_still_one():
    """The columns of `keep` say who is compared with, its rows who compares."""
    x, labels = normal(1, 4, 3), torch.tensor([0, 0, 1, 1])
    keep = torch.ones(4, 4, dtype=torch.bool)
    keep[:, 1] = False
    losses = mm.sup_con(x, labels, keep=keep, reduction="none")
    others = mm.sup_con(x[1:2], labels[1:2], x[[0, 2, 3]], labels[[0, 2, 3]], reduction="none")
    close(losses[1:2], others)
