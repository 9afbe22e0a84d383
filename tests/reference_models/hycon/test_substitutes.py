"""The losses that stand in for HyCon's own, against loops and by hand."""

import math
from dataclasses import replace
from itertools import count

import pytest
import torch

import mmcontrast as mm
from mmcontrast import (
    hybrid_contrast,
    inter_modal_pairs,
    intra_modal_pairs,
    softmax_normalize,
)
from reference_models.hycon.settings import HyConConfig
from reference_models.hycon.substitutes import SUBSTITUTES, substitute_contrast
from tests.reference_models.batches import (
    THREE,
    batch_of,
)
from tests.reference_models.hycon.test_network import (
    SMALL,
    STILL,
    dot,
    hybrid_by_loops,
    mean,
    network,
    representations,
    softmax,
)


def substitute_by_loops(loss, pairs, choose, *, log=False):
    """Equations 18 to 20; ``choose(anchor, candidates, largest)`` names the triplets' pairs."""
    values = []
    for pair in pairs.values():
        anchors, candidates = (
            [softmax(row) for row in x.tolist()] for x in (pair.anchors, pair.candidates)
        )
        for i, a in enumerate(anchors):
            p = [candidates[j] for j in pair.positives[i].nonzero()[:, 0]]
            n = [candidates[j] for j in pair.negatives[i].nonzero()[:, 0]]
            if not p or not n:
                continue
            if "triplet" in loss:
                p, n = choose(a, p, False), choose(a, n, True)
                near, far = (sum((u - v) ** 2 for u, v in zip(a, x, strict=True)) for x in (p, n))
                values.append(near - far + 1)
            elif loss == "classical":
                positive = dot(a, p[0])
                share = positive / (positive + sum(dot(a, x) for x in n))
                values.append(-math.log(share) if log else -share)
            else:
                leads = sum(math.exp(dot(a, x) - dot(a, p[0])) for x in n)
                values.append(math.log(1 + leads))
    return mean(values)


def first(anchor, candidates, largest):
    return candidates[0]


def hardest(anchor, candidates, largest):
    return (max if largest else min)(candidates, key=lambda c: dot(anchor, c))


@pytest.mark.parametrize("log", [False, True])
@pytest.mark.parametrize("loss", SUBSTITUTES)
def test_substitutes_where_nothing_is_random(loss, log):
    """Two modalities and the classes A, A, B: one positive and one negative, or none.

    The fourth sample has nothing; only the task sees it.
    """
    config = HyConConfig(
        **SMALL,
        **STILL,
        supervised_loss=loss,
        log=log,
        intra_weight=0.5,
        inter_weight=2.0,
        margin=0.6,
    )
    modalities = ("audio", "vision")
    model, batch = network(config, modalities).train(), batch_of(4, modalities)
    for present in batch.present.values():
        present[3] = False
    labels = torch.tensor([1.0, 0.2, -1.0, 1.0])
    terms = model(replace(batch, labels=labels)).terms
    features = {m: x[:3] for m, x in representations(model, batch).items()}
    classes = torch.tensor([1, 1, 0])
    for name, make in (("intra", intra_modal_pairs), ("inter", inter_modal_pairs)):
        expected = substitute_by_loops(loss, make(features, classes), first, log=log)
        assert terms[name].item() == pytest.approx(expected, rel=1e-5)
    semi = hybrid_by_loops(features, [1, 1, 0], {m: [True] * 3 for m in modalities}, 0.6)[2]
    assert terms["semi"].item() == pytest.approx(semi, rel=1e-5)
    assert terms.weights == {"task": 1.0, "intra": 0.5, "inter": 2.0, "semi": 1.0}


@pytest.fixture
def sharp_pairs(generator):
    """Pairs of a larger batch with features that a softmax does not flatten; one is absent."""
    features = {m: 3 * torch.randn(9, 5, generator=generator) for m in THREE}
    features = {m: x.requires_grad_() for m, x in features.items()}
    labels = torch.tensor([0, 1, 1, 0, 2, 0, 1, -100, 1])
    present = {"audio": torch.arange(9) != 2}
    return features, intra_modal_pairs(features, labels, present=present)


def test_hard_triplets_are_the_hardest(sharp_pairs):
    _, pairs = sharp_pairs
    value = substitute_contrast(pairs, loss="hard_triplet", normalize=softmax_normalize)
    expected = substitute_by_loops("hard_triplet", pairs, hardest)
    assert value.item() == pytest.approx(expected, rel=1e-5)
    assert abs(expected - substitute_by_loops("triplet", pairs, first)) > 0.01


