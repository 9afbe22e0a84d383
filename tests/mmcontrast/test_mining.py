"""Miners against float64 loops: who is picked, in which order, with which weight."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import mmcontrast as mm
from mmcontrast.exact import sizes
from tests import oracles
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


# --- one of many, the extreme one, hard triplets -------------------------------------------------


@given(
    seed=seeds, n=st.integers(1, 6), m=st.integers(1, 6), largest=st.booleans(), ties=st.booleans()
)
def test_extreme_agrees_with_the_oracle(seed, n, m, largest, ties):
    similarity = with_ties(seed, n, m) if ties else normal(seed, n, m)
    chosen = mask(seed + 1, n, m)
    index, found = mm.extreme(similarity, chosen, largest=largest)
    assert index.dtype == torch.int64
    for i in range(n):
        available = [j for j in range(m) if chosen[i, j]]
        sign = -1 if largest else 1
        order = oracles.lowest([sign * similarity[i, j].item() for j in available], 1)
        assert found[i].item() == bool(available)
        assert index[i].item() == (available[order[0]] if available else 0)


@given(seed=seeds, n=st.integers(1, 6), m=st.integers(1, 6))
def test_sample_one_returns_a_member_of_each_row(seed, n, m):
    chosen = mask(seed, n, m)
    index, found = mm.sample_one(chosen, generator=rng(seed))
    assert torch.equal(found, chosen.any(dim=1))
    assert chosen[found, index[found]].all()
    assert (index[~found] == 0).all()
    again, _ = mm.sample_one(chosen, generator=rng(seed))
    assert torch.equal(index, again)


def test_sample_one_is_uniform():
    """Chi-square of 20 000 draws over 5 of 8 entries; 4 degrees of freedom, 34 is 1 in 10^6."""
    chosen = torch.tensor([0, 1, 1, 0, 1, 1, 0, 1]).bool().expand(20_000, 8)
    index, _ = mm.sample_one(chosen, generator=rng(3))
    counts = torch.bincount(index, minlength=8)[[1, 2, 4, 5, 7]].double()
    assert counts.sum() == 20_000
    assert ((counts - 4000).square() / 4000).sum() < 34


@given(seed=seeds, n=st.integers(1, 8), classes=st.integers(1, 3), unit=st.booleans())
def test_hard_triplets_agree_with_the_oracle(seed, n, classes, unit):
    x, ids = normal(seed, n, 3), labels(seed, n, classes, ignored=0.2)
    a, p, q = mm.hard_triplets(x, ids, normalize=mm.l2_normalize if unit else None)
    expected = oracles.hard_triplets(numpy(x), numpy(ids), normalize="l2" if unit else None)
    assert list(zip(a.tolist(), p.tolist(), q.tolist(), strict=True)) == expected


@given(seed=seeds, n=st.integers(1, 7))
def test_hard_triplets_break_ties_by_lower_index(seed, n):
    x = torch.eye(2, dtype=torch.float64)[torch.randint(0, 2, (n,), generator=rng(seed))]
    ids = labels(seed, n)
    found = zip(*[v.tolist() for v in mm.hard_triplets(x, ids)], strict=True)
    assert list(found) == oracles.hard_triplets(numpy(x), numpy(ids))


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
    for found, expected in zip(
        mm.hard_negatives(x, y, 7, chunk_size=chunk_size, **options), whole, strict=True
    ):
        assert torch.equal(found, expected)


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


@given(
    seed=seeds,
    data=st.data(),
    n=st.integers(1, 9),
    classes=st.integers(1, 4),
    ties=st.booleans(),
    group=st.sampled_from([2, 3, 64]),
)
def test_hard_triplets_agree_with_the_oracle_for_every_chunk_size(
    seed, data, n, classes, ties, group
):
    chunk_size = data.draw(st.integers(1, n + 1))
    x = with_ties(seed, n, 3) if ties else normal(seed, n, 3)
    ids = labels(seed, n, classes, ignored=0.2)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sizes, "GROUP", group)
        found = mm.hard_triplets(x, ids, normalize=None, chunk_size=chunk_size)
    expected = oracles.hard_triplets(numpy(x), numpy(ids), normalize=None)
    assert list(zip(*[v.tolist() for v in found], strict=True)) == expected


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


@given(st.integers(0, 10**6), st.booleans())
def test_the_extreme_is_one_of_the_mask_and_a_number(seed, largest):
    source = torch.Generator().manual_seed(seed)
    values = torch.tensor([0.0, 1.0, math.inf, -math.inf, math.nan])
    similarity = values[torch.randint(0, 5, (4, 3), generator=source)]
    mask = torch.randint(0, 2, (4, 3), generator=source).bool()
    index, found = mm.extreme(similarity, mask, largest=largest)
    for row in range(4):
        among = [j for j in range(3) if mask[row, j] and not similarity[row, j].isnan()]
        assert found[row] == bool(among)
        best = max if largest else min
        expected = best(among, key=lambda j: similarity[row, j].item()) if among else 0
        assert index[row] == expected
