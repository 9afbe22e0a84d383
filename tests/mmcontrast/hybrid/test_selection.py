"""HyCon's pair selection and hardness weights against float64 loops, and their laws."""

import dataclasses
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import mmcontrast as mm
from tests import oracles
from tests.mmcontrast.hybrid.losses import SUPERVISED, every_supervised
from tests.mmcontrast.strategies import (
    MODALITIES,
    close,
    labels,
    leaf,
    mask,
    modalities,
    normal,
    numpy,
    rng,
    seeds,
    with_ties,
)

selections = st.builds(
    mm.PairSelection,
    fraction=st.sampled_from([1e-3, 0.2, 0.34, 0.5, 1.0]),
    positives=st.booleans(),
    negatives=st.booleans(),
)


# --- pair selection ------------------------------------------------------------------------------


@given(
    seed=seeds,
    n=st.integers(1, 7),
    m=st.integers(1, 7),
    selection=selections,
    batch_size=st.none() | st.integers(1, 20),
    ties=st.booleans(),
    as_tensor=st.booleans(),
)
def test_select_pairs_agrees_with_the_oracle(seed, n, m, selection, batch_size, ties, as_tensor):
    similarity = with_ties(seed, n, m) if ties else normal(seed, n, m)
    positives, negatives = mask(seed + 1, n, m), mask(seed + 2, n, m)
    expected = oracles.select_pairs(
        *map(numpy, (similarity, positives, negatives)),
        selection=vars(selection),
        batch_size=batch_size,
    )
    if batch_size is not None and as_tensor:
        batch_size = torch.tensor(batch_size)
    found = mm.select_pairs(
        similarity, positives, negatives, selection=selection, batch_size=batch_size
    )
    for thinned, wanted in zip(found, expected, strict=True):
        assert thinned.dtype == torch.bool
        assert torch.equal(thinned, torch.tensor(wanted))


