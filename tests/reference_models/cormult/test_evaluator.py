"""The correlation evaluator: its maps and cosines against loops, and what it is trained on."""

import math
from dataclasses import replace
from itertools import combinations, permutations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F

import mmcontrast as mm
from reference_models.cormult.evaluator import altered, evaluator_inputs
from reference_models.cormult.settings import CHOICES, DISTANCES
from tests import oracles
from tests.reference_models.batches import (
    STEPS,
    THREE,
    batch_of,
    fill_absent,
    lacking,
    longer,
    real,
    second_rank,
)
from tests.reference_models.cormult.test_network import network


def stage_of(modalities=THREE, *, encoded=False, generator=None, **overrides):
    model = network(modalities, encoded=encoded, generator=generator, **overrides)
    (stage,) = model.stages()
    return stage.network


# ---------------------------------------------------------------------------------- the maps


def layer_norm(x, norm):
    x = x - x.mean(1, keepdims=True)
    x = x / np.sqrt((x**2).mean(1, keepdims=True) + norm.eps)
    return x * array(norm.weight) + array(norm.bias)


def array(x):
    return x.detach().double().numpy()


def linear(x, part):
    return x @ array(part.weight).T + array(part.bias)


def attention(x, part):
    size = x.shape[1] // part.num_heads
    mixed = x @ array(part.in_proj_weight).T + array(part.in_proj_bias)
    heads = []
    for head in range(part.num_heads):
        columns = [slice(at + head * size, at + (head + 1) * size) for at in (0, 8, 16)]
        query, key, value = (mixed[:, column] for column in columns)
        scores = np.exp(query @ key.T / math.sqrt(size))
        heads.append(scores / scores.sum(1, keepdims=True) @ value)
    return linear(np.concatenate(heads, 1), part.out_proj)


def encoded_by_loops(x, part, norm):
    """Eq 4-7, or the authors' order, on the real steps of one sample, then d to o."""
    x = array(part.projection(x))[0]
    half = x.shape[1] // 2
    rates = [10_000 ** (-k / (half - 1)) for k in range(half)]
    waves = [[f(t * r) for f in (math.sin, math.cos) for r in rates] for t in range(1, len(x) + 1)]
    x = math.sqrt(x.shape[1]) * x + np.array(waves)
    for layer in part.transformer.layers:

        def feed(y, layer=layer):
            return linear(np.maximum(linear(y, layer.linear1), 0), layer.linear2)

        if norm == "paper":
            first = layer_norm(x, layer.norm1)
            third = layer_norm(first + attention(first, layer.attention), layer.norm2)
            x = third + feed(third)
        else:
            first = layer_norm(x + attention(x, layer.attention), layer.norm1)
            x = layer_norm(first + feed(first), layer.norm2)
    # The shared block ends in one norm more than the paper's equations.
    return linear(layer_norm(x, part.transformer.norm), part.features)


def pooled(x, steps):
    return F.adaptive_avg_pool1d(torch.from_numpy(x.T.copy()), steps).numpy().T


def map_by_loops(x, part, config):
    x = encoded_by_loops(x, part, config.norm)
    if config.temporal_map == "none":
        return x.mean(0, keepdims=True)
    if config.temporal_map == "adaptive_pool":
        return pooled(x, config.correlation_steps)
    if len(x) > config.max_steps:
        x = pooled(x, config.max_steps)
    weight = array(part.time.weight)
    return np.stack([sum(row[s] * x[s] for s in range(len(x))) for row in weight])


