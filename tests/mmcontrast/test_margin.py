"""The triplet loss against float64 loops, and the laws of margin losses."""

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

import mmcontrast as mm
from tests import oracles
from tests.mmcontrast.strategies import (
    close,
    gradients,
    mask,
    normal,
    numpy,
    orthogonal,
    rng,
    seeds,
)

DISTANCES = {mm.euclidean: oracles.euclidean, mm.squared_euclidean: oracles.squared_euclidean}
distances = st.sampled_from(list(DISTANCES))
every_distance = pytest.mark.parametrize("distance", DISTANCES)


def triple(seed, n=4, d=3):
    return [normal(seed + k, n, d) for k in range(3)]


@given(
    seed=seeds,
    n=st.integers(1, 5),
    d=st.integers(1, 4),
    margin=st.sampled_from([-0.5, 0.0, 0.3, 1.0, 5.0]),
    distance=distances,
    ending=st.sampled_from([{}, {"hinge": False}, {"soft": True}]),
    swap=st.booleans(),
    kept=st.booleans(),
    weighted=st.booleans(),
    reduction=st.sampled_from(["mean", "sum", "none"]),
)
def test_triplet_agrees_with_the_oracle(
    seed, n, d, margin, distance, ending, swap, kept, weighted, reduction
):
    shared = {"margin": margin, "swap": swap, "reduction": reduction, **ending}
    keep = mask(seed, n, share=0.7) if kept else None
    weight = normal(seed, n).abs() if weighted else None
    rows = triple(seed, n, d)
    expected = oracles.triplet(
        *map(numpy, rows),
        distance=DISTANCES[distance],
        keep=numpy(keep),
        weight=numpy(weight),
        **shared,
    )
    close(mm.triplet(*rows, distance=distance, keep=keep, weight=weight, **shared), expected)


@every_distance
@pytest.mark.parametrize("swap", [True, False])
@pytest.mark.parametrize("ending", [{}, {"hinge": False}, {"soft": True}])
def test_gradient_agrees_with_central_differences(distance, ending, swap):
    rows, keep = triple(5), torch.tensor([True, True, False, True])
    _, found = gradients(
        lambda *r: mm.triplet(*r, distance=distance, keep=keep, swap=swap, **ending), *rows
    )
    for k, gradient in enumerate(found):

        def value(moved, k=k):
            plain = [numpy(v) for v in rows]
            plain[k] = moved
            return oracles.triplet(
                *plain, distance=DISTANCES[distance], keep=numpy(keep), swap=swap, **ending
            )

        close(gradient, oracles.central_differences(value, numpy(rows[k])), atol=1e-8)
        assert (gradient[2] == 0).all()


def test_defaults_are_the_documented_ones():
    rows = triple(6)
    close(mm.triplet(*rows), mm.triplet(*rows, margin=1.0, distance=mm.euclidean, hinge=True))


@given(seed=seeds, margin=st.sampled_from([0.0, 0.5, 2.0]))
def test_law_31_margins(seed, margin):
    a, p, n = triple(seed)
    values = mm.triplet(a, p, n, margin=margin, reduction="none")
    assert (values >= 0).all()
    satisfied = mm.euclidean(a, n) >= mm.euclidean(a, p) + margin
    assert torch.equal(values == 0, satisfied)
    wider = mm.triplet(a, p, n, margin=margin + 0.3, reduction="none")
    assert (wider >= values).all()
    assert (wider <= values + 0.3 + 1e-12).all()
    shift = normal(seed + 9, 1, 3)
    close(mm.triplet(a + shift, p + shift, n + shift, margin=margin), values.mean(), atol=1e-9)


@given(seed=seeds)
def test_rotations_and_joint_permutations_change_nothing(seed):
    rows, q = triple(seed), orthogonal(seed, 3)
    order = torch.randperm(4, generator=rng(seed))
    close(mm.triplet(*rows), mm.triplet(*[v @ q for v in rows]))
    close(
        mm.triplet(*rows, reduction="none")[order],
        mm.triplet(*[v[order] for v in rows], reduction="none"),
    )


@given(seed=seeds)
def test_hycon_eq_19_lies_between_minus_one_and_three_on_softmax_features(seed):
    rows = [mm.softmax_normalize(20 * v) for v in triple(seed)]
    options = {"distance": mm.squared_euclidean, "hinge": False, "reduction": "none"}
    values = mm.triplet(*rows, **options)
    assert (values >= -1).all()
    assert (values <= 3).all()