@pytest.mark.parametrize("as_tensor", [False, True])
def test_h7_how_many_pairs(as_tensor):
    """h = max(1, floor(K * fraction)) in exact decimals, for an int and for a tensor alike."""
    for percent in (1, 5, 7, 10, 20, 25, 29, 30, 34, 57, 60, 70, 90, 99, 100):
        selection = mm.PairSelection(percent / 100)
        for batch_size in [*range(1, 200), 1000, 4096, 100_000]:
            size = torch.tensor(batch_size) if as_tensor else batch_size
            assert int(selection.count(size)) == max(1, batch_size * percent // 100)


@given(seed=seeds, selection=selections, order=st.permutations(range(5)))
def test_law_51_selection_without_ties_moves_with_the_columns(seed, selection, order):
    similarity = normal(seed, 5, 5)
    positives, negatives = mask(seed + 1, 5, 5), mask(seed + 2, 5, 5)
    found = mm.select_pairs(similarity, positives, negatives, selection=selection)
    moved = mm.select_pairs(
        similarity[:, order], positives[:, order], negatives[:, order], selection=selection
    )
    for before, after in zip(found, moved, strict=True):
        assert torch.equal(before[:, order], after)


@given(seed=seeds, n=st.integers(1, 6), m=st.integers(1, 6), gamma=st.sampled_from([0.1, 1.0, 5.0]))
def test_law_38_hardness_weights(seed, n, m, gamma):
    similarity = torch.rand(n, m, generator=rng(seed), dtype=torch.float64)
    positives, negatives = mask(seed + 1, n, m), mask(seed + 2, n, m)
    found = mm.hardness_weights(leaf(similarity), positives, negatives, gamma=gamma)
    expected = oracles.hardness_weights(
        *map(numpy, (similarity, positives, negatives)), gamma=gamma
    )
    for weights, wanted, chosen in zip(found, expected, (positives, negatives), strict=True):
        close(weights, wanted)
        close(weights.sum(dim=1), chosen.any(dim=1).double())
        assert (weights >= 0).all()
        assert (weights[~chosen] == 0).all()
        assert not weights.requires_grad
    hard = (found[1] * similarity).sum(dim=1)
    plain = (negatives * similarity).sum(dim=1) / negatives.sum(dim=1).clamp_min(1)
    assert (hard >= plain - 1e-12).all()
    soft = (found[0] * similarity).sum(dim=1)
    plain = (positives * similarity).sum(dim=1) / positives.sum(dim=1).clamp_min(1)
    assert (soft <= plain + 1e-12).all()


def test_h10_a_small_gamma_does_not_overflow():
    similarity = torch.tensor([[1e-4, 0.0, 0.5]])
    everybody = torch.ones(1, 3, dtype=torch.bool)
    weights, _ = mm.hardness_weights(similarity, everybody, ~everybody, gamma=1e-4)
    assert weights.isfinite().all()
    close(weights.sum(), torch.tensor(1.0), atol=1e-6)
    assert weights.argmax().item() == 1


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_law_24_hardness_weights_in_low_precision(dtype):
    similarity = torch.rand(4, 5, generator=rng(1)).to(dtype)
    everybody = torch.ones(4, 5, dtype=torch.bool)
    found = mm.hardness_weights(similarity, everybody, everybody)
    exact = mm.hardness_weights(similarity.double(), everybody, everybody)
    for weights, reference in zip(found, exact, strict=True):
        assert weights.dtype == torch.float32
        close(weights, reference, atol=1e-6)


# --- wrong calls ---------------------------------------------------------------------------------

S, P = torch.rand(2, 3), torch.ones(2, 3).bool()
ONE = mm.PairSelection()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: mm.PairSelection(0.0), "fraction: expected .*got 0.0"),
        (lambda: mm.PairSelection(1.5), "fraction: expected .*1.*got 1.5"),
        (lambda: mm.PairSelection(-0.2), "fraction: expected .*got -0.2"),
        (lambda: mm.PairSelection(gamma=0.0), "gamma: expected .*got 0.0"),
        (lambda: mm.PairSelection(gamma=-1.0), "gamma: expected .*got -1.0"),
        (lambda: mm.PairSelection(unselected="max"), "unselected: expected .*'mean'.*got 'max'"),
        (lambda: mm.PairSelection(inter_factor=0), "inter_factor: expected .*got 0"),
        (lambda: mm.select_pairs(P, P, P, selection=ONE), "similarity: expected .*got .*bool"),
        (
            lambda: mm.select_pairs(S, P[:1], P, selection=ONE),
            r"positives: expected .*\(2, 3\).*got .*\(1, 3\)",
        ),
        (
            lambda: mm.select_pairs(S, P, P[:, :2], selection=ONE),
            r"negatives: expected .*\(2, 3\).*got .*\(2, 2\)",
        ),
        (
            lambda: mm.select_pairs(S, P.float(), P, selection=ONE),
            "positives: expected .*bool.*got .*float32",
        ),
        (lambda: mm.hardness_weights(S, P, P, gamma=0.0), "gamma: expected .*got 0.0"),
        (lambda: mm.hardness_weights(S, P, P.int()), "negatives: expected .*bool.*got .*int32"),
        (
            lambda: mm.hardness_weights(S, P[:, :1], P),
            r"positives: expected .*\(2, 3\).*got .*\(2, 1\)",
        ),
    ],
)
def test_wrong_calls(call, message):
    with pytest.raises(ValueError, match=message):
        call()


# --- laws ----------------------------------------------------------------------------------------


@given(seed=seeds, n=st.integers(2, 6))
def test_paper_v2_with_equal_similarities_is_the_ratio_of_mean_similarities(seed, n):
    """PAPERS 12: fraction 1 and equal similarities, so every weighted mean is s: ratio -1/2."""
    x = normal(seed, 1, 3).expand(n, 3)
    features = dict.fromkeys(MODALITIES, x)
    classes = (torch.arange(n) > 0).long()
    selection = mm.PairSelection(fraction=1.0)
    options = {"refine": False, "selection": selection}
    only_one = n == 2
    for loss in SUPERVISED.values():
        close(loss(features, classes, **options), 0.0 if only_one else -0.5)


