"""Sentences of docstrings that say "equals", "at least", "above", "between", "never": each a test.

On random inputs and on the edge cases that such sentences forget: one sample, one class, equal
rows, opposite rows, one-hot rows, zeros, shares of 0. A claim that has a test beside its function
is not repeated here, and neither are equalities with other libraries, which ``peer_cases`` has.
"""

import math
import re

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

import mmcontrast as mm
from tests.mmcontrast.strategies import KINDS, close, embeddings, normal, seeds

DTYPES = [torch.float64, torch.float32]
TEMPERATURES = [0.01, 0.07, 1.0]
ROUNDING = {torch.float64: 1e-12, torch.float32: 1e-4}


def edges(dtype, d=4):
    """Batches (5, d) of which sentences are easily false."""
    eye = torch.eye(d, dtype=dtype)[torch.arange(5) % d]
    return {
        "equal": torch.ones(5, d, dtype=dtype),
        "opposite": torch.ones(5, d, dtype=dtype) * torch.tensor([1, -1, 1, -1, 1])[:, None],
        "one-hot": 300 * eye,
        "zero": torch.zeros(5, d, dtype=dtype),
        "some zero": normal(3, 5, d, dtype=dtype) * torch.tensor([1, 0, 1, 0, 1])[:, None],
        "tiny": 1e-30 * normal(3, 5, d, dtype=dtype),
        "huge": 1e18 * normal(3, 5, d, dtype=dtype),
    }


every_edge = pytest.mark.parametrize("edge", edges(torch.float64))
every_dtype = pytest.mark.parametrize("dtype", DTYPES)

# --- equalities ----------------------------------------------------------------------------------


def sup_contrast(x, labels, temperature):
    """SupContrast's ``SupConLoss`` on one view, at ``base_temperature = temperature``, in loops."""
    z = x / x.norm(dim=1, keepdim=True)
    losses = []
    for i in range(len(x)):
        others = [j for j in range(len(x)) if j != i]
        logits = torch.stack([z[i] @ z[j] / temperature for j in others])
        shares = logits.log_softmax(0)
        same = torch.tensor([labels[j] == labels[i] for j in others], dtype=z.dtype)
        losses.append(-(same * shares).sum() / same.sum().clamp_min(1))  # 0 without a positive
    return torch.stack(losses).mean()