@given(seed=seeds)
def test_law_25_masking_a_triplet_is_removing_it(seed):
    rows, keep = triple(seed, 6), mask(seed, 6)
    smaller = mm.triplet(*[v[keep] for v in rows])
    for filler in (1e30, torch.nan):
        filled = [torch.where(keep[:, None], v, filler) for v in rows]
        close(mm.triplet(*filled, keep=keep), smaller)
    _, found = gradients(lambda *r: mm.triplet(*r, keep=keep), *rows)
    assert all((gradient[~keep] == 0).all() for gradient in found)


@given(seed=seeds, weighted=st.booleans())
def test_law_21_reductions_agree(seed, weighted):
    rows, keep = triple(seed), torch.tensor([True, False, True, True])
    weight = normal(seed, 4).abs() if weighted else torch.ones(4, dtype=torch.float64)
    none, total, mean = (
        mm.triplet(*rows, keep=keep, weight=weight, reduction=r) for r in ("none", "sum", "mean")
    )
    close(none.sum(), total)
    close(total / weight[keep].sum(), mean)


@given(seed=seeds, margin=st.sampled_from([0.0, 0.5]), distance=distances)
def test_a_soft_margin_lies_on_the_hinge(seed, margin, distance):
    """Above it by log 2 at most, where the sum is 0; and swapped losses are never smaller."""
    a, p, n = triple(seed)
    given = {"margin": margin, "distance": distance, "reduction": "none"}
    hard, soft = mm.triplet(a, p, n, **given), mm.triplet(a, p, n, soft=True, **given)
    assert (soft >= hard).all()
    assert (soft > 0).all()
    assert (soft <= hard + math.log(2) + 1e-12).all()
    assert (mm.triplet(a, p, n, swap=True, **given) >= hard).all()
    both = [mm.triplet(x, y, n, swap=True, soft=True, **given) for x, y in ((a, p), (p, a))]
    close(*both)  # the anchor and the positive are alike


def test_a_soft_margin_keeps_its_digits_far_from_the_margin():
    a, p = torch.zeros(1, 1).double(), torch.tensor([[30.0]]).double()
    close(mm.triplet(a, p, a, margin=0.0, soft=True), 30 + math.exp(-30), rtol=0, atol=0)
    tiny = mm.triplet(a, a, 5 * p, margin=0.0, soft=True)
    close(tiny, math.exp(-150), rtol=1e-12, atol=0)


@pytest.mark.parametrize("margin", [0.3, 1.0])
def test_swapped_is_torchs(margin):
    rows = triple(12)
    value, found = gradients(lambda *r: mm.triplet(*r, margin=margin, swap=True), *rows)
    other, expected = gradients(
        lambda *r: F.triplet_margin_loss(*r, margin=margin, swap=True, eps=0), *rows
    )
    close(value, other)
    for gradient, theirs in zip(found, expected, strict=True):
        close(gradient, theirs)


def test_the_mean_counts_satisfied_triplets():
    a = torch.zeros(2, 1)
    p, n = torch.tensor([[1.0], [0.0]]), torch.tensor([[1.0], [9.0]])
    assert mm.triplet(a, p, n, margin=1.0).item() == 0.5


def test_any_callable_is_a_distance():
    rows = triple(7)
    manhattan = mm.triplet(*rows, distance=lambda x, y: (x - y).abs().sum(dim=-1))
    expected = oracles.triplet(
        *map(numpy, rows),
        distance=lambda x, y: math.fsum(abs(a - b) for a, b in zip(x, y, strict=True)),
    )
    close(manhattan, expected)


def test_what_stands_in_the_other_rows_reaches_nothing():
    keep = torch.tensor([True, False, True])
    rows = [normal(k, 3, 2) for k in (1, 2, 3)]
    value, found = gradients(lambda *x: mm.triplet(*x, margin=9.0), *(x[keep] for x in rows))
    filled = [torch.where(keep[:, None], x, torch.nan) for x in rows]
    other, slopes = gradients(lambda *x: mm.triplet(*x, margin=9.0, keep=keep), *filled)
    close(other, value)
    for slope, expected in zip(slopes, found, strict=True):
        close(slope[keep], expected)
        assert (slope[~keep] == 0).all()


def test_nobody_kept_is_zero_with_a_graph():
    value, found = gradients(lambda *r: mm.triplet(*r, keep=torch.zeros(4).bool()), *triple(8))
    assert value.item() == 0
    assert all((gradient == 0).all() for gradient in found)


def test_law_23_equal_rows_have_a_finite_gradient():
    x = torch.ones(3, 2)
    value, found = gradients(mm.triplet, x, x, x)
    assert value.item() == 1.0
    assert all(gradient.isfinite().all() for gradient in found)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_law_24_low_precision(dtype):
    rows = [v.to(dtype) for v in triple(9)]
    value = mm.triplet(*rows)
    assert value.dtype == torch.float32
    close(value, mm.triplet(*[v.double() for v in rows]), atol=1e-5)


