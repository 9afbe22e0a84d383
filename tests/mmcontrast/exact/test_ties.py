"""Equal rows tie, wherever they stand and in whatever blocks they are compared."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import mmcontrast as mm
from mmcontrast.exact import sizes
from mmcontrast.exact.ties import first_equal, map_equal_rows, share_scores, tied_dot
from tests.examples import as_many
from tests.mmcontrast.strategies import close, normal, seeds

DTYPES = [torch.float64, torch.float32, torch.bfloat16, torch.float16]
MATRIX = normal(99, 40, 3)
MAPS = {
    "l2": mm.l2_normalize,
    "softmax": mm.softmax_normalize,
    "none": None,
    "matrix": lambda x: x @ MATRIX[: x.shape[1]].to(x.dtype),
}


def repeated(seed, size, width, dtype, kinds=3):
    """Rows of few kinds, and each one's kind."""
    generator = torch.Generator().manual_seed(seed)
    kind = torch.randint(kinds, (size,), generator=generator)
    return normal(seed, kinds, width).to(dtype)[kind], kind


def first_of_kind(kind):
    return torch.tensor([kind.tolist().index(k) for k in kind.tolist()], dtype=torch.int64)


@given(seed=seeds, size=st.integers(2, 40), width=st.integers(1, 40), piece=st.integers(1, 99))
@pytest.mark.parametrize("dtype", DTYPES)
def test_the_first_of_equal_rows(dtype, seed, size, width, piece):
    x, kind = repeated(seed, size, width, dtype)
    expected = first_of_kind(kind)
    before, sizes.BLOCK = sizes.BLOCK, piece
    try:
        found = first_equal(x)
    finally:
        sizes.BLOCK = before
    if len(set(kind.tolist())) == size:
        assert found is None
    else:
        assert torch.equal(found, expected)
    strided = x.mT.contiguous().mT
    again = first_equal(strided)
    assert again is found is None or torch.equal(again, found)


def test_rows_with_the_same_sum_are_no_equal_rows(monkeypatch):
    """Where sums coincide, the rows decide; and zeros are equal whatever their sign, NaN never."""
    x = torch.tensor([[1.0, 2.0], [2.0, 1.0], [1.0, 2.0], [0.0, -0.0], [-0.0, 0.0]])
    ones = "mmcontrast.exact.ties._spread", lambda width, *_: torch.ones(width).double()
    monkeypatch.setattr(*ones)
    assert first_equal(x).tolist() == [0, 1, 0, 3, 3]
    assert first_equal(torch.tensor([[torch.nan], [torch.nan]])) is None
    assert first_equal(torch.zeros(0, 3)) is None


def test_all_that_differ_are_told_apart():
    """Unit vectors, permutations and neighbours in the last digit: none is another's equal."""
    x = torch.cat([torch.eye(64), torch.full((1, 64), 0.3), torch.full((1, 64), 0.3)])
    x[-1, 17] = x[-1, 17].nextafter(torch.tensor(1.0))
    assert first_equal(x) is None
    assert first_equal(torch.tensor([[1.0, 2.0], [2.0, 1.0], [1.5, 1.5]])) is None


def test_under_a_compiler_and_a_transform_it_is_the_same():
    x, _ = repeated(3, 9, 4, torch.float32)
    expected = first_equal(x)
    torch._dynamo.reset()
    assert torch.equal(torch.compile(first_equal, fullgraph=True, backend="eager")(x), expected)
    assert torch.equal(torch.vmap(first_equal)(torch.stack([x, x]))[1], expected)


