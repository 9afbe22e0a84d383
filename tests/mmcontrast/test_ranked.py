"""Rank-N-Contrast against float64 loops, over ranks too, and its laws."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import mmcontrast as mm
from tests import oracles
from tests.mmcontrast.strategies import close, gradients, leaf, normal, numpy, rng, seeds
from tests.ranks import launch

REDUCTIONS = ["mean", "sum", "none"]
DISTANCES = ["euclidean", "squared_euclidean", "manhattan", "chebyshev", "cosine_distance"]


def ratings(seed, n, columns=None, unrated=0.2):
    """Whole numbers, many of them equal, some of them missing; in quarters, which are exact."""
    shape = (n,) if columns is None else (n, columns)
    scores = torch.randint(-6, 7, shape, generator=rng(seed)).double() / 4
    missing = torch.rand(n, generator=rng(seed + 1)) < unrated
    scores[missing] = math.nan if seed % 2 else -100.0
    return scores


@given(
    seed=seeds,
    n=st.integers(1, 7),
    extra=st.none() | st.integers(1, 8),
    columns=st.none() | st.integers(1, 3),
    distance=st.sampled_from(DISTANCES),
    temperature=st.sampled_from([0.05, 2.0, 30.0]),
    weighted=st.booleans(),
    chunk_size=st.none() | st.integers(1, 4),
    reduction=st.sampled_from(REDUCTIONS),
)
def test_rank_n_contrast_agrees_with_the_oracle(
    seed, n, extra, columns, distance, temperature, weighted, chunk_size, reduction
):
    arrays = [normal(seed, n, 3), ratings(seed, n, columns)]
    if extra is not None:
        arrays += [normal(seed + 1, extra, 3), ratings(seed + 1, extra, columns)]
    options = {
        "temperature": temperature,
        "weight": normal(seed, n).abs() if weighted else None,
        "reduction": reduction,
    }
    expected = oracles.rank_n_contrast(
        *map(numpy, arrays), **numpy(options), distance=oracles.DISTANCES[distance]
    )
    found = mm.rank_n_contrast(
        *arrays, **options, distance=getattr(mm, distance), chunk_size=chunk_size
    )
    close(found, expected)


@pytest.mark.parametrize("chunk_size", [None, 2])
@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_gradients_agree_with_central_differences(chunk_size, reduction):
    """Of anchors, candidates and the temperature, with ties and a sample without a score."""
    x, c, t = normal(1, 4, 2), normal(2, 5, 2), torch.tensor(0.7, dtype=torch.float64)
    y, z = torch.tensor([0.0, 1.0, math.nan, 2.0]), torch.tensor([1.0, 0.0, 3.0, -1.0, 0.0])
    options = {"chunk_size": chunk_size, "reduction": reduction}
    share = torch.linspace(0.5, 2, 4) if reduction == "none" else torch.tensor(1.0)
    share = share.double()
    found = gradients(
        lambda x, c, t: (share * mm.rank_n_contrast(x, y, c, z, temperature=t, **options)).sum(),
        *(x, c, t),
    )[1]

    def loss(x, c, t):
        value = oracles.rank_n_contrast(
            x, y.numpy(), c, z.numpy(), temperature=float(t), reduction=reduction
        )
        return float((numpy(share) * value).sum())

    arrays = [numpy(x), numpy(c), numpy(t)]
    for k, gradient in enumerate(found):
        expected = oracles.central_differences(
            lambda v, k=k: loss(*arrays[:k], v, *arrays[k + 1 :]), arrays[k]
        )
        close(gradient, expected, atol=1e-8)


@pytest.mark.parametrize("given", [{}, {"chunk_size": 2}])
@pytest.mark.parametrize("own", [False, True])
def test_derivatives_of_first_and_second_order(given, own):
    y = torch.tensor([0.0, 1.0, 1.0, 3.0, -2.0])
    distance = (lambda a, b: mm.euclidean(a, b)) if own else mm.euclidean

    def loss(x):
        return mm.rank_n_contrast(x, y, distance=distance, reduction="none", **given)

    assert torch.autograd.gradcheck(loss, leaf(normal(1, 5, 2)))
    assert torch.autograd.gradgradcheck(loss, leaf(normal(1, 5, 2)))


def test_the_gradient_of_a_distance_with_parameters_reaches_them():
    x, y = normal(1, 6, 3), normal(2, 6)
    scale = leaf(torch.tensor([1.0, 2.0, 0.5], dtype=torch.float64))

    def loss(chunk_size):
        return mm.rank_n_contrast(
            leaf(x),
            y,
            distance=lambda a, b: mm.euclidean(a * scale, b * scale),
            chunk_size=chunk_size,
        )

    close(*(torch.autograd.grad(loss(size), scale)[0] for size in (None, 2)))
    expected = oracles.central_differences(
        lambda s: oracles.rank_n_contrast(numpy(x) * s, numpy(y)), numpy(scale)
    )
    close(torch.autograd.grad(loss(2), scale)[0], expected, atol=1e-8)


@pytest.mark.parametrize("step", [0.1, 0.2, 1 / 3])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_scores_on_a_grid_tie_as_their_steps_do(step, dtype):
    """The differences of rounded scores differ in their last digit; the loss does not."""
    steps = torch.arange(-15, 16)[torch.randperm(31, generator=rng(1))]
    x = normal(1, len(steps), 3)
    scores = (steps.double() * step).to(dtype)
    close(mm.rank_n_contrast(x, scores), mm.rank_n_contrast(x, steps))
    far = (scores[:, None] - scores).abs()
    assert len(far.unique()) > 31, "without rounding there is nothing to test"


def test_scores_that_differ_are_no_tie():
    x = normal(1, 3, 2)
    apart = mm.rank_n_contrast(x, torch.tensor([0.0, 1.0, -1.00001]), reduction="none")
    tied = mm.rank_n_contrast(x, torch.tensor([0.0, 1.0, -1.0]), reduction="none")
    assert apart[0] < tied[0]


@pytest.mark.parametrize("wide", [0, 1])
def test_rows_of_two_dtypes_are_compared_in_the_wider_one(wide):
    rows = [normal(k, 6, 2, dtype=torch.float64 if k == wide else torch.float32) for k in (0, 1)]
    y, z = normal(2, 6), normal(3, 6)
    found = mm.rank_n_contrast(rows[0], y, rows[1], z)
    assert found.dtype == torch.float64
    close(found, mm.rank_n_contrast(rows[0].double(), y, rows[1].double(), z))


@pytest.mark.parametrize("dtype", [torch.int32, torch.int64, torch.float64])
def test_large_integers_are_as_exact_as_small_ones(dtype):
    """Seconds since 1970, some of them equally far apart."""
    x, y = normal(1, 7, 3), torch.tensor([0, 100, 350, 20, 200, 777, 40])
    close(mm.rank_n_contrast(x, (y + 1_700_000_000).to(dtype)), mm.rank_n_contrast(x, y))


def test_one_far_score_does_not_tie_the_others():
    x, y = normal(1, 7, 3), torch.tensor([0.0, 0.3, -0.7, 1.1, 2.5, -2.0, 9.0])
    expected = mm.rank_n_contrast(x, y, reduction="none")
    y[-1] = 1e7
    close(mm.rank_n_contrast(x, y, reduction="none")[:-1], expected[:-1])


def test_156_in_a_byte_is_not_minus_100():
    x, y = normal(1, 5, 3), torch.tensor([3, 156, 0, 156, 200])
    close(mm.rank_n_contrast(x, y.to(torch.uint8)), mm.rank_n_contrast(x, y))


@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.float8_e5m2, torch.uint16])
def test_scores_in_rare_dtypes(dtype):
    x, y = normal(1, 5, 3), torch.tensor([3, 1, 0, 1, 4])
    close(mm.rank_n_contrast(x, y.to(dtype)), mm.rank_n_contrast(x, y))


@given(seed=seeds, n=st.integers(2, 8))
def test_only_the_order_of_the_distances_counts(seed, n):
    """Shifting, mirroring and stretching all scores changes nothing, nor does their dtype."""
    x, y = normal(seed, n, 3), torch.randint(-6, 7, (n,), generator=rng(seed))
    expected = mm.rank_n_contrast(x, y, reduction="none")
    for scores in (y + 3, -y, 5 * y, y.float(), y.double(), y.to(torch.int8), y[:, None]):
        close(mm.rank_n_contrast(x, scores, reduction="none"), expected)


@given(seed=seeds, n=st.integers(2, 8))
def test_samples_without_a_score_are_as_if_not_there(seed, n):
    x, y = normal(seed, n + 2, 3), normal(seed + 1, n + 2)
    y[:2] = torch.tensor([math.nan, math.inf])
    x[:2] = math.nan
    value, (gradient,) = gradients(lambda x: mm.rank_n_contrast(x, y), x)
    rest, (theirs,) = gradients(lambda x: mm.rank_n_contrast(x, y[2:]), x[2:])
    close(value, rest)
    close(gradient[2:], theirs)
    assert (gradient[:2] == 0).all()


def test_two_samples_have_nothing_to_rank():
    """The only other sample is the whole denominator."""
    value, (gradient,) = gradients(
        lambda x: mm.rank_n_contrast(x, torch.tensor([0.0, 1.0])), normal(1, 2, 3)
    )
    assert value == 0
    assert (gradient == 0).all()


def test_equal_scores_are_sup_con_of_one_class():
    """Every other sample is then a positive against all others."""
    x = normal(1, 6, 3)
    found = mm.rank_n_contrast(x, torch.zeros(6), temperature=0.5, reduction="none")
    logits = -torch.cdist(x, x) / 0.5
    logits = logits.masked_fill(torch.eye(6).bool(), -math.inf)
    gaps = logits.logsumexp(1, keepdim=True) - logits
    close(found, gaps.masked_fill(torch.eye(6).bool(), 0).sum(1) / 5)


@pytest.mark.parametrize("chunk_size", [None, 1])
@pytest.mark.parametrize("n", [0, 1, 3])
def test_nothing_to_compare_is_zero_with_a_graph(n, chunk_size):
    scores = torch.full((n,), math.nan) if n == 3 else torch.zeros(n)
    value, (gradient,) = gradients(
        lambda x: mm.rank_n_contrast(x, scores, chunk_size=chunk_size), normal(1, n, 2)
    )
    assert value == 0
    assert (gradient == 0).all()
    none = mm.rank_n_contrast(normal(1, 3, 2), torch.zeros(3), torch.ones(0, 2), torch.zeros(0))
    assert none == 0


@pytest.mark.parametrize("scale", [1.0, 1e3, 1e15])
def test_far_apart_rows_in_float32_are_as_in_float64(scale):
    """The exponential of a distance of 1e3 underflows; its logarithm does not."""
    x, y = scale * normal(1, 12, 4), normal(2, 12)
    value, (gradient,) = gradients(lambda x: mm.rank_n_contrast(x, y.float()), x.float())
    expected, (truth,) = gradients(lambda x: mm.rank_n_contrast(x, y.float()), x.float().double())
    assert value.dtype == torch.float32
    torch.testing.assert_close(value.double(), expected, rtol=1e-6, atol=0)
    torch.testing.assert_close(gradient.double(), truth, rtol=0, atol=1e-5)


def test_a_small_loss_keeps_its_digits():
    """The order is right by far: each loss is the share of the few beyond, which is tiny."""
    x = torch.arange(5.0)[:, None].square() * 20
    y = torch.arange(5.0)
    found = mm.rank_n_contrast(x, y, temperature=1.0, reduction="none")
    expected = mm.rank_n_contrast(x.double(), y, temperature=1.0, reduction="none")
    assert 0 < found[0] < 1e-7
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=0)


def test_the_module_is_one_call_of_the_function():
    x, y, c, z = normal(1, 5, 3), normal(2, 5), normal(3, 4, 3), normal(4, 4)
    settings = {
        "temperature": 0.4,
        "distance": mm.manhattan,
        "reduction": "sum",
        "chunk_size": 2,
    }
    weight = normal(2, 5).abs()
    close(
        mm.RankNContrast(**settings)(x, y, c, z, weight=weight),
        mm.rank_n_contrast(x, y, c, z, **settings, weight=weight),
    )
    close(mm.RankNContrast()(x, y), mm.rank_n_contrast(x, y))


# --- wrong calls ---------------------------------------------------------------------------------

X, Y = torch.ones(3, 2), torch.ones(4, 2)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: mm.rank_n_contrast(X, X[:2, 0]), r"scores: expected .*3.*got .*\(2,\)"),
        (lambda: mm.rank_n_contrast(X, X[None]), r"scores: expected .*3.*got .*\(1, 3, 2\)"),
        (lambda: mm.rank_n_contrast(X, X[:, 0], Y), "candidate_scores: expected .*got"),
        (
            lambda: mm.rank_n_contrast(X, X[:, 0], None, X[:, 0]),
            "candidate_scores: expected .*got",
        ),
        (
            lambda: mm.rank_n_contrast(X, X[:, 0], Y, X[:, 0]),
            r"candidate_scores: expected .*4.*got .*\(3,\)",
        ),
        (
            lambda: mm.rank_n_contrast(X, X[:, 0], Y, Y),
            r"candidate_scores: expected .*scores.*got .*\(4, 2\)",
        ),
        (lambda: mm.rank_n_contrast(X, X[:, 0], torch.ones(4, 3), Y[:, 0]), "candidates: expected"),
        (lambda: mm.rank_n_contrast(X.long(), X[:, 0]), "x: expected .*float.*got .*int64"),
        (lambda: mm.rank_n_contrast(X, X[:, 0], temperature=0.0), "temperature: expected .*got 0"),
        (lambda: mm.rank_n_contrast(X, X[:, 0], reduction="avg"), "reduction: expected .*'avg'"),
        (lambda: mm.rank_n_contrast(X, X[:, 0], chunk_size=0), "chunk_size: expected .*got 0"),
        (lambda: mm.rank_n_contrast(X, X[:, 0], weight=X[:2, 0]), r"weight: expected .*\(2,\)"),
    ],
)
def test_wrong_calls(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.slow
def test_on_ranks():
    launch(3, "tests.ranks.ranked", "among_themselves", "between")
