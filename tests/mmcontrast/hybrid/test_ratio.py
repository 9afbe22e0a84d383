"""HyCon's ratio contrast against float64 loops, and its laws."""

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

import mmcontrast as mm
from tests import oracles
from tests.mmcontrast.strategies import close, gradients, leaf, mask, normal, numpy, rng, seeds, tol

REDUCTIONS = ["mean", "sum", "none"]


def similarities(seed, n, m):
    return torch.rand(n, m, generator=rng(seed), dtype=torch.float64) + 0.01


def masks(seed, n, m, floating=False):
    if floating:
        return normal(seed + 1, n, m).relu(), normal(seed + 2, n, m).relu()
    return mask(seed, n, m), mask(seed + 1, n, m)


@given(
    seed=seeds,
    n=st.integers(1, 5),
    m=st.integers(1, 6),
    log=st.booleans(),
    floating=st.booleans(),
    weighted=st.booleans(),
    reduction=st.sampled_from(REDUCTIONS),
)
def test_ratio_contrast_agrees_with_the_oracle(seed, n, m, log, floating, weighted, reduction):
    similarity = similarities(seed, n, m)
    positives, negatives = masks(seed, n, m, floating)
    weight = normal(seed, n).abs() if weighted else None
    expected = oracles.ratio_contrast(
        *map(numpy, (similarity, positives, negatives)),
        log=log,
        weight=numpy(weight),
        reduction=reduction,
    )
    actual = mm.ratio_contrast(
        similarity, positives, negatives, log=log, weight=weight, reduction=reduction
    )
    close(actual, expected)


@pytest.mark.parametrize("log", [False, True])
@pytest.mark.parametrize("floating", [False, True])
def test_ratio_contrast_gradient_agrees_with_central_differences(log, floating):
    similarity = similarities(1, 4, 5)
    positives, negatives = masks(2, 4, 5, floating)
    _, (gradient,) = gradients(
        lambda s: mm.ratio_contrast(s, positives, negatives, log=log), similarity
    )
    expected = oracles.central_differences(
        lambda s: oracles.ratio_contrast(s, numpy(positives), numpy(negatives), log=log),
        numpy(similarity),
    )
    close(gradient, expected, atol=1e-8)


def test_gradients_reach_floating_weights_of_the_pairs():
    similarity = similarities(1, 3, 4)
    positives, negatives = similarities(2, 3, 4), similarities(3, 3, 4)
    _, (gp, gn) = gradients(lambda p, n: mm.ratio_contrast(similarity, p, n), positives, negatives)
    close(
        gp,
        oracles.central_differences(
            lambda p: oracles.ratio_contrast(numpy(similarity), p, numpy(negatives)),
            numpy(positives),
        ),
        atol=1e-8,
    )
    close(
        gn,
        oracles.central_differences(
            lambda n: oracles.ratio_contrast(numpy(similarity), numpy(positives), n),
            numpy(negatives),
        ),
        atol=1e-8,
    )


@given(seed=seeds, log=st.booleans())
def test_ratio_lies_between_minus_one_and_zero_and_the_log_dominates_it(seed, log):
    """PAPERS 12 and law 46: -log q >= 1 - q."""
    similarity, (positives, negatives) = similarities(seed, 4, 5), masks(seed, 4, 5)
    ratio = mm.ratio_contrast(similarity, positives, negatives, reduction="none")
    logarithm = mm.ratio_contrast(similarity, positives, negatives, log=True, reduction="none")
    counted = positives.any(dim=1) & negatives.any(dim=1)
    assert ((ratio >= -1) & (ratio <= 0)).all()
    assert (logarithm >= 0).all()
    assert (logarithm >= 1 + ratio - 1e-12)[counted].all()
    close(logarithm[counted], -(-ratio[counted]).log())


@given(seed=seeds, factor=st.sampled_from([1e-6, 0.5, 1e6]))
def test_ratio_does_not_depend_on_the_scale_of_the_similarities(seed, factor):
    similarity, (positives, negatives) = similarities(seed, 4, 5), masks(seed, 4, 5)
    for log in (False, True):
        close(
            mm.ratio_contrast(similarity, positives, negatives, log=log),
            mm.ratio_contrast(similarity * factor, positives, negatives, log=log),
        )


def test_an_anchor_needs_a_positive_and_a_negative():
    similarity = similarities(1, 4, 3)
    positives = torch.tensor([[1, 0, 0], [0, 0, 0], [1, 1, 0], [0, 0, 0]]).bool()
    negatives = torch.tensor([[0, 1, 1], [1, 1, 1], [0, 0, 0], [0, 0, 0]]).bool()
    first = similarity[0, 0] / similarity[0].sum()
    for p, q in ((positives, negatives), (positives.double(), negatives.double())):
        close(mm.ratio_contrast(similarity, p, q), -first)
        close(
            mm.ratio_contrast(similarity, p, q, reduction="none"),
            torch.tensor([-first, 0, 0, 0]),
            atol=1e-7,
        )
        _, (gradient,) = gradients(lambda s, p=p, q=q: mm.ratio_contrast(s, p, q), similarity)
        assert (gradient[1:] == 0).all()


@pytest.mark.parametrize("log", [False, True])
def test_no_anchor_at_all_is_zero_with_a_graph(log):
    nobody = torch.zeros(2, 3, dtype=torch.bool)
    everybody = ~nobody
    for p, q in ((nobody, everybody), (everybody, nobody), (nobody, nobody)):
        value, (gradient,) = gradients(
            lambda s, p=p, q=q: mm.ratio_contrast(s, p, q, log=log), similarities(1, 2, 3)
        )
        assert value.item() == 0
        assert (gradient == 0).all()


