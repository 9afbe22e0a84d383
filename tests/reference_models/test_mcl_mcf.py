"""MCL-MCF: the whole network and its losses by loops, every row of its tables, what must not be."""

import json
import math
from dataclasses import fields, replace
from importlib import resources

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence
from transformers import BertConfig, BertModel

from reference_models.image_fusion import BACKBONES
from reference_models.mcl_mcf import MclMcf
from reference_models.mcl_mcf_config import CHOICES, PRESETS, TABLES, MclMcfConfig
from reference_models.mcl_parts import LEVELS, ConvolutionFusion, Levels
from reference_models.training import TrainingConfig
from tests.reference_models import batches
from tests.reference_models.batches import (
    SIZES,
    THREE,
    cast,
    fill_absent,
    lacking,
    small_text_encoder,
)
from tests.reference_models.test_image_fusion import convolved

SMALL: dict = {
    "hidden_size": 6,
    "tcf_size": 48,  # the smallest side that every backbone reads
    "channels": (2, 3, 1),
    "fusion_size": 10,
    "head_size": 8,
    "head_dropout": 0.0,
    "contrast_size": 7,
    "image_layers": 1,
    "image_heads": 1,
    "image_mask": 0.0,
}
SWITCHES: dict[str, tuple] = {
    **CHOICES,
    "first_weight": (0.0, 0.05),
    "second_weight": (0.0, 0.05),
    "third_weight": (0.0, 0.05),
    "learnable_temperature": (False, True),
    "symmetric": (False, True),
    "share_tcf_mcf": (False, True),
    "image_backbone": (None, *BACKBONES),
}
TINY = {**SMALL, "tcf_size": 8}
PAIRS = (("text", "audio"), ("text", "vision"), ("audio", "vision"))


def network(modalities=THREE, *, encoded=False, generator=None, **settings):
    torch.manual_seed(5)
    text_encoder = small_text_encoder() if encoded else None
    config = MclMcfConfig(**{**TINY, **settings})
    model = MclMcf(config, {m: SIZES[m] for m in modalities}, text_encoder, generator=generator)
    for name, parameter in model.named_parameters():  # no bias shall be zero by its start
        if name.endswith("bias") and not name.startswith(("text_encoder", "fusion.backbone")):
            nn.init.uniform_(parameter, -0.2, 0.3)
    return model


def batch_of(size=9, modalities=THREE, **options):
    """Some modalities absent, double precision, scores that are often neutral."""
    options = {"dtype": torch.float64, "scale": (2, 2), **options}
    batch = batches.batch_of(size, modalities, **options)
    present = {m: torch.arange(size) % 8 != at + 1 for at, m in enumerate(modalities)}
    return replace(batch, present=present)


def single(batch):
    return cast(batch, torch.float32)


# ------------------------------------------------------------------------- everything, by loops


