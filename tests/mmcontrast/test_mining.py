"""Miners against float64 loops: who is picked, in which order, with which weight."""

import functools
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import mmcontrast as mm
from mmcontrast.exact import sizes
from tests import oracles
from tests.mmcontrast.memory import Made
from tests.mmcontrast.strategies import (
    close,
    labels,
    leaf,
    mask,
    normal,
    numpy,
    pairs,
    rng,
    seeds,
    with_ties,
)

# --- hard negatives ------------------------------------------------------------------------------


def check_hard_negatives(found, expected, n, width):
    assert found.indices.shape == found.scores.shape == found.valid.shape == (n, width)
    assert found.indices.dtype == torch.int64
    assert found.valid.dtype == torch.bool
    for i, row in enumerate(expected):
        assert found.valid[i].tolist() == [k < len(row) for k in range(width)]
        assert found.indices[i].tolist() == [j for j, _ in row] + [0] * (width - len(row))
        close(found.scores[i], [s for _, s in row] + [0.0] * (width - len(row)))


@given(
    pair=pairs(),
    seed=seeds,
    k=st.integers(1, 9),
    own=st.sampled_from(["diagonal", "targets", "nobody"]),
    limited=st.booleans(),
    normalize=st.sampled_from(["l2", "softmax", None]),
    chunk_size=st.none() | st.integers(1, 7),
)
def test_hard_negatives_agree_with_the_oracle(pair, seed, k, own, limited, normalize, chunk_size):
    x, y = (v / v.abs().max() for v in pair)
    n, m = len(x), len(y)
    targets = {
        "diagonal": None,
        "targets": torch.randint(0, m, (n,), generator=rng(seed)),
        "nobody": torch.full((n,), -100),
    }[own]
    allowed = mask(seed + 1, n, m) if limited else None
    maps = {"l2": mm.l2_normalize, "softmax": mm.softmax_normalize, None: None}
    found = mm.hard_negatives(
        x,
        y,
        k,
        targets=targets,
        allowed=allowed,
        normalize=maps[normalize],
        chunk_size=chunk_size,
    )
    width = min(k, m - 1)
    expected = oracles.hard_negatives(
        numpy(x), numpy(y), width, targets=targets, allowed=allowed, normalize=normalize
    )
    check_hard_negatives(found, expected, n, width)


@given(seed=seeds, n=st.integers(2, 6), k=st.integers(1, 6), chunk_size=st.none() | st.just(2))
def test_law_51_ties_go_to_the_lower_index(seed, n, k, chunk_size):
    """Rows from a few directions: many candidates are exactly equally similar."""
    y = torch.eye(3, dtype=torch.float64)[torch.randint(0, 3, (n,), generator=rng(seed))]
    found = mm.hard_negatives(y, y, k, chunk_size=chunk_size)
    width = min(k, n - 1)
    check_hard_negatives(found, oracles.hard_negatives(numpy(y), numpy(y), width), n, width)


@given(seed=seeds, n=st.integers(2, 7), k=st.integers(1, 9))
def test_law_37_and_paper_mining(seed, n, k):
    """Never oneself; what is returned is at least as similar as what is not; nested in k."""
    x, y = normal(seed, n, 3), normal(seed + 1, n, 3)
    found, similarity = mm.hard_negatives(x, y, k), mm.l2_normalize(x) @ mm.l2_normalize(y).T
    assert found.indices.shape == (n, min(k, n - 1))
    assert found.valid.all()
    for i in range(n):
        picked = set(found.indices[i].tolist())
        rest = set(range(n)) - picked - {i}
        assert i not in picked
        assert len(picked) == min(k, n - 1)
        if rest:
            assert similarity[i, list(picked)].min() >= similarity[i, list(rest)].max()
    assert (found.scores.diff(dim=1) <= 0).all()
    fewer = mm.hard_negatives(x, y, 1)
    assert torch.equal(fewer.indices, found.indices[:, :1])


@given(seed=seeds, n=st.integers(2, 5))
def test_law_37_the_loss_on_the_mined_grows_with_k_up_to_the_whole(seed, n):
    x, y = normal(seed, n, 3), normal(seed + 1, n, 3)
    whole, before = mm.info_nce(x, y), 0.0
    for k in range(1, n):
        picked = mm.hard_negatives(x, y, k)
        keep = torch.eye(n, dtype=torch.bool).scatter(1, picked.indices, True)
        value = mm.info_nce(x, y, keep=keep)
        assert value >= before
        assert value <= whole + 1e-12
        before = value
    close(before, whole)


def test_the_partner_leaves_before_the_k_are_counted():
    """PAPERS T4: the most similar candidate is the partner, and one negative still comes back."""
    y = normal(1, 4, 3)
    found = mm.hard_negatives(y, y, 1)
    assert found.valid.all()
    assert (found.indices[:, 0] != torch.arange(4)).all()


