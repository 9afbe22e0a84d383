"""The ready-made masks and biases of pairs, against loops and what they are worth in a loss."""

import math
import pickle

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import mmcontrast as mm
from tests import oracles
from tests.mmcontrast.strategies import close, gradients, labels, mask, normal, numpy, rng, seeds

CHUNKS = st.none() | st.integers(1, 9)


def cosines(x, y):
    return mm.l2_normalize(x) @ mm.l2_normalize(y).mT


def whole(function, n, m, similarity=None, partner=None, **options):
    """What a function says of all pairs; the partners are the diagonal."""
    similarity = torch.zeros(n, m) if similarity is None else similarity
    partner = similarity.diagonal() if partner is None else partner
    tile = mm.Tile(torch.arange(n), torch.arange(m), similarity, partner, **options)
    return in_full(function(tile), tile)


def in_full(found, tile):
    """A mask of all of a tile, for which functions may return True."""
    return torch.ones(tile.shape, dtype=torch.bool) if found is True else found


# --- ids -----------------------------------------------------------------------------------------


@given(
    seed=seeds,
    n=st.integers(1, 6),
    extra=st.integers(0, 3),
    columns=st.sampled_from([None, 1, 3]),
    dtype=st.sampled_from([torch.int64, torch.int32, torch.float32]),
)
def test_different_id_by_loops(seed, n, extra, columns, dtype):
    def draw(k, size):
        shape = (size,) if columns is None else (columns, size)
        ids = torch.stack([labels(seed + k + j, size, 2, 0.2) for j in range(columns or 1)])
        return (ids[0] if columns is None else ids.T.reshape(shape[::-1])).to(dtype)

    ids, others = draw(0, n), draw(5, n + extra)
    found = whole(mm.different_id(ids, others), n, n + extra)
    left, right = oracles.masks.classes_of(ids), oracles.masks.classes_of(others)
    for i in range(n):
        for j in range(n + extra):
            same = left[i] is not None and left[i] == right[j]
            assert found[i, j].item() == (i == j or not same)


@pytest.mark.parametrize("number", [2**40, -(2**40), 2**24 + 1])
def test_ids_of_any_size_are_compared_exactly(number):
    ids = torch.tensor([number, number + 1, number])
    assert (~whole(mm.different_id(ids), 3, 3)).nonzero().tolist() == [[0, 2], [2, 0]]


def test_more_ids_than_short_integers():
    ids = torch.arange(40_000)
    found = mm.different_id(ids, ids.flip(0))(
        mm.Tile(torch.tensor([0, 5]), torch.tensor([39_999, 3]), torch.ones(2, 2), torch.ones(2))
    )
    assert found.tolist() == [[False, True], [True, True]]


@given(
    seed=seeds,
    rows=st.lists(st.integers(0, 5), min_size=1, max_size=5),
    columns=st.lists(st.integers(0, 7), min_size=1, max_size=5),
    classes=st.sampled_from([2, 5, 20]),
)
def test_ids_of_any_tile_by_loops(seed, rows, columns, classes):
    """True is said of the tiles in which only partners share an id, and of no others."""
    ids, others = labels(seed, 6, classes, 0.2), labels(seed + 1, 8, classes, 0.2)
    partners = torch.randint(-1, 8, (6,), generator=rng(seed))
    partners[partners < 0] = -100
    expected = torch.ones(len(rows), len(columns), dtype=torch.bool)
    for i, row in enumerate(rows):
        for j, column in enumerate(columns):
            same = ids[row] != -100 and ids[row] == others[column]
            expected[i, j] = partners[row] == column or not same
    left, right = torch.tensor(rows), torch.tensor(columns)
    positive = partners[left][:, None] == right
    tile = mm.Tile(
        left,
        right,
        torch.zeros(expected.shape),
        torch.zeros(len(rows)),
        positive=positive,
        partners=partners[left],
        size=(6, 8),
        apart=not positive.any(),
    )
    found = mm.different_id(ids, others)(tile)
    assert (found is True) == bool(expected.all())
    assert torch.equal(in_full(found, tile), expected)


def test_a_batch_without_copies_is_not_masked():
    """In no tile of a loss, where partners are the same index and where they are others."""
    x, targets = normal(1, 40, 3), torch.randperm(40, generator=rng(2))
    ids = torch.arange(40) * 3
    keep = mm.different_id(ids, torch.empty_like(ids).scatter(0, targets, ids))
    said = []

    def look(tile):
        said.append(keep(tile))
        return said[-1]

    mm.info_nce(x, x, targets, keep=look, chunk_size=7)
    keep = mm.different_id(ids)
    mm.symmetric_info_nce(x, x, keep=look, chunk_size=7)
    assert len(said) > 20
    assert all(found is True for found in said)


