"""HyCon: its size, its losses against loops, every row of its tables, and what must not matter."""

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import BertConfig, BertModel, XLNetConfig, XLNetModel

from mmcontrast import (
    PairSelection,
    hybrid_contrast,
)
from reference_models.hycon.network import HyCon
from reference_models.hycon.settings import CHOICES, PRESETS, HyConConfig
from reference_models.hycon.substitutes import SIMILARITIES, SUBSTITUTES
from reference_models.keys import override
from reference_models.layers.pooling import last_step
from reference_models.training_config import TrainingConfig
from tests.reference_models.batches import (
    SIZES,
    THREE,
    batch_of,
    fill_absent,
    lacking,
    longer,
    samples,
    small_text_encoder,
)

SMALL = {"hidden_size": 10, "layers": 1}
STILL = {
    "attention_dropout": 0.0,
    "relu_dropout": 0.0,
    "residual_dropout": 0.0,
    "embed_dropout": 0.0,
}


SWITCHES = {
    **CHOICES,
    **dict.fromkeys(("refine", "log", "select_positives", "select_negatives"), (False, True)),
    **dict.fromkeys(("intra_weight", "inter_weight", "semi_weight"), (0.0, 1.0)),
    "margin": (0.5, 1.0),
    "inter_factor": (1, 2),
}


def network(config=None, modalities=THREE, *, encoded=False, **kwargs):
    torch.manual_seed(5)
    text_encoder = small_text_encoder() if encoded else None
    sizes = {m: SIZES[m] for m in modalities}
    return HyCon(config or HyConConfig(**SMALL), sizes, text_encoder, **kwargs)


def representations(model, batch):
    """(B, d) by modality, for precomputed features."""
    return {
        m: last_step(encoder(batch.features[m], batch.masks[m]), batch.masks[m])
        for m, encoder in model.encoders.items()
    }


# ---------------------------------------------------------------------------------- the network


def test_it_has_the_published_number_of_parameters():
    with torch.device("meta"):
        bert = BertModel(BertConfig(), add_pooling_layer=False)
        model = HyCon(HyConConfig(), {"text": 768, "audio": 74, "vision": 47}, bert)
    assert sum(p.numel() for p in model.parameters()) == 109_209_149


def test_text_features_take_a_whole_encoder_and_a_text_encoder_a_convolution():
    whole = {
        encoded: [network(encoded=encoded).encoders[m].transformer is not None for m in THREE]
        for encoded in (False, True)
    }
    assert whole == {False: [True, True, True], True: [False, True, True]}
    assert network(encoded=True).encoders["text"].convolution.in_channels == 8


@pytest.mark.parametrize("modalities", [("audio", "vision"), ("text", "vision"), THREE])
def test_the_prediction_is_a_linear_layer_on_the_sum(modalities):
    model, batch = network(modalities=modalities).eval(), batch_of(modalities=modalities)
    output = model(batch)
    fused = sum(representations(model, batch).values())
    torch.testing.assert_close(output.fused, fused)
    expected = fused @ model.head.weight[0] + model.head.bias
    torch.testing.assert_close(output.prediction, expected)
    assert output.prediction.shape == (6,)


def test_settings_reach_the_encoders():
    config = HyConConfig(
        hidden_size=12,
        layers=2,
        heads=3,
        kernel_size=5,
        attention_dropout=0.1,
        relu_dropout=0.2,
        residual_dropout=0.25,
        embed_dropout=0.4,
    )
    for encoder in network(config).encoders.values():
        assert encoder.convolution.kernel_size == (5,)
        assert encoder.convolution.out_channels == 12
        assert encoder.transformer.dropout.p == 0.4
        assert len(encoder.transformer.layers) == 2
        for layer in encoder.transformer.layers:
            assert layer.attention.num_heads == 3
            found = (layer.attention.dropout, layer.relu_dropout.p, layer.residual_dropout.p)
            assert found == (0.1, 0.2, 0.25)


