"""Scores as masks, weights and classes: every entry against the sentence that defines it."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import mmcontrast as mm
from tests.mmcontrast.strategies import leaf, same_mask
from tests.oracles import both_labelled, pair_mask

SCORES = st.lists(
    st.sampled_from([-3.0, -0.4, -0.0, 0.0, 0.2, 1.0, 3.0, -100.0, math.nan]), max_size=6
)


def sign(x):
    return (x > 0) - (x < 0)


@given(scores=SCORES, others=SCORES, tolerance=st.sampled_from([0.0, 0.5, 4.0]))
def test_close_scores(scores, others, tolerance):
    x, y = (torch.tensor(v, dtype=torch.float64) for v in (scores, others))

    def related(a, b):
        return both_labelled(a, b) and abs(a - b) <= tolerance

    def apart(a, b):
        return both_labelled(a, b) and abs(a - b) > tolerance

    same_mask(mm.close_scores(x, y, tolerance=tolerance), pair_mask(scores, others, related))
    same_mask(mm.close_scores(x, tolerance=tolerance), pair_mask(scores, scores, related))
    same_mask(mm.far_scores(x, y, tolerance=tolerance), pair_mask(scores, others, apart))
    same_mask(mm.far_scores(x, tolerance=tolerance), pair_mask(scores, scores, apart))


DTYPES = [torch.float64, torch.float32, torch.bfloat16, torch.float16]
GRIDS = {
    "written": lambda step, k: torch.tensor(
        [round(step * i, 1) for i in k.tolist()], dtype=torch.float64
    ),
    "computed in float32": lambda step, k: k.float() * step,
    "computed in float64": lambda step, k: k.double() * step,
    "added up": lambda step, k: torch.full(k.shape, step, dtype=torch.float64).cumsum(0) - 3,
}


@pytest.mark.parametrize(
    ("made", "dtype"),
    [(m, d) for m in GRIDS for d in DTYPES if (m, d) != ("computed in float32", torch.float64)],
)
@pytest.mark.parametrize("step", [0.1, 0.2])
@pytest.mark.parametrize("tolerance", [1, 2, 3, 7])
def test_the_edge_is_included_and_the_next_step_of_the_grid_is_not(dtype, step, made, tolerance):
    """All pairs of scores from -3 to 3, in steps that no binary float can hold."""
    k = torch.arange(-round(3 / step), round(3 / step) + 1)
    scores = GRIDS[made](step, k).to(dtype)
    steps = (k[:, None] - k).abs()
    edge = tolerance * step
    assert torch.equal(mm.close_scores(scores, tolerance=edge), steps <= tolerance)
    assert torch.equal(mm.far_scores(scores, tolerance=edge), steps > tolerance)
    weights = mm.score_kernel(scores, bandwidth=edge, shape="triangular")
    assert torch.equal(weights > 0, steps < tolerance)
    assert torch.equal(mm.close_scores(scores, tolerance=0), steps == 0)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("scale", [1e-3, 1, 100])
def test_what_is_clearly_farther_is_out(dtype, scale):
    """Whatever the precision: half as far again as the tolerance, beside scores of any size."""
    scores = torch.tensor([1.0, 2.0, 100.0, 101.0], dtype=dtype) * scale
    far = mm.far_scores(scores, tolerance=0.6 * scale)
    assert torch.equal(far, mm.off_diagonal(4))


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int8, torch.int16, torch.int32, torch.uint16])
def test_scores_of_small_integers(dtype):
    scores, apart = torch.tensor([0, 1, 3, 120]), torch.tensor([1, 2, 120, 0])
    low = scores.to(dtype), apart.to(dtype)
    for function in (mm.close_scores, mm.far_scores):
        found = function(*low, tolerance=2)
        assert torch.equal(found, function(scores.double(), apart.double(), tolerance=2))
    for function in (mm.score_kernel, mm.score_distance):
        found = function(*low, bandwidth=2)
        assert torch.equal(found, function(scores.float(), apart.float(), bandwidth=2))
    assert torch.equal(mm.same_sign(*low), mm.same_sign(scores, apart))
    assert torch.equal(mm.sentiment_classes(low[0]), mm.sentiment_classes(scores))


def test_large_integers_are_compared_exactly():
    stamps = torch.tensor([2**60, 2**60 + 1, 2**60 + 3])
    found = mm.close_scores(stamps, tolerance=1)
    assert found.tolist() == [[True, True, False], [True, True, False], [False, False, True]]


def test_infinite_scores_and_tolerances():
    scores = torch.tensor([0.0, math.inf, -math.inf])
    assert torch.equal(
        mm.close_scores(scores, tolerance=1e30)[0], torch.tensor([True, 0, 0]).bool()
    )
    assert mm.close_scores(scores, tolerance=math.inf)[0].all()
    assert torch.equal(mm.far_scores(scores, tolerance=1e30), mm.off_diagonal(3))
    for shape in KERNELS:
        assert torch.equal(mm.score_kernel(scores, bandwidth=2.0, shape=shape), torch.eye(3))
        assert torch.equal(mm.score_distance(scores, bandwidth=2.0, shape=shape), 1 - torch.eye(3))


@given(scores=SCORES, others=SCORES)
def test_same_sign(scores, others):
    x, y = (torch.tensor(v, dtype=torch.float64) for v in (scores, others))

    def related(a, b):
        return both_labelled(a, b) and sign(a) == sign(b)

    same_mask(mm.same_sign(x, y), pair_mask(scores, others, related))
    same_mask(mm.same_sign(x), pair_mask(scores, scores, related))


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
            [KERNELS[shape](abs(a - b) / bandwidth) if both_labelled(a, b) else 0.0 for b in right]
            for a in left
        ]
        expected = torch.tensor(expected, dtype=torch.float64).reshape(len(left), len(right))
        torch.testing.assert_close(found, expected, atol=1e-14, rtol=0)


@pytest.mark.parametrize("shape", KERNELS)
@given(scores=SCORES, others=SCORES, bandwidth=st.sampled_from([0.3, 1.0, 4.0]))
def test_score_distance_is_one_minus_the_kernel_where_both_have_a_score(
    shape, scores, others, bandwidth
):
    x, y = (torch.tensor(v, dtype=torch.float64) for v in (scores, others))
    options = {"bandwidth": bandwidth, "shape": shape}
    for left, found in (
        ((x, y), mm.score_kernel(x, y, **options) + mm.score_distance(x, y, **options)),
        ((x, x), mm.score_kernel(x, **options) + mm.score_distance(x, **options)),
    ):
        there = mm.labelled(left[0])[:, None] & mm.labelled(left[1])
        torch.testing.assert_close(found, there.double(), atol=1e-14, rtol=0)
    assert (mm.score_distance(x, **options).diagonal() == 0).all()


@pytest.mark.parametrize("shape", KERNELS)
def test_score_distance_keeps_its_digits_where_scores_are_close(shape):
    scores = torch.tensor([0.0, 1e-6])
    found = mm.score_distance(scores, bandwidth=1.0, shape=shape)[0, 1].double()
    exact = mm.score_distance(scores.double(), bandwidth=1.0, shape=shape)[0, 1]
    expected = -math.expm1(-(1e-6**2) / 2) if shape == "gaussian" else 1e-6
    torch.testing.assert_close(exact.item(), expected, rtol=1e-6, atol=0)
    torch.testing.assert_close(found, exact, rtol=1e-6, atol=0)


@pytest.mark.parametrize("shape", KERNELS)
@pytest.mark.parametrize("weights", [mm.score_kernel, mm.score_distance])
def test_the_gradient_by_scores_is_that_without_the_samples_that_have_none(shape, weights):
    scores = torch.tensor([0.3, math.nan, 1.0, -100.0, -0.4], dtype=torch.float64)
    scored = torch.tensor([0, 2, 4])

    x = leaf(scores)
    weights(x, scores, bandwidth=1.5, shape=shape).sum().backward()
    y = leaf(scores[scored])
    weights(y, scores[scored], bandwidth=1.5, shape=shape).sum().backward()
    torch.testing.assert_close(x.grad[scored], y.grad)
    assert (x.grad[[1, 3]] == 0).all()


def test_score_kernel_is_gaussian_by_default_and_float32_for_whole_scores():
    scores = torch.tensor([0, 1, 3])
    found = mm.score_kernel(scores, bandwidth=2.0)
    assert found.dtype == torch.float32
    assert torch.equal(found, mm.score_kernel(scores.float(), bandwidth=2.0, shape="gaussian"))


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
        (lambda: mm.close_scores(torch.zeros(2, 2), tolerance=1.0), "scores: expected .*got"),
        (lambda: mm.close_scores(torch.zeros(2), tolerance=-0.1), "tolerance: expected .*-0.1"),
        (
            lambda: mm.close_scores(torch.zeros(2), torch.zeros(2, 1), tolerance=1.0),
            "others: expected .*got",
        ),
        (lambda: mm.same_sign(torch.zeros(2, 2)), "scores: expected .*got"),
        (lambda: mm.score_kernel(torch.zeros(2), bandwidth=0.0), "bandwidth: expected .*got 0.0"),
        (lambda: mm.score_kernel(torch.zeros(2, 2), bandwidth=1.0), "scores: expected .*got"),
        (lambda: mm.far_scores(torch.zeros(2), tolerance=-1), "tolerance: expected .*-1"),
        (lambda: mm.score_distance(torch.zeros(2), bandwidth=0), "bandwidth: expected .*got 0"),
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
