"""Ratio contrast and N-pair against float64 loops, and their laws."""

import math

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

import mmcontrast as mm
from tests import oracles
from tests.mmcontrast.strategies import (
    close,
    gradients,
    labels,
    mask,
    normal,
    numpy,
    pairs,
    rng,
    seeds,
    tol,
)

REDUCTIONS = ["mean", "sum", "none"]


def similarities(seed, n, m):
    return torch.rand(n, m, generator=rng(seed), dtype=torch.float64) + 0.01


def masks(seed, n, m, floating=False):
    if floating:
        return normal(seed + 1, n, m).relu(), normal(seed + 2, n, m).relu()
    return mask(seed, n, m), mask(seed + 1, n, m)


# --- ratio contrast ------------------------------------------------------------------------------


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


# --- supervised contrast -------------------------------------------------------------------------


@given(
    seed=seeds,
    n=st.integers(1, 6),
    extra=st.none() | st.integers(1, 7),
    classes=st.integers(1, 3),
    form=st.sampled_from(["out", "in"]),
    temperature=st.sampled_from([0.05, 0.5, 2.0]),
    kept=st.booleans(),
    weighted=st.booleans(),
    chunk_size=st.none() | st.integers(1, 4),
    reduction=st.sampled_from(REDUCTIONS),
)
def test_sup_con_agrees_with_the_oracle(
    seed, n, extra, classes, form, temperature, kept, weighted, chunk_size, reduction
):
    arrays = [normal(seed, n, 3), labels(seed, n, classes, 0.2)]
    if extra is not None:
        arrays += [normal(seed + 1, extra, 3), labels(seed + 1, extra, classes, 0.2)]
    options = {
        "form": form,
        "temperature": temperature,
        "keep": mask(seed, n, extra or n, share=0.7) if kept else None,
        "weight": normal(seed, n).abs() if weighted else None,
        "reduction": reduction,
    }
    expected = oracles.sup_con(*map(numpy, arrays), **numpy(options))
    close(mm.sup_con(*arrays, **options, chunk_size=chunk_size), expected)


@given(seed=seeds, alone=st.booleans(), soft=st.booleans())
def test_sup_con_with_positives_instead_of_labels(seed, alone, soft):
    x, y = normal(seed, 4, 3), normal(seed + 1, 4 if alone else 6, 3)
    positives = normal(seed, 4, len(y)).relu()
    positives = positives if soft else positives > 0
    candidates = None if alone else y
    expected = oracles.sup_con(
        numpy(x), None, numpy(candidates), positives=numpy(positives), temperature=0.3
    )
    close(mm.sup_con(x, None, candidates, positives=positives, temperature=0.3), expected)


@pytest.mark.parametrize("form", ["out", "in"])
def test_sup_con_gradient_agrees_with_central_differences(form):
    x, ids = normal(1, 5, 3), torch.tensor([0, 1, 0, 1, 0])
    options = {"form": form, "temperature": 0.5}
    _, (gradient,) = gradients(lambda x: mm.sup_con(x, ids, **options), x)
    expected = oracles.central_differences(
        lambda v: oracles.sup_con(v, numpy(ids), **options), numpy(x)
    )
    close(gradient, expected, atol=1e-8)


@given(seed=seeds, n=st.integers(2, 7))
def test_law_27_28_and_29_of_sup_con(seed, n):
    """Per anchor: out >= log |P|; in <= out - log |P| (Jensen); collapse: out = log(N - 1)."""
    x, ids = normal(seed, n, 3), labels(seed, n)
    counts = (ids[:, None] == ids).sum(dim=1).double() - 1
    least = torch.where(counts > 0, counts.clamp_min(1).log(), 0.0)
    out, inside = (mm.sup_con(x, ids, form=form, reduction="none") for form in ("out", "in"))
    assert (out >= least - 1e-12).all()
    assert (inside >= 0).all()
    assert (inside <= out - least + 1e-9).all()
    collapsed = mm.sup_con(x[:1].expand(n, 3), torch.zeros(n, dtype=torch.int64))
    close(collapsed, math.log(n - 1))