def test_token_ids_go_through_the_text_encoder():
    model, batch = network(encoded=True).eval(), batch_of(encoded=True)
    ids, mask = batch.features["text"], batch.masks["text"]
    total = sum(
        last_step(model.encoders[m](batch.features[m], batch.masks[m]), batch.masks[m])
        for m in ("audio", "vision")
    )
    fused = model(batch).fused
    for row in range(6):
        real = ids[row, mask[row]].unsqueeze(0)
        states = model.text_encoder(real).last_hidden_state
        text = model.encoders["text"].convolution(states.mT)[0, :, -1]
        torch.testing.assert_close(fused[row], total[row] + text, rtol=1e-4, atol=1e-5)


def test_the_last_index_is_read_where_it_is_asked_for():
    config = HyConConfig(**SMALL, last="index")
    model, batch = network(config, encoded=True).eval(), batch_of(encoded=True)
    assert not all(mask[:, -1].all() for mask in batch.masks.values())
    states = model.text_encoder(
        batch.features["text"], attention_mask=batch.masks["text"].long()
    ).last_hidden_state
    fused = model.encoders["text"].convolution(states.mT)[:, :, -1]
    for m in ("audio", "vision"):
        fused = fused + model.encoders[m](batch.features[m], batch.masks[m])[:, -1]
    torch.testing.assert_close(model(batch).fused, fused)


@pytest.mark.parametrize("encoded", [False, True])
def test_more_padding_changes_no_prediction(encoded):
    model, batch = network(encoded=encoded).eval(), batch_of(encoded=encoded)
    short, long = model(batch), model(longer(batch, 3))
    torch.testing.assert_close(long.prediction, short.prediction, rtol=0, atol=1e-6)
    torch.testing.assert_close(long.fused, short.fused, rtol=0, atol=1e-6)


@pytest.mark.parametrize("encoded", [False, True])
@pytest.mark.parametrize("training", [False, True])
def test_a_batch_of_one(encoded, training):
    model = network(encoded=encoded).train(training)
    batch = batch_of(1, encoded=encoded)
    output = model(batch)
    output.terms.total.backward()
    assert output.prediction.shape == (1,)
    assert output.terms.total.isfinite()
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())
    if not training:
        many = batch_of(3, encoded=encoded)
        first = samples(many, slice(1))
        torch.testing.assert_close(model(first).prediction, model(many).prediction[:1])


@pytest.mark.parametrize("loss", ["hycon", "hycon_v2", *SUBSTITUTES])
@pytest.mark.parametrize("encoded", [False, True])
def test_what_stands_in_an_absent_modality_does_not_matter(encoded, loss):
    config = HyConConfig(**SMALL, **STILL, supervised_loss=loss)
    batch = lacking(batch_of(8, encoded=encoded), text=[0, 3], audio=[0, 1, 3], vision=[2, 3])
    results = []
    for fill in (0, 1e6, math.nan):
        model = network(config, encoded=encoded, generator=torch.Generator().manual_seed(2)).train()
        if encoded:
            model.text_encoder.eval()
        output = model(fill_absent(batch, fill))
        output.terms.total.backward()
        gradients = [p.grad for p in model.parameters()]
        results.append([output.prediction, output.fused, *output.terms.values(), *gradients])
        # The sample that has nothing is the head's bias.
        assert torch.equal(output.prediction[3], model.head.bias[0])
    for other in results[1:]:
        assert all(map(torch.equal, results[0], other))
    assert all(x.isfinite().all() for x in results[0])


def test_the_text_encoder_always_has_a_token_to_attend_to():
    """Over nothing, a softmax is 0 with some kernels and NaN with others."""
    model, batch = network(encoded=True), lacking(batch_of(encoded=True), text=2)
    seen = []
    model.text_encoder.register_forward_pre_hook(
        lambda _, args, kwargs: seen.append(kwargs["attention_mask"]), with_kwargs=True
    )
    model(batch)
    others = [0, 1, 3, 4, 5]
    assert torch.equal(seen[0][others], batch.masks["text"][others].long())
    assert seen[0][2].any()