@pytest.mark.parametrize("norm", CHOICES["norm"])
@pytest.mark.parametrize("temporal_map", CHOICES["temporal_map"])
@pytest.mark.parametrize("encoded", [False, True])
def test_the_maps_are_those_of_each_sample_alone(norm, temporal_map, encoded):
    overrides = {"norm": norm, "temporal_map": temporal_map, "evaluator_layers": 2}
    model, batch = network(encoded=encoded, **overrides), batch_of(encoded=encoded)
    batch.masks["audio"][0] = True  # longer than max_steps
    features, masks = evaluator_inputs(batch, model.evaluator.maps)
    steps = 1 if temporal_map == "none" else 3
    for name, part in model.evaluator.maps.items():
        found = part(features[name], masks[name])
        assert found.shape == (6, steps, 5)
        for row in range(6):
            expected = map_by_loops(real(batch, name, row)[0], part, model.config)
            np.testing.assert_allclose(array(found[row]), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("reduce", CHOICES["reduce"])
@pytest.mark.parametrize("temporal_map", CHOICES["temporal_map"])
@pytest.mark.parametrize("modalities", [THREE, ("audio", "vision")])
def test_the_correlation_is_the_cosine_of_the_maps(reduce, temporal_map, modalities):
    model = network(modalities, reduce=reduce, temporal_map=temporal_map)
    batch = batch_of(modalities=modalities)
    found = model.evaluator.requires_grad_(True)(batch)
    assert set(found) == set(permutations(modalities, 2))
    parts = model.evaluator.maps
    for m, n in combinations(modalities, 2):
        maps = [
            np.stack([map_by_loops(real(batch, k, i)[0], parts[k], model.config) for i in range(6)])
            for k in (m, n)
        ]
        expected = oracles.modality_correlation(*maps, reduce=reduce)
        np.testing.assert_allclose(found[m, n].numpy(), expected, rtol=1e-4, atol=1e-5)
        assert torch.equal(found[m, n], found[n, m])
        assert not found[m, n].requires_grad


@given(st.integers(0, 1000), st.sampled_from(CHOICES["temporal_map"]), st.booleans())
def test_correlations_lie_between_minus_one_and_one(seed, temporal_map, encoded):
    model = network(encoded=encoded, temporal_map=temporal_map)
    for cosine in model.evaluator(batch_of(4, encoded=encoded, seed=seed)).values():
        assert cosine.shape == (4,)
        assert cosine.abs().max() <= 1


@pytest.mark.parametrize("temporal_map", CHOICES["temporal_map"])
@pytest.mark.parametrize("encoded", [False, True])
def test_padding_changes_no_correlation(temporal_map, encoded):
    model, batch = network(encoded=encoded, temporal_map=temporal_map), batch_of(encoded=encoded)
    short, long = model.evaluator(batch), model.evaluator(longer(batch, 5))
    for pair, cosine in short.items():
        torch.testing.assert_close(long[pair], cosine, rtol=0, atol=1e-5)


@pytest.mark.parametrize("temporal_map", CHOICES["temporal_map"])
def test_who_lacks_a_modality_has_no_correlation_with_it(temporal_map):
    model, batch = network(temporal_map=temporal_map), batch_of()
    whole = model.evaluator(batch)
    batch.present["audio"][2] = False
    batch.features["audio"][2] = math.nan
    found = model.evaluator(batch)
    for pair, cosine in found.items():
        expected = whole[pair].clone()
        if "audio" in pair:
            expected[2] = 0
        torch.testing.assert_close(cosine, expected)


def test_a_sequence_as_long_as_the_map_takes_is_not_pooled():
    """Padded beyond max_steps, or not, its steps meet the same weights."""
    model, batch = network(max_steps=7), batch_of()
    batch.masks["audio"][:] = True
    part = model.evaluator.maps["audio"]
    x, mask = batch.features["audio"], batch.masks["audio"]
    more = F.pad(x, (0, 0, 0, 3)), F.pad(mask, (0, 3))
    torch.testing.assert_close(part(*more), part(x, mask))


def test_ids_have_an_embedding_of_the_encoders_vocabulary():
    model = network(encoded=True)
    assert model.evaluator.maps["text"].projection.weight.shape == (20, 8)
    shared = {id(p) for p in model.text_encoder.parameters()}
    assert not shared & {id(p) for p in model.evaluator.parameters()}


def test_a_linear_map_of_time_exists_where_it_is_used():
    for temporal_map in CHOICES["temporal_map"]:
        names = set(network(temporal_map=temporal_map).evaluator.state_dict())
        linear_map = "maps.audio.time.weight" in names
        assert linear_map == (temporal_map == "linear")


# ---------------------------------------------------------------------------------- the negatives


@pytest.mark.parametrize("encoded", [False, True])
def test_strategy_a_swaps_one_modality_with_its_mask(encoded):
    batch = batch_of(16, encoded=encoded)
    stage = stage_of(encoded=encoded, negative_strategy="A").train()
    seen = {m: [] for m in THREE}
    for m, part in stage.maps.items():
        part.register_forward_pre_hook(lambda _, args, m=m: seen[m].append(args))
    torch.manual_seed(2)
    stage(batch)
    changed = {}
    for m, ((x, mask), (y, other)) in seen.items():
        sources = [
            [j for j in range(16) if torch.equal(y[i], x[j]) and torch.equal(other[i], mask[j])]
            for i in range(16)
        ]
        assert all(sources)
        changed[m] = [i not in found for i, found in enumerate(sources)]
    assert [sum(row) for row in zip(*changed.values(), strict=True)] == [1] * 16
    assert all(any(rows) for rows in changed.values())


@pytest.mark.parametrize("shift_all", [False, True])
@pytest.mark.parametrize("encoded", [False, True])
def test_strategy_b_shifts_within_the_real_steps(shift_all, encoded):
    settings = {"negative_strategy": "B", "shift_steps": 2, "shift_all": shift_all}
    part = stage_of(encoded=encoded, **settings)
    batch = batch_of(8, encoded=encoded)
    features, masks = evaluator_inputs(batch, part.maps)
    found = altered(features, masks, part.config, part.maps["text"].projection, None)
    for m, x in features.items():
        length = masks[m].sum(1)
        ahead = 2 if m != "text" or shift_all else 1
        for i in range(8):
            moved = min(ahead, int(length[i]) - 1) if found.altered[m][i] else 0
            kept = int(length[i]) - moved
            assert found.masks[m][i].tolist() == [t < kept for t in range(STEPS[m])]
            assert torch.equal(found.features[m][i, :kept], x[i, moved : moved + kept])
        if m == "text" or shift_all:
            assert torch.equal(found.altered[m], length > 1)
    if not shift_all:
        assert not (found.altered["audio"] & found.altered["vision"]).any()


@pytest.mark.parametrize("encoded", [False, True])
def test_strategy_c_adds_noise_and_replaces_tokens(encoded):
    part = stage_of(encoded=encoded, negative_strategy="C", noise=0.3, replaced_tokens=0.0)
    batch = batch_of(40, encoded=encoded)
    features, masks = evaluator_inputs(batch, part.maps)
    found = altered(features, masks, part.config, part.maps["text"].projection, None)
    for m, x in features.items():
        y, mask = found.features[m], masks[m]
        assert found.altered[m].all()
        assert torch.equal(found.masks[m], mask)
        assert torch.equal(y[~mask], x[~mask])
        if m == "text" and encoded:
            assert (y != x).sum(1).tolist() == [1] * 40  # at probability 0, one each
            assert y.max() < 20
        else:
            spread = (y - x)[mask].std(0) / x[mask].std(0)
            assert ((spread > 0.2) & (spread < 0.4)).all()


@pytest.mark.parametrize("encoded", [False, True])
def test_strategy_d_is_any_of_the_three(encoded):
    part = stage_of(encoded=encoded, negative_strategy="D", replaced_tokens=0.0)
    batch = batch_of(60, encoded=encoded)
    for m in THREE:  # long enough to be shifted
        batch.masks[m][:] = True
    features, masks = evaluator_inputs(batch, part.maps)
    found = altered(features, masks, part.config, part.maps["text"].projection, None)
    kinds = []
    for i in range(60):
        shorter = [m for m in THREE if not found.masks[m][i].all()]
        whole = [m for m in THREE if found.altered[m][i]]
        kinds.append("B" if shorter else "A" if len(whole) == 1 else "C")
        assert whole == shorter or not shorter
    assert all(10 < kinds.count(kind) < 30 for kind in "ABC")


# ---------------------------------------------------------------------------------- the loss


def kronecker_mahalanobis(maps, present, reduce):
    """The distance of whole maps, for a covariance with one and the same block a step."""
    rows = []
    for m, x in maps.items():
        for i, there in enumerate(present[m]):
            if there:
                rows.extend([x[i].mean(0)] if reduce == "mean" else x[i])
    covariance = np.cov(np.array(rows).T, bias=True)
    size = len(covariance)
    covariance = 0.9 * covariance + (0.1 * np.trace(covariance) / size + 1e-6) * np.eye(size)

    def distance(x, y):
        gap = np.asarray(x) - np.asarray(y)
        inverse = np.linalg.inv(np.kron(np.eye(len(gap) // size), covariance))
        return math.sqrt(gap @ inverse @ gap)

    return distance


@pytest.mark.parametrize("distance", CHOICES["distance"])
@pytest.mark.parametrize("reduce", CHOICES["reduce"])
@pytest.mark.parametrize("skip_unaltered", [True, False])
@pytest.mark.parametrize(("strategy", "encoded"), [("A", False), ("D", True)])
def test_the_terms_are_those_of_the_paper(distance, reduce, skip_unaltered, strategy, encoded):
    batch = batch_of(8, encoded=encoded)
    batch.present["audio"][3] = batch.present["text"][5] = False
    part = stage_of(
        encoded=encoded,
        distance=distance,
        reduce=reduce,
        skip_unaltered=skip_unaltered,
        negative_strategy=strategy,
        margin=0.7,
        generator=torch.Generator().manual_seed(4),
    ).train()
    terms = part(batch).terms
    features, masks = evaluator_inputs(batch, part.maps)
    text, generator = part.maps["text"].projection, torch.Generator().manual_seed(4)
    negatives = altered(features, masks, part.config, text, generator)
    maps = {m: array(net(features[m], masks[m])) for m, net in part.maps.items()}
    others = {
        m: array(net(negatives.features[m], negatives.masks[m])) for m, net in part.maps.items()
    }
    measure = {
        "euclidean": oracles.euclidean,
        "manhattan": oracles.manhattan,
        "chebyshev": oracles.chebyshev,
        "cosine": oracles.cosine_distance,
        "mahalanobis": kronecker_mahalanobis(maps, batch.present, reduce),
    }[distance]
    expected = oracles.modality_correlation_triplet(
        maps,
        others,
        altered=negatives.altered,
        margin=0.7,
        distance=measure,
        reduce_over=reduce,
        skip_unaltered=skip_unaltered,
        present=batch.present,
    )
    assert list(terms) == list(THREE)
    assert terms.weights == dict.fromkeys(THREE, 1 / 3)
    for m, value in expected.items():
        torch.testing.assert_close(terms[m].item(), float(value), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(
        terms.total.item(), float(sum(expected.values()) / 3), rtol=1e-4, atol=1e-5
    )


def test_every_distance_has_a_case_above():
    assert set(DISTANCES) == {"euclidean", "manhattan", "chebyshev", "cosine", "mahalanobis"}


@pytest.mark.parametrize("skip_unaltered", [True, False])
def test_unaltered_terms_are_skipped(skip_unaltered):
    """One sample has nobody to swap with: what is not skipped stands at the margin."""
    part = stage_of(("text", "audio"), negative_strategy="A", skip_unaltered=skip_unaltered)
    batch = batch_of(1, ("text", "audio"))
    for mode in (True, False):
        terms = part.train(mode)(batch).terms
        assert terms.total.requires_grad
        terms.total.backward()
        assert all(p.grad is None or (p.grad == 0).all() for p in part.parameters())
        expected = 0.0 if skip_unaltered else 0.2
        assert [round(x.item(), 6) for x in terms.values()] == [expected, expected]


@pytest.mark.parametrize(  # a distance does not ask how its negatives were made
    ("strategy", "distance"),
    [("D", d) for d in CHOICES["distance"]]
    + [(s, "mahalanobis") for s in CHOICES["negative_strategy"] if s != "D"],
)
@pytest.mark.parametrize("size", [1, 2])
def test_small_batches_are_finite(strategy, distance, size):
    batch = batch_of(size)
    for gone in ("audio", "text", "vision"):
        for temporal_map in CHOICES["temporal_map"] if gone == "audio" else ["linear"]:
            part = stage_of(
                negative_strategy=strategy, distance=distance, temporal_map=temporal_map
            )
            terms = part.train()(batch).terms
            terms.total.backward()
            assert terms.total.isfinite()
            assert all(p.grad is None or p.grad.isfinite().all() for p in part.parameters())
        batch.present[gone][:] = False
    terms = part(batch).terms  # nothing is left
    terms.total.backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in part.parameters())
    assert terms.total == 0


@pytest.mark.parametrize("encoded", [False, True])
@pytest.mark.parametrize("distance", CHOICES["distance"])
def test_what_stands_in_an_absent_modality_does_not_matter(encoded, distance):
    batch = lacking(longer(batch_of(8, encoded=encoded)), text=0, audio=[0, 1], vision=2)
    results = []
    for fill in (0, 1e6, math.nan):
        part = stage_of(
            encoded=encoded, distance=distance, generator=torch.Generator().manual_seed(2)
        ).train()
        terms = part(fill_absent(batch, fill)).terms
        terms.total.backward()
        results.append([*terms.values(), *(p.grad for p in part.parameters())])
    for other in results[1:]:
        assert all(map(torch.equal, results[0], other))
    assert all(x.isfinite().all() for x in results[0])


@pytest.mark.parametrize("encoded", [False, True])
@pytest.mark.parametrize("temporal_map", CHOICES["temporal_map"])
def test_every_parameter_of_the_stage_learns(encoded, temporal_map):
    part = stage_of(encoded=encoded, temporal_map=temporal_map, negative_strategy="C")
    part.train()(batch_of(16, encoded=encoded)).terms.total.backward()
    for name, parameter in part.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.any(), name


@pytest.mark.parametrize("strategy", CHOICES["negative_strategy"])
def test_validation_draws_the_same_and_training_does_not(strategy):
    part, batch = stage_of(negative_strategy=strategy), batch_of(16)
    part.eval()
    state = torch.get_rng_state()
    first, second = part(batch).terms.total, part(batch).terms.total
    assert torch.equal(first, second)
    assert torch.equal(torch.get_rng_state(), state)
    part.train()
    assert part(batch).terms.total != part(batch).terms.total


def test_the_generator_alone_decides_in_training():
    totals = []
    for seed in (3, 3, 4):
        generator = torch.Generator().manual_seed(seed)
        part = stage_of(generator=generator).train()
        torch.manual_seed(len(totals))
        totals.append(part(batch_of(16)).terms.total.item())
    assert totals[0] == totals[1] != totals[2]


@pytest.mark.parametrize("distance", CHOICES["distance"])
@pytest.mark.parametrize("encoded", [False, True])
def test_a_step_lowers_the_loss(distance, encoded):
    part = stage_of(distance=distance, encoded=encoded, margin=1.0)
    batch = batch_of(16, encoded=encoded)
    part.eval()  # the same negatives before and after; there is no dropout
    before = part(batch).terms.total
    before.backward()
    with torch.no_grad():
        slope = sum(p.grad.square().sum() for p in part.parameters())
        for parameter in part.parameters():
            parameter -= 1e-3 * parameter.grad / slope.sqrt()
    assert part(batch).terms.total < before


def test_labels_are_not_read_and_nothing_is_predicted():
    part, batch = stage_of().eval(), batch_of()
    output = part(replace(batch, labels=None))
    assert output.prediction is None
    assert output.fused is None
    assert torch.equal(output.terms.total, part(batch).terms.total)


def test_the_rows_of_all_ranks_enter_the_loss_in_training(monkeypatch):
    """A second rank with the same rows: means and covariances stay, whatever the loss."""
    batch = batch_of(8)
    for distance in CHOICES["distance"]:

        def loss(mode, distance=distance):
            generator = torch.Generator().manual_seed(1)
            part = stage_of(distance=distance, generator=generator, negative_strategy="C")
            return part.train(mode)(batch).terms.total

        alone = loss(True)
        with monkeypatch.context() as patch:
            gathered = second_rank(patch, mm)
            torch.testing.assert_close(loss(True), alone)
            assert [x.shape for x in gathered] == [(8, 3, 5), (8, 3, 5), (8,), (8,)] * 3
            loss(False)
            assert len(gathered) == 12


@pytest.mark.parametrize("strategy", CHOICES["negative_strategy"])
def test_autocast_keeps_the_loss_in_float32(strategy):
    for distance in ("cosine", "mahalanobis"):
        part = stage_of(negative_strategy=strategy, distance=distance).train()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            terms = part(batch_of()).terms
        assert {x.dtype for x in terms.values()} == {torch.float32}
        terms.total.backward()
        assert all(p.grad is None or p.grad.isfinite().all() for p in part.parameters())


def test_the_pairs_of_some_modalities_alone():
    part, batch = stage_of(pretrain_modalities=("text", "vision")), batch_of()
    assert list(part.eval()(batch).terms) == ["text", "vision"]
    batch.features["audio"][:] = math.nan
    assert part(batch).terms.total.isfinite()


# ---------------------------------------------------------------------------------- the errors


@pytest.mark.parametrize("encoded", [False, True])
def test_a_batch_that_lacks_a_modality_is_refused(encoded):
    model = network(encoded=encoded)
    for part in (model.evaluator, model.stages()[0].network):
        with pytest.raises(ValueError, match=r"batch: expected modalities \('text',\), got"):
            part(batch_of(modalities=("audio", "vision")))


def test_text_of_the_other_kind_is_refused():
    encoded = network(encoded=True)
    with pytest.raises(ValueError, match=r"features\['text'\]: expected token ids .*float32"):
        encoded.evaluator(batch_of())
    with pytest.raises(ValueError, match=r"features\['text'\]: expected features .*int64"):
        network().evaluator(batch_of(encoded=True))
