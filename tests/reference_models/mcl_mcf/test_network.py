"""MCL-MCF: the whole network and its losses by loops, every row of its tables, what must not be."""

import math
from dataclasses import fields, replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from transformers import BertConfig, BertModel

from reference_models.mcl_mcf.image_fusion import BACKBONES
from reference_models.mcl_mcf.levels import LEVELS
from reference_models.mcl_mcf.network import MclMcf
from reference_models.mcl_mcf.settings import CHOICES, PRESETS, MclMcfConfig
from tests.reference_models import batches
from tests.reference_models.batches import (
    SIZES,
    THREE,
    cast,
    fill_absent,
    lacking,
    small_text_encoder,
)
from tests.reference_models.mcl_mcf.test_image_fusion import convolved

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


LARGE = ("resnet34", "resnet50")
SWITCHES: dict[str, tuple] = {
    **CHOICES,
    "first_weight": (0.0, 0.05),
    "second_weight": (0.0, 0.05),
    "third_weight": (0.0, 0.05),
    "learnable_temperature": (False, True),
    "symmetric": (False, True),
    "share_tcf_mcf": (False, True),
    # The other ResNets are larger ones of the same kind; test_image_fusion.py has each.
    "image_backbone": tuple(name for name in (None, *BACKBONES) if name not in LARGE),
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


def test_one_modality_or_an_encoder_without_text_is_refused():
    with pytest.raises(ValueError, match=r"^sizes: expected two or more .*, got"):
        network(("audio",))
    with pytest.raises(ValueError, match=r"^sizes: expected text, for its encoder, got"):
        network(("audio", "vision"), encoded=True)


def _own_fields():
    return {field.name for field in fields(MclMcfConfig)}