def test_an_absent_modality_is_a_zero_vector():
    model, batch = network().eval(), batch_of()
    present = {**batch.present, "audio": torch.arange(6) > 2}
    expected = representations(model, batch)
    expected["audio"][:3] = 0
    fused = model(replace(batch, present=present)).fused
    torch.testing.assert_close(fused, sum(expected.values()))


@pytest.mark.parametrize("encoded", [False, True])
@pytest.mark.parametrize("fusion", CHOICES["fusion"])
def test_every_parameter_learns(fusion, encoded):
    model = network(HyConConfig(**SMALL, fusion=fusion), encoded=encoded).train()
    model(batch_of(16, encoded=encoded)).terms.total.backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name


@pytest.mark.parametrize(
    ("name", "value"), [(name, x) for name in ("fusion", "supervised_loss") for x in CHOICES[name]]
)
def test_it_makes_no_tensor_elsewhere_and_reads_no_value(name, value):
    """The meta device has no values, and a tensor made on the CPU cannot meet one of its own."""
    batch = batch_of()
    batch = replace(batch.to("meta"), index=batch.index)
    model = network(HyConConfig(**SMALL, **{name: value}))
    output = model.to("meta").train()(batch)
    output.terms.total.backward()
    assert {x.device.type for x in (output.prediction, output.fused, output.terms.total)} == {
        "meta"
    }
    assert list(model.eval()(batch).terms) == ["task"]


def test_an_xlnet_reads_text_too():
    torch.manual_seed(5)
    xlnet = XLNetModel(XLNetConfig(vocab_size=20, d_model=8, n_layer=1, n_head=2, d_inner=16))
    model = HyCon(HyConConfig(**SMALL), SIZES, xlnet)
    batch = batch_of(encoded=True)
    batch.present["text"][0] = False
    assert model.encoders["text"].convolution.in_channels == 8
    model.train()(batch).terms.total.backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())
    model.eval()
    ids, mask = (
        torch.cat([x, torch.zeros(6, 2, dtype=x.dtype)], 1)
        for x in (batch.features["text"], batch.masks["text"])
    )
    padded = replace(
        batch, features={**batch.features, "text": ids}, masks={**batch.masks, "text": mask}
    )
    torch.testing.assert_close(model(padded).prediction, model(batch).prediction, rtol=0, atol=1e-6)


def test_the_state_is_weights_alone():
    state = network(generator=torch.Generator()).state_dict()
    assert set(state) == set(dict(network().named_parameters()))


# ---------------------------------------------------------------------------------- the losses


def softmax(x):
    return [math.exp(v) / sum(math.exp(u) for u in x) for v in x]


def dot(x, y):
    return sum(a * b for a, b in zip(x, y, strict=True))


def mean(values):
    return sum(values) / len(values) if values else 0.0


def hybrid_by_loops(features, classes, present, margin):
    """Equations 6 to 12 on softmax features: (intra, inter, semi)."""
    x = {m: [softmax(row) for row in v.tolist()] for m, v in features.items()}
    size = len(classes)
    anchors = [(m, i) for m in x for i in range(size) if present[m][i] and classes[i] != -100]
    results = []
    for inter in (False, True):
        ratios, refinements = [], []
        for m, i in anchors:
            others = [(n, j) for n, j in anchors if j != i and (n != m) == inter]
            positives = [dot(x[m][i], x[n][j]) for n, j in others if classes[j] == classes[i]]
            negatives = [dot(x[m][i], x[n][j]) for n, j in others if classes[j] != classes[i]]
            if positives:
                target = margin if inter else 1.0
                refinements.append(mean([(s - target) ** 2 for s in positives]))
            if positives and negatives:
                ratios.append(-sum(positives) / (sum(positives) + sum(negatives)))
        results.append(mean(ratios) + mean(refinements))
    semi = []
    for m, i in anchors:
        partners = [dot(x[m][i], x[n][j]) for n, j in anchors if j == i and n != m]
        if partners:
            semi.append(mean([(s - margin) ** 2 for s in partners]))
    return [*results, mean(semi)]