@pytest.mark.parametrize("loss", ["triplet", "hard_triplet"])
def test_triplets_have_no_hinge(loss):
    """Rows that are nearly one-hot: the positive at distance 0, the negative at 2."""
    x = 50 * torch.eye(2)[[0, 0, 1]]
    pairs = intra_modal_pairs({"a": x, "b": x}, torch.tensor([1, 1, 0]))
    value = substitute_contrast(pairs, loss=loss, normalize=softmax_normalize)
    assert value.item() == pytest.approx(-1)


@pytest.mark.parametrize("loss", SUBSTITUTES)
def test_what_is_substituted_is_not_computed(loss, monkeypatch):
    asked = []

    def listen(*args, weights, **kwargs):
        asked.append(weights)
        return hybrid_contrast(*args, weights=weights, **kwargs)

    monkeypatch.setattr(mm, "hybrid_contrast", listen)
    config = HyConConfig(**SMALL, supervised_loss=loss, semi_weight=0.3)
    network(config).train()(batch_of())
    assert asked == [(0, 0, 0.3)]


def test_random_triplets_are_drawn_evenly(sharp_pairs, generator):
    """The mean over draws of a sum is the sum of the means over all positives and negatives."""
    _, pairs = sharp_pairs
    draws = [
        substitute_contrast(
            pairs, loss="triplet", normalize=softmax_normalize, generator=generator
        ).item()
        for _ in range(600)
    ]
    values = []
    for pair in pairs.values():
        x = pair.anchors.softmax(1)
        distance = (x[:, None] - x[None]).square().sum(-1)
        for i in range(len(x)):
            near, far = distance[i][pair.positives[i]], distance[i][pair.negatives[i]]
            if len(near) and len(far):
                values.append((near.mean() - far.mean() + 1).item())
    spread = torch.tensor(draws).std().item()
    assert spread > 0
    assert mean(draws) == pytest.approx(mean(values), abs=5 * spread / math.sqrt(len(draws)))


@pytest.mark.parametrize("loss", ["classical", "n_pair"])
def test_one_positive_is_drawn_and_all_negatives_count(loss, generator):
    features = {m: 3 * torch.randn(4, 5, generator=generator) for m in ("audio", "vision")}
    pairs = intra_modal_pairs(features, torch.tensor([1, 1, 1, 0]))
    possible = set()
    for choice in range(2**6):
        chosen = {}
        for at, (name, pair) in enumerate(pairs.items()):
            positives = pair.positives.clone()
            for row in range(3):
                columns = positives[row].nonzero()[:, 0]
                positives[row, columns[choice >> (3 * at + row) & 1]] = False
            chosen[name] = pair._replace(positives=positives)
        possible.add(round(substitute_by_loops(loss, chosen, first), 4))
    drawn = {
        round(
            substitute_contrast(
                pairs, loss=loss, normalize=softmax_normalize, generator=generator
            ).item(),
            4,
        )
        for _ in range(40)
    }
    assert len(drawn) > 5
    assert all(min(abs(value - other) for other in possible) < 2e-4 for value in drawn)


@pytest.mark.parametrize("loss", SUBSTITUTES)
@pytest.mark.parametrize("classes", [[0], [1, 1, 1], [0, 1, 2], [-100, -100, 3]])
def test_substitutes_without_a_positive_and_a_negative_are_zero(loss, classes, generator):
    features = {m: torch.randn(len(classes), 4, generator=generator) for m in ("a", "b")}
    features = {m: x.requires_grad_() for m, x in features.items()}
    for make in (intra_modal_pairs, inter_modal_pairs):
        pairs = make(features, torch.tensor(classes))
        value = substitute_contrast(pairs, loss=loss, normalize=softmax_normalize)
        assert value.item() == 0
        value.backward()
        assert not any(x.grad.any() for x in features.values())


@pytest.mark.parametrize("loss", ["triplet", "n_pair", "classical"])
def test_the_draws_come_from_the_generator(loss):
    config = HyConConfig(**SMALL, **STILL, supervised_loss=loss)
    batch = batch_of(12)
    other_seeds = count(100)

    def term(seed):
        generator = torch.Generator().manual_seed(seed)
        model = network(config, generator=generator).train()
        torch.manual_seed(next(other_seeds))  # torch's own generator must not matter
        return [model(batch).terms["intra"].item() for _ in range(2)]

    assert term(1) == term(1)
    assert term(1) != term(2)
    assert term(1)[0] != term(1)[1]


def test_a_substitute_of_another_name_is_refused(sharp_pairs):
    with pytest.raises(ValueError, match=r"loss: expected one of .*'n_pair'.*, got 'hycon'"):
        substitute_contrast(sharp_pairs[1], loss="hycon", normalize=softmax_normalize)
