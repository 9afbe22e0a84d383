"""CorMulT: its network against loops, its frozen evaluator, its heads, every row of its tables."""

import math
from dataclasses import replace
from itertools import permutations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F

from reference_models.cormult.network import CorMulT
from reference_models.cormult.settings import CHOICES, PRESETS, CorMulTConfig
from reference_models.training_config import TrainingConfig
from tests.reference_models.batches import (
    SIZES,
    THREE,
    batch_of,
    fill_absent,
    lacking,
    longer,
    real,
    samples,
    small_text_encoder,
)

SMALL = {
    "hidden_size": 6,
    "cross_layers": 1,
    "memory_layers": 1,
    "attention_dropout": 0.0,
    "relu_dropout": 0.0,
    "residual_dropout": 0.0,
    "embed_dropout": 0.0,
    "evaluator_size": 8,
    "evaluator_layers": 1,
    "evaluator_heads": 2,
    "evaluator_feedforward": 12,
    "evaluator_dropout": 0.0,
    "max_steps": 6,  # fewer than audio may have
    "correlation_steps": 3,
    "correlation_size": 5,
}


SWITCHES = {
    "use_correlation": (True, False),
    "weighting": CHOICES["weighting"],
    "clamp": (False, True),
    "loss": CHOICES["loss"],
    "class_score": CHOICES["class_score"],
    "norm": CHOICES["norm"],
    "temporal_map": CHOICES["temporal_map"],
    "reduce": CHOICES["reduce"],
    "pretrain": (True, False),
    "pretrain_modalities": (("text", "audio", "vision"), ("text", "audio"), ("text", "vision")),
    "negative_strategy": CHOICES["negative_strategy"],
    "shift_all": (False, True),
    "distance": CHOICES["distance"],
    "skip_unaltered": (True, False),
}


def network(modalities=THREE, *, encoded=False, generator=None, **overrides):
    torch.manual_seed(5)
    text_encoder = small_text_encoder().eval() if encoded else None
    config = CorMulTConfig(**{**SMALL, **overrides})
    sizes = {m: SIZES[m] for m in modalities}
    return CorMulT(config, sizes, text_encoder, generator=generator)


# ---------------------------------------------------------------------------------- the network


def weight_of(correlation, weighting, clamp):
    value = max(correlation, 0.0) if clamp else correlation
    return 1 + value if weighting == "residual" else value


def fused_by_loops(model, batch, row):
    """The stream of each pair, weighted, the memories, and the residual layer: of one sample."""
    config, x, masks = model.config, {}, {}
    correlations = {} if model.evaluator is None else model.evaluator(batch)
    for m, projection in model.projections.items():
        steps, masks[m] = real(batch, m, row)
        if m == "text" and model.text_encoder is not None:
            steps = model.text_encoder(steps).last_hidden_state
        x[m] = steps @ projection.weight[:, :, 0].T
    last = []
    for m in x:
        streams = []
        for n in x:
            if n != m:
                stream = model.cross[f"{m}_{n}"](x[m], masks[m], x[n], masks[n])
                if correlations:
                    cosine = correlations[m, n][row].item()
                    stream = stream * weight_of(cosine, config.weighting, config.clamp)
                streams.append(stream)
        last.append(model.memories[m](torch.cat(streams, 2), masks[m])[0, -1])
    whole = torch.cat(last)
    return whole + model.output(model.hidden(whole).relu())