def classes_of(labels, neutral="positive"):
    zero = {"positive": 1, "negative": 0, "own": 2, "ignore": -100}[neutral]
    return [zero if v == 0 else int(v > 0) for v in labels.tolist()]


@pytest.mark.parametrize("neutral", CHOICES["neutral"])
@pytest.mark.parametrize("modalities", [("audio", "vision"), THREE])
def test_the_four_terms_are_those_of_the_paper(modalities, neutral):
    config = HyConConfig(
        **SMALL,
        **STILL,
        neutral=neutral,
        margin=0.6,
        intra_weight=0.5,
        inter_weight=2.0,
        semi_weight=3.0,
    )
    model, batch = network(config, modalities).train(), batch_of(9, modalities)
    batch.labels[[0, 4]] = 0.0
    batch.present["audio"][1] = False
    features = representations(model, batch)
    output = model(batch)
    expected = hybrid_by_loops(features, classes_of(batch.labels, neutral), batch.present, 0.6)
    task = mean([abs(p - y) for p, y in zip(output.prediction, batch.labels, strict=True)]).item()
    terms = {name: value.item() for name, value in output.terms.items()}
    names = ("task", "intra", "inter", "semi")
    expected = dict(zip(names, (task, *expected), strict=True))
    assert terms == pytest.approx(expected, rel=1e-4)
    assert list(terms) == list(names)
    assert output.terms.weights == {"task": 1.0, "intra": 0.5, "inter": 2.0, "semi": 3.0}
    weighted = dot(expected.values(), (1.0, 0.5, 2.0, 3.0))
    assert output.terms.total.item() == pytest.approx(weighted, rel=1e-4)


@pytest.mark.parametrize("unselected", CHOICES["unselected"])
@pytest.mark.parametrize("side", ["positives", "negatives"])
@pytest.mark.parametrize("refine_on", CHOICES["refine_on"])
@pytest.mark.parametrize("similarity", CHOICES["similarity"])
def test_settings_reach_the_losses(similarity, refine_on, side, unselected):
    config = HyConConfig(
        **SMALL,
        **STILL,
        supervised_loss="hycon_v2",
        similarity=similarity,
        margin=0.7,
        log=True,
        selection_fraction=0.3,
        selection_gamma=1.5,
        unselected=unselected,
        inter_factor=2,
        refine_on=refine_on,
        **{f"select_{side}": False},
    )
    model, batch = network(config).train(), batch_of(10)
    terms = model(batch).terms
    selection = PairSelection(0.3, 1.5, unselected=unselected, inter_factor=2, **{side: False})
    expected = hybrid_contrast(
        representations(model, batch),
        torch.tensor(classes_of(batch.labels)),
        margin=0.7,
        log=True,
        selection=selection,
        refine_on=refine_on,
        normalize=SIMILARITIES[similarity],
    )
    for name, value in expected.items():
        torch.testing.assert_close(terms[name], value)


def test_similarities_are_what_their_names_say(generator):
    x = torch.randn(3, 7, generator=generator).double()
    cosine = torch.nn.functional.cosine_similarity(x[:, None], x[None], dim=-1)
    smooth = torch.log1p(x.exp())
    expected = {
        "softmax": x.softmax(1) @ x.softmax(1).T,
        "cosine": cosine,
        "cosine01": (1 + cosine) / 2,
        "softplus_l2": torch.nn.functional.cosine_similarity(smooth[:, None], smooth, dim=-1),
        "dot": x @ x.T,
    }
    assert set(expected) == set(SIMILARITIES)
    for name, row_map in SIMILARITIES.items():
        rows = x if row_map is None else row_map(x)
        torch.testing.assert_close(rows @ rows.T, expected[name])