@pytest.mark.parametrize("width", [6, 100, 130])
@pytest.mark.parametrize("ties", [False, True])
def test_what_is_found_can_be_viewed_in_any_shape(width, ties):
    x, y = (with_ties if ties else normal)(1, 6, 3), normal(2, width, 3)
    for value in mm.hard_negatives(x, x if ties else y, 3):
        assert value.is_contiguous()


@pytest.mark.parametrize("width", [sizes.TOPK, sizes.TOPK + 1])
@pytest.mark.parametrize("k", [1, 5])
def test_ties_at_the_edge_of_the_k_go_to_the_lower_index(width, k):
    """The k highest fall strictly, and only the next is the last one's equal."""
    scores = torch.full((1, width), -1.0, dtype=torch.float64)
    order = torch.randperm(width, generator=rng(width))[: k + 1]
    scores[0, order] = torch.arange(k + 1, 0, -1).double()
    scores[0, order[k]] = 2.0
    last = min(int(order[k - 1]), int(order[k]))
    found = mm.hard_negatives(
        torch.ones(1, 1).double(), scores.T, k, exclude_positive=False, normalize=None
    )
    assert found.indices[0].tolist() == [*order[: k - 1].tolist(), last]


def test_one_candidate_leaves_nothing_to_find():
    found = mm.hard_negatives(normal(1, 1, 3), normal(2, 1, 3), 5)
    assert found.indices.shape == found.scores.shape == found.valid.shape == (1, 0)


def test_allowed_as_a_label_mask_finds_other_classes_only():
    classes = torch.tensor([0, 1, 0, 1])
    x = normal(3, 4, 3)
    found = mm.hard_negatives(x, x, 3, allowed=mm.different_label(classes))
    assert found.valid.sum(dim=1).tolist() == [2, 2, 2, 2]
    assert (classes[found.indices] != classes[:, None])[found.valid].all()
    assert (found.indices[~found.valid] == 0).all()
    assert (found.scores[~found.valid] == 0).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_mining_in_low_precision_is_mining_in_float64(dtype):
    x, y = normal(4, 6, 3).to(dtype), normal(5, 6, 3).to(dtype)
    found, exact = mm.hard_negatives(x, y, 3), mm.hard_negatives(x.double(), y.double(), 3)
    assert torch.equal(found.indices, exact.indices)
    assert found.scores.dtype == torch.float32
    close(found.scores, exact.scores, atol=1e-5)


def test_rows_of_two_precisions_meet_in_the_higher_one():
    x, y = normal(4, 6, 3).float(), normal(5, 6, 3)
    found, exact = (mm.hard_negatives(v, y, 3, normalize=None) for v in (x, x.double()))
    for value, expected in zip(found, exact, strict=True):
        assert value.dtype == expected.dtype
        assert torch.equal(value, expected)


def test_law_23_zero_rows_are_as_similar_as_orthogonal_ones():
    x = torch.zeros(3, 2)
    found = mm.hard_negatives(x, x, 2)
    assert found.indices.tolist() == [[1, 2], [0, 2], [0, 1]]
    assert (found.scores == 0).all()


def test_miners_are_detached():
    x = leaf(normal(6, 5, 3))
    similarity = x @ x.T
    positives, negatives = mask(1, 5, 5), mask(2, 5, 5)
    assert not mm.hard_negatives(x, x, 2).scores.requires_grad
    for weights in mm.hardness_weights(similarity, positives, negatives):
        assert not weights.requires_grad


@pytest.mark.parametrize("size", [1e-25, 1e20, 3e37])
@pytest.mark.parametrize("chunk_size", [None, 2])
def test_products_of_raw_rows_are_ranked_whatever_their_size(size, chunk_size):
    """As float32 they would all be 0, or infinite."""
    x = normal(1, 9, 4)
    ids = torch.arange(9) % 3
    raw = (x * size).float()
    options = {"normalize": None, "chunk_size": chunk_size}
    found, expected = (mm.hard_negatives(v, v, 4, **options) for v in (raw, x))
    assert torch.equal(found.indices, expected.indices)
    assert found.valid.all()
    assert found.scores.dtype == torch.float32
    assert found.scores.isfinite().all()
    for index, other in zip(
        mm.hard_triplets(raw, ids, **options), mm.hard_triplets(x, ids, **options), strict=True
    ):
        assert torch.equal(index, other)


# --- wrong calls ---------------------------------------------------------------------------------