@given(seed=seeds, n=st.integers(1, 4), temperature=st.sampled_from([0.07, 0.5]))
def test_law_30_two_views_with_unique_labels_are_nt_xent(seed, n, temperature):
    views = normal(seed, 2 * n, 3)
    partners = (torch.arange(2 * n) + n) % (2 * n)
    expected = mm.info_nce(
        views, views, partners, keep=mm.off_diagonal(2 * n), temperature=temperature
    )
    ids = torch.arange(2 * n) % n
    for form in ("out", "in"):
        close(mm.sup_con(views, ids, form=form, temperature=temperature), expected)


def test_h16_in_with_one_positive_is_n_pair():
    x, y = normal(1, 4, 3), normal(2, 4, 3)
    ids = torch.arange(4)
    options = {"normalize": None, "temperature": 1.0}
    close(mm.sup_con(x, ids, y, ids, form="in", **options), mm.n_pair(x, y))


@pytest.mark.parametrize("form", ["out", "in"])
def test_law_47_sup_con_without_positives_is_zero_with_a_graph(form):
    for ids in (torch.arange(3), torch.full((3,), -100)):
        value, (gradient,) = gradients(
            lambda x, ids=ids: mm.sup_con(x, ids, form=form), normal(1, 3, 2)
        )
        assert value.item() == 0
        assert (gradient == 0).all()


def test_the_sup_con_module_is_one_call_of_the_function():
    x, ids = normal(1, 5, 3), torch.tensor([0, 1, 0, 1, 0])
    settings = {
        "form": "in",
        "temperature": 0.4,
        "normalize": mm.softmax_normalize,
        "reduction": "sum",
        "chunk_size": 2,
    }
    forward = {"keep": mask(1, 5, 5), "weight": normal(2, 5).abs()}
    close(mm.SupCon(**settings)(x, ids, **forward), mm.sup_con(x, ids, **settings, **forward))
    close(mm.SupCon()(x, ids), mm.sup_con(x, ids))
    close(mm.SupCon()(x, ids, x, ids), mm.sup_con(x, ids, x, ids))
    positives = mask(3, 5, 5)
    close(mm.SupCon()(x, None, positives=positives), mm.sup_con(x, None, positives=positives))


# --- N-pair --------------------------------------------------------------------------------------


@given(
    pair=pairs(),
    seed=seeds,
    target=st.sampled_from(["none", "targets", "bool", "soft"]),
    kept=st.booleans(),
    weighted=st.booleans(),
    unit=st.booleans(),
    reduction=st.sampled_from(REDUCTIONS),
)
def test_n_pair_agrees_with_the_oracle(pair, seed, target, kept, weighted, unit, reduction):
    x, y = (v / v.abs().max() for v in pair)
    shape = len(x), len(y)
    options = {
        "targets": torch.randint(-1, shape[1], shape[:1], generator=rng(seed)),
        "bool": mask(seed, *shape, share=0.3),
        "soft": normal(seed, *shape).relu(),
    }
    options["targets"][options["targets"] < 0] = -100
    chosen = {"targets" if target == "targets" else "positives": options.get(target)}
    chosen["keep"] = mask(seed + 1, *shape, share=0.7) if kept else None
    chosen["weight"] = normal(seed + 2, shape[0]).abs() if weighted else None
    expected = oracles.n_pair(
        numpy(x), numpy(y), **numpy(chosen), normalize="l2" if unit else None, reduction=reduction
    )
    normalize = mm.l2_normalize if unit else None
    close(mm.n_pair(x, y, **chosen, normalize=normalize, reduction=reduction), expected)


def test_n_pair_gradient_agrees_with_central_differences():
    x, y = normal(1, 3, 2), normal(2, 5, 2)
    _, (gx, gy) = gradients(mm.n_pair, x, y)
    close(gx, oracles.central_differences(lambda v: oracles.n_pair(v, y), numpy(x)), atol=1e-8)
    close(gy, oracles.central_differences(lambda v: oracles.n_pair(x, v), numpy(y)), atol=1e-8)


