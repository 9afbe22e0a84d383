"""retrieval against orders of the candidates, written out."""

import sys

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given

import mmcontrast as mm
from mmcontrast.exact import sizes
from tests.mmcontrast.memory import Made
from tests.mmcontrast.strategies import normal, seeds
from tests.oracles import retrieval as oracle


def grid(seed, rows):
    """Rows whose dot products are whole numbers, many of them equal."""
    return (normal(seed, rows, 2) * 1.5).round()


def similarities(x, y):
    return (x @ y.T).tolist()


def check(found, scores, positives, ks):
    ranks = [oracle.first_rank(s, p) for s, p in zip(scores, positives, strict=True)]
    precision = [oracle.average_precision(s, p) for s, p in zip(scores, positives, strict=True)]
    assert found.ranks.tolist() == pytest.approx(ranks)
    assert found.average_precision.tolist() == pytest.approx(precision)
    assert found.counted.tolist() == [any(p) for p in positives]
    known = [k for k, p in enumerate(positives) if any(p)]

    def mean(values):
        return sum(values) / len(values) if values else 0.0

    for k in ks:
        assert found.recall[k].item() == pytest.approx(mean([ranks[i] <= k for i in known]))
    assert found.mrr.item() == pytest.approx(mean([1 / ranks[i] for i in known]))
    assert found.mean_average_precision.item() == pytest.approx(mean([precision[i] for i in known]))
    assert found.median_rank.item() == pytest.approx(oracle.median([ranks[i] for i in known]))


@given(
    seed=seeds,
    b=st.integers(0, 5),
    c=st.integers(1, 6),
    size=st.sampled_from([None, 1, 2]),
)
def test_ranks_of_partners_are_those_of_the_orders(seed, b, c, size):
    x, y = grid(seed, b), grid(seed + 1, c)
    targets = torch.randint(-1, c, (b,), generator=torch.Generator().manual_seed(seed))
    targets = torch.where(targets < 0, -100, targets)
    found = mm.retrieval(x, y, targets, ks=(1, 2, 3), normalize=None, chunk_size=size)
    positives = [[j == t for j in range(c)] for t in targets.tolist()]
    check(found, similarities(x, y), positives, (1, 2, 3))


@given(
    seed=seeds,
    b=st.integers(0, 5),
    c=st.integers(1, 6),
    size=st.sampled_from([None, 1, 2]),
)
def test_ranks_of_several_positives_are_those_of_the_orders(seed, b, c, size):
    x, y = grid(seed, b), grid(seed + 1, c)
    mask = normal(seed + 2, b, c) > 0.4
    found = mm.retrieval(x, y, positives=mask, ks=(1, 2), normalize=None, chunk_size=size)
    check(found, similarities(x, y), mask.tolist(), (1, 2))


@given(seed=seeds, b=st.integers(1, 6), extra=st.integers(0, 3))
def test_one_positive_is_a_target(seed, b, extra):
    x, y = grid(seed, b), grid(seed + 1, b + extra)
    mask = torch.eye(b, b + extra, dtype=torch.bool)
    found = [mm.retrieval(x, y), mm.retrieval(x, y, positives=mask)]
    for one, other in zip(*found, strict=True):
        assert one == other if isinstance(one, dict) else torch.equal(one, other)


def test_a_collapsed_model_has_the_rank_of_chance():
    found = mm.retrieval(torch.ones(5, 3), torch.ones(9, 3))
    assert found.ranks.tolist() == [5.0] * 5
    assert found.recall[1] == 0


@given(seed=seeds)
def test_every_dtype_and_scale_finds_its_own_row(seed):
    x = normal(seed, 40, 8)
    for scale in (1e-30, 1.0, 1e30):
        for dtype in (torch.float64, torch.float32, torch.bfloat16):
            found = mm.retrieval((x * scale).to(dtype), (x * scale).to(dtype))
            assert found.median_rank == 1
            assert found.recall[1] == 1


def test_without_anchors_or_candidates_all_numbers_are_0():
    nothing = torch.zeros(0, 3)
    for x, y in ((nothing, nothing), (nothing, torch.ones(2, 3))):
        found = mm.retrieval(x, y, torch.zeros(0, dtype=torch.int64))
        assert found.ranks.shape == (0,)
        assert found.mrr == found.median_rank == found.recall[5] == 0
    found = mm.retrieval(torch.ones(2, 3), nothing, torch.tensor([-100, -100]))
    assert found.ranks.tolist() == [0, 0]
    assert not found.counted.any()


