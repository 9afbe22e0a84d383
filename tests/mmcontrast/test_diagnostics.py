"""diagnose against loops in float64, pair by pair."""

import math

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given

import mmcontrast as mm
from mmcontrast.exact import sizes
from tests.mmcontrast.memory import Made
from tests.mmcontrast.strategies import close, numpy, pairs
from tests.mmcontrast.test_embedding_measures import effective_rank, uniformity
from tests.oracles.retrieval import expected_rank, median

SETTINGS = {"temperature": 0.3, "k": 2}


def unit(x):
    return [row / math.sqrt(row @ row) if row @ row > 0 else row for row in x]


def oracle(anchors, candidates, targets, labels=None, others=None, temperature=0.3, k=2):
    """What Diagnosis says, but for the histograms, which are lists of similarities here."""
    x, y = unit(numpy(anchors)), unit(numpy(candidates))
    found = {name: [] for name in ("alignment", "loss", "accuracy", "effective")}
    lists = {name: [] for name in ("positives", "negatives", "hardest")}
    false, known, ranks = 0, 0, []
    for i, t in enumerate(targets):
        if t < 0:
            continue
        s = [float(x[i] @ row) for row in y]
        apart = [j for j in range(len(y)) if j != t]
        lists["positives"].append(s[t])
        lists["negatives"] += [s[j] for j in apart]
        found["alignment"].append(float((x[i] - y[t]) @ (x[i] - y[t])))
        odds = [math.exp(v / temperature) for v in s]
        found["loss"].append(-math.log(odds[t] / sum(odds)))
        found["accuracy"].append(all(s[t] > s[j] for j in apart))
        ranks.append(expected_rank(s[t], s))
        if not apart:
            continue
        lists["hardest"].append(max(s[j] for j in apart))
        total = sum(odds[j] for j in apart)
        shares = [odds[j] / total for j in apart]
        found["effective"].append(math.exp(-sum(p * math.log(p) for p in shares)))
        if labels is not None and labels[i] != -100:
            for j in sorted(apart, key=lambda j: -s[j])[:k]:
                false += int(others[j] == labels[i])
                known += int(others[j] != -100)
    mean = {name: sum(v) / len(v) if v else 0.0 for name, v in found.items()}
    centre = [np.mean(rows, axis=0) if len(rows) else 0.0 for rows in (x, y)]
    return lists, {
        "alignment": mean["alignment"],
        "anchor_uniformity": uniformity(x),
        "candidate_uniformity": uniformity(y),
        "gap": float(np.linalg.norm(centre[0] - centre[1])),
        "loss": mean["loss"],
        "chance": math.log(max(len(y), 1)),
        "accuracy": mean["accuracy"],
        "mrr": sum(1 / r for r in ranks) / max(len(ranks), 1),
        "median_rank": median(ranks),
        "anchor_rank": effective_rank(x),
        "candidate_rank": effective_rank(y),
        "effective_negatives": mean["effective"],
        "false_negatives": false / known if known else 0.0,
    }


def agree(found, lists, numbers, rank_atol=1e-6):
    for name, value in numbers.items():
        close(getattr(found, name), value, atol=rank_atol if "rank" in name else 1e-9)
    for name, values in lists.items():
        counts = getattr(found, name)
        assert counts.sum() == len(values)
        expected = np.histogram(np.clip(values, -1, 1), bins=np.linspace(-1, 1, 41))[0]
        # A similarity that is a bound itself, -1, 0 or 1, may be rounded to either side of it.
        near = [v for v in values if min(abs(v * 20 - round(v * 20)), 1) < 1e-6]
        assert np.abs(numpy(counts) - expected).sum() <= 2 * len(near)


@given(pairs(), st.integers(0, 10**6), st.sampled_from([None, 1, 2]))
def test_every_number_is_the_loops(made, seed, chunk_size):
    anchors, candidates = made
    source = torch.Generator().manual_seed(seed)
    targets = torch.randint(0, len(candidates), (len(anchors),), generator=source)
    targets[torch.rand(len(anchors), generator=source) < 0.2] = -100
    labels = torch.tensor([0, 1, -100])[torch.randint(0, 3, (len(anchors),), generator=source)]
    others = torch.tensor([0, 1, -100])[torch.randint(0, 3, (len(candidates),), generator=source)]
    k = len(candidates)  # ties among the highest: with fewer, which of them is left open
    found = mm.diagnose(
        anchors,
        candidates,
        targets,
        labels=labels,
        candidate_labels=others,
        temperature=0.3,
        k=k,
        chunk_size=chunk_size,
    )
    lists, numbers = oracle(
        anchors, candidates, targets.tolist(), labels.tolist(), others.tolist(), k=k
    )
    numbers.pop("accuracy")  # ties: below, on rows that have none
    agree(found, lists, numbers)


@pytest.fixture
def rows(generator):
    number = {"dtype": torch.float64, "generator": generator}
    return torch.randn(9, 5, **number), torch.randn(12, 5, **number)