@given(seed=seeds, n=st.integers(1, 9), chunk_size=CHUNKS)
def test_distinct_ids_are_no_mask(seed, n, chunk_size):
    x, y = normal(seed, n, 3), normal(seed + 1, n, 3)
    keep = mm.different_id(torch.randperm(n) * 3)
    for loss in (mm.info_nce, mm.symmetric_info_nce):
        found = gradients(lambda x, y, f=loss: f(x, y, keep=keep, chunk_size=chunk_size), x, y)
        expected = gradients(lambda x, y, f=loss: f(x, y, chunk_size=chunk_size), x, y)
        close(found[0], expected[0])
        for a, b in zip(found[1], expected[1], strict=True):
            close(a, b, atol=1e-9)


@given(seed=seeds, n=st.integers(2, 7), chunk_size=CHUNKS)
def test_copies_count_as_little_as_if_they_were_left_out(seed, n, chunk_size):
    """The loss of an anchor whose partner occurs twice is that without the copy."""
    x, y = normal(seed, n, 3), normal(seed + 1, n, 3)
    twice, ids = torch.cat([y, y[:1]]), torch.arange(n)
    options = {"reduction": "none", "chunk_size": chunk_size}
    keep = mm.different_id(ids, torch.cat([ids, ids[:1]]))
    found = mm.info_nce(x, twice, keep=keep, **options)
    close(found[0], mm.info_nce(x, y, **options)[0])
    close(found[1:], mm.info_nce(x, twice, **options)[1:])


@given(seed=seeds, n=st.integers(1, 5), queued=st.integers(0, 6), chunk_size=CHUNKS)
def test_cross_batch_ids(seed, n, queued, chunk_size):
    x, y, earlier = normal(seed, n, 3), normal(seed + 1, n, 3), normal(seed + 2, queued, 3)
    ids, earlier_ids = labels(seed, n, 3, 0.2), labels(seed + 3, queued, 3, 0.2)
    filled = mask(seed, queued, share=0.7)
    keep = torch.ones(n, n + queued, dtype=torch.bool)
    for i in range(n):
        for j in range(n + queued):
            other = ids[j] if j < n else earlier_ids[j - n]
            same = ids[i] != -100 and ids[i] == other
            keep[i, j] = (i == j) or (not same and (j < n or bool(filled[j - n])))
    function = mm.cross_batch_ids(ids, earlier_ids, filled=filled)
    candidates = torch.cat([y, earlier])
    found = mm.info_nce(x, candidates, keep=function, chunk_size=chunk_size)
    close(found, mm.info_nce(x, candidates, keep=keep))
    every = mm.cross_batch_ids(ids, earlier_ids)
    given_ids = mm.different_id(ids, torch.cat([ids, earlier_ids]))
    assert torch.equal(whole(every, n, n + queued), whole(given_ids, n, n + queued))


# --- similarities --------------------------------------------------------------------------------


@given(
    seed=seeds,
    n=st.integers(1, 7),
    margin=st.sampled_from([0.0, 0.2, -0.1]),
    relative=st.sampled_from([0.0, 0.05]),
    guided=st.booleans(),
    chunk_size=CHUNKS,
)
def test_gist_by_its_formula(seed, n, margin, relative, guided, chunk_size):
    """sentence-transformers 6: above partner - margin, or partner - abs(partner) margin, is out."""
    x, y = normal(seed, n, 3), normal(seed + 1, n + 2, 3)
    guide = (normal(seed + 2, n, 4), normal(seed + 3, n + 2, 4)) if guided else None
    similarity = cosines(*(guide or (x, y)))
    own = similarity.diagonal()[:, None]
    out = similarity > own - margin - relative * own.abs()
    out[range(n), range(n)] = False
    logits = (cosines(x, y) / 0.1).masked_fill(out, -math.inf)
    expected = torch.nn.functional.cross_entropy(logits, torch.arange(n))
    keep = mm.not_closer_than_partner(margin, relative_margin=relative, guide=guide)
    settings = {"temperature": 0.1, "chunk_size": chunk_size}
    close(mm.info_nce(x, y, keep=keep, **settings), expected)


