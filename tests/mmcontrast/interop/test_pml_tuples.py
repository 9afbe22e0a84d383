"""Index tuples and masks, there and back, against loops and pytorch-metric-learning itself."""

import itertools

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given

from mmcontrast.interop.pml_tuples import from_pml_tuple, label_masks, to_pml_tuple
from tests.mmcontrast.peers import peer

pytestmark = pytest.mark.filterwarnings("ignore")
LABELS = torch.tensor([3, 3, 5, 5, 5, 9, 9, 9])
OTHER_LABELS = torch.tensor([9, 3, 5, 3, 1, 9])


@st.composite
def masks(draw):
    b, c = draw(st.integers(0, 5)), draw(st.integers(0, 5))
    seed = draw(st.integers(0, 10**6))
    kinds = torch.randint(0, 3, (b, c), generator=torch.Generator().manual_seed(seed))
    return kinds == 0, kinds == 1


@given(masks())
def test_pairs_go_there_and_back(made):
    positives, negatives = made
    indices = to_pml_tuple(positives, negatives)
    assert [x.dtype for x in indices] == [torch.int64] * 4
    back = from_pml_tuple(indices, *positives.shape)
    assert torch.equal(back[0], positives)
    assert torch.equal(back[1], negatives)


@given(masks())
def test_triplets_are_all_of_them_and_go_back_to_the_anchors_that_have_both(made):
    positives, negatives = made
    b, c = positives.shape
    expected = [
        (a, p, n)
        for a, p, n in itertools.product(range(b), range(c), range(c))
        if positives[a, p] and negatives[a, n]
    ]
    found = to_pml_tuple(positives, negatives, triplets=True)
    assert list(zip(*(x.tolist() for x in found), strict=True)) == expected
    both = (positives.any(1) & negatives.any(1))[:, None]
    back = from_pml_tuple(found, b, c)
    assert torch.equal(back[0], positives & both)
    assert torch.equal(back[1], negatives & both)


@pytest.mark.parametrize("itself", [False, True])
def test_label_masks_are_the_loop(itself):
    """A label of -100 is neither, not even with another -100."""
    ids = torch.tensor([3, -100, 5, 3, -100, 7])
    refs = ids if itself else torch.tensor([5, -100, 3])
    pairs = [(i, j) for i in range(len(ids)) for j in range(len(refs))]
    known = [(i, j) for i, j in pairs if ids[i] != -100 and refs[j] != -100]
    same = {(i, j) for i, j in known if ids[i] == refs[j] and not (itself and i == j)}
    apart = {(i, j) for i, j in known if ids[i] != refs[j]}
    found = label_masks(ids, refs, itself)
    assert [{(i, j) for i, j in pairs if mask[i, j]} for mask in found] == [same, apart]


def test_repeated_pairs_count_once():
    a, p, n = torch.tensor([0, 0, 1]), torch.tensor([2, 2, 0]), torch.tensor([1, 3, 1])
    positives, negatives = from_pml_tuple((a, p, n), 2, 4)
    assert positives.nonzero().tolist() == [[0, 2], [1, 0]]
    assert negatives.nonzero().tolist() == [[0, 1], [0, 3], [1, 1]]


def test_tuples_are_the_librarys_own():
    tools = peer("pytorch_metric_learning.utils.loss_and_miner_utils")
    for refs, itself in ((LABELS, True), (OTHER_LABELS, False)):
        found = to_pml_tuple(*label_masks(LABELS, refs, itself))
        for x, y in zip(found, tools.get_all_pairs_indices(LABELS, refs), strict=True):
            assert torch.equal(x, y)
        found = to_pml_tuple(*label_masks(LABELS, refs, itself), triplets=True)
        for x, y in zip(found, tools.get_all_triplets_indices(LABELS, refs), strict=True):
            assert torch.equal(x, y)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda m: to_pml_tuple(m[0], m[0]),
            r"positives: expected shape \(B, C\), got \(3,\)",
        ),
        (lambda m: to_pml_tuple(m, m[:, :2]), r"negatives: expected shape \(2, 3\)"),
        (lambda m: to_pml_tuple(m.float(), m), "positives: expected a bool mask"),
        (
            lambda m: from_pml_tuple((m,), 2, 3),
            "indices: expected 3 or 4 index vectors, got 1",
        ),
    ],
)
def test_errors(call, message):
    with pytest.raises(ValueError, match=message):
        call(torch.ones(2, 3, dtype=torch.bool))