@pytest.mark.parametrize("loss", ["hycon", "n_pair"])
def test_seven_classes_are_the_rounded_scores(loss):
    """Scores of one sign that round apart are negatives then, and positives else."""
    batch = replace(batch_of(6), labels=torch.tensor([0.7, 1.2, 2.4, 2.6, 2.9, 0.8]))
    for classes, apart in (("binary", False), ("seven", True)):
        config = HyConConfig(**SMALL, **STILL, supervised_loss=loss, refine=False, classes=classes)
        torch.manual_seed(0)
        terms = network(config).train()(batch).terms
        assert (terms["intra"] != 0) == apart


def test_iemocap_contrasts_samples_whose_emotions_agree_in_every_column():
    config = override(HyConConfig(**SMALL, **STILL), TrainingConfig(), PRESETS["iemocap"])[0]
    model, batch = network(config).train(), batch_of(8, head="iemocap")
    batch.labels[2:5] = batch.labels[0]
    batch.labels[5] = batch.labels[0]
    batch.labels[5, 3] = 1 - batch.labels[0, 3]
    output = model(batch)
    assert output.prediction.shape == (8, 4, 2)
    entropies = []
    for logits, labels in zip(output.prediction.tolist(), batch.labels.tolist(), strict=True):
        for pair, label in zip(logits, labels, strict=True):
            entropies.append(-math.log(softmax(pair)[label]))
    classes = [tuple(row) for row in batch.labels.tolist()]
    features = representations(model, batch)
    expected = [mean(entropies), *hybrid_by_loops(features, classes, batch.present, 0.8)]
    assert [v.item() for v in output.terms.values()] == pytest.approx(expected, rel=1e-4)
    logits = model.head(output.fused)
    assert torch.equal(output.prediction[:, 1, 0], logits[:, 2])


@pytest.mark.parametrize("config", [{}, {"supervised_loss": "triplet"}, {"head": "iemocap"}])
def test_evaluation_has_the_task_alone(config):
    config = HyConConfig(**SMALL, **config)
    batch = batch_of(head=config.head)
    model = network(config).eval()
    terms = model(batch).terms
    assert list(terms) == ["task"]
    assert terms.weights == {"task": 1.0}
    assert torch.equal(terms.total, terms["task"])


@pytest.mark.parametrize("loss", CHOICES["supervised_loss"])
@pytest.mark.parametrize("name", ["intra", "inter", "semi"])
def test_a_term_of_weight_zero_is_zero(name, loss):
    config = HyConConfig(**SMALL, supervised_loss=loss, **{f"{name}_weight": 0.0})
    terms = network(config).train()(batch_of(12)).terms
    assert {term for term, value in terms.items() if value.item() == 0} == {name}


@given(
    st.fixed_dictionaries({name: st.sampled_from(values) for name, values in CHOICES.items()}),
    st.fixed_dictionaries(
        {name: st.booleans() for name in ("refine", "log", "select_positives", "select_negatives")}
    ),
    st.booleans(),
    st.sampled_from([1, 2, 5]),
)
def test_any_combination_runs(choices, switches, encoded, size):
    config = HyConConfig(**{**SMALL, "hidden_size": 5, **choices, **switches})
    model = network(config, encoded=encoded).train()
    batch = batch_of(size, encoded=encoded, head=config.head)
    output = model(batch)
    output.terms.total.backward()
    assert output.terms.total.isfinite()
    for p in model.parameters():
        assert p.grad is None or p.grad.isfinite().all()


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"text": 6}, r"sizes: expected two or more of .*, got \('text',\)"),
        ({}, r"sizes: expected two or more of .*, got \(\)"),
        ({"text": 6, "smell": 2}, r"sizes: expected .*'vision'\), got \('text', 'smell'\)"),
    ],
)
def test_other_modalities_are_refused(sizes, message):
    with pytest.raises(ValueError, match=message):
        HyCon(HyConConfig(), sizes)