X, Y = torch.ones(3, 2), torch.ones(4, 2)
S, P = torch.rand(2, 3), torch.ones(2, 3).bool()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: mm.hard_negatives(X, Y, 0), "k: expected .*got 0"),
        (lambda: mm.hard_negatives(X, Y, -1), "k: expected .*got -1"),
        (lambda: mm.hard_negatives(X, Y, 1.5), "k: expected .*got 1.5"),
        (lambda: mm.hard_negatives(X[0], Y, 1), r"anchors: expected .*got .*\(2,\)"),
        (lambda: mm.hard_negatives(X.long(), Y, 1), "anchors: expected .*float.*got .*int64"),
        (lambda: mm.hard_negatives(X, torch.ones(4, 3), 1), r"candidates: .*2.*got .*\(4, 3\)"),
        (lambda: mm.hard_negatives(Y, X, 1), "candidates: expected .*4.*got"),
        (
            lambda: mm.hard_negatives(X, Y, 1, targets=torch.tensor([0, 4, 0])),
            "targets: expected .*3.*got .*4",
        ),
        (
            lambda: mm.hard_negatives(X, Y, 1, targets=torch.zeros(2).long()),
            r"targets: expected .*3.*got .*\(2,\)",
        ),
        (
            lambda: mm.hard_negatives(X, Y, 1, allowed=torch.ones(3, 3).bool()),
            r"allowed: expected .*\(3, 4\).*got .*\(3, 3\)",
        ),
        (
            lambda: mm.hard_negatives(X, Y, 1, allowed=torch.ones(3, 4)),
            "allowed: expected .*bool.*got .*float32",
        ),
        (lambda: mm.hard_negatives(X, Y, 1, chunk_size=0), "chunk_size: expected .*got 0"),
        (lambda: mm.sample_one(S), "mask: expected .*bool.*got .*float32"),
        (lambda: mm.sample_one(P[0]), r"mask: expected .*got .*\(3,\)"),
        (lambda: mm.extreme(S, P[:1], largest=True), r"mask: expected .*\(2, 3\).*got .*\(1, 3\)"),
        (lambda: mm.extreme(P, P, largest=True), "similarity: expected .*float.*got .*bool"),
        (lambda: mm.hard_triplets(X, torch.zeros(2)), r"labels: expected .*3.*got .*\(2,\)"),
        (lambda: mm.hard_triplets(X.long(), X[:, 0]), "anchors: expected .*float.*got .*int64"),
    ],
)
def test_wrong_calls(call, message):
    with pytest.raises(ValueError, match=message):
        call()


# --- the partner among the hard negatives (PAPERS T4) --------------------------------------------


@given(
    seed=seeds,
    n=st.integers(1, 6),
    extra=st.integers(0, 3),
    k=st.integers(1, 9),
    own=st.sampled_from(["diagonal", "targets", "nobody"]),
    limited=st.booleans(),
    ties=st.booleans(),
    exclude_positive=st.sampled_from(["after", False]),
    chunk_size=st.none() | st.integers(1, 4),
)
def test_the_partner_goes_afterwards_or_stays(
    seed, n, extra, k, own, limited, ties, exclude_positive, chunk_size
):
    m = n + extra
    x, y = normal(seed, n, 3), normal(seed + 1, m, 3)
    if ties:
        y = torch.eye(3, dtype=torch.float64)[torch.randint(0, 3, (m,), generator=rng(seed))]
    targets = {
        "diagonal": None,
        "targets": torch.randint(0, m, (n,), generator=rng(seed)),
        "nobody": torch.full((n,), -100),
    }[own]
    allowed = mask(seed + 2, n, m) if limited else None
    found = mm.hard_negatives(
        x,
        y,
        k,
        targets=targets,
        allowed=allowed,
        exclude_positive=exclude_positive,
        chunk_size=chunk_size,
    )
    width = min(k, m)
    expected = oracles.ranked_candidates(
        numpy(x),
        numpy(y),
        width,
        targets=targets,
        allowed=allowed,
        after=exclude_positive == "after",
    )
    assert found.indices.shape == found.scores.shape == found.valid.shape == (n, width)
    for i, row in enumerate(expected):
        row = row + [None] * (width - len(row))
        assert found.valid[i].tolist() == [place is not None for place in row]
        assert found.indices[i].tolist() == [0 if place is None else place[0] for place in row]
        close(found.scores[i], [0.0 if place is None else place[1] for place in row])


def test_the_partner_afterwards_leaves_one_negative_less_where_it_ranks():
    """PAPERS T4: k = 1 on an aligned batch leaves an empty pool, and the gate keeps everybody."""
    y = normal(1, 4, 3)
    after = mm.hard_negatives(y, y, 1, exclude_positive="after")
    assert not after.valid.any()
    own = torch.arange(4)
    assert torch.equal(mm.hard_negatives(y, y, 1, exclude_positive=False).indices[:, 0], own)
    assert torch.equal(mm.replacement_gate(after, probability=1.0).source, own)
    first, three = mm.hard_negatives(y, y, 2), mm.hard_negatives(y, y, 3, exclude_positive="after")
    assert torch.equal(three.indices[:, 1:], first.indices)


