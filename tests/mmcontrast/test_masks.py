"""Labels and scores as masks: every entry is compared with the sentence that defines it."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import mmcontrast as mm
from tests.oracles import pair_mask, unlabelled

IDS = st.lists(st.sampled_from([-100, -7, 0, 1, 2, 2**40]), min_size=0, max_size=6)
SCORES = st.lists(
    st.sampled_from([-3.0, -0.4, -0.0, 0.0, 0.2, 1.0, 3.0, -100.0, math.nan]), max_size=6
)


def both(a, b):
    return not unlabelled(a) and not unlabelled(b)


def equal(actual, expected):
    assert actual.dtype == torch.bool
    assert actual.tolist() == expected.tolist()
    assert tuple(actual.shape) == expected.shape


def sign(x):
    return (x > 0) - (x < 0)


@given(ids=IDS, others=IDS)
def test_same_and_different_label(ids, others):
    x, y = torch.tensor(ids, dtype=torch.int64), torch.tensor(others, dtype=torch.int64)
    equal(mm.same_label(x, y), pair_mask(ids, others, lambda a, b: both(a, b) and a == b))
    equal(mm.different_label(x, y), pair_mask(ids, others, lambda a, b: both(a, b) and a != b))
    equal(mm.same_label(x), pair_mask(ids, ids, lambda a, b: both(a, b) and a == b))
    equal(mm.different_label(x), pair_mask(ids, ids, lambda a, b: both(a, b) and a != b))


@given(ids=st.lists(st.tuples(*[st.sampled_from([0, 1, -100])] * 3), min_size=1, max_size=5))
def test_several_labels_are_equal_in_every_column(ids):
    x = torch.tensor(ids)
    there = [-100 not in row for row in ids]
    pairs = list(zip(ids, there, strict=True))
    equal(mm.same_label(x), pair_mask(pairs, pairs, lambda a, b: a[1] and b[1] and a[0] == b[0]))
    equal(
        mm.different_label(x),
        pair_mask(pairs, pairs, lambda a, b: a[1] and b[1] and a[0] != b[0]),
    )


@pytest.mark.parametrize("dtype", [torch.int32, torch.uint8, torch.bool, torch.float32])
def test_law_62_labels_of_every_dtype(dtype):
    x = torch.tensor([1, 0, 1]).to(dtype)
    equal(mm.same_label(x), pair_mask([1, 0, 1], [1, 0, 1], lambda a, b: a == b))


@given(ids=st.lists(st.integers(0, 2), min_size=1, max_size=6))
def test_law_26_relabelling_changes_nothing(ids):
    x = torch.tensor(ids)
    other_names = torch.tensor([-(2**40), 5, 2**50])[x]
    assert torch.equal(mm.same_label(x), mm.same_label(other_names))
    assert torch.equal(mm.different_label(x), mm.different_label(other_names))


@given(scores=SCORES, others=SCORES, tolerance=st.sampled_from([0.0, 0.5, 4.0]))
def test_close_scores(scores, others, tolerance):
    x, y = (torch.tensor(v, dtype=torch.float64) for v in (scores, others))

    def related(a, b):
        return both(a, b) and abs(a - b) <= tolerance

    equal(mm.close_scores(x, y, tolerance=tolerance), pair_mask(scores, others, related))
    equal(mm.close_scores(x, tolerance=tolerance), pair_mask(scores, scores, related))


@given(scores=SCORES, others=SCORES)
def test_same_sign(scores, others):
    x, y = (torch.tensor(v, dtype=torch.float64) for v in (scores, others))

    def related(a, b):
        return both(a, b) and sign(a) == sign(b)

    equal(mm.same_sign(x, y), pair_mask(scores, others, related))
    equal(mm.same_sign(x), pair_mask(scores, scores, related))


KERNELS = {
    "gaussian": lambda gap: math.exp(-(gap**2) / 2),
    "laplacian": lambda gap: math.exp(-gap),
    "triangular": lambda gap: max(0.0, 1 - gap),
}


@pytest.mark.parametrize("shape", KERNELS)
@given(scores=SCORES, others=SCORES, bandwidth=st.sampled_from([0.3, 1.0, 4.0]))
def test_score_kernel(shape, scores, others, bandwidth):
    x, y = (torch.tensor(v, dtype=torch.float64) for v in (scores, others))
    options = {"bandwidth": bandwidth, "shape": shape}
    for left, right, found in (
        (scores, others, mm.score_kernel(x, y, **options)),
        (scores, scores, mm.score_kernel(x, **options)),
    ):
        expected = [
            [KERNELS[shape](abs(a - b) / bandwidth) if both(a, b) else 0.0 for b in right]
            for a in left
        ]
        expected = torch.tensor(expected, dtype=torch.float64).reshape(len(left), len(right))
        torch.testing.assert_close(found, expected, atol=1e-14, rtol=0)


def test_score_kernel_is_gaussian_by_default_and_float32_for_whole_scores():
    scores = torch.tensor([0, 1, 3])
    found = mm.score_kernel(scores, bandwidth=2.0)
    assert found.dtype == torch.float32
    assert torch.equal(found, mm.score_kernel(scores.float(), bandwidth=2.0, shape="gaussian"))


@pytest.mark.parametrize("n", [0, 1, 4])
def test_off_diagonal(n):
    equal(mm.off_diagonal(n), pair_mask(range(n), range(n), lambda a, b: a != b))
    assert mm.off_diagonal(n, device="meta").device.type == "meta"


@pytest.mark.parametrize(
    ("neutral", "zero"), [("positive", 1), ("negative", 0), ("own", 2), ("ignore", -100)]
)
def test_sentiment_classes(neutral, zero):
    scores = torch.tensor([-3.0, -0.2, -0.0, 0.0, 0.2, 3.0, math.nan])
    classes = mm.sentiment_classes(scores, neutral=neutral)
    assert classes.dtype == torch.int64
    assert classes.tolist() == [0, 0, zero, zero, 1, 1, -100]


def test_sentiment_classes_counts_zero_as_positive_by_default():
    assert mm.sentiment_classes(torch.tensor([0.0])).tolist() == [1]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: mm.same_label(torch.zeros(2, 2, 2)), r"labels: expected .*\(2, 2, 2\)"),
        (lambda: mm.same_label(torch.zeros(2), torch.zeros(2, 3)), "others: expected .*got"),
        (lambda: mm.different_label(torch.tensor(1.0)), "labels: expected .*got"),
        (lambda: mm.close_scores(torch.zeros(2, 2), tolerance=1.0), "scores: expected .*got"),
        (lambda: mm.close_scores(torch.zeros(2), tolerance=-0.1), "tolerance: expected .*-0.1"),
        (
            lambda: mm.close_scores(torch.zeros(2), torch.zeros(2, 1), tolerance=1.0),
            "others: expected .*got",
        ),
        (lambda: mm.same_sign(torch.zeros(2, 2)), "scores: expected .*got"),
        (lambda: mm.score_kernel(torch.zeros(2), bandwidth=0.0), "bandwidth: expected .*got 0.0"),
        (lambda: mm.score_kernel(torch.zeros(2, 2), bandwidth=1.0), "scores: expected .*got"),
        (
            lambda: mm.score_kernel(torch.zeros(2), bandwidth=1.0, shape="box"),
            "shape: expected .*'gaussian'.*got 'box'",
        ),
        (lambda: mm.sentiment_classes(torch.zeros(2, 2)), "scores: expected .*got"),
        (
            lambda: mm.sentiment_classes(torch.zeros(2), neutral="maybe"),
            "neutral: expected .*'positive'.*got 'maybe'",
        ),
    ],
)
def test_wrong_calls(call, message):
    with pytest.raises(ValueError, match=message):
        call()