@given(seed=seeds)
def test_law_38_everything_selected_and_evenly_weighted_is_the_mean_of_both_sides(seed):
    """A huge gamma makes the positives' weights even; unselected negatives are a plain mean."""
    features, classes = modalities(seed, 6, 3), torch.tensor([0, 1, 0, 1, 0, 1])
    even = mm.PairSelection(fraction=1.0, gamma=1e9, negatives=False)
    untouched = mm.PairSelection(positives=False, negatives=False)
    for loss in SUPERVISED.values():
        close(
            loss(features, classes, selection=even),
            loss(features, classes, selection=untouched),
            atol=1e-9,
        )


def test_nothing_selected_and_summed_is_the_first_version():
    features, classes = modalities(4, 6, 3), labels(4, 6)
    neither = mm.PairSelection(positives=False, negatives=False, unselected="sum")
    close(
        mm.hybrid_contrast(features, classes, selection=neither).total,
        mm.hybrid_contrast(features, classes).total,
    )


@every_supervised
@given(seed=seeds, n=st.integers(1, 9), fraction=st.sampled_from([0.1, 0.2, 0.34, 0.5, 1.0]))
def test_law_38_no_more_than_h_pairs_get_a_gradient(kind, seed, n, fraction):
    """Through a similarity matrix that is all its own: normalize=None and one-hot candidates."""
    features, classes = modalities(seed, n, 3), labels(seed, n)
    selection = mm.PairSelection(fraction, inter_factor=2)
    pairs = getattr(mm, f"{kind}_modal_pairs")(features, classes)
    h = max(1, math.floor(n * fraction))
    for name in features:
        similarity = pairs[name].anchors @ pairs[name].candidates.T
        thinned = mm.select_pairs(
            similarity, pairs[name].positives, pairs[name].negatives, selection=selection
        )
        for before, after in zip(
            (pairs[name].positives, pairs[name].negatives), thinned, strict=True
        ):
            assert torch.equal(after.sum(dim=1), before.sum(dim=1).clamp_max(h))


def test_samples_that_take_part_count_for_h_not_the_batch():
    """K are the labelled samples with a modality: padding a batch must not change h."""
    features, classes = modalities(7, 6, 3), torch.tensor([0, 1, 0, 1, 0, 1])
    selection = mm.PairSelection(fraction=0.34)
    shared = {"selection": selection, "refine_on": "all"}
    expected = mm.hybrid_contrast(features, classes, **shared)
    padded = {name: torch.cat([x, normal(8, 9, 3)]) for name, x in features.items()}
    unlabelled = torch.cat([classes, torch.full((9,), -100)])
    absent = {name: torch.arange(15) < 6 for name in features}
    for terms in (
        mm.hybrid_contrast(padded, unlabelled, **shared),
        mm.hybrid_contrast(padded, torch.arange(15) % 2, present=absent, **shared),
    ):
        for name in terms:
            close(terms[name], expected[name])


def test_minus_infinity_inside_a_mask_is_selected_before_what_is_outside():
    similarity = torch.tensor([[0.1, -math.inf, 0.3]])
    negatives = torch.tensor([[False, True, False]])
    positives = torch.tensor([[False, False, True]])
    infinite = torch.where(positives, math.inf, similarity)
    for found in (
        mm.select_pairs(similarity, positives, negatives, selection=mm.PairSelection()),
        mm.select_pairs(infinite, positives, negatives, selection=mm.PairSelection()),
    ):
        assert torch.equal(found[0], positives)
        assert torch.equal(found[1], negatives)


def test_a_selection_is_what_it_was_made_as():
    selection = mm.PairSelection(0.3)
    with pytest.raises(dataclasses.FrozenInstanceError):
        selection.fraction = 2
    assert len({selection, mm.PairSelection(0.3), mm.PairSelection(0.4)}) == 2