@pytest.mark.parametrize("own", [None, torch.tensor([3, 0, 2, 2, 6])])
@pytest.mark.parametrize("exclude_positive", [True, "after", False])
@pytest.mark.parametrize("chunk_size", [1, 2, 3])
def test_chunks_take_each_anchors_own_partner_out(chunk_size, exclude_positive, own):
    x, y = normal(2, 5, 3), normal(3, 7, 3)
    options = {"targets": own, "exclude_positive": exclude_positive}
    whole = mm.hard_negatives(x, y, 7, **options)
    found = mm.hard_negatives(x, y, 7, chunk_size=chunk_size, **options)
    assert torch.equal(found.indices, whole.indices)
    assert torch.equal(found.valid, whole.valid)
    close(found.scores, whole.scores)  # products of other sizes, which may round otherwise


@pytest.mark.parametrize("value", ["before", None, 1, 0])
def test_another_exclude_positive_is_refused(value):
    with pytest.raises(ValueError, match="exclude_positive: expected True, 'after' or False, got"):
        mm.hard_negatives(X, X, 1, exclude_positive=value)


# --- labels and blocks ---------------------------------------------------------------------------


@given(
    seed=seeds,
    n=st.integers(1, 8),
    extra=st.integers(0, 4),
    k=st.integers(1, 9),
    columns=st.booleans(),
    alone=st.booleans(),
    limited=st.booleans(),
    exclude_positive=st.sampled_from([True, "after", False]),
    chunk_size=st.none() | st.integers(1, 9),
    group=st.sampled_from([2, 3, 64]),
)
def test_labels_are_the_mask_of_different_labels(
    seed, n, extra, k, columns, alone, limited, exclude_positive, chunk_size, group
):
    m = n if alone else n + extra
    ids, theirs = labels(seed, n, 3, 0.2), labels(seed + 1, m, 3, 0.2)
    if columns:
        ids, theirs = (torch.stack([v, v % 2], dim=1).double() for v in (ids, theirs))
        ids[0] = torch.nan
    if alone:
        theirs = ids
    x, y = with_ties(seed, n, 3), with_ties(seed + 1, m, 3)
    allowed = mask(seed + 2, n, m) if limited else None
    different = mm.different_label(ids, theirs)
    options = {"normalize": None, "exclude_positive": exclude_positive}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sizes, "GROUP", group)
        found = mm.hard_negatives(
            x,
            y,
            k,
            labels=ids,
            candidate_labels=None if alone else theirs,
            allowed=allowed,
            chunk_size=chunk_size,
            **options,
        )
    both = different if allowed is None else different & allowed
    for value, expected in zip(
        found, mm.hard_negatives(x, y, k, allowed=both, **options), strict=True
    ):
        assert torch.equal(value, expected)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: mm.hard_negatives(X, Y, 1, candidate_labels=torch.zeros(4)),
            "labels: expected labels, as candidate_labels are given, got None",
        ),
        (lambda: mm.hard_negatives(X, Y, 1, labels=torch.zeros(2)), r"labels: .*3.*got .*\(2,\)"),
        (
            lambda: mm.hard_negatives(X, Y, 1, labels=torch.zeros(3)),
            r"candidate_labels: expected .*4.*got .*\(3,\)",
        ),
        (
            lambda: mm.hard_negatives(X, X, 1, labels=torch.zeros(3), candidate_labels=X),
            "candidate_labels: expected 1 labels",
        ),
        (lambda: mm.hard_triplets(X, torch.zeros(3), chunk_size=0), "chunk_size: .*got 0"),
    ],
)
def test_wrong_calls_of_the_blocks(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize(
    "call",
    [
        lambda x, ids: mm.hard_negatives(x, x, 1, group=1),
        lambda x, ids: mm.hard_triplets(x, ids, group=1),
    ],
)
def test_what_is_no_group_is_refused(call):
    with pytest.raises(ValueError, match='group: expected "world" or a process group'):
        call(leaf(normal(1, 4, 3)), torch.tensor([0, 0, 1, 1]))


# --- NaN and infinity ----------------------------------------------------------------------------


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("normalize", [mm.l2_normalize, None])
@pytest.mark.parametrize("chunk_size", [None, 2])
@pytest.mark.parametrize("labelled", [False, True])
def test_rows_that_are_not_finite_take_no_part(bad, normalize, chunk_size, labelled):
    """The same as zero rows that are not allowed, or not labelled."""
    anchors, candidates = normal(1, 6, 4), normal(2, 40, 4)
    labels, others = torch.arange(6) % 2, torch.arange(40) % 3
    allowed = torch.ones(6, 40, dtype=torch.bool)
    allowed[2], allowed[:, [3, 17]] = False, False
    spoilt, holes = anchors.clone(), candidates.clone()
    spoilt[2, 1], holes[[3, 17], 0] = bad, bad
    anchors[2], candidates[[3, 17]] = 0, 0
    given = {"normalize": normalize, "chunk_size": chunk_size}
    if labelled:
        given |= {"labels": labels, "candidate_labels": others}
    for exclude in (True, False, "after"):  # when the partner is removed
        found = mm.hard_negatives(spoilt, holes, 20, exclude_positive=exclude, **given)
        expected = mm.hard_negatives(
            anchors, candidates, 20, exclude_positive=exclude, allowed=allowed, **given
        )
        assert torch.equal(found.indices, expected.indices)
        assert torch.equal(found.valid, expected.valid)
        close(found.scores, expected.scores)
    given = {"normalize": normalize, "chunk_size": chunk_size}
    known = torch.where(torch.arange(6) == 2, -100, labels)
    for labels_given in (labels, labels[:, None], labels.double()):
        found = mm.hard_triplets(spoilt, labels_given, **given)
        for x, y in zip(found, mm.hard_triplets(anchors, known, **given), strict=True):
            assert torch.equal(x, y)


# --- distances, limits, blocks of candidates -----------------------------------------------------

LOOPS = {
    None: None,
    mm.euclidean: oracles.euclidean,
    mm.squared_euclidean: oracles.squared_euclidean,
    mm.manhattan: oracles.manhattan,
    mm.chebyshev: oracles.chebyshev,
}
optional = st.none() | st.sampled_from([0.0, 0.25, 0.5, 1.0, 2.0])


def on_a_grid(seed, n):
    """Rows whose dot products, distances and limits are exact, and often tie."""
    return torch.randint(-3, 4, (n, 2), generator=rng(seed)).double() / 2


@given(
    seed=seeds,
    n=st.integers(1, 6),
    extra=st.integers(0, 5),
    k=st.integers(1, 9),
    skip=st.integers(0, 3),
    own=st.sampled_from(["diagonal", "targets", "nobody"]),
    limited=st.booleans(),
    distance=st.sampled_from(list(LOOPS)),
    limits=st.fixed_dictionaries(
        {
            **{"below": optional, "above": optional, "margin": optional},
            "relative_margin": optional,
            "semi_hard": st.none() | st.sampled_from([0.25, 1.0, 3.0]),
        }
    ),
    chunk_size=st.none() | st.integers(1, 7),
)
def test_limits_and_distances_agree_with_the_oracle(
    seed, n, extra, k, skip, own, limited, distance, limits, chunk_size
):
    m = n + extra
    x, y = on_a_grid(seed, n), on_a_grid(seed + 1, m)
    targets = {
        "diagonal": None,
        "targets": torch.randint(0, m, (n,), generator=rng(seed)),
        "nobody": torch.full((n,), -100),
    }[own]
    given = {"targets": targets, "allowed": mask(seed + 2, n, m) if limited else None, "skip": skip}
    found = mm.hard_negatives(
        x, y, k, **given, **limits, distance=distance, normalize=None, chunk_size=chunk_size
    )
    width = max(min(k, m - 1 - skip), 0)
    expected = oracles.limited_candidates(
        numpy(x), numpy(y), width, distance=LOOPS[distance], **given, **limits
    )
    check_hard_negatives(found, expected, n, width)


@pytest.mark.parametrize("distance", [mm.cosine_distance, mm.Mahalanobis(torch.eye(4).double())])
def test_distances_that_are_not_exact_find_the_same(distance):
    x, y = normal(1, 30, 4), normal(2, 200, 4)
    truth = mm.pairwise(distance, x, y)
    truth[torch.arange(30), torch.arange(30)] = torch.inf
    values, order = truth.sort(dim=1)
    found = mm.hard_negatives(x, y, 5, distance=distance)
    assert torch.equal(found.indices, order[:, :5])
    close(found.scores, values[:, :5])


def test_a_distance_measures_rows_as_they_are():
    x, y = torch.tensor([[1.0, 0.0]]), torch.tensor([[9.0, 0.0], [8.0, 0.0], [1.0, 1.0]])
    own = torch.tensor([-100])
    assert mm.hard_negatives(x, y, 1, targets=own).indices.tolist() == [[0]]
    found = mm.hard_negatives(x, y, 2, targets=own, distance=mm.euclidean)
    assert found.indices.tolist() == [[2, 1]]
    assert found.scores.tolist() == [[1.0, 7.0]]


def test_nothing_is_mined_out_of_no_candidates():
    x, own = torch.randn(3, 4), torch.full((3,), -100)
    found = mm.hard_negatives(x, x[:0], 2, targets=own)
    assert [part.shape for part in found] == [(3, 0)] * 3


def the_same(found, expected):
    for value, other in zip(found, expected, strict=True):
        assert torch.equal(value, other)


SEARCHES = {
    "cosines": {},
    "raw": {"normalize": None},
    "distance": {"distance": mm.manhattan, "margin": 0.1},
    "labels": {"labels": torch.arange(20) % 3, "candidate_labels": torch.arange(300) % 3},
    "allowed": {"allowed": mask(3, 20, 300), "skip": 2, "exclude_positive": False},
    "targets": {"targets": torch.arange(20) * 14, "semi_hard": 0.5, "exclude_positive": "after"},
}


@pytest.mark.parametrize("options", SEARCHES.values(), ids=SEARCHES)
@pytest.mark.parametrize("source", ["array", "file", "tensor"])
def test_candidates_are_read_in_blocks_with_the_same_result(source, options, monkeypatch, tmp_path):
    x, y = normal(1, 20, 5).float(), normal(2, 300, 5).float()
    y[[7, 200]] = 0  # rows that another way of a row map takes care of
    y[[9, 280]] = y[30].clone()
    plain = mm.hard_negatives(x.double(), y.double(), 6, **options)
    given = {"array": y.numpy(), "tensor": y}.get(source)
    if source == "file":
        given = np.memmap(tmp_path / "rows", y.numpy().dtype, "w+", shape=(300, 5))
        given[:] = y.numpy()
        given = np.memmap(tmp_path / "rows", y.numpy().dtype, "r", shape=(300, 5))
    for columns in (64, 128, 1000):
        monkeypatch.setattr(sizes, "CORPUS_BLOCK", 5 * columns)
        monkeypatch.setattr(sizes, "CORPUS", 2)
        found = mm.hard_negatives(x, given, 6, **options)
        assert torch.equal(found.indices, plain.indices)
        assert torch.equal(found.valid, plain.valid)
        torch.testing.assert_close(found.scores, plain.scores.float())


@pytest.mark.parametrize("distance", [None, mm.euclidean, mm.cosine_distance, mm.manhattan])
@pytest.mark.parametrize("margin", [None, 0.1])
@pytest.mark.parametrize("dtypes", [(torch.bfloat16, torch.float64), (torch.float64, torch.half)])
def test_anchors_and_candidates_of_two_dtypes_meet_in_the_wider(dtypes, margin, distance):
    x, y = normal(1, 5, 4).to(dtypes[0]), normal(2, 90, 4).to(dtypes[1])
    plain = mm.hard_negatives(x.double(), y.double(), 3, margin=margin, distance=distance)
    for candidates in (y, y.numpy()):
        found = mm.hard_negatives(x, candidates, 3, margin=margin, distance=distance)
        assert torch.equal(found.indices, plain.indices)
        assert found.scores.dtype == torch.float64
        torch.testing.assert_close(found.scores, plain.scores, rtol=1e-6, atol=1e-6)


def test_no_more_of_an_array_than_a_block_is_in_memory(monkeypatch):
    monkeypatch.setattr(sizes, "CORPUS_BLOCK", 2**10)
    monkeypatch.setattr(sizes, "RANKED_BLOCK", 2**12)
    x, y = normal(1, 16, 8), normal(2, 5000, 8)
    for candidates, distance in ((y.numpy(), None), (y.numpy(), mm.euclidean)):
        with Made() as made:
            mm.hard_negatives(x, candidates, 3, distance=distance)
        assert made.largest <= 2**13 < 5000 * 8


@pytest.mark.parametrize("distance", [None, mm.euclidean, mm.chebyshev])
def test_equal_candidates_tie_across_blocks(distance, monkeypatch):
    monkeypatch.setattr(sizes, "CORPUS_BLOCK", 64 * 37)
    x, y = normal(1, 8, 37).float(), normal(2, 300, 37).float()
    y[[299, 170, 64, 3]] = x[:1] + 1e-3  # the closest of the first anchor, in four blocks
    y[100] = 0
    found = mm.hard_negatives(x, y.numpy(), 4, distance=distance, targets=torch.full((8,), -100))
    assert found.indices[0].tolist() == [3, 64, 170, 299]
    assert (found.scores[0] == found.scores[0, 0]).all()


def test_a_copy_of_the_partner_is_not_less_close_than_it():
    """Nor does it keep a margin, of 0 included where that is semi-hard's."""
    x, y = normal(1, 6, 37).float(), normal(2, 90, 37).float()
    y[80:86] = y[:6]
    for options in ({}, {"distance": mm.euclidean}):
        semi = mm.hard_negatives(x, y, 80, semi_hard=100.0, **options)
        assert not (semi.indices == 80 + torch.arange(6)[:, None])[semi.valid].any()
        assert semi.valid.any()
        at_least = mm.hard_negatives(x, y, 80, margin=0.0, **options)
        assert torch.equal(at_least.indices[:, 0], 80 + torch.arange(6))


@given(seed=seeds, k=st.integers(1, 4), skip=st.integers(0, 5))
def test_skip_leaves_out_the_first(seed, k, skip):
    x, y = normal(seed, 4, 3), normal(seed + 1, 7, 3)
    whole, found = mm.hard_negatives(x, y, k + skip), mm.hard_negatives(x, y, k, skip=skip)
    the_same(found, [part[:, skip:] for part in whole])
    assert all(part.is_contiguous() for part in found)


@given(seed=seeds, distance=st.sampled_from([None, mm.euclidean]), width=st.floats(0.01, 1.0))
def test_limits_hold_and_leave_nothing_out(seed, distance, width):
    """Law: what passes all limits is returned, and nothing else is."""
    x, y = normal(seed, 5, 3), normal(seed + 1, 9, 3)
    options = {"distance": distance, "normalize": None if distance else mm.l2_normalize}
    every = mm.hard_negatives(x, y, 9, exclude_positive=False, **options)
    scores = torch.zeros(5, 9).double().scatter(1, every.indices, every.scores)
    own = scores.diagonal()[:, None]
    sign = -1 if distance else 1
    passes = {
        "below": scores <= width,
        "above": scores >= width,
        "margin": sign * scores <= sign * own - width,
        "relative_margin": sign * scores <= sign * own - own.abs() * width,
        "semi_hard": (sign * scores < sign * own) & (sign * scores >= sign * own - width),
    }
    for name, truth in passes.items():
        found = mm.hard_negatives(x, y, 8, **{name: width}, **options)
        kept = torch.zeros(5, 9, dtype=torch.bool)
        for row, indices, valid in zip(kept, found.indices, found.valid, strict=True):
            row[indices[valid]] = True
        assert torch.equal(kept, truth & mm.off_diagonal(9)[:5]), name


def test_an_anchor_without_a_partner_has_no_margin_and_nothing_semi_hard():
    x, own = normal(1, 6, 3), torch.full((6,), -100)
    plain = mm.hard_negatives(x, x, 3, targets=own)
    for name in ("margin", "relative_margin"):
        found = mm.hard_negatives(x, x, 3, targets=own, **{name: 5.0})
        assert torch.equal(found.indices, plain.indices)
        assert found.valid.all()
    assert not mm.hard_negatives(x, x, 3, targets=own, semi_hard=5.0).valid.any()


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_partner_that_is_not_finite_is_none(bad):
    x, y = normal(1, 6, 3), normal(2, 20, 3)
    for options in ({"margin": 0.2}, {"semi_hard": 9.0}, {"margin": 0.2, "distance": mm.euclidean}):
        own = torch.arange(6)
        spoilt = y.clone()
        spoilt[4, 1] = bad
        found = mm.hard_negatives(x, spoilt, 5, **options)
        own[4] = -100
        allowed = torch.arange(20) != 4
        expected = mm.hard_negatives(x, y, 5, targets=own, allowed=allowed.expand(6, -1), **options)
        assert torch.equal(found.indices, expected.indices)
        assert torch.equal(found.valid, expected.valid)


@given(seed=seeds, k=st.integers(1, 5), more=st.integers(0, 4), skip=st.integers(0, 3))
def test_a_sample_is_of_the_hardest_and_keeps_their_order(seed, k, more, skip):
    x, y, sample = normal(seed, 6, 3), normal(seed + 1, 8, 3), k + more
    pool = mm.hard_negatives(x, y, sample, skip=skip, below=0.8)
    draw = {"skip": skip, "sample": sample, "below": 0.8}
    found = mm.hard_negatives(x, y, k, **draw, generator=rng(seed))
    the_same(found, mm.hard_negatives(x, y, k, **draw, generator=rng(seed)))
    assert torch.equal(found.valid.sum(1), pool.valid.sum(1).clamp_max(k))
    for one, valid, every, there in zip(
        found.indices, found.valid, pool.indices, pool.valid, strict=True
    ):
        drawn, among = one[valid].tolist(), every[there].tolist()
        assert drawn == [j for j in among if j in set(drawn)]
    if more == 0:
        the_same(found, mm.hard_negatives(x, y, k, skip=skip, below=0.8))


def test_a_sample_is_uniform():
    """Chi-square of 2 of 5 in 4000 rows; 4 degrees of freedom, 34 is 1 in 10^6."""
    x = torch.ones(4000, 1)
    y = torch.arange(1.0, 9.0)[:, None]
    found = mm.hard_negatives(
        *(x, y, 2),
        targets=torch.full((4000,), -100),
        normalize=None,
        skip=2,
        sample=5,
        generator=rng(1),
    )
    counts = torch.bincount(found.indices.flatten(), minlength=8)
    assert counts[[0, 6, 7]].tolist() == [0, 0, 0]
    assert ((counts[1:6] - 1600).square() / 1600).sum() < 34
    assert (found.indices[:, 0] > found.indices[:, 1]).all()


@pytest.mark.parametrize("k", [1, 3])
@pytest.mark.parametrize("candidates", [0, 1, 2])
def test_few_candidates_leave_few_negatives(k, candidates):
    x, y = normal(1, 2, 3), normal(2, candidates, 3)
    given = {"targets": torch.full((2,), -100), "exclude_positive": False}
    for options in ({"margin": 0.1}, {"distance": mm.euclidean}, {"sample": 5}, {"skip": 1}):
        for rows in (y, y.numpy()):
            found = mm.hard_negatives(x, rows, k, **given, **options)
            width = max(min(k, candidates - options.get("skip", 0)), 0)
            assert found.indices.shape == (2, width)
            assert found.valid.all()
        if "sample" not in options:  # vmap has to be told of random draws
            mine = functools.partial(mm.hard_negatives, k=k, **given, **options)
            assert torch.vmap(mine)(x[None], y[None]).indices.shape == (1, 2, width)
    assert mm.hard_negatives(x[:0], y.numpy(), k, distance=mm.euclidean).indices.shape[0] == 0


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_distances_in_low_precision_are_those_in_float64(dtype):
    x, y = normal(4, 6, 3).to(dtype), normal(5, 90, 3).to(dtype)
    for options in ({"distance": mm.euclidean}, {"margin": 0.1, "normalize": None}):
        found = mm.hard_negatives(x, y, 3, **options)
        exact = mm.hard_negatives(x.double(), y.double(), 3, **options)
        assert torch.equal(found.indices, exact.indices)
        assert found.scores.dtype == torch.float32
        close(found.scores, exact.scores, atol=1e-6)


def compiled_search(x, y):
    near = mm.hard_negatives(x, y, 3, distance=mm.euclidean, margin=0.1, below=9.0)
    cosine = mm.hard_negatives(x, y, 3, semi_hard=0.5, skip=1)
    own = mm.hard_negatives(x, y, 3, distance=lambda a, b: (a - b).abs().amax(-1), above=0.1)
    return *near, *cosine, *own, *mm.hard_triplets(x, torch.arange(9) % 2, distance=mm.manhattan)


def test_compiled_and_transformed_searches_find_the_same():
    x, y = normal(1, 9, 3), normal(2, 12, 3)
    expected = compiled_search(x, y)
    torch._dynamo.reset()
    compiled = torch.compile(compiled_search, fullgraph=True, backend="aot_eager")
    for value, truth in zip(compiled(x, y), expected, strict=True):
        torch.testing.assert_close(value, truth)
    for value, truth in zip(torch.vmap(compiled_search)(x[None], y[None]), expected, strict=True):
        torch.testing.assert_close(value[0], truth)


A = np.ones((4, 2), dtype=np.float32)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: mm.hard_negatives(X, Y, 1, skip=-1), "skip: expected an int of at least 0, got"),
        (
            lambda: mm.hard_negatives(X, Y, 2, sample=1),
            "sample: expected an int of at least 2",
        ),
        (lambda: mm.hard_negatives(X, Y, 1, semi_hard=0.0), "semi_hard: expected .*above 0, got"),
        (lambda: mm.hard_negatives(X, Y, 1, below="x"), "below: expected a number or None, got"),
        (lambda: mm.hard_negatives(X, Y, 1, margin=math.nan), "margin: expected a number or None"),
        (
            lambda: mm.hard_negatives(X, Y, 1, distance="l2"),
            "distance: expected a function of",
        ),
        (
            lambda: mm.hard_negatives(
                X, Y, 1, distance=mm.euclidean, normalize=mm.softmax_normalize
            ),
            "normalize: expected None beside a distance, .*got",
        ),
        (
            lambda: mm.hard_negatives(X, Y, 1, distance=lambda a, b: a),
            r"distance: expected shape \(3, 1\) from it|distance: expected shape",
        ),
        (lambda: mm.hard_negatives(X, A[:, :1], 1), r"candidates: .*2\), got an array \(4, 1\)"),
        (lambda: mm.hard_negatives(X, A[0], 1), r"candidates: .*2\), got an array \(2,\)"),
        (lambda: mm.hard_negatives(X, A.astype(int), 1), "candidates: .*float16.*got an array"),
        (lambda: mm.hard_negatives(X, A[:2], 1), "candidates: expected at least 3 rows"),
    ],
)
def test_wrong_calls_of_a_search(call, message):
    with pytest.raises(ValueError, match=message):
        call()
