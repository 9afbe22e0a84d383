"""Losses of gaps: their slopes are those of autograd, and gaps of nothing are finite."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import mmcontrast as mm
from mmcontrast.gaps import USUAL, Variant, losses_and_slopes, losses_of_gaps
from tests.mmcontrast.strategies import close, leaf, mask, normal, rng, seeds

INF = math.inf
SIZE = 12


def drawn(seed, decoupled, prior, extra):
    """Gaps, positives' logits and a variant; some lack negatives of one kind, or of both."""
    gap, positive = 3 * normal(seed, SIZE), normal(seed + 1, SIZE)
    further = 2 * normal(seed + 2, SIZE)
    none, others = mask(seed + 3, SIZE, share=0.3), mask(seed + 4, SIZE, share=0.3)
    gap, further = gap.masked_fill(none, -INF), further.masked_fill(others, -INF)
    number = torch.randint(1, 9, (SIZE,), generator=rng(seed)).double()
    number = number.masked_fill(none & others if extra else none, 0)
    chance = 0.9 * torch.rand(SIZE, generator=rng(seed), dtype=torch.float64)
    given_prior = (chance, number) if prior else (None, None)
    return gap, positive, Variant(decoupled, *given_prior, further if extra else None)


@given(seed=seeds, decoupled=st.booleans(), prior=st.booleans(), extra=st.booleans())
def test_the_slopes_are_those_of_autograd(seed, decoupled, prior, extra):
    gap, positive, variant = drawn(seed, decoupled, prior, extra)
    several = torch.randint(1, 4, (SIZE,), generator=rng(seed + 5)).double()
    t = torch.tensor(0.7, dtype=torch.float64)
    losses, slopes = losses_and_slopes(gap, positive, t, variant, several)
    log_sum, p, e, inverse = leaf(gap + positive), leaf(positive), leaf(gap), leaf(1 / t)
    if extra:
        e = leaf(variant.extra)
        variant = variant._replace(extra=e)
    found = losses_of_gaps(log_sum - p, p, 1 / inverse, variant, several)
    close(losses, found)
    assert losses.isfinite().all()
    by = torch.autograd.grad(found.sum(), (log_sum, p, e, inverse), materialize_grads=True)
    close(slopes.push, by[0])
    close(slopes.pull, -by[1])
    if extra:
        close(slopes.extra, by[2])
    if prior:
        close(slopes.inverse.sum(), by[3])


@given(seed=seeds, decoupled=st.booleans(), prior=st.booleans(), extra=st.booleans())
def test_the_losses_are_those_of_the_formulas(seed, decoupled, prior, extra):
    """By exponentials, in place of logs of sums."""
    gap, positive, variant = drawn(seed, decoupled, prior, extra)
    found = losses_of_gaps(gap, positive, 0.7, variant)
    close(losses_and_slopes(gap, positive, 0.7, variant)[0], found)
    for i in range(SIZE):
        sums = (gap + positive)[i].exp() + (variant.extra[i].exp() if extra else 0)
        if prior and variant.number[i] > 0:
            n, chance = variant.number[i], variant.prior[i]
            sums = (sums - n * chance * positive[i].exp()) / (1 - chance)
            sums = torch.maximum(sums, n * math.exp(-1 / 0.7))
        if decoupled:
            expected = sums.log() - positive[i] if sums > 0 else torch.zeros(())
        else:
            expected = (1 + sums * (-positive[i]).exp()).log()
        close(found[i], expected, atol=1e-9)


@given(seed=seeds, decoupled=st.booleans())
def test_second_derivatives_are_numbers_where_negatives_are_missing(seed, decoupled):
    """Of the log of a sum of two, one of them 0, autograd's own would be 0 times infinity."""
    gap, positive, variant = drawn(seed, decoupled, False, True)
    leaves = leaf(gap), leaf(positive), leaf(variant.extra)
    value = losses_of_gaps(*leaves[:2], 0.7, variant._replace(extra=leaves[2]))
    first = torch.autograd.grad(value.sum(), leaves, create_graph=True)
    weights = [normal(seed + 5 + k, SIZE) for k in range(3)]
    second = sum((g * w).sum() for g, w in zip(first, weights, strict=True))
    for found in torch.autograd.grad(second, leaves, materialize_grads=True):
        assert found.isfinite().all()


def test_a_number_of_negatives_without_a_prior_changes_nothing():
    gap, positive, variant = drawn(1, False, True, False)
    variant = variant._replace(prior=None)
    for found in (losses_of_gaps, losses_and_slopes):
        expected = found(gap, positive, 0.7, USUAL)
        torch.testing.assert_close(found(gap, positive, 0.7, variant), expected)