@pytest.mark.parametrize("modalities", [THREE, ("audio", "vision"), ("text", "audio")])
@pytest.mark.parametrize("weighting", CHOICES["weighting"])
@pytest.mark.parametrize("clamp", [False, True])
def test_the_prediction_is_that_of_each_sample_alone(modalities, weighting, clamp):
    model = network(modalities, weighting=weighting, clamp=clamp).eval()
    batch = batch_of(modalities=modalities)
    output = model(batch)
    cosines = torch.cat(list(model.evaluator(batch).values()))
    assert cosines.min() < -0.1  # else the clamp has nothing to do
    assert cosines.max() > 0.1
    for row in range(6):
        fused = fused_by_loops(model, batch, row)
        torch.testing.assert_close(output.fused[row], fused, rtol=1e-4, atol=1e-5)
        score = fused @ model.head.weight[0] + model.head.bias[0]
        torch.testing.assert_close(output.prediction[row], score, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("use_correlation", [True, False])
def test_token_ids_go_through_the_text_encoder(use_correlation):
    model = network(encoded=True, use_correlation=use_correlation).eval()
    batch = batch_of(encoded=True)
    found = model(batch).fused
    for row in range(6):
        expected = fused_by_loops(model, batch, row)
        torch.testing.assert_close(found[row], expected, rtol=1e-4, atol=1e-5)


class Constant(torch.nn.Module):
    """An evaluator that says the same of every pair."""

    def __init__(self, value):
        super().__init__()
        self.value = value

    def forward(self, batch):
        return {pair: torch.full((len(batch),), self.value) for pair in permutations(THREE, 2)}


@pytest.mark.parametrize(
    ("weighting", "clamp", "correlation"),
    [("scale", False, 1.0), ("residual", False, 0.0), ("residual", True, -1.0)],
)
@pytest.mark.parametrize("training", [False, True])
def test_without_correlations_it_is_mult(weighting, clamp, correlation, training):
    model = network(weighting=weighting, clamp=clamp).train(training)
    model.evaluator = Constant(correlation)
    plain = network(use_correlation=False).train(training)
    plain.load_state_dict(model.state_dict())
    batch = batch_of()
    torch.testing.assert_close(model(batch).fused, plain(batch).fused)


def test_a_correlation_of_zero_silences_every_stream():
    model, batch = network().eval(), batch_of()
    model.evaluator = Constant(0.0)
    other = batch_of(seed=2)
    mixed = replace(batch, features=other.features)  # other values, lengths as they were
    assert torch.equal(model(batch).prediction, model(mixed).prediction)


def test_plain_mult_has_no_evaluator_and_no_stage():
    model = network(use_correlation=False)
    assert model.evaluator is None
    assert not [name for name in model.state_dict() if "evaluator" in name]
    assert model.stages() == []


def test_it_has_a_stream_for_every_ordered_pair():
    assert set(network().cross) == {f"{m}_{n}" for m, n in permutations(THREE, 2)}
    assert set(network(("text", "vision")).cross) == {"text_vision", "vision_text"}


def test_settings_reach_the_parts():
    model = network(
        hidden_size=12,
        heads=3,
        cross_layers=2,
        memory_layers=4,
        attention_dropout=0.1,
        relu_dropout=0.2,
        residual_dropout=0.3,
        embed_dropout=0.4,
        evaluator_layers=5,
        evaluator_dropout=0.15,
        evaluator_feedforward=7,
    )
    for parts, layers, size in ((model.cross, 2, 12), (model.memories, 4, 24)):
        for part in parts.values():
            assert (len(part.layers), part.size, part.dropout.p) == (layers, size, 0.4)
            layer = part.layers[0]
            assert (layer.attention.num_heads, layer.attention.dropout) == (3, 0.1)
            assert (layer.relu_dropout.p, layer.residual_dropout.p) == (0.2, 0.3)
            assert (layer.order, layer.linear1.out_features) == ("pre", 4 * size)
    for part in model.evaluator.maps.values():
        layer = part.transformer.layers[0]
        assert len(part.transformer.layers) == 5
        assert layer.linear1.out_features == 7
        dropouts = (layer.attention.dropout, layer.relu_dropout.p, layer.residual_dropout.p)
        assert {*dropouts, part.transformer.dropout.p} == {0.15}


def test_the_output_dropout_is_in_the_residual_layer():
    model, batch = network(output_dropout=0.5), batch_of()
    assert not torch.equal(model.train()(batch).fused, model(batch).fused)
    still = network(output_dropout=0.0).train()
    assert torch.equal(still(batch).fused, model.eval()(batch).fused)


@pytest.mark.parametrize("encoded", [False, True])
@pytest.mark.parametrize("temporal_map", CHOICES["temporal_map"])
def test_more_padding_changes_no_prediction(encoded, temporal_map):
    model = network(encoded=encoded, temporal_map=temporal_map).eval()
    batch = batch_of(encoded=encoded)
    short, long = model(batch), model(longer(batch))
    torch.testing.assert_close(long.prediction, short.prediction, rtol=0, atol=1e-5)
    torch.testing.assert_close(long.fused, short.fused, rtol=0, atol=1e-5)


@pytest.mark.parametrize("encoded", [False, True])
@pytest.mark.parametrize("weighting", CHOICES["weighting"])
def test_what_stands_in_an_absent_modality_does_not_matter(encoded, weighting):
    batch = lacking(batch_of(8, encoded=encoded), text=[0, 3], audio=[0, 1, 3], vision=[2, 3])
    results = []
    for fill in (0, 1e6, math.nan):
        model = network(encoded=encoded, weighting=weighting).train()
        if encoded:
            model.text_encoder.eval()
        output = model(fill_absent(batch, fill))
        output.terms.total.backward()
        gradients = [p.grad for p in model.parameters() if p.requires_grad]
        results.append([output.prediction, output.fused, *gradients])
    for other in results[1:]:
        assert all(map(torch.equal, results[0], other))
    assert all(x.isfinite().all() for x in results[0])


@pytest.mark.parametrize("training", [False, True])
def test_a_batch_of_one(training):
    model = network().train(training)
    output = model(batch_of(1))
    output.terms.total.backward()
    assert output.prediction.shape == (1,)
    assert output.terms.total.isfinite()
    many = batch_of(3)
    first = samples(many, slice(1))
    model.eval()
    torch.testing.assert_close(model(first).prediction, model(many).prediction[:1])


# ---------------------------------------------------------------------------------- the evaluator


@pytest.mark.parametrize("thawed", [False, True])
def test_training_does_not_reach_the_evaluator(thawed):
    model = network(evaluator_dropout=0.5)
    model.evaluator.requires_grad_(thawed)
    before = {name: x.clone() for name, x in model.evaluator.state_dict().items()}
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(2):
        model.train()(batch_of()).terms.total.backward()
        assert all(p.grad is None for p in model.evaluator.parameters())
        optimizer.step()
    after = model.evaluator.state_dict()
    assert all(torch.equal(before[name], x) for name, x in after.items())


def test_the_evaluator_is_never_back_in_training_mode():
    model, batch = network(evaluator_dropout=0.5), batch_of()
    for mode in (True, False, True):
        assert model.train(mode) is model
        assert model.training == mode
        assert not any(part.training for part in model.evaluator.modules())
    first, second = model.evaluator(batch), model.evaluator(batch)
    assert all(torch.equal(first[pair], second[pair]) for pair in first)
    assert torch.equal(model(batch).prediction, model(batch).prediction)


@pytest.mark.parametrize("encoded", [False, True])
@pytest.mark.parametrize("head", CHOICES["head"])
def test_every_other_parameter_learns(encoded, head):
    model = network(encoded=encoded, head=head).train()
    model(batch_of(16, encoded=encoded, head=head)).terms.total.backward()
    for name, parameter in model.named_parameters():
        if name.startswith("evaluator."):
            assert not parameter.requires_grad
        else:
            assert parameter.grad is not None, name
            assert parameter.grad.isfinite().all(), name


def test_the_stage_trains_the_evaluator_and_leaves_it_frozen():
    model, batch = network(), batch_of(12)
    (stage,) = model.stages()
    assert stage.name == "evaluator"
    kept = {name: x.clone() for name, x in model.state_dict().items()}
    cosines = model.eval().evaluator(batch)
    optimizer = torch.optim.Adam(stage.network.parameters(), lr=0.01)
    for _ in range(3):
        optimizer.zero_grad()
        stage.network.train()(batch).terms.total.backward()
        optimizer.step()
    stage.network.requires_grad_(False).eval()
    moved = {name for name, x in model.state_dict().items() if not torch.equal(x, kept[name])}
    assert moved == {name for name in kept if name.startswith("evaluator.")}
    after = model.evaluator(batch)
    assert not any(torch.equal(cosines[pair], after[pair]) for pair in cosines)
    model.train()(batch).terms.total.backward()
    assert all(p.grad is not None for p in model.parameters() if p.requires_grad)


def test_the_stage_has_its_own_training():
    (stage,) = network(
        pretrain_epochs=7, pretrain_learning_rate=0.01, pretrain_batch_size=5
    ).stages()
    run = TrainingConfig(**PRESETS["mosei"] | {"precision": "bf16"})
    training = replace(run, **stage.training)
    assert (training.epochs, training.batch_size, training.max_grad_norm) == (7, 5, 0)
    assert training.learning_rate == training.head_learning_rate == 0.01
    assert training.precision == "bf16"


@pytest.mark.parametrize(
    ("modalities", "overrides", "expected"),
    [
        (THREE, {}, list(THREE)),
        (THREE, {"pretrain_modalities": ("vision", "text")}, ["text", "vision"]),
        (("audio", "vision"), {}, ["audio", "vision"]),
        (("audio", "vision"), {"pretrain_modalities": ("text", "audio")}, None),
        (THREE, {"pretrain": False}, None),
        (THREE, {"use_correlation": False}, None),
    ],
)
def test_the_stage_has_the_modalities_that_there_are(modalities, overrides, expected):
    stages = network(modalities, **overrides).stages()
    assert len(stages) == (expected is not None)
    for stage in stages:
        assert list(stage.network.maps) == expected


def test_what_the_stage_leaves_out_stays_frozen():
    model = network(pretrain_modalities=("text", "audio"))
    model.stages()
    maps = model.evaluator.maps
    assert all(p.requires_grad for m in ("text", "audio") for p in maps[m].parameters())
    assert not any(p.requires_grad for p in maps["vision"].parameters())


def test_the_generator_draws_the_negatives_of_the_stage():
    generator = torch.Generator().manual_seed(3)
    (stage,) = network(generator=generator).stages()
    assert stage.network.generator is generator


# ---------------------------------------------------------------------------------- the heads


@pytest.mark.parametrize("loss", CHOICES["loss"])
def test_the_regression_has_either_error(loss):
    model, batch = network(loss=loss).train(), batch_of()
    output = model(batch)
    gaps = [abs(p - y) for p, y in zip(output.prediction.tolist(), batch.labels, strict=True)]
    expected = sum(gap**2 if loss == "mse" else gap for gap in gaps) / 6
    assert list(output.terms) == ["task"]
    assert output.terms.weights == {"task": 1.0}
    torch.testing.assert_close(output.terms.total, expected)


@pytest.mark.parametrize("class_score", CHOICES["class_score"])
def test_seven_classes_mean_a_score(class_score):
    model = network(head="classes7", class_score=class_score).eval()
    batch = batch_of(8, head="classes7")
    labels = torch.tensor([-3.0, -2.5, -0.4, 0.5, 1.5, 2.6, 3.0, 4.2])
    output = model(replace(batch, labels=labels))
    logits = (output.fused @ model.head.weight.T + model.head.bias).tolist()
    scores, losses = [], []
    # Halves go to the even neighbour, and what is beyond 3 is 3.
    for row, score in zip(logits, [-3, -2, 0, 0, 2, 3, 3, 3], strict=True):
        total = sum(math.exp(v) for v in row)
        shares = [math.exp(v) / total for v in row]
        best = max(range(7), key=row.__getitem__) - 3
        mean = sum(share * (k - 3) for k, share in enumerate(shares))
        scores.append(mean if class_score == "expected" else float(best))
        losses.append(-math.log(shares[score + 3]))
    assert model.head.out_features == 7
    torch.testing.assert_close(output.prediction, torch.tensor(scores), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(output.terms.total, torch.tensor(sum(losses) / 8))


@pytest.mark.parametrize(("head", "shape"), [("iemocap", (6, 4, 2)), ("humor", (6, 2))])
def test_the_other_heads_give_logits(head, shape):
    model, batch = network(head=head).train(), batch_of(head=head)
    output = model(batch)
    assert output.prediction.shape == shape
    expected = F.cross_entropy(output.prediction.reshape(-1, 2), batch.labels.flatten())
    torch.testing.assert_close(output.terms["task"], expected)


@pytest.mark.parametrize("head", CHOICES["head"])
def test_without_labels_there_are_no_terms(head):
    model, batch = network(head=head), batch_of(head=head)
    found = model(replace(batch, labels=None))
    assert found.terms is None
    torch.testing.assert_close(found.prediction, model(batch).prediction)


@given(
    st.fixed_dictionaries({name: st.sampled_from(values) for name, values in SWITCHES.items()}),
    st.sampled_from(CHOICES["head"]),
    st.sampled_from([THREE, ("text", "audio"), ("audio", "vision")]),
    st.booleans(),
    st.sampled_from([1, 2, 5]),
)
def test_any_combination_runs(switches, head, modalities, encoded, size):
    encoded = encoded and "text" in modalities
    model = network(modalities, encoded=encoded, head=head, **switches)
    batch = batch_of(size, modalities, encoded=encoded, head=head)
    for part in [*(stage.network for stage in model.stages()), model]:
        output = part.train()(batch)
        output.terms.total.backward()
        assert output.terms.total.isfinite()
        assert all(p.grad is None or p.grad.isfinite().all() for p in part.parameters())
        assert part.eval()(batch).terms.total.isfinite()


@pytest.mark.parametrize("sizes", [{"text": 6}, {}, {"text": 6, "smell": 2}])
def test_other_modalities_are_refused(sizes):
    with pytest.raises(ValueError, match="sizes: expected two or more of "):
        CorMulT(CorMulTConfig(**SMALL), sizes)