def test_the_module_is_one_call_of_the_function():
    rows = triple(10)
    forward = {"keep": torch.tensor([True, False, True, True]), "weight": normal(11, 4).abs()}
    settings = {
        "margin": 0.3,
        "distance": mm.squared_euclidean,
        "hinge": False,
        "swap": True,
        "reduction": "sum",
    }
    close(mm.Triplet(**settings)(*rows, **forward), mm.triplet(*rows, **settings, **forward))
    close(mm.Triplet()(*rows), mm.triplet(*rows))
    close(mm.Triplet(soft=True)(*rows), mm.triplet(*rows, soft=True))


X = torch.ones(3, 2)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: mm.triplet(X[0], X, X), r"anchors: expected .*got .*\(2,\)"),
        (lambda: mm.triplet(X, X[:2], X), r"positives: expected .*3.*got .*\(2, 2\)"),
        (lambda: mm.triplet(X, X, torch.ones(3, 4)), r"negatives: expected .*2.*got .*\(3, 4\)"),
        (lambda: mm.triplet(X.long(), X, X), "anchors: expected .*float.*got .*int64"),
        (lambda: mm.triplet(X, X, X.bool()), "negatives: expected .*float.*got .*bool"),
        (
            lambda: mm.triplet(X, X, X, keep=torch.ones(2).bool()),
            r"keep: expected .*3.*got .*\(2,\)",
        ),
        (lambda: mm.triplet(X, X, X, keep=torch.ones(3)), "keep: expected .*bool.*got .*float32"),
        (lambda: mm.triplet(X, X, X, weight=torch.ones(4)), r"weight: expected .*3.*got .*\(4,\)"),
        (lambda: mm.triplet(X, X, X, hinge=False, soft=True), "hinge: expected True .*got False"),
        (lambda: mm.triplet(X, X, X, swap=1), "swap: expected True or False, got 1"),
        (lambda: mm.triplet(X, X, X, reduction="avg"), "reduction: expected .*got 'avg'"),
        (
            lambda: mm.triplet(X, X, X, distance=lambda x, y: (x - y).abs()),
            r"distance: expected .*3.*got .*\(3, 2\)",
        ),
    ],
)
def test_wrong_calls(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_triplets_that_are_satisfied_are_zero_by_the_hinge_alone():
    a, p, n = torch.zeros(1, 2), torch.zeros(1, 2), torch.full((1, 2), 9.0)
    assert mm.triplet(a, p, n) == 0
    assert mm.Triplet()(a, p, n) == 0
    assert mm.Triplet(hinge=False)(a, p, n) < 0


@pytest.mark.parametrize("distance", [mm.euclidean, mm.squared_euclidean, mm.manhattan])
@pytest.mark.parametrize("swap", [False, True])
@pytest.mark.parametrize("size", [1e-30, 1e18, 1e19, 1e20, 1e37, 3e38])
def test_triplets_of_every_size(distance, size, swap):
    """Also where both distances are beyond the largest float and their difference is not."""
    # Squares of 1e-30 are all 0 in a float32: neither says which is the smaller one.
    swap = swap and not (distance is mm.squared_euclidean and size < 1e-20)
    rows = [(normal(k, 5, 3) * size).clamp(-3e38, 3e38).float() for k in range(3)]

    def losses(*rows):
        return mm.triplet(*rows, distance=distance, reduction="none", swap=swap)

    wider = [x.double() for x in rows]
    most = torch.finfo(torch.float32).max
    close(losses(*rows), losses(*wider).clamp(max=most), rtol=1e-5, atol=0)
    _, found = gradients(lambda *rows: (losses(*rows) / 8).sum(), *rows)
    _, exact = gradients(lambda *rows: (losses(*rows) / 8).sum(), *wider)
    for gradient, reference in zip(found, exact, strict=True):
        reference = reference.clamp(-most, most)
        close(gradient, reference, rtol=1e-5, atol=1e-6 * reference.abs().max().item())


def test_a_distance_of_a_user_is_outside_autocast_for_float32_rows():
    a, p, n = (normal(k, 4, 3).float() for k in range(3))
    matrix = normal(3, 3, 3).float()

    def bent(x, y):
        return ((x - y) @ matrix).square().sum(-1)

    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = mm.triplet(a, p, n, distance=bent)
        lowered = mm.triplet(a.bfloat16(), p.bfloat16(), n.bfloat16(), distance=bent)
    assert torch.equal(inside, mm.triplet(a, p, n, distance=bent))
    assert lowered.isfinite()  # of bfloat16 rows and a float32 matrix: only autocast takes both