class Loops:
    """Equations 1 to 23 in numpy, from a network's weights and a batch."""

    def __init__(self, model, batch, text=None):
        self.config = model.config
        self.weights = {k: v.detach().numpy() for k, v in model.state_dict().items()}
        self.names = [m for m in THREE if m in batch.features]
        self.pairs = [pair for pair in PAIRS if set(pair) <= set(self.names)]
        self.present = {m: batch.present[m].numpy() for m in self.names}
        self.labels = batch.labels.numpy()
        self.h = {m: self.last_state(batch, m) for m in self.names if m != "text" or text is None}
        if text is not None:
            self.h["text"] = text
        for m in self.names:
            self.h[m] = self.h[m] * self.present[m][:, None]

    def linear(self, name, x):
        return x @ self.weights[f"{name}.weight"].T + self.weights[f"{name}.bias"]

    def last_state(self, batch, m):
        w = {k: self.weights[f"encoders.{m}.network.{k}_l0"] for k in self.lstm}
        states = []
        for x, length in zip(batch.features[m].numpy(), batch.masks[m].sum(1), strict=True):
            hidden = cell = np.zeros(self.config.hidden_size)
            for step in x[:length]:
                gates = w["weight_ih"] @ step + w["bias_ih"]
                gates = gates + w["weight_hh"] @ hidden + w["bias_hh"]
                i, f, g, o = np.split(gates, 4)
                cell = sigmoid(f) * cell + sigmoid(i) * np.tanh(g)
                hidden = sigmoid(o) * np.tanh(cell)
            states.append(hidden)
        return self.linear(f"encoders.{m}.layer", np.stack(states))

    lstm = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")

    def maps(self):
        return {m: relu(self.linear(f"maps.{m}", self.h[m])) for m in self.names}

    def prediction(self):
        both = np.concatenate([self.h[m] for m in self.names], 1)
        if self.config.fusion == "linear":
            fused = self.linear("fusion.layer", both)
        else:
            shallow = relu(self.linear("fusion.shallow", both))
            if self.config.share_tcf_mcf:
                deep = self.maps()
            else:
                deep = {m: relu(self.linear(f"fusion.deep.{m}", self.h[m])) for m in self.names}
            fused = self.linear(
                "fusion.last", np.concatenate([*(deep[m] for m in self.names), shallow], 1)
            )
        for layer in ("hidden.1", "hidden.3"):
            fused = np.tanh(self.linear(layer, fused))
        return self.linear("head", fused)

    def image(self, pair):
        one, other = (self.maps()[m] for m in pair)
        rows = []
        for x, y in zip(one, other, strict=True):
            image = np.array([[[a * b for b in y] for a in x]])
            for layer in (0, 2, 4):
                name = f"levels.stacks.{'_'.join(pair)}.layers.{layer}"
                image = convolved(
                    image, self.weights[f"{name}.weight"], self.weights[f"{name}.bias"]
                )
            rows.append(image.reshape(-1))
        return np.stack(rows)

    def joined(self, modalities):
        if len(modalities) == 1:
            return self.h[modalities[0]]
        both = np.concatenate([self.h[m] for m in modalities], 1)
        return self.linear(f"levels.joins.{'_'.join(modalities)}", both)

    def contrast(self, level, at, views, rows):
        """Algorithm 1 between two views, on the samples that have both."""
        here = np.ones(len(self.labels), bool)
        for m in {m for view in views for m in view}:
            here &= self.present[m]
        x, y = (
            unit(self.linear(f"levels.projections.{level}.{at}.{side}", row)[here])
            for side, row in enumerate(rows)
        )
        classes = [tuple(np.atleast_1d(np.sign(v))) for v in self.labels[here]]
        logits = x @ y.T / self.config.temperature
        value = cross_entropy(logits, classes, self.config.pair_design)
        if not self.config.symmetric:
            return value
        return (value + cross_entropy(logits.T, classes, self.config.pair_design)) / 2

    def first(self):
        views = [((m,), (n,)) for m, n in self.pairs]
        return sum(
            self.contrast("first", at, pair, [self.h[v[0]] for v in pair])
            for at, pair in enumerate(views)
        )

    def second(self):
        t, a, v = THREE
        views = [((t, a), (v,)), ((t, v), (a,)), ((a, v), (t,))]
        views.append((THREE, (self.config.trimodal_partner,)))
        return sum(
            self.contrast("second", at, pair, [self.joined(view) for view in pair])
            for at, pair in enumerate(views)
        )

    def third(self):
        ta, tv, av = PAIRS
        return sum(
            self.contrast("third", at, pair, [self.image(view) for view in pair])
            for at, pair in enumerate([(ta, tv), (tv, av), (ta, av)])
        )


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def relu(x):
    return np.maximum(x, 0)


def unit(rows):
    return np.stack([row / math.sqrt(sum(v * v for v in row)) for row in rows])


def cross_entropy(logits, classes, design):
    """Mean over the anchors that have a positive; designs as in the paper's Table 7."""
    values = []
    for i in range(len(logits)):
        others = [j for j in range(len(logits)) if j != i]
        negatives = [j for j in others if design == "A" or classes[j] != classes[i]]
        positives = [i]
        if design == "C":
            positives = [j for j in others if classes[j] == classes[i]]
        if positives:
            total = math.log(sum(math.exp(logits[i, j]) for j in positives + negatives))
            values.append(sum(total - logits[i, j] for j in positives) / len(positives))
    return sum(values) / len(values) if values else 0.0