def test_a_gap_of_nothing_is_a_loss_of_nothing():
    gap, positive = leaf(torch.tensor([-INF])), leaf(torch.tensor([0.5]))
    extra, number = torch.tensor([-INF]), torch.zeros(1)
    for variant in (
        USUAL,
        Variant(decoupled=True),
        Variant(True, torch.tensor([0.2]), number, extra),
        Variant(False, torch.tensor([0.2]), number, extra),
    ):
        value = losses_of_gaps(gap, positive, 0.5, variant)
        by = torch.autograd.grad(value.sum(), (gap, positive), materialize_grads=True)
        assert value == 0
        assert by == (0, 0)
        losses, slopes = losses_and_slopes(gap.detach(), positive.detach(), 0.5, variant)
        assert losses == 0
        assert slopes.push == 0
        assert slopes.pull == 0


@pytest.mark.parametrize("lead", [20.0, 60.0])
def test_no_digit_of_a_small_loss_is_lost(lead):
    """In float32, log(1 + e^-lead) is its argument's exponential; further negatives add theirs."""
    gap, positive = torch.tensor([-lead]), torch.tensor([100.0])
    close(losses_and_slopes(gap, positive, 0.01, USUAL)[0], [math.exp(-lead)], atol=0, rtol=1e-6)
    variant = Variant(extra=positive - lead)
    found, slopes = losses_and_slopes(gap, positive, 0.01, variant)
    close(found, [2 * math.exp(-lead)], atol=0, rtol=1e-5)
    close(slopes.extra, [math.exp(-lead)], atol=0, rtol=1e-5)


@pytest.mark.parametrize("gap", [21.0, 30.0])
def test_no_digit_of_a_large_loss_is_lost(gap):
    """In float64, log(1 + e^gap) is above the gap by more than rounding."""
    gaps, positive = torch.tensor([gap]).double(), torch.zeros(1).double()
    expected = [gap + math.log1p(math.exp(-gap))]
    assert expected[0] / gap > 1 + 1e-15
    close(losses_of_gaps(gaps, positive, 1.0, USUAL), expected, atol=0, rtol=4e-16)
    close(losses_and_slopes(gaps, positive, 1.0, USUAL)[0], expected, atol=0, rtol=4e-16)


def test_parts_of_a_variant():
    every = Variant(True, *(normal(k, 5) for k in range(3)))
    part = every.at(slice(1, 3))
    assert part.decoupled
    for found, whole in zip(part[1:], every[1:], strict=True):
        assert torch.equal(found, whole[1:3])
    assert {x.dtype for x in every.like(torch.ones(1)) if torch.is_tensor(x)} == {torch.float32}
    assert USUAL.usual
    assert USUAL.one_slope
    assert not Variant(decoupled=True).usual
    assert Variant(decoupled=True).one_slope
    for variant in (Variant(extra=normal(1, 5)), Variant(prior=normal(1, 5))):
        assert not variant.one_slope
        assert not variant.usual
    assert USUAL.among(3) is USUAL
    close(Variant(prior=normal(1, 2)).among(torch.tensor([3, -1])).number, [3, 0])


def test_an_anchor_without_negatives_has_none_of_either_kind():
    gap = torch.tensor([-INF, -INF, 0.0, 0.0])
    extra = torch.tensor([-INF, 0.0, -INF, 0.0])
    assert Variant(extra=extra).without_negatives(gap).tolist() == [True, False, False, False]
    assert USUAL.without_negatives(gap).tolist() == [True, True, False, False]


@pytest.mark.parametrize("loss", [mm.info_nce, mm.symmetric_info_nce])
@pytest.mark.parametrize("kept", [False, True])
def test_a_logit_beyond_a_float32_is_not_taken_for_no_negative(loss, kept):
    """Decoupled, the loss without a negative is 0, which is finite."""
    leaves = [1e21 * normal(seed, 4, 3) for seed in (1, 2)]
    options = {"decoupled": True, "normalize": None, "keep": mask(3, 4, 4) if kept else None}
    for reduction in ("none", "mean"):
        found = loss(*[x.float() for x in leaves], reduction=reduction, **options)
        truth = loss(*leaves, reduction=reduction, **options)
        assert truth.abs().max() > 3.5e38
        torch.testing.assert_close(found, truth.clamp(-3.4028234e38, 3.4028234e38).float())


def test_a_positive_beyond_the_largest_float_is_not_taken_for_no_negative():
    """Decoupled: below it, a finite sum of negatives has a gap and a loss of minus infinity."""
    gap, positive, variant = torch.tensor([-INF]), torch.tensor([INF]), Variant(decoupled=True)
    assert losses_of_gaps(gap, positive, 1.0, variant) == -INF
    assert losses_and_slopes(gap, positive, 1.0, variant)[0] == -INF


@pytest.mark.parametrize("decoupled", [False, True])
def test_a_prior_hides_no_gap_that_is_no_number(decoupled):
    """Both logits are beyond the largest float, and so the gap is their difference of infinities.

    As NaN the loss is evaluated once more in float64; the floor of the sum would make it 0.
    """
    gap, positive, number = (torch.tensor([z]) for z in (math.nan, INF, 3.0))
    variant = Variant(decoupled, torch.tensor([0.1]), number)
    assert losses_of_gaps(gap, positive, 1.0, variant).isnan()
    assert losses_and_slopes(gap, positive, 1.0, variant)[0].isnan()