@pytest.mark.parametrize("k", [1, 3, 50])
def test_accuracy_and_false_negatives_of_rows_without_ties(rows, k):
    anchors, candidates = rows
    candidates[:6] = candidates[:6] + 3 * anchors[:6]
    labels = torch.tensor([0, 0, 1, 1, 2, 2, -100, 0, 1])
    others = torch.tensor([0, 0, 1, 1, 2, 2, 0, -100, 1, 2, 0, 0])
    found = mm.diagnose(
        anchors, candidates, labels=labels, candidate_labels=others, temperature=0.3, k=k
    )
    agree(found, *oracle(*rows, range(9), labels.tolist(), others.tolist(), k=k))
    assert 0 < found.accuracy < 1
    assert 0 < found.false_negatives < 1


def test_it_agrees_with_the_losses_and_the_miners(rows):
    """loss is info_nce's, and the hardest negatives are hard_negatives'."""
    found = mm.diagnose(*rows, temperature=0.2)
    close(found.loss, mm.info_nce(*rows, temperature=0.2))
    hardest = mm.hard_negatives(*rows, 1).scores[:, 0]
    counts = torch.histogram(hardest, found.edges).hist
    assert torch.equal(found.hardest, counts.long())


def test_candidates_have_the_anchors_labels_by_default(rows):
    x, y, labels = rows[0], rows[1][:9], torch.arange(9) % 2
    default = mm.diagnose(x, y, labels=labels)
    given_twice = mm.diagnose(x, y, labels=labels, candidate_labels=labels)
    assert default.false_negatives == given_twice.false_negatives > 0
    assert mm.diagnose(x, y).false_negatives is None


def test_collapse_and_a_gap_are_seen():
    """All alike: loss log C, uniformity 0, rank 1; two opposite poles: a gap of 2."""
    ones = torch.ones(6, 4)
    found = mm.diagnose(ones, -ones)
    close(found.loss, found.chance, atol=1e-6)
    close(found.chance, math.log(6), atol=1e-6)
    close(found.gap, 2.0, atol=1e-6)
    close(found.alignment, 4.0, atol=1e-6)
    for value in (found.anchor_uniformity, found.candidate_uniformity):
        close(value, 0.0, atol=1e-6)
    close(found.anchor_rank, 1.0, atol=1e-4)
    close(found.effective_negatives, 5.0, atol=1e-5)
    assert found.accuracy == 0
    best = mm.diagnose(torch.eye(4), torch.eye(4))
    close(best.anchor_rank, 4.0, atol=1e-6)
    assert best.alignment == 0
    assert best.accuracy == 1
    assert best.gap == 0


def test_uniformity_is_the_authors_formula(rows):
    x = mm.l2_normalize(rows[0])
    expected = torch.pdist(x).square().mul(-2).exp().mean().log()
    close(mm.diagnose(*rows).anchor_uniformity, expected)


def test_far_rows_do_not_underflow(rows):
    """Raw rows a hundred apart: exp(-2 d^2) is no float, its logarithm is one."""
    found = mm.diagnose(100 * rows[0], 100 * rows[1], normalize=None, temperature=1e3)
    x = numpy(100 * rows[0])
    squares = [-2 * float((x[i] - x[j]) @ (x[i] - x[j])) for i in range(9) for j in range(i)]
    most = max(squares)
    expected = most + math.log(sum(math.exp(v - most) for v in squares) / len(squares))
    assert expected < -800
    close(found.anchor_uniformity, expected)
    assert found.edges[-1] == pytest.approx(
        100 * 100 * float(rows[0].norm(dim=1).max() * rows[1].norm(dim=1).max())
    )
    assert found.negatives.sum() == 9 * 11


@pytest.mark.parametrize("chunk_size", [1, 2, 4, 9, 100])
def test_blocks_change_nothing(rows, chunk_size):
    labels = torch.arange(12) % 3
    settings = {"labels": labels[:9], "candidate_labels": labels}
    whole = mm.diagnose(*rows, **settings)
    for x, y in zip(mm.diagnose(*rows, chunk_size=chunk_size, **settings), whole, strict=True):
        close(x, y, atol=1e-12)


def test_memory_is_that_of_a_block():
    """A million pairs in blocks of ten rows: no tensor larger than a few of them is made."""
    x = torch.randn(1000, 8)
    with Made() as made:
        mm.diagnose(x, x.flip(0), labels=torch.arange(1000) % 5, chunk_size=10)
    assert made.largest == 10 * 1000


@pytest.mark.parametrize(("b", "c"), [(1000, 10), (10, 1000)])
def test_blocks_are_those_of_the_longer_side(b, c, monkeypatch):
    monkeypatch.setattr(sizes, "BLOCK", 10 * 1000)
    with Made() as made:
        mm.diagnose(torch.randn(b, 8), torch.randn(c, 8), torch.arange(b) % min(b, c))
    assert made.largest == 10 * 1000