def test_no_matrix_of_all_similarities_exists():
    x, y = normal(1, 4096, 4), normal(2, 4096, 4)
    with Made() as made:
        mm.retrieval(x, y)
    assert made.largest <= 2**20


@pytest.mark.parametrize("several", [False, True])
@pytest.mark.parametrize("spoilt", ["anchors", "candidates"])
def test_what_is_no_number_is_found_last_where_it_cannot_be_refused(spoilt, several):
    """Under a compiler a model that has diverged does not look as if it were perfect."""
    x, y = normal(1, 6, 3), normal(2, 6, 3)
    (x if spoilt == "anchors" else y)[:] = torch.nan
    mask = torch.eye(6, dtype=torch.bool) if several else None
    call = torch.compile(mm.retrieval, backend="eager", fullgraph=True)
    found = call(x, y, positives=mask, ks=(1,))
    assert (found.ranks >= 3.5).all()
    assert found.recall[1] == 0
    assert found.mrr < 0.3


retrieval_module = sys.modules["mmcontrast.retrieval"]  # the package has the function there


@pytest.mark.parametrize("copies", [False, True])
def test_a_large_batch_is_counted_in_tiles(monkeypatch, copies):
    """Unless candidates are equal, which have to tie."""
    x, y = torch.randn(2, 30, 5, generator=torch.Generator().manual_seed(1)).double()
    y[3] = y[7] if copies else y[3]
    expected, targets = mm.retrieval(x, y, chunk_size=4), torch.arange(30)
    targets[5] = -100
    monkeypatch.setattr(sizes, "RANKED", 1)
    monkeypatch.setattr(sizes, "WIDE", (7, 4))
    calls, made = [], retrieval_module.partner_ranks_in_tiles
    monkeypatch.setattr(
        retrieval_module, "partner_ranks_in_tiles", lambda *a: calls.append(1) or made(*a)
    )
    found = mm.retrieval(x, y, targets)
    assert len(calls) == (not copies)
    assert found.ranks[5] == 0
    assert torch.equal(found.ranks[targets >= 0], expected.ranks[targets >= 0])


def test_the_summary_names_every_mean():
    x = normal(1, 8, 3)
    lines = mm.retrieval(x, x, ks=(1, 3)).summary().splitlines()
    assert [line.rsplit(maxsplit=1)[0].strip() for line in lines] == [
        *("recall at 1", "recall at 3", "mean reciprocal rank", "mean average precision"),
        "median rank",
    ]
    assert lines[0].endswith("100.0%")


X = torch.ones(3, 2)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: mm.retrieval(X[0], X), "anchors: expected shape"),
        (lambda: mm.retrieval(X, X[:, :1]), "candidates: expected shape"),
        (lambda: mm.retrieval(X, X[:2]), "candidates: expected at least 3 rows"),
        (lambda: mm.retrieval(X, X, torch.tensor([0, 1, 3])), "targets: expected indices"),
        (lambda: mm.retrieval(X, X, ks=(0,)), "ks: expected an int of at least 1, got 0"),
        (lambda: mm.retrieval(X, X, ks=5), "ks: expected several ints of at least 1, got 5"),
        (lambda: mm.retrieval(X, X, positives=X), "positives: expected shape"),
        (lambda: mm.retrieval(X, X / 0), "candidates: expected finite rows"),
        (
            lambda: mm.retrieval(X, X, torch.zeros(3).long(), positives=torch.ones(3, 3).bool()),
            "targets: expected None where positives are given",
        ),
    ],
)
def test_bad_arguments_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize("wide", ["anchors", "candidates"])
def test_a_large_batch_of_two_dtypes_is_computed_in_the_wider_one(wide):
    rows = {"anchors": normal(1, 450, 3), "candidates": normal(2, 450, 3)}
    rows = {name: x.double() if name == wide else x.float() for name, x in rows.items()}
    found = mm.retrieval(**rows, normalize=None)
    expected = mm.retrieval(*(x.double() for x in rows.values()), normalize=None)
    assert found.ranks.dtype == torch.float64
    assert torch.equal(found.ranks, expected.ranks)