def assert_terms(terms, loops, levels=LEVELS):
    assert list(terms) == ["task", *LEVELS]
    for level in LEVELS:
        expected = getattr(loops, level)() if level in levels else 0.0
        assert terms[level].item() == pytest.approx(expected, rel=1e-8), level


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"temperature": 1 / 2.659, "symmetric": False},
        {"trimodal_partner": "text", "share_tcf_mcf": False},
        {"trimodal_partner": "vision", "fusion": "linear", "channels": (1, 2, 3)},
        {"pair_design": "B"},
        {"pair_design": "C"},
        {"pair_design": "C", "symmetric": False, "head": "iemocap"},
        {"pair_design": "B", "head": "humor"},
        {"learnable_temperature": True, "temperature": 0.2},
    ],
    ids=str,
)
def test_prediction_and_terms_are_those_of_the_equations(settings):
    model = network(**settings).double().train()
    head = model.config.head
    batch = batch_of(head=head)
    output, loops = model(batch), Loops(model, batch)
    expected = loops.prediction().reshape(output.prediction.shape)
    np.testing.assert_allclose(output.prediction.detach().numpy(), expected, rtol=1e-8)
    assert_terms(output.terms, loops)
    assert output.terms.weights == {"task": 1.0, **dict.fromkeys(LEVELS, 0.05)}
    if head == "regression":
        error = np.abs(expected - batch.labels.numpy()).mean()
        assert output.terms["task"].item() == pytest.approx(error, rel=1e-5)


@pytest.mark.parametrize("settings", [{}, {"share_tcf_mcf": False}, {"fusion": "linear"}], ids=str)
@pytest.mark.parametrize("modalities", PAIRS)
def test_two_modalities_have_one_pair_on_the_first_level_alone(modalities, settings):
    model, batch = network(modalities, **settings).double(), batch_of(modalities=modalities)
    output, loops = model.train()(batch), Loops(model, batch)
    np.testing.assert_allclose(output.prediction.detach().numpy(), loops.prediction()[:, 0])
    assert_terms(output.terms, loops, ["first"])
    assert output.terms.weights == {"task": 1.0, "first": 0.05, "second": 0.0, "third": 0.0}
    assert not model.levels.stacks
    assert not model.levels.joins


def test_the_order_of_the_sizes_does_not_matter():
    torch.manual_seed(5)
    turned = MclMcf(MclMcfConfig(**TINY), {m: SIZES[m] for m in reversed(THREE)})
    model, batch = network(), single(batch_of())
    turned.load_state_dict(model.state_dict())
    assert torch.equal(turned(batch).terms.total, model(batch).terms.total)


def test_encoded_text_is_its_first_token():
    model, batch = network(encoded=True).double().train(), batch_of(encoded=True)
    model.text_encoder.eval()
    ids, mask = batch.features["text"], batch.masks["text"]
    first = [
        model.text_encoder(row[real][None]).last_hidden_state[0, 0].detach().numpy()
        for row, real in zip(ids, mask, strict=True)
    ]
    output, loops = model(batch), Loops(model, batch, text=np.stack(first))
    np.testing.assert_allclose(output.prediction.detach().numpy(), loops.prediction()[:, 0])
    assert_terms(output.terms, loops)
    assert "text" not in model.encoders


def test_a_sequence_is_what_a_packed_one_ends_with():
    model, batch = network().double(), batch_of()
    for m in THREE:
        encoder, steps, mask = model.encoders[m], batch.features[m], batch.masks[m]
        packed = pack_padded_sequence(steps, mask.sum(1), batch_first=True, enforce_sorted=False)
        _, (state, _) = encoder.network(packed)
        garbage = steps.masked_fill(~mask.unsqueeze(-1), 7.0)
        torch.testing.assert_close(encoder(garbage, mask), encoder.layer(state[0]))


@pytest.mark.parametrize("shared", [False, True])
def test_the_fusion_equals_convolutions_of_width_one(shared):
    torch.manual_seed(5)
    sizes, width = {"text": 8, "audio": 6, "vision": 6}, 9
    fusion = ConvolutionFusion(sizes, 10, width if shared else None)

    def convolution(linear, x):
        layer = nn.Conv1d(linear.in_features, linear.out_features, 1)
        layer.weight.data, layer.bias.data = linear.weight.data[:, :, None], linear.bias.data
        return layer(x[:, :, None])[:, :, 0]

    h = {m: torch.randn(4, size) for m, size in sizes.items()}
    deep = maps = {m: torch.randn(4, width) for m in sizes}
    if not shared:
        deep = {m: convolution(fusion.deep[m], h[m]).relu() for m in sizes}
    shallow = convolution(fusion.shallow, torch.cat(list(h.values()), 1)).relu()
    expected = convolution(fusion.last, torch.cat([*deep.values(), shallow], 1))
    torch.testing.assert_close(fusion(h, maps), expected)