@settings(max_examples=as_many(10))
@given(seed=seeds, size=st.integers(2, 24), width=st.integers(2, 40), data=st.data())
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", MAPS)
def test_miners_order_equal_rows_by_index_for_every_chunk_size(
    name, dtype, seed, size, width, data
):
    candidates, kind = repeated(seed, size, width, dtype)
    anchors = repeated(seed + 1, size, width, dtype)[0]
    labels = torch.arange(size) % 3
    chunk_size = data.draw(st.sampled_from([None, *range(1, size + 1)]))
    options = {"normalize": MAPS[name], "chunk_size": chunk_size}
    for targets in (None, torch.full((size,), -100)):
        ranked = mm.hard_negatives(anchors, candidates, size, targets=targets, **options)
        for row, there in zip(ranked.indices, ranked.valid, strict=True):
            row = row[there]
            for k in range(3):  # all of one kind: one run, in ascending order
                places = (kind[row] == k).nonzero()[:, 0].tolist()
                of_kind = row[kind[row] == k].tolist()
                assert of_kind == sorted(of_kind)
                assert places == list(range(places[0], places[0] + len(places))) if places else True
    a, p, n = mm.hard_triplets(candidates, labels, **options)
    for i in a.tolist():
        same = [j for j in a.tolist() if labels[j] == labels[i] and j != i]
        others = [j for j in a.tolist() if labels[j] != labels[i]]
        if p[i] != i:
            assert p[i] == min(j for j in same if kind[j] == kind[p[i]])
            assert n[i] == min(j for j in others if kind[j] == kind[n[i]])


@pytest.mark.parametrize("chunk_size", [None, 1, 2, 3, 4, 5])
@pytest.mark.parametrize("width", [1, 3, 8, 33])
def test_rows_that_are_all_equal(chunk_size, width):
    x = normal(width, 1, width).float().expand(5, -1).clone()
    ranked = mm.hard_negatives(x, x, 1, chunk_size=chunk_size)
    assert ranked.indices[:, 0].tolist() == [1, 0, 0, 0, 0]
    _, p, n = mm.hard_triplets(x, torch.tensor([0, 1, 0, 1, 0]), chunk_size=chunk_size)
    assert p.tolist() == [2, 3, 0, 1, 0]
    assert n.tolist() == [1, 0, 1, 0, 1]


@given(seed=seeds, size=st.integers(2, 24), width=st.integers(1, 40))
def test_a_partner_with_a_twin_is_never_found(seed, size, width):
    """Strictly more similar than any other candidate: not than an equal one."""
    x = normal(seed, size, width).float()
    y = torch.cat([x, x])
    for chunk_size in (None, 1, 3):
        assert mm.diagnose(x, y, chunk_size=chunk_size).accuracy == 0


@settings(max_examples=as_many(8))
@given(seed=seeds, size=st.integers(4, 12), width=st.integers(1, 20))
def test_selection_chooses_the_same_of_equal_rows_in_every_block(seed, size, width):
    """Which of them gets the gradient does not depend on how many anchors are compared at once."""
    rows = [repeated(seed + k, size, width, torch.float32, kinds=2)[0] for k in range(2)]
    selection = mm.PairSelection(0.3)
    found = []
    for similarities in (sizes.SIMILARITIES, 1, 5 * size):
        x, y = (z.clone().requires_grad_() for z in rows)
        before, sizes.SIMILARITIES = sizes.SIMILARITIES, similarities
        try:
            labels = torch.arange(size) % 2
            terms = mm.hybrid_contrast({"a": x, "b": y}, labels, selection=selection)
        finally:
            sizes.SIMILARITIES = before
        found.append(torch.autograd.grad(terms.total, (x, y)))
    for others in found[1:]:
        for gradient, expected in zip(others, found[0], strict=True):
            close(gradient, expected, atol=1e-5)


def test_the_parts():
    scores = torch.arange(6.0).view(2, 3)
    assert share_scores(scores, None) is scores
    assert share_scores(scores, torch.tensor([0, 1, 0])).tolist() == [[0, 1, 0], [3, 4, 3]]
    x, kind = repeated(5, 30, 7, torch.float32)
    products = tied_dot(x[:1], x)[0]
    assert len(set(products.tolist())) == len(set(kind.tolist()))
    assert map_equal_rows(x, MAPS["matrix"]).unique(dim=0).shape[0] == len(set(kind.tolist()))