@given(seed=seeds, n=st.integers(1, 7), guided=st.booleans(), chunk_size=CHUNKS)
def test_between_directions_either_partner_decides(seed, n, guided, chunk_size):
    x, y = normal(seed, n, 3), normal(seed + 1, n, 3)
    guide = (normal(seed + 2, n, 4), normal(seed + 3, n, 4)) if guided else None
    similarity = cosines(*(guide or (x, y)))
    own = similarity.diagonal()
    keep = (similarity <= torch.minimum(own[:, None], own) - 0.1) | torch.eye(n).bool()
    function = mm.not_closer_than_partner(0.1, guide=guide)
    found = mm.symmetric_info_nce(x, y, keep=function, chunk_size=chunk_size)
    close(found, mm.symmetric_info_nce(x, y, keep=keep))
    turned = mm.not_closer_than_partner(0.1, guide=None if guide is None else guide[::-1])
    close(mm.symmetric_info_nce(y, x, keep=turned, chunk_size=chunk_size), found)


def test_with_several_positives_the_most_similar_one_counts():
    similarity = torch.tensor([[0.5, 0.9, 0.7, 0.95], [0.1, 0.2, 0.3, 0.4]])
    own = torch.tensor([[True, True, False, False], [False, False, False, False]])
    x, y = similarity @ torch.linalg.pinv(torch.eye(4)), torch.eye(4)
    for guide in (None, (x, y)):
        function = mm.not_closer_than_partner(0.0, guide=guide)
        seen = []

        def look(tile, function=function, seen=seen):
            seen.append(function(tile))
            return seen[-1]

        mm.info_nce(x, y, positives=own, keep=look)
        assert seen[0].tolist() == [[True, True, True, False], [True] * 4]


@given(seed=seeds, n=st.integers(1, 7), beta=st.sampled_from([0.0, 2.0, -1.0]), chunk_size=CHUNKS)
def test_hardness_weights_by_their_formula(seed, n, beta, chunk_size):
    """sentence-transformers 6, hardness_mode="all_negatives": logits + strength * sg(cosine)."""
    x, y = normal(seed, n, 3), normal(seed + 1, n + 2, 3)

    def theirs(x, y):
        similarity = cosines(x, y)
        penalty = beta * similarity.detach() * (1 - torch.eye(n, n + 2))
        return torch.nn.functional.cross_entropy(similarity / 0.1 + penalty, torch.arange(n))

    settings = {"temperature": 0.1, "chunk_size": chunk_size, "bias": mm.hardness_bias(beta)}
    found = gradients(lambda x, y: mm.info_nce(x, y, **settings), x, y)
    expected = gradients(theirs, x, y)
    close(found[0], expected[0])
    for a, b in zip(found[1], expected[1], strict=True):
        close(a, b, atol=1e-9)


def test_hardness_weights_against_a_loop():
    x, y = normal(1, 4, 3), normal(2, 4, 3)
    similarity, bias = cosines(x, y), torch.zeros(4, 4, dtype=torch.float64)
    for i in range(4):
        for j in range(4):
            bias[i, j] = 0.0 if i == j else 3.0 * similarity[i, j]
    expected = oracles.symmetric_info_nce(numpy(x), numpy(y), bias=numpy(bias), temperature=0.3)
    found = mm.symmetric_info_nce(x, y, bias=mm.hardness_bias(3.0), temperature=0.3, chunk_size=2)
    close(found, expected)


def test_several_together():
    x, y, ids = normal(1, 8, 3), normal(2, 8, 3), torch.arange(8) // 2
    both = [mm.different_id(ids), mm.not_closer_than_partner()]
    similarity = cosines(x, y)
    own = similarity.diagonal()
    keep = (ids[:, None] != ids) & (similarity <= torch.minimum(own[:, None], own))
    keep |= torch.eye(8, dtype=torch.bool)
    found = mm.symmetric_info_nce(x, y, keep=both, chunk_size=3)
    close(found, mm.symmetric_info_nce(x, y, keep=keep))


# --- use -----------------------------------------------------------------------------------------

READY = {
    "different_id": lambda: mm.different_id(torch.tensor([3, 3, 4, 5])),
    "cross_batch_ids": lambda: mm.cross_batch_ids(torch.tensor([3, 3]), torch.tensor([4, 5])),
    "not_closer_than_partner": lambda: mm.not_closer_than_partner(0.1, guide=GUIDE),
    "hardness_bias": lambda: mm.hardness_bias(1.0),
}
GUIDE = (torch.ones(4, 2), torch.eye(4)[:, :2])


@pytest.mark.parametrize("name", READY)
def test_they_can_be_pickled(name):
    size = (2, 4) if name == "cross_batch_ids" else (4, 4)
    similarity = normal(1, *size)
    found, again = (
        whole(f, *size, similarity)
        for f in (READY[name](), pickle.loads(pickle.dumps(READY[name]())))
    )
    assert torch.equal(found, again)