# ------------------------------------------------------------------------------- the three levels


@pytest.mark.parametrize("off", [*((level,) for level in LEVELS), LEVELS])
def test_a_level_of_weight_zero_has_no_layers_and_does_not_run(off, monkeypatch):
    ran = []
    seen = Levels._seen
    monkeypatch.setattr(
        Levels, "_seen", lambda self, level, *args: ran.append(level) or seen(self, level, *args)
    )
    learned = {"learnable_temperature": True}
    model = network(**learned, **{f"{level}_weight": 0.0 for level in off}).double()
    batch = batch_of()
    terms, kept = model.train()(batch).terms, [level for level in LEVELS if level not in off]
    assert ran == kept
    assert list(model.levels.projections) == kept
    assert bool(model.levels.joins) == ("second" in kept)
    assert bool(model.levels.stacks) == ("third" in kept)
    assert bool(list(model.levels.parameters())) == bool(kept)
    assert terms.weights == {"task": 1.0, **{level: 0.05 * (level in kept) for level in LEVELS}}
    for level in off:
        assert terms[level].item() == 0
    total = terms["task"] + 0.05 * sum(terms[level] for level in kept)
    torch.testing.assert_close(terms.total, total, check_dtype=False)


@pytest.mark.parametrize("settings", [{"fusion": "linear"}, {"share_tcf_mcf": False}], ids=str)
def test_what_only_the_images_read_goes_with_them(settings):
    assert list(network(**settings).maps) == list(THREE)
    assert not network(**settings, third_weight=0.0).maps
    assert list(network(third_weight=0.0).maps) == list(THREE)


@pytest.mark.parametrize("settings", [{}, {"fusion": "linear"}, {"share_tcf_mcf": False}], ids=str)
def test_evaluation_runs_nothing_of_the_contrast(settings):
    model, batch = network(**settings).eval(), single(batch_of())
    ran = []
    own = [*model.levels.modules(), *([] if model.fusion.reads_maps else model.maps.values())]
    for module in own:
        module.register_forward_hook(lambda module, *_: ran.append(module))
    output = model(batch)
    assert list(output.terms) == ["task"]
    assert not ran
    torch.testing.assert_close(model.train()(batch).prediction, output.prediction)
    assert ran
    ran.clear()
    for training in (False, True):
        unlabelled = model.train(training)(replace(batch, labels=None))
        assert unlabelled.terms is None
        assert torch.equal(unlabelled.prediction, output.prediction)
    assert not ran


def test_images_without_a_positive_value_are_no_nan():
    model, batch = network(), single(batch_of())
    for name, parameter in model.named_parameters():
        if name.startswith("maps.") and name.endswith("bias"):
            nn.init.constant_(parameter, -1000.0)
        if name.startswith(("levels.stacks.", "levels.projections.third")) and "bias" in name:
            nn.init.zeros_(parameter)
    terms = model.train()(batch).terms
    terms.total.backward()
    # Nothing tells the samples apart: of the n that have all three, each is as likely.
    everything = torch.stack(list(batch.present.values())).all(0).sum().item()
    assert terms["third"].item() == pytest.approx(3 * math.log(everything), rel=1e-6)
    assert all(p.grad.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize("design", CHOICES["pair_design"])
def test_neutral_samples_are_a_class_of_their_own(design):
    """Moving neutral scores to one of the two signs changes what reads the signs."""
    model, batch = network(pair_design=design).double().train(), batch_of(16)
    assert (batch.labels == 0).any()
    totals = [
        sum(model(replace(batch, labels=labels)).terms[level].item() for level in LEVELS)
        for labels in (batch.labels, batch.labels * 3, batch.labels + 0.1, batch.labels - 0.1)
    ]
    assert totals[0] == totals[1]
    assert (len(set(totals)) == 3) == (design != "A")


def test_the_temperature_is_learned_where_asked():
    model, batch = network(learnable_temperature=True).train(), single(batch_of())
    theta = model.levels.loss.temperature.theta
    model(batch).terms.total.backward()
    assert theta.grad != 0
    assert model.levels.loss.temperature().item() == pytest.approx(0.07)
    assert not list(network().levels.loss.parameters())


# ----------------------------------------------------------------------------------- the gradients


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"fusion": "linear", "learnable_temperature": True},
        {"share_tcf_mcf": False},
        {"image_backbone": "tslc"},
    ],
    ids=str,
)
def test_every_parameter_learns(settings):
    model = network(encoded=True, **settings).train()
    model(single(batch_of(encoded=True))).terms.total.backward()
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None, name
            assert parameter.grad.isfinite().all(), name


