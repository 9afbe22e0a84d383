"""What our losses equal elsewhere: each equality that a docstring states, against the library.

A library that is not installed is skipped with its name; ``make test`` installs them all.
"""

import importlib
import sys
import types
import warnings

import pytest
import torch
import torch.nn.functional as F

from mmcontrast import (
    euclidean,
    info_nce,
    n_pair,
    squared_euclidean,
    sup_con,
    symmetric_info_nce,
    triplet,
)

TEMPERATURES = [0.05, 0.5]


def peer(name):
    """A peer's module, imported with its own warnings out of the way."""
    # torchvision's operators are not registered beside a CPU build of torch, and nothing here
    # needs them: this empty module stands in for the one that would look for them.
    sys.modules.setdefault("torchvision._meta_registrations", types.ModuleType("_meta"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return importlib.import_module(name)
        except ModuleNotFoundError as error:
            pytest.skip(f"{name} is not installed: {error}")


@pytest.fixture
def pair(generator):
    """Two views of 7 samples, of any length and direction."""
    return (
        torch.randn(7, 5, dtype=torch.float64, generator=generator),
        torch.randn(7, 5, dtype=torch.float64, generator=generator),
    )


def same_value_and_gradient(ours, theirs, *inputs):
    results = []
    for loss in (ours, theirs):
        leaves = [x.detach().clone().requires_grad_() for x in inputs]
        value = loss(*leaves)
        results.append((value.detach(), *torch.autograd.grad(value, leaves)))
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("temperature", TEMPERATURES)
def test_symmetric_info_nce_is_open_clips_clip_loss(pair, temperature):
    clip = peer("open_clip.loss").ClipLoss()
    same_value_and_gradient(
        lambda x, y: symmetric_info_nce(x, y, temperature=temperature),
        lambda x, y: clip(F.normalize(x, dim=-1), F.normalize(y, dim=-1), 1 / temperature),
        *pair,
    )


@pytest.mark.parametrize("temperature", TEMPERATURES)
def test_info_nce_is_info_nce_pytorchs(pair, temperature):
    peers = peer("info_nce").InfoNCE(temperature=temperature)
    same_value_and_gradient(
        lambda x, y: info_nce(x, y, temperature=temperature), lambda x, y: peers(x, y), *pair
    )


def test_n_pair_on_unit_rows_is_info_nce_pytorchs_at_temperature_one(pair):
    peers = peer("info_nce").InfoNCE(temperature=1.0)
    same_value_and_gradient(
        lambda x, y: n_pair(F.normalize(x, dim=-1), F.normalize(y, dim=-1)),
        lambda x, y: peers(x, y),
        *pair,
    )


@pytest.mark.parametrize("temperature", TEMPERATURES)
def test_info_nce_is_sentence_transformers_multiple_negatives_ranking(pair, temperature, generator):
    losses = peer("sentence_transformers.losses")
    peers = losses.MultipleNegativesRankingLoss(torch.nn.Identity(), scale=1 / temperature)
    negatives = torch.randn(7, 5, dtype=torch.float64, generator=generator)
    same_value_and_gradient(
        lambda x, y, z: info_nce(x, torch.cat([y, z]), temperature=temperature),
        lambda x, y, z: peers.compute_loss_from_embeddings([x, y, z], None),
        *pair,
        negatives,
    )


@pytest.mark.parametrize("temperature", TEMPERATURES)
def test_symmetric_info_nce_is_sentence_transformers_per_direction(pair, temperature):
    losses = peer("sentence_transformers.losses")
    peers = losses.MultipleNegativesRankingLoss(
        torch.nn.Identity(),
        scale=1 / temperature,
        directions=("query_to_doc", "doc_to_query"),
        partition_mode="per_direction",
    )
    same_value_and_gradient(
        lambda x, y: symmetric_info_nce(x, y, temperature=temperature),
        lambda x, y: peers.compute_loss_from_embeddings([x, y], None),
        *pair,
    )


@pytest.mark.parametrize("temperature", TEMPERATURES)
def test_sup_con_on_two_views_is_lightlys_nt_xent(pair, temperature):
    peers = peer("lightly.loss").NTXentLoss(temperature=temperature)
    ids = torch.arange(7).repeat(2)
    same_value_and_gradient(
        lambda x, y: sup_con(torch.cat([x, y]), ids, temperature=temperature),
        lambda x, y: peers(x, y),
        *pair,
    )


@pytest.mark.parametrize("temperature", TEMPERATURES)
def test_sup_con_is_pytorch_metric_learnings(pair, temperature):
    peers = peer("pytorch_metric_learning.losses").SupConLoss(temperature=temperature)
    labels = torch.tensor([3, 3, 5, 5, 5, 9, 9])
    same_value_and_gradient(
        lambda x: sup_con(x, labels, temperature=temperature), lambda x: peers(x, labels), pair[0]
    )


@pytest.mark.parametrize("temperature", TEMPERATURES)
def test_sup_con_is_the_formula_of_supcontrast(pair, temperature):
    """SupContrast publishes no package: its formula, at base_temperature = temperature."""
    labels = torch.tensor([3, 3, 5, 5, 5, 9, 9])

    def formula(x):
        x = F.normalize(x, dim=-1)
        logits = x @ x.T / temperature
        total = 0.0
        for i in range(7):
            others = [a for a in range(7) if a != i]
            denominator = torch.stack([logits[i, a] for a in others]).exp().sum().log()
            positives = [a for a in others if labels[a] == labels[i]]
            shares = torch.stack([logits[i, p] - denominator for p in positives])
            total = total - shares.sum() / len(positives)
        return total / 7

    same_value_and_gradient(lambda x: sup_con(x, labels, temperature=temperature), formula, pair[0])


@pytest.mark.parametrize("distance", [euclidean, squared_euclidean])
def test_triplet_is_pytorchs(pair, distance, generator):
    negatives = torch.randn(7, 5, dtype=torch.float64, generator=generator)
    same_value_and_gradient(
        lambda a, p, n: triplet(a, p, n, margin=0.7, distance=distance),
        lambda a, p, n: F.triplet_margin_with_distance_loss(
            a, p, n, distance_function=distance, margin=0.7
        ),
        *pair,
        negatives,
    )


def test_the_peers_that_drift_are_left_behind(pair):
    """In float16 pytorch-metric-learning's NT-Xent saturates; ours stays where float64 is."""
    losses = peer("pytorch_metric_learning.losses")
    x, y = (z.half() for z in pair)
    ids = torch.arange(7)
    exact = info_nce(x.double(), y.double(), temperature=0.01)
    assert abs(info_nce(x, y, temperature=0.01) - exact) < 1e-3 * exact
    drifted = losses.NTXentLoss(temperature=0.01)(x, ids, ref_emb=y, ref_labels=ids.clone())
    assert abs(drifted - exact) > 0.1 * exact