@pytest.mark.parametrize("name", READY)
def test_they_run_without_values(name):
    function, option = READY[name](), "bias" if name == "hardness_bias" else "keep"
    if name not in ("hardness_bias",):
        function = type(function)(
            function.func, *(_meta(x) for x in function.args), **function.keywords
        )
    n, m = (2, 4) if name == "cross_batch_ids" else (4, 4)
    x, y = (torch.ones(k, 3, device="meta", requires_grad=True) for k in (n, m))
    mm.info_nce(x, y, **{option: function}).backward()
    assert x.grad.shape == (n, 3)


def _meta(x):
    if isinstance(x, tuple):
        return tuple(map(_meta, x))
    return x.to("meta") if isinstance(x, torch.Tensor) else x


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: mm.different_id(torch.ones(2, 2, 2)), "ids: expected shape"),
        (lambda: mm.different_id(torch.tensor([0.5])), "ids: expected classes"),
        (
            lambda: mm.different_id(torch.ones(2), torch.ones(3, 2)),
            "candidate_ids: expected 1 labels a sample",
        ),
        (lambda: mm.different_id([1, 2]), "ids: expected a tensor, got list"),
        (
            lambda: mm.cross_batch_ids(torch.ones(2), torch.ones(3), filled=torch.ones(3)),
            "filled: expected a bool mask",
        ),
        (lambda: mm.hardness_bias(math.nan), "beta: expected a number, got nan"),
        (lambda: mm.not_closer_than_partner("a"), "margin: expected a number, got 'a'"),
        (lambda: mm.not_closer_than_partner(guide=GUIDE[0]), "guide: expected embeddings of"),
        (
            lambda: mm.info_nce(
                normal(1, 3, 2), normal(2, 3, 2), keep=mm.different_id(torch.ones(2))
            ),
            "ids: expected one for each of the 3 anchors, got 2",
        ),
        (
            lambda: mm.info_nce(
                normal(1, 3, 2), normal(2, 4, 2), keep=mm.different_id(torch.ones(3))
            ),
            "candidate_ids: expected one for each of the 4 candidates, got 3",
        ),
    ],
)
def test_wrong_calls(call, message):
    with pytest.raises(ValueError, match=message):
        call()


# --- partners that a tensor of keep leaves out ----------------------------------------------------


def test_a_partner_that_a_mask_leaves_out_is_nobodys_partner():
    """Its row may hold anything, and filters nothing: as if the filter were not there."""
    x, y = normal(1, 5, 4), normal(2, 5, 4)
    mask = torch.ones(5, 5, dtype=torch.bool)
    mask[2] = False  # no x[2], so y[2] is a negative without a partner
    lost = x.clone()
    lost[2] = math.nan
    closer = mm.not_closer_than_partner()
    seen = []

    def keep(tile):
        seen.append((tile.rows, tile.columns, tile.partner, tile.column_partner))
        assert tile.similarity.isfinite().all()
        return closer(tile)

    similarity = cosines(x, y)
    own = similarity.diagonal().clone()
    own[2] = math.inf
    expected = (
        mask & (similarity <= own[:, None]) & (similarity <= own) | mask & torch.eye(5).bool()
    )
    for chunk in (None, 2):
        found = mm.symmetric_info_nce(lost, y, keep=[mask, keep], chunk_size=chunk)
        close(found, mm.symmetric_info_nce(lost, y, keep=expected))
    for rows, columns, partner, column_partner in seen:
        close(partner, own[rows])
        close(column_partner, own[columns])


@pytest.mark.parametrize("guided", [False, True])
def test_several_positives_count_as_partners_only_inside_a_mask(guided):
    x, y = normal(1, 4, 3), normal(2, 6, 3)
    positives = normal(3, 4, 6) > 0
    mask = normal(4, 4, 6) > -0.3
    mask[:, 4] = False
    rows = [normal(5, 4, 3), normal(6, 6, 3)] if guided else [x, y]
    similarity = cosines(*rows)
    partner = similarity.masked_fill(~(positives & mask), -math.inf).amax(1)
    partner = partner.masked_fill(partner == -math.inf, math.inf)
    expected = mask & (positives | (similarity <= partner[:, None]))
    lost = y.clone()
    lost[4] = math.nan
    closer = mm.not_closer_than_partner(guide=(rows[0], rows[1]) if guided else None)
    for loss in (mm.info_nce, mm.sigmoid_contrast):
        for chunk in (None, 2):
            options = {"positives": positives, "chunk_size": chunk, "reduction": "none"}
            found = loss(x, lost, keep=[mask, closer], **options)
            close(found, loss(x, lost, keep=expected, **options))