def test_each_term_reaches_its_own_part():
    model, batch = network(share_tcf_mcf=False).train(), single(batch_of())

    def reached(name):
        model.zero_grad()
        model(batch).terms[name].backward()
        parts = {n for n, p in model.named_parameters() if p.grad is not None and p.grad.any()}
        return {".".join(n.split(".")[: 3 if n.startswith("levels.p") else 2]) for n in parts}

    encoders = {f"encoders.{m}" for m in THREE}
    assert reached("first") == encoders | {"levels.projections.first"}
    assert reached("second") == encoders | {"levels.projections.second", "levels.joins"}
    images = {"levels.projections.third", "levels.stacks", *(f"maps.{m}" for m in THREE)}
    assert reached("third") == encoders | images
    fusion = {"fusion.shallow", "fusion.deep", "fusion.last"}
    hidden = {"hidden.1", "hidden.3", "head.weight", "head.bias"}
    assert reached("task") == encoders | fusion | hidden


@pytest.mark.parametrize("encoded", [False, True])
def test_what_stands_in_an_absent_modality_does_not_matter(encoded):
    batch = lacking(single(batch_of(encoded=encoded)), text=4, audio=4, vision=4)
    results = []
    for fill in (0, 1e6, math.nan):
        model = network(encoded=encoded).train()
        if encoded:
            model.text_encoder.eval()
        output = model(fill_absent(batch, fill))
        output.terms.total.backward()
        gradients = [p.grad for p in model.parameters()]
        results.append([output.prediction, output.fused, *output.terms.values(), *gradients])
    for other in results[1:]:
        assert all(map(torch.equal, results[0], other))
    assert all(x.isfinite().all() for x in results[0])


@pytest.mark.parametrize("name", [None, "vit", "mae", "tslc"])
@pytest.mark.parametrize("training", [False, True])
def test_a_batch_of_one(name, training):
    model = network(image_backbone=name, tcf_size=16).train(training)
    output = model(single(batch_of(1)))
    output.terms.total.backward()
    assert output.prediction.shape == (1,)
    assert output.terms.total.isfinite()
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())
    if training:
        assert all(output.terms[level] == 0 for level in LEVELS)


def test_it_makes_no_tensor_elsewhere_and_reads_no_value():
    """The meta device has no values, and a tensor made on the CPU cannot meet one of its own."""
    batch = single(batch_of())
    batch = replace(batch.to("meta"), index=batch.index)
    for settings in ({"pair_design": "C"}, {"first_weight": 0.0}, {"image_backbone": "mae"}):
        model = network(**{**SMALL, **settings, "image_mask": 0.5}).to("meta").train()
        output = model(batch)
        output.terms.total.backward()
        made = (output.prediction, output.fused, *output.terms.values())
        assert {x.device.type for x in made} == {"meta"}
        assert list(model.eval()(batch).terms) == ["task"]


def test_autocast_keeps_the_losses_in_float32():
    model, batch = network(learnable_temperature=True).train(), single(batch_of())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = model(batch)
    assert {value.dtype for value in output.terms.values()} == {torch.float32}
    output.terms.total.backward()
    assert all(p.grad.isfinite().all() for p in model.parameters())


# -------------------------------------------------------------------------------- images alone


@pytest.mark.parametrize("name", ["vit", "mae", "tslc"])
def test_a_backbone_predicts_from_the_images_alone(name):
    generator = torch.Generator().manual_seed(1)
    model = network(image_backbone=name, tcf_size=32, image_mask=0.5, generator=generator).eval()
    batch = single(batch_of())
    h = {m: model.encoders[m](batch.features[m], batch.masks[m]) for m in THREE}
    c = {m: model.maps[m](h[m] * batch.present[m][:, None]).relu() for m in THREE}
    images = torch.stack([c[m][:, :, None] * c[n][:, None] for m, n in PAIRS], 1)
    output = model(batch)
    fused = torch.tanh(model.hidden[1](model.fusion.backbone(images)))
    torch.testing.assert_close(output.fused, fused)
    torch.testing.assert_close(output.prediction, model.head(fused)[:, 0])
    assert torch.equal(model(batch).prediction, output.prediction)
    assert {n.split(".")[0] for n, _ in model.named_parameters()} == {
        "encoders",
        "maps",
        "fusion",
        "hidden",
        "head",
    }
    drawn = [model.train()(batch).prediction for _ in range(2)]
    assert torch.equal(*drawn) == (name != "mae")
    assert model(batch).terms.weights == {"task": 1.0, **dict.fromkeys(LEVELS, 0.0)}


