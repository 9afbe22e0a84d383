"""Ranks by merging sorted runs, against the definition."""

import math

import torch
from hypothesis import given
from hypothesis import strategies as st

from mmcontrast.exact.ranked_merge import RANGE, Anchors, ranked_by_merging
from tests.mmcontrast.strategies import close, leaf, normal, rng, seeds


def by_definition(logits, scores, anchors, own):
    """(R,) losses by loops, with autograd's gradients."""
    losses = []
    for i, s in enumerate(logits):
        others = [j for j in range(len(scores)) if own is None or j != own[i]]
        away = (anchors[i] - scores).abs()
        terms = [
            torch.stack([s[k] for k in others if away[k] >= away[j]]).logsumexp(0) - s[j]
            for j in others
        ]
        losses.append(sum(terms) / len(terms))
    return torch.stack(losses)


def unrounded(anchors, own=None):
    return Anchors(anchors, torch.zeros(len(anchors), 1, dtype=torch.float64), own)


@given(
    seed=seeds,
    r=st.integers(1, 4),
    c=st.integers(2, 9),
    whole=st.booleans(),
    alone=st.booleans(),
    scale=st.sampled_from([0.1, 1.0, 30.0]),
)
def test_losses_and_gradients_are_those_of_the_definition(seed, r, c, whole, alone, scale):
    scores, anchors = normal(seed, c).sort().values * 2, normal(seed + 1, r) * 2
    own = torch.randint(0, c, (r,), generator=rng(seed)) if alone else None
    if whole:
        scores, anchors = scores.round(), anchors.round()
    anchors = anchors if own is None else scores[own]
    logits = leaf(scale * normal(seed + 2, r, c))
    expected = by_definition(logits, scores, anchors, own)
    losses, slopes = ranked_by_merging(logits.detach(), scores, unrounded(anchors, own), 0.0, True)
    close(losses, expected.detach())
    close(slopes, torch.autograd.grad(expected.sum(), logits)[0])
    alone, none = ranked_by_merging(logits.detach(), scores, unrounded(anchors, own), 0.0, False)
    close(alone, losses, atol=0, rtol=0)
    assert none is None


def test_distances_within_the_slack_are_tied():
    """0.5 + 1e-9 above and 0.5 below: tied by the anchor's slack, or that of their distance."""
    scores, anchor = torch.tensor([-0.5, 0.5 + 1e-9, 2.0]).double(), torch.zeros(1).double()
    scores[1] = 0.5 + 1e-9
    logits = torch.tensor([[0.3, -0.2, 0.1]]).double()
    even = torch.tensor([-0.5, 0.5, 2.0]).double()
    tied = ranked_by_merging(logits, even, unrounded(anchor), 0.0, True)
    slack = Anchors(anchor, torch.full((1, 1), 2e-9).double(), None)
    for among, rounding in ((slack, 0.0), (unrounded(anchor), 4e-9)):
        for a, b in zip(
            ranked_by_merging(logits, scores, among, rounding, True), tied, strict=True
        ):
            close(a, b)
    apart = ranked_by_merging(logits, scores, unrounded(anchor), 0.0, True)
    assert abs(apart[0] - tied[0]) > 0.1


def test_a_small_loss_and_its_gradient_keep_their_digits():
    """The nearer, the more alike: the loss is the share of the few beyond."""
    logits = torch.tensor([[0.0, -40.0, -80.0]]).double()
    losses, slopes = ranked_by_merging(
        logits, torch.arange(3).double(), unrounded(torch.zeros(1).double()), 0.0, True
    )
    share = math.exp(-40) / 3
    close(losses, [2 * share], atol=0, rtol=1e-12)
    close(slopes, [[-share, share - share, share]], atol=1e-32, rtol=1e-12)


def test_logits_too_far_apart_or_nan_are_left_to_others():
    anchors = unrounded(torch.zeros(2).double())
    logits = torch.zeros(2, 3).double()
    scores = torch.arange(3).double()
    for number, found in ((0.99 * RANGE, True), (1.01 * RANGE, False), (math.nan, False)):
        logits[1, 2] = -number
        assert (ranked_by_merging(logits, scores, anchors, 0.0, True) is not None) == found
    # The anchor itself may be as near as it is.
    own = unrounded(torch.zeros(2).double(), torch.tensor([2, 2]))
    logits[1, 2] = 10 * RANGE
    assert ranked_by_merging(logits, scores, own, 0.0, True) is not None