@given(pair=pairs())
def test_law_32_n_pair_is_info_nce_on_raw_products_at_temperature_one(pair):
    x, y = (v / v.abs().max() for v in pair)
    close(mm.n_pair(x, y), mm.info_nce(x, y, normalize=None, temperature=1.0))


def test_n_pair_by_hand():
    a, p = torch.tensor([[1.0, 2.0]]), torch.tensor([[3.0, 1.0]])
    negatives = torch.tensor([[0.0, 1.0], [1.0, 1.0]])
    expected = math.log(1 + math.exp(2 - 5) + math.exp(3 - 5))
    assert mm.n_pair(a, torch.cat([p, negatives])).item() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(
    "options", [{"targets": torch.full((3,), -100)}, {"keep": torch.zeros(3, 3).bool()}]
)
def test_n_pair_without_positives_is_zero_with_a_graph(options):
    value, found = gradients(
        lambda x, y: mm.n_pair(x, y, **options), normal(1, 3, 2), normal(2, 3, 2)
    )
    assert value.item() == 0
    assert all((gradient == 0).all() for gradient in found)


# --- wrong calls ---------------------------------------------------------------------------------

S, P = torch.rand(2, 3), torch.ones(2, 3).bool()
X, Y = torch.ones(3, 2), torch.ones(4, 2)
IDS, P3 = torch.tensor([0, 1, 0]), torch.ones(3, 3).bool()


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
        (lambda: mm.sup_con(X, None), "labels.*: expected .*got"),
        (lambda: mm.sup_con(X, IDS, positives=P3), "labels|positives: expected .*got"),
        (lambda: mm.sup_con(X, IDS[:2]), r"labels: expected .*3.*got .*\(2,\)"),
        (lambda: mm.sup_con(X, IDS, Y), "candidate_labels: expected .*got"),
        (lambda: mm.sup_con(X, IDS, Y, IDS), r"candidate_labels: expected .*4.*got .*\(3,\)"),
        (lambda: mm.sup_con(X, IDS, None, IDS), "candidate_labels|candidates: expected .*got"),
        (lambda: mm.sup_con(X, IDS, torch.ones(4, 3), Y[:, 0]), "candidates: expected .*2.*got"),
        (lambda: mm.sup_con(X.long(), IDS), "anchors: expected .*float.*got .*int64"),
        (lambda: mm.sup_con(X, IDS, form="both"), "form: expected .*'out'.*'in'.*got 'both'"),
        (lambda: mm.sup_con(X, IDS, temperature=0.0), "temperature: expected .*got 0"),
        (lambda: mm.sup_con(X, IDS, reduction="avg"), "reduction: expected .*got 'avg'"),
        (lambda: mm.sup_con(X, IDS, keep=P), r"keep: expected .*\(3, 3\).*got .*\(2, 3\)"),
        (lambda: mm.sup_con(X, IDS, weight=torch.ones(2)), r"weight: expected .*3.*got .*\(2,\)"),
        (lambda: mm.n_pair(X, Y[:2]), "candidates: expected .*3.*got"),
        (lambda: mm.n_pair(X.long(), Y), "anchors: expected .*float.*got .*int64"),
        (lambda: mm.n_pair(X, torch.ones(4, 3)), r"candidates: expected .*2.*got .*\(4, 3\)"),
        (lambda: mm.n_pair(X, Y, torch.tensor([0, 4, 0])), "targets: expected .*got .*4"),
        (lambda: mm.n_pair(X, Y, keep=torch.ones(3, 4)), "keep: expected .*bool.*got .*float32"),
        (lambda: mm.n_pair(X, Y, weight=torch.ones(2)), r"weight: expected .*3.*got .*\(2,\)"),
        (lambda: mm.n_pair(X, Y, reduction="all"), "reduction: expected .*got 'all'"),
    ],
)
def test_wrong_calls(call, message):
    with pytest.raises(ValueError, match=message):
        call()