@pytest.mark.parametrize("modalities", PAIRS)
def test_a_backbone_without_all_three_modalities_is_refused(modalities):
    named = " and ".join(modalities)
    with pytest.raises(
        ValueError, match=f"^image_backbone: expected none with {named} alone, got 'tslc'$"
    ):
        network(modalities, image_backbone="tslc")


# ------------------------------------------------------------------------------------ the tables


def test_the_paper_has_the_size_of_its_images():
    settings = {k: v for k, v in PRESETS["paper"].items() if k in _own_fields()}
    assert settings == {"tcf_size": 512}
    with torch.device("meta"):
        bert = BertModel(BertConfig(), add_pooling_layer=False)
        sizes = {"text": 768, "audio": 5, "vision": 20}
        model = MclMcf(MclMcfConfig(**settings), sizes, bert)
    counted = {
        name: sum(p.numel() for p in part.parameters()) for name, part in model.named_children()
    }
    third = model.levels.projections["third"]
    weights = [p for p in third.parameters() if p.ndim == 2]
    assert [p.shape for p in weights] == [(128, 506 * 506)] * 6
    assert sum(p.numel() for p in weights) == 196_635_648
    assert counted["text_encoder"] == 108_891_648
    # Seven pairs of projections, four joins, three stacks of 4, 6 and 1 channels.
    shallow = 3 * (768 + 64) + 4 * (64 + 64)
    joins = 2 * (832 * 64 + 64) + (128 * 64 + 64) + (896 * 64 + 64)
    stacks = 3 * ((9 * 4 + 4) + (9 * 4 * 6 + 6) + (9 * 6 + 1))
    expected = 196_635_648 + 6 * 128 + 128 * shallow + 14 * 128 + joins + stacks
    assert counted["levels"] == expected
    assert counted["maps"] == 512 * (768 + 64 + 64) + 3 * 512
    assert counted["fusion"] == 896 * 512 + 512 + 2048 * 512 + 512
    assert counted["hidden"] + counted["head"] == 512 * 128 + 128 + 128 * 128 + 128 + 128 + 1


def _own_fields():
    return {field.name for field in fields(MclMcfConfig)}


def test_presets_are_settings_that_there_are():
    training = {field.name for field in fields(TrainingConfig)}
    configs = {}
    for name, preset in PRESETS.items():
        assert set(preset) <= _own_fields() | training
        configs[name] = MclMcfConfig(**{k: v for k, v in preset.items() if k in _own_fields()})
        TrainingConfig(**{k: v for k, v in preset.items() if k in training})
    assert [configs[k].channels for k in ("mosi", "mosei", "sims")] == [
        (4, 6, 1),
        (2, 4, 1),
        (4, 7, 1),
    ]
    assert [configs[k].third_weight for k in ("mosi", "mosei")] == [0.05, 0.02]


def test_every_published_row_has_its_settings():
    text = (resources.files("reference_models") / "published.json").read_text()
    for table, by_set in json.loads(text)["mcl-mcf"]["tables"].items():
        for published in by_set.values():
            assert set(published["rows"]) == set(TABLES[table]), table
    rows = [row for table in TABLES.values() for row in table.values()]
    assert all(set(row) <= _own_fields() for row in rows)


@pytest.mark.parametrize(
    ("table", "row", "missing"),
    [
        ("ablation", "full", []),
        ("ablation", "wo_MCL_F", ["first"]),
        ("ablation", "wo_MCL_S", ["second"]),
        ("ablation", "wo_MCL_T", ["third"]),
        ("ablation", "wo_MCL", LEVELS),
        ("ablation", "wo_MCF", []),
        ("pair_design", "A", []),
        ("pair_design", "B", []),
        ("pair_design", "C", []),
        ("contrast", "wo_contrast", LEVELS),
        *(("multimodal_image", row, LEVELS) for row in TABLES["multimodal_image"]),
    ],
)
def test_every_row_of_the_tables_trains_a_step(table, row, missing):
    side = 48 if table == "multimodal_image" else 8
    model = network(**{**TABLES[table][row], "tcf_size": side}).train()
    batch = single(batch_of(6))
    before = model(batch).terms
    before.total.backward()
    trained = [p for p in model.parameters() if p.grad is not None]
    # A step that lowers the total by a thousandth, where the loss is a plane.
    step = 1e-3 * before.total / sum(p.grad.square().sum() for p in trained)
    with torch.no_grad():
        for parameter in trained:
            parameter -= step * parameter.grad
    after = model(batch).terms
    assert after.total.item() == pytest.approx(0.999 * before.total.item(), rel=2e-4)
    assert [level for level in LEVELS if before.weights[level] == 0] == list(missing)
    # What the row changes reaches the total: no other row than the default's gives its value.
    usual = network(tcf_size=side).train()(batch).terms.total
    assert (usual == before.total) == ((table, row) in {("ablation", "full"), ("pair_design", "A")})