@given(seed=seeds, n=st.integers(2, 6), temperature=st.sampled_from(TEMPERATURES))
def test_sup_con_equals_sup_contrast_where_every_anchor_has_a_positive(seed, n, temperature):
    x = normal(seed, 2 * n, 3)
    for labels in (torch.arange(2 * n) // 2, torch.arange(2 * n) % 2, torch.zeros(2 * n).long()):
        close(mm.sup_con(x, labels, temperature=temperature), sup_contrast(x, labels, temperature))


def test_sup_contrasts_mean_counts_the_anchors_without_a_positive():
    x, labels = normal(1, 4, 3), torch.tensor([0, 1, 1, 2])
    found = mm.sup_con(x, labels, temperature=0.07)
    close(found, 2 * sup_contrast(x, labels, 0.07))  # two of four anchors


def test_sup_con_of_one_class_is_not_zero():
    """Three equal rows: each picks one of two equals. In pytorch-metric-learning it would be 0."""
    close(mm.sup_con(torch.ones(3, 2), torch.zeros(3).long()), torch.tensor(math.log(2)))


def test_kl_distill_equals_torchs_where_the_teacher_gives_a_share_of_zero():
    student = torch.zeros(1, 3, dtype=torch.float64)
    teacher = torch.tensor([[1.0, 0.0, -math.inf]], dtype=torch.float64)
    found = mm.kl_distill(student, teacher)
    close(found, F.kl_div(student.log_softmax(-1), teacher.softmax(-1), reduction="batchmean"))
    close(found, torch.tensor(0.5164), atol=5e-5)


@pytest.mark.parametrize("wrong", [0, 1])
def test_pair_prediction_equals_cross_entropy(wrong):
    logits, paired = 5 * normal(1, 6, 2), torch.tensor([0, 1, -100, 1, 0, 0])
    close(mm.pair_prediction(logits, paired), F.cross_entropy(logits, paired))
    none = torch.full_like(paired, -100)
    assert mm.pair_prediction(logits, none) == 0  # where cross_entropy is NaN


@given(seed=seeds, margin=st.sampled_from([0.1, 0.5, 3.0]))
def test_triplet_equals_torchs(seed, margin):
    x = [embeddings(seed + k, 5, 3, KINDS[(seed + k) % len(KINDS)]) for k in range(3)]
    for distance in (mm.euclidean, mm.squared_euclidean, mm.manhattan, mm.cosine_distance):
        theirs = F.triplet_margin_with_distance_loss(*x, distance_function=distance, margin=margin)
        close(mm.triplet(*x, distance=distance, margin=margin), theirs)


@every_edge
def test_triplet_equals_torchs_at_the_edges(edge):
    x = edges(torch.float64)[edge]
    close(
        mm.triplet(x, x.flip(0), x.roll(1, 0), distance=mm.cosine_distance),
        F.triplet_margin_with_distance_loss(
            x, x.flip(0), x.roll(1, 0), distance_function=mm.cosine_distance
        ),
    )


@given(seed=seeds, p=st.integers(2, 5))
def test_sup_cons_in_form_divided_inside_the_logarithm_adds_log_p(seed, p):
    x, labels = normal(seed, 2 * p, 3), torch.arange(2 * p) % 2
    s = mm.l2_normalize(x) @ mm.l2_normalize(x).T / 0.3
    losses = []
    for i in range(2 * p):
        odds = s[i].exp()
        others = torch.arange(2 * p) != i
        same = odds[others & (labels == labels[i])]
        losses.append(-(same.mean() / odds[others].sum()).log())
    found = mm.sup_con(x, labels, form="in", temperature=0.3)
    close(found + math.log(p - 1), torch.stack(losses).mean())


# --- bounds --------------------------------------------------------------------------------------


def in_and_out(x, labels, temperature, **options):
    return (
        mm.sup_con(x, labels, form=form, temperature=temperature, reduction="none", **options)
        for form in ("in", "out")
    )


@every_dtype
@every_edge
@pytest.mark.parametrize("temperature", TEMPERATURES)
def test_in_is_never_above_out(edge, dtype, temperature):
    x = edges(dtype)[edge]
    for labels in ([0, 0, 1, 1, 1], [0, 0, 0, 0, 0], [0, 1, 1, 2, 3]):
        low, high = in_and_out(x, torch.tensor(labels), temperature)
        assert (low <= high + ROUNDING[dtype] * (1 + high.abs())).all()
    weights = normal(2, 5, 5).relu().to(dtype)
    low, high = in_and_out(x, None, temperature, positives=weights)
    assert (low <= high + ROUNDING[dtype] * (1 + high.abs())).all()


@given(seed=seeds, temperature=st.sampled_from(TEMPERATURES))
def test_in_is_never_above_out_of_random_rows(seed, temperature):
    x, labels = normal(seed, 8, 3), torch.randint(0, 3, (8,))
    low, high = in_and_out(x, labels, temperature)
    assert (low <= high * (1 + 1e-12) + 1e-12).all()


@every_dtype
@every_edge
@pytest.mark.parametrize("temperature", TEMPERATURES)
def test_matched_pair_nce_is_smallest_where_all_pairs_are_equally_similar(edge, dtype, temperature):
    x, keep = edges(dtype)[edge], torch.tensor([True, True, False, True, True])
    for y in (x, x.flip(0), normal(4, 5, 4, dtype=dtype)):
        assert mm.matched_pair_nce(x, y, temperature=temperature) >= math.log(5) - ROUNDING[dtype]
        some = mm.matched_pair_nce(x, y, keep=keep, temperature=temperature)
        assert some >= math.log(4) - ROUNDING[dtype]


@pytest.mark.parametrize("temperature", TEMPERATURES)
def test_matched_pair_nce_of_pairs_that_are_equally_similar_is_log_n(temperature):
    x = normal(5, 5, 4)
    found = mm.matched_pair_nce(x, 2 * x, temperature=temperature)
    close(found, torch.tensor(math.log(5), dtype=torch.float64))


ROW_MAPS = {
    mm.softmax_normalize: (0, 1),
    mm.softplus_normalize: (0, 1),
    mm.shifted_cosine_normalize: (0, 1),
    mm.l2_normalize: (-1, 1),
}


@every_dtype
@every_edge
@pytest.mark.parametrize("normalize", ROW_MAPS)
def test_similarities_lie_between_their_bounds(normalize, edge, dtype):
    x = normalize(edges(dtype)[edge])
    low, high = ROW_MAPS[normalize]
    similarity = x @ x.T
    slack = 8 * torch.finfo(dtype).eps
    assert (similarity >= low - slack).all()
    assert (similarity <= high + slack).all()


@every_dtype
@every_edge
@pytest.mark.parametrize("log", [False, True])
def test_ratios_lie_between_minus_one_and_zero(edge, dtype, log):
    x = mm.softmax_normalize(edges(dtype)[edge])
    masks = torch.tensor([0, 0, 1, 1, 1]), torch.tensor([1, 1, 0, 0, 0])
    positives, negatives = (mask.bool().expand(5, 5) for mask in masks)
    found = mm.ratio_contrast(x @ x.T, positives, negatives, log=log, reduction="none")
    assert (found >= (0 if log else -1)).all()
    assert log or (found <= 0).all()


@every_dtype
@every_edge
@pytest.mark.parametrize("reduce", ["flatten", "mean", "per_step"])
def test_modality_correlation_lies_between_minus_one_and_one(edge, dtype, reduce):
    x = edges(dtype)[edge].expand(2, 5, 4)
    for y in (x, -x, x.flip(1), torch.zeros_like(x)):
        found = mm.modality_correlation(x, y, reduce=reduce)
        assert ((found >= -1) & (found <= 1)).all()


@every_dtype
@every_edge
def test_cosine_distances_lie_between_zero_and_two(edge, dtype):
    x = edges(dtype)[edge]
    for y in (x, -x, x.flip(0), torch.zeros_like(x)):
        for found in (mm.cosine_distance(x, y), mm.pairwise(mm.cosine_distance, x, y)):
            assert ((found >= 0) & (found <= 2)).all()


SCORES = torch.tensor([-3.0, -0.2, 0.0, 0.2, 3.0, 1e30, math.nan, -100.0, math.inf, -math.inf])


@every_dtype
@pytest.mark.parametrize("shape", ["gaussian", "laplacian", "triangular"])
@pytest.mark.parametrize("bandwidth", [1e-20, 1.0, 1e20])
def test_weights_of_scores_lie_between_zero_and_one(shape, bandwidth, dtype):
    for function in (mm.score_kernel, mm.score_distance):
        found = function(SCORES[:8].to(dtype), bandwidth=bandwidth, shape=shape)
        assert ((found >= 0) & (found <= 1)).all()


@given(k=st.integers(1, 10_000), percent=st.integers(1, 100))
def test_a_selection_keeps_the_fraction_and_at_least_one(k, percent):
    expected = max(1, k * percent // 100)
    selection = mm.PairSelection(percent / 100)
    assert selection.count(k) == expected
    assert selection.count(torch.tensor(k)) == expected


@every_edge
def test_hardness_weights_sum_to_one_or_to_zero(edge):
    x = mm.softmax_normalize(edges(torch.float64)[edge])
    positives, negatives = torch.ones(5, 5).tril().bool(), torch.zeros(5, 5).bool()
    pull, push = mm.hardness_weights(x @ x.T, positives, negatives)
    close(pull.sum(1), torch.ones(5, dtype=torch.float64))
    assert (push == 0).all()
    for gamma in (1e-30, 0.5):  # of cosines: a positive may lie at or below -gamma
        for weights in mm.hardness_weights(2 * x @ x.T - 1, positives, ~positives, gamma=gamma):
            assert weights.isfinite().all()


@every_edge
def test_diagnosis_within_its_bounds(edge):
    x = edges(torch.float64)[edge]
    y = x.flip(0)
    found = mm.diagnose(x, y, temperature=1.0)
    none = not x.any()
    assert 0 <= found.alignment <= 4 + 1e-12
    assert -8 - 1e-12 <= found.anchor_uniformity <= 0
    assert 0 <= found.gap <= 2 + 1e-12
    assert found.anchor_rank == 0 if none else 1 - 1e-9 <= found.anchor_rank <= 4 + 1e-9
    assert 1 - 1e-9 <= found.effective_negatives <= 4 + 1e-9
    assert 0 <= found.accuracy <= 1
    if edge in ("equal", "zero"):
        assert found.anchor_uniformity == 0
        close(found.loss, found.chance)
    one = mm.diagnose(x[:1], x[:1])
    assert one.effective_negatives == 0


@pytest.mark.parametrize("theta", [-1e4, -30.0, 0.0, 30.0, 1e4])
@pytest.mark.parametrize("bounds", [(0.01, 1.0), (0.03, 0.7), (0.001, 10.0)])
def test_a_learned_temperature_stays_between_its_bounds(theta, bounds):
    low, high = bounds
    temperature = mm.LearnableTemperature((low * high) ** 0.5, minimum=low, maximum=high)
    with torch.no_grad():
        temperature.theta.fill_(theta)
    found = temperature().item()
    assert low * (1 - 1e-6) <= found <= high * (1 + 1e-6)


# --- arguments of at least 0 ---------------------------------------------------------------------

X, Y = normal(1, 4, 3), normal(2, 4, 3)
SOFT = normal(3, 4, 4)  # some below 0
FEATURES = {"text": X, "audio": Y}
WEIGHTED = {
    "info_nce": lambda p, k=None: mm.info_nce(X, Y, positives=p, keep=k),
    "info_nce, chunks": lambda p, k=None: mm.info_nce(X, Y, positives=p, keep=k, chunk_size=2),
    "symmetric_info_nce": lambda p, k=None: mm.symmetric_info_nce(X, Y, positives=p, keep=k),
    "n_pair": lambda p, k=None: mm.n_pair(X, Y, positives=p, keep=k),
    "sup_con": lambda p, k=None: mm.sup_con(X, None, positives=p, keep=k),
    "multilevel_contrast": lambda p, k=None: (
        mm.multilevel_contrast({"a": [(X, Y)]}, positives=p, keep=k).total
    ),
    "ratio_contrast": lambda p: mm.ratio_contrast(SOFT.abs(), p, p > 0),
    "hybrid_contrast": lambda p: (
        mm.hybrid_contrast(FEATURES, None, positives=p, negatives=p > 0).total
    ),
    "intra_modal_pairs": lambda p: mm.intra_modal_pairs(
        FEATURES, None, positives=p > 0, negatives=p
    )["text"].negatives.sum(),
}


@pytest.mark.parametrize("name", WEIGHTED)
def test_soft_targets_below_zero_are_refused(name):
    expected = re.escape(f"weights of at least 0, got {SOFT.min():.6g}")
    with pytest.raises(ValueError, match=rf"(positives|negatives): expected {expected}"):
        WEIGHTED[name](SOFT)
    assert WEIGHTED[name](SOFT.relu()).isfinite()
    assert WEIGHTED[name](torch.zeros(4, 4).double()) == 0


@pytest.mark.parametrize("name", [n for n in WEIGHTED if WEIGHTED[n].__defaults__])
@pytest.mark.parametrize("filling", [-1.0, math.nan])
def test_soft_targets_outside_keep_may_be_anything(name, filling):
    keep = torch.tensor([1, 1, 0, 1, 1, 1, 1, 0, 0, 1, 1, 1, 1, 0, 1, 1]).bool().view(4, 4)
    found = WEIGHTED[name](SOFT.abs().masked_fill(~keep, filling), keep)
    close(found, WEIGHTED[name](SOFT.abs(), keep))


def test_soft_targets_are_read_where_there_are_values():
    torch.func.vmap(lambda p: mm.info_nce(X, Y, positives=p))(SOFT[None])
    assert mm.info_nce(X.to("meta"), Y.to("meta"), positives=SOFT.to("meta")).is_meta