@pytest.mark.parametrize("log", [False, True])
def test_a_share_of_nothing_is_finite(log):
    positives = torch.tensor([[True, False, False]])
    similarity = torch.zeros(1, 3)
    value, (gradient,) = gradients(
        lambda s: mm.ratio_contrast(s, positives, ~positives, log=log), similarity
    )
    assert value.isfinite() if log else value.item() == 0
    assert gradient.isfinite().all()


@given(seed=seeds)
def test_similarities_outside_the_masks_reach_nothing(seed):
    similarity, (positives, negatives) = similarities(seed, 4, 5), masks(seed, 4, 5)
    outside = ~(positives | negatives)
    value, (gradient,) = gradients(
        lambda s: mm.ratio_contrast(s, positives, negatives),
        torch.where(outside, torch.nan, similarity),
    )
    close(value, mm.ratio_contrast(similarity, positives, negatives))
    assert (gradient[outside] == 0).all()


@given(seed=seeds, weighted=st.booleans())
def test_law_21_reductions_agree(seed, weighted):
    similarity, (positives, negatives) = similarities(seed, 4, 5), masks(seed, 4, 5)
    weight = normal(seed, 4).abs() if weighted else torch.ones(4)
    none, total, mean = (
        mm.ratio_contrast(similarity, positives, negatives, weight=weight, reduction=r)
        for r in ("none", "sum", "mean")
    )
    counted = (positives.any(dim=1) & negatives.any(dim=1)).double()
    assume(counted.any())
    close(none.sum(), total)
    close(total / (weight * counted).sum(), mean)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("log", [False, True])
def test_law_24_low_precision(dtype, log):
    similarity, (positives, negatives) = similarities(3, 4, 5).to(dtype), masks(3, 4, 5)
    value = mm.ratio_contrast(similarity, positives, negatives, log=log)
    exact = mm.ratio_contrast(similarity.double(), positives, negatives, log=log)
    assert value.dtype == torch.float32
    assert abs(value - exact) <= tol(torch.float32, n=5)


SIZES = [1e-44, 1e-38, 1e-30, 1e-10, 1e10, 1e30, 1e38]


@pytest.mark.parametrize("log", [False, True])
@pytest.mark.parametrize("size", SIZES)
def test_similarities_of_every_size_have_their_ratio(log, size):
    """Its gradient is as large as they are small; where no float32 is, it is the largest one."""
    positives, negatives = masks(1, 4, 5)
    similarity = (similarities(1, 4, 5) * 2).float() * size

    def loss(s):
        return mm.ratio_contrast(s, positives, negatives, log=log)

    value, (found,) = gradients(loss, similarity)
    wide, (exact,) = gradients(loss, similarity.double())
    most = torch.finfo(torch.float32).max
    exact = exact.clamp(-most, most)
    close(value, wide, rtol=1e-5)
    close(found, exact, rtol=1e-5, atol=max(1e-6 * exact.abs().max().item(), 3e-45))


@given(seed=seeds, n=st.integers(2, 6), d=st.integers(1, 9), log=st.booleans())
def test_rounding_below_zero_counts_as_zero(seed, n, d, log):
    """Opposite rows have a shifted cosine of 0, and in float32 one of -1e-7."""
    row = normal(seed, 1, d).float()
    signs = torch.randint(0, 2, (n, 1), generator=rng(seed)) * 2 - 1
    x = mm.shifted_cosine_normalize(row * signs)
    positives, negatives = masks(seed, n, n)
    found = mm.ratio_contrast(x @ x.mT, positives, negatives, log=log, reduction="none")
    assert found.isfinite().all()
    assert (found >= (0 if log else -1)).all()
    assert log or (found <= 0).all()


# --- wrong calls ---------------------------------------------------------------------------------

S, P = torch.rand(2, 3), torch.ones(2, 3).bool()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: mm.ratio_contrast(S[0], P, P), r"similarity: expected .*got .*\(3,\)"),
        (lambda: mm.ratio_contrast(P, P, P), "similarity: expected .*float.*got .*bool"),
        (
            lambda: mm.ratio_contrast(S, P[:, :2], P),
            r"positives: expected .*\(2, 3\).*got .*\(2, 2\)",
        ),
        (lambda: mm.ratio_contrast(S, P, P[:1]), r"negatives: expected .*\(2, 3\).*got .*\(1, 3\)"),
        (lambda: mm.ratio_contrast(S, P.long(), P), "positives: expected .*bool.*got .*int64"),
        (lambda: mm.ratio_contrast(S, P, P.int()), "negatives: expected .*bool.*got .*int32"),
        (
            lambda: mm.ratio_contrast(S, P, P, weight=torch.ones(3)),
            r"weight: expected .*2.*got .*\(3,\)",
        ),
        (lambda: mm.ratio_contrast(S, P, P, reduction="avg"), "reduction: expected .*got 'avg'"),
    ],
)
def test_wrong_calls(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize(
    "call",
    [
        lambda x, ids: mm.ratio_contrast(x, x > 0, x < 0, group=1),
    ],
)
def test_what_is_no_group_is_refused(call):
    with pytest.raises(ValueError, match='group: expected "world" or a process group'):
        call(leaf(normal(1, 4, 3)), torch.tensor([0, 0, 1, 1]))