@given(
    st.fixed_dictionaries(
        {
            name: st.sampled_from([None, "tslc"] if name == "image_backbone" else values)
            for name, values in SWITCHES.items()
        }
    ),
    st.booleans(),
    st.sampled_from([1, 2, 5]),
    st.sampled_from([*PAIRS, THREE]),
)
def test_any_combination_runs(settings, encoded, size, modalities):
    if len(modalities) < 3:
        settings = {**settings, "image_backbone": None}
    encoded = encoded and "text" in modalities
    model = network(modalities, encoded=encoded, **settings).train()
    output = model(single(batch_of(size, modalities, encoded=encoded, head=settings["head"])))
    output.terms.total.backward()
    assert output.terms.total.isfinite()
    for name, p in model.named_parameters():
        assert p.grad is not None or not p.requires_grad or size == 1, name
        assert p.grad is None or p.grad.isfinite().all(), name


# ------------------------------------------------------------------------------------ the errors


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        *[
            (name, value, "a whole number from 1")
            for name in ("hidden_size", "fusion_size", "head_size", "contrast_size")
            for value in (0, 2.0, True)
        ],
        ("tcf_size", 6, "a whole number from 7"),
        ("tcf_size", 64.0, "a whole number from 7"),
        *[
            ("channels", value, "three whole numbers from 1")
            for value in ((4, 6), (4, 0, 1), (4, 6, 1.0), 4, [4, 6, 1])
        ],
        *[
            (name, value, "a number from 0, below 1")
            for name in ("head_dropout", "image_mask")
            for value in (1.0, -0.1, "0.5")
        ],
        *[
            (f"{level}_weight", value, "a number from 0")
            for level in LEVELS
            for value in (-1.0, math.nan, None)
        ],
        ("temperature", 0.0, "a number above 0"),
        *[
            (name, 1, "true or false")
            for name in ("learnable_temperature", "symmetric", "share_tcf_mcf")
        ],
        *[(name, "other", f"one of {', '.join(values)}") for name, values in CHOICES.items()],
        ("image_backbone", "vgg", f"none or {', '.join(BACKBONES)}"),
        ("image_layers", 0, "none or a whole number from 1"),
        ("image_heads", 1.0, "none or a whole number from 1"),
    ],
)
def test_the_config_refuses(name, value, expected):
    with pytest.raises(ValueError) as caught:  # noqa: PT011 (the whole message is compared below)
        MclMcfConfig(**{name: value})
    assert str(caught.value) == f"{name}: expected {expected}, got {value!r}"


@pytest.mark.parametrize("temperature", [0.01, 1.0])
def test_a_learned_temperature_starts_within_its_bounds(temperature):
    MclMcfConfig(temperature=temperature)
    with pytest.raises(
        ValueError, match=f"^temperature: expected between 0.01 and 1, to learn, got {temperature}$"
    ):
        MclMcfConfig(temperature=temperature, learnable_temperature=True)


@pytest.mark.parametrize(("name", "side"), [("resnet18", 32), ("mae", 40)])
def test_a_side_that_the_backbone_cannot_read_is_refused(name, side):
    with pytest.raises(ValueError, match=f"^tcf_size: expected .* for {name}, got {side}$"):
        MclMcfConfig(image_backbone=name, tcf_size=side)


def test_one_modality_or_an_encoder_without_text_is_refused():
    with pytest.raises(ValueError, match=r"^sizes: expected two or more .*, got"):
        network(("audio",))
    with pytest.raises(ValueError, match=r"^sizes: expected text, for its encoder, got"):
        network(("audio", "vision"), encoded=True)