@pytest.mark.parametrize("targets", [None, -100])
@pytest.mark.parametrize(("b", "c"), [(0, 0), (0, 3), (1, 1), (2, 3)])
def test_few_samples_and_no_partners(b, c, targets):
    own = None if targets is None else torch.full((b,), targets)
    found = mm.diagnose(
        torch.ones(b, 2),
        torch.ones(c, 2),
        own,
        labels=torch.zeros(b),
        candidate_labels=torch.zeros(c),
    )
    assert all(x.isfinite().all() for x in found)
    if b == 0 or targets is not None:
        assert found.loss == found.accuracy == found.alignment == found.effective_negatives == 0
        assert found.positives.sum() == found.negatives.sum() == found.hardest.sum() == 0
    assert mm.diagnose(torch.zeros(b, 2), torch.ones(c, 2), own).anchor_rank == 0


def test_it_leaves_no_graph(rows):
    found = mm.diagnose(*(x.requires_grad_() for x in rows))
    assert not any(x is not None and x.requires_grad for x in found)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x: mm.diagnose(x[0], x), r"anchors: expected shape"),
        (lambda x: mm.diagnose(x, x[:, :1]), r"candidates: expected shape \(rows, 2\)"),
        (lambda x: mm.diagnose(x, x[:2]), "candidates: expected at least 3 rows"),
        (lambda x: mm.diagnose(x, x, torch.tensor([0, 1, 5])), "targets: expected indices"),
        (lambda x: mm.diagnose(x, x, temperature=0.0), "temperature: expected a number above 0"),
        (lambda x: mm.diagnose(x, x, k=0), "k: expected an int of at least 1"),
        (lambda x: mm.diagnose(x, x, chunk_size=0), "chunk_size: expected an int of at least 1"),
        (lambda x: mm.diagnose(x, x, labels=torch.zeros(2)), r"labels: expected shape \(3,\)"),
        (
            lambda x: mm.diagnose(x[:2], x, labels=torch.zeros(2)),
            r"candidate_labels: expected shape \(3,\)",
        ),
        (
            lambda x: mm.diagnose(x, x, candidate_labels=torch.zeros(3)),
            "labels: expected labels, as candidate_labels are given",
        ),
        (
            lambda x: mm.diagnose(x, x, labels=torch.zeros(3, 2), candidate_labels=torch.zeros(3)),
            "candidate_labels: expected 2 labels a sample",
        ),
    ],
)
def test_errors(call, message):
    with pytest.raises(ValueError, match=message):
        call(torch.eye(3)[:, :2] + 1)


def test_the_summary_says_every_number(rows):
    found = mm.diagnose(*rows, labels=torch.zeros(9), candidate_labels=torch.zeros(12))
    lines = found.summary().splitlines()
    assert len(lines) == 9
    for line, value in zip(
        lines,
        (
            f"{found.alignment:.3f}",
            f"{found.anchor_uniformity:.3f} and {found.candidate_uniformity:.3f}",
            f"{found.gap:.3f}",
            f"{found.loss:.3f}",
            f"{found.accuracy:.1%}",
            f"{found.median_rank:g}",
            f"{found.anchor_rank:.1f} and {found.candidate_rank:.1f}",
            f"{found.effective_negatives:.1f}",
            "100.0%",
        ),
        strict=True,
    ):
        assert value in line
    assert "no labels" in mm.diagnose(*rows).summary()


@pytest.mark.parametrize(
    ("gain", "side"), [(0.5, "0.500 below chance"), (-0.5, "0.500 above chance")]
)
def test_the_summary_says_on_which_side_of_chance_the_loss_is(gain, side):
    found = mm.diagnose(*[torch.eye(2)] * 2)
    loss = found.chance - gain
    assert side in found._replace(loss=loss).summary()


def test_the_figure_shows_the_histograms(rows, tmp_path):
    pytest.importorskip("matplotlib")
    found = mm.diagnose(*rows)
    figure = found.figure()
    left, right = figure.axes
    shown = {patch.get_label(): patch.get_data() for patch in left.patches}
    assert set(shown) == {"positives", "negatives", "hardest"}
    for name, data in shown.items():
        counts = getattr(found, name)
        close(torch.tensor(data.values), counts / counts.sum())
        close(torch.tensor(data.edges), found.edges)
    assert found.summary() in right.texts[0].get_text()
    figure.savefig(tmp_path / "figure.png")
    assert (tmp_path / "figure.png").stat().st_size > 1000
    mm.diagnose(torch.zeros(0, 2), torch.zeros(0, 2)).figure()


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("normalize", [mm.l2_normalize, None])
def test_rows_that_are_not_finite_are_named(rows, bad, normalize):
    anchors, candidates = rows
    spoilt = candidates.clone()
    spoilt[[3, 7], 0] = bad
    with pytest.raises(ValueError, match=r"^candidates: .*in 2 of 12, the first in row 3$"):
        mm.diagnose(anchors, spoilt, normalize=normalize)
    with pytest.raises(ValueError, match=r"^anchors: expected finite rows, .* in 2 of 12"):
        mm.diagnose(spoilt, candidates, normalize=normalize)


@pytest.mark.parametrize("size", [1e20, 3e38])
def test_raw_rows_of_any_size_have_bins(size):
    x = size * torch.eye(4)
    found = mm.diagnose(x, x, normalize=None)
    assert found.positives.sum() == 4
    assert found.negatives.sum() == 12
