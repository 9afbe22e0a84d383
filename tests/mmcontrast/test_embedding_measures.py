"""The measures that diagnose is made of, against float64 loops; diagnose: test_diagnostics.py."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import mmcontrast as mm
from mmcontrast import embedding_measures as measures
from tests.mmcontrast.strategies import close, labels, mask, normal, numpy, rng, seeds


def uniformity(rows):
    """Pair by pair."""
    values = [
        math.exp(-2 * sum((a - b) ** 2 for a, b in zip(rows[i], rows[j], strict=True)))
        for i in range(len(rows))
        for j in range(i)
    ]
    return math.log(sum(values) / len(values)) if values else 0.0


def effective_rank(rows):
    """From the eigenvalues of the rows' products, another way to the singular values."""
    if not len(rows):
        return 0.0
    values = np.sqrt(np.clip(np.linalg.eigvalsh(np.array(rows) @ np.array(rows).T), 0, None))
    shares = [v / values.sum() for v in values if v > 1e-7 * values.max()]
    return math.exp(-sum(p * math.log(p) for p in shares)) if shares else 0.0


@given(seed=seeds, n=st.integers(0, 7), size=st.integers(1, 8))
def test_uniformity_is_the_loop_over_pairs_in_blocks_of_any_size(seed, n, size):
    x = normal(seed, n, 3)
    close(measures.uniformity(x, size), uniformity(numpy(x)))


@given(seed=seeds, n=st.integers(1, 6), d=st.integers(1, 6))
def test_effective_rank_is_that_of_the_eigenvalues(seed, n, d):
    x = normal(seed, n, d)
    close(measures.effective_rank(x), effective_rank(numpy(x)), atol=1e-6)
    assert measures.effective_rank(0 * x) == 0


def test_centroid_is_the_mean_and_zero_without_rows():
    x = normal(1, 5, 3)
    close(measures.centroid(x), x.mean(0))
    assert torch.equal(measures.centroid(x[:0]), torch.zeros(3, dtype=torch.float64))


@given(seed=seeds, b=st.integers(1, 5), c=st.integers(1, 6), temperature=st.sampled_from([0.05, 1]))
def test_anchor_sums_are_the_loops(seed, b, c, temperature):
    similarity = normal(seed, b, c).tanh()
    targets = torch.randint(-1, c, (b,), generator=rng(seed))
    positive = torch.arange(c) == targets[:, None]
    negative = ~positive & (targets >= 0)[:, None]
    edges = torch.linspace(-1, 1, measures.BINS + 1, dtype=torch.float64)
    found = measures.anchor_sums(similarity, positive, negative, targets >= 0, temperature, edges)
    loss, right, perplexity, lists = 0.0, 0, 0.0, ([], [], [])
    for row, t in zip(similarity.tolist(), targets.tolist(), strict=True):
        if t < 0:
            continue
        others = [s for j, s in enumerate(row) if j != t]
        right += all(row[t] > s for s in others)
        lists[0].append(row[t])
        lists[1].extend(others)
        if others:
            lists[2].append(max(others))
            odds = [math.exp(s / temperature) for s in others]
            shares = [o / sum(odds) for o in odds]
            loss += math.log1p(sum(odds) / math.exp(row[t] / temperature))
            perplexity += math.exp(-sum(p * math.log(p) for p in shares))
    close(found[0], loss)
    assert found[1] == right
    close(found[2], perplexity)
    for counts, values in zip(found[3:], lists, strict=True):
        assert counts.tolist() == np.histogram(values, bins=numpy(edges))[0].tolist()


@given(seed=seeds, b=st.integers(1, 5), c=st.integers(1, 6), k=st.integers(1, 7))
def test_false_negatives_are_counted_among_the_k_highest(seed, b, c, k):
    similarity, negative = normal(seed, b, c), mask(seed, b, c, share=0.7)
    own, others = labels(seed, b + 2, 2, 0.3), labels(seed + 1, c, 2, 0.3)
    rows = slice(1, b + 1)
    same, known = 0, 0
    for i, label in enumerate(own[rows].tolist()):
        candidates = [j for j in range(c) if negative[i, j]]
        for j in sorted(candidates, key=lambda j: -similarity[i, j])[:k]:
            if label != -100 and others[j] != -100:
                same += int(label == others[j])
                known += 1
    found = measures.false_negatives(similarity, negative, rows, (own, others), k)
    assert (int(found[0]), int(found[1])) == (same, known)
    assert [int(x) for x in measures.false_negatives(similarity, negative, rows, None, k)] == [0, 0]


def test_bins_span_the_cosines_or_the_longest_rows():
    x, y = normal(1, 3, 2), normal(2, 4, 2)
    cosines = measures.bin_edges(x, y, mm.l2_normalize)
    assert (cosines[0], cosines[-1], len(cosines)) == (-1, 1, measures.BINS + 1)
    raw = measures.bin_edges(x, y, None)
    assert raw[-1] == pytest.approx(float(x.norm(dim=1).max() * y.norm(dim=1).max()))
    assert (x @ y.T).abs().max() <= raw[-1]


def test_a_histogram_counts_the_values_inside_the_mask():
    edges = torch.linspace(-2, 2, measures.BINS + 1, dtype=torch.float64)
    values = (
        4 * torch.rand(200, generator=torch.Generator().manual_seed(3), dtype=torch.float64) - 2
    )
    inside = mask(4, 1, 200)[0]
    counts = measures.histogram(values, inside, edges)
    expected = np.histogram(numpy(values)[numpy(inside)], bins=numpy(edges))[0]
    assert counts.tolist() == expected.tolist()
