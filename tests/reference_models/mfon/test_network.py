"""MFON: its equations against loops, its teachers, its prompts, every row of its tables."""

import math
from dataclasses import replace
from functools import partial

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import BertConfig, BertModel

from reference_models.mfon import network as mfon
from reference_models.mfon.network import MFON
from reference_models.mfon.settings import CHOICES, MFONConfig
from reference_models.mfon.unimodal import Unimodal
from reference_models.training_config import TrainingConfig
from tests.reference_models import batches
from tests.reference_models.batches import (
    SIZES,
    THREE,
    cast,
    fill_absent,
    lacking,
    longer,
    real,
    samples,
    small_text_encoder,
)

SMALL = {
    "hidden_size": 16,
    "heads": 2,
    "audio_layers": 1,
    "vision_layers": 1,
    "text_layers": 1,
    "teacher_audio_layers": 1,
    "teacher_vision_layers": 1,
    "prompt_steps": 20,
    "dropout": 0.0,
    "text_dropout": 0.0,
    "teacher_audio_dropout": 0.0,
    "teacher_vision_dropout": 0.0,
}


SWITCHES = {
    "mlp_layers": (1, 2),
    "query": ("text", "audio", "vision"),
    "pool": ("first", "mean", "last"),
    "prompt": (True, False),
    "prompt_init": ("uniform", "normal"),
    "prompt_shape": ("steps", "one"),
    "distill_weight": (0.5, 0.0),
    "contrast_weight": (0.5, 0.0),
    "distill_direction": ("teacher_student", "student_teacher"),
    "distill_temperature": (1.0, 2.0),
    "contrast_temperature": (1.0, 0.1),
    "symmetric": (False, True),
    "teacher_label": ("joint", "own"),
}


DROPOUTS = ("dropout", "text_dropout", "teacher_audio_dropout", "teacher_vision_dropout")


def network(modalities=THREE, *, encoded=False, **overrides):
    torch.manual_seed(5)
    text_encoder = small_text_encoder() if encoded else None
    config = MFONConfig(**{**SMALL, **overrides})
    return MFON(config, {m: SIZES[m] for m in modalities}, text_encoder)


batch_of = partial(batches.batch_of, own=True)


def with_gaps(batch):
    """A batch of six: who lacks what. The fourth has nothing at all."""
    return lacking(batch, text=[1, 3], audio=[0, 3], vision=[2, 3])


def linears(module):
    return [part for part in module.modules() if isinstance(part, torch.nn.Linear)]


def apply_mlp(module, x):
    """A chain of linear layers with the exact GELU between them, in float64."""
    *inner, last = [(part.weight.double(), part.bias.double()) for part in linears(module)]
    x = x.double()
    for weight, bias in inner:
        x = x @ weight.T + bias
        x = x * (1 + torch.erf(x / math.sqrt(2))) / 2
    return x @ last[0].T + last[1]


def pooled(x, how):
    return {"first": x[:, 0], "last": x[:, -1], "mean": x.mean(1)}[how]


def represented(model, batch, row):
    """Eq 1 to 5 for one sample that has everything, with no padding anywhere."""
    config = model.config
    frames = {}
    for m in model.projections:
        frames[m], mask = real(batch, m, row)
        frames[m] = apply_mlp(model.projections[m], frames[m])
        if m == config.query:
            asked = mask
    features = {config.query: pooled(frames[config.query], config.pool)}
    for m, x in frames.items():
        if m != config.query:
            if config.prompt:
                prompt = model.prompts[m].double()
                for step in range(x.shape[1]):
                    p = prompt[0 if config.prompt_shape == "one" else step]
                    x = x.index_add(1, torch.tensor([step]), p.expand(1, 1, -1))
            everything = torch.ones(x.shape[:2], dtype=torch.bool)
            z = model.attentions[m](frames[config.query], asked, x, everything)
            features[m] = pooled(z, config.pool)
    return features


# ------------------------------------------------------------------------------------ the network


@pytest.mark.parametrize(
    "overrides",
    [
        {},
        {"pool": "mean", "mlp_layers": 2},
        {"pool": "last", "prompt": False, "audio_layers": 2},
        {"prompt_shape": "one", "query": "audio"},
        {"query": "vision", "pool": "mean", "prompt_init": "normal"},
    ],
)
@pytest.mark.parametrize("modalities", [("text", "audio", "vision"), ("vision", "text", "audio")])
def test_the_prediction_is_the_papers(modalities, overrides):
    model = network(modalities, **overrides).double().eval()
    batch = batch_of(modalities=modalities)
    output = model(cast(batch, torch.float64))
    for row in range(6):
        features = represented(model, batch, row)
        fused = torch.cat([features[m] for m in ("text", "vision", "audio")], 1)
        torch.testing.assert_close(output.fused[row], fused[0])
        expected = apply_mlp(model.predictor, fused)[0, 0]
        torch.testing.assert_close(output.prediction[row], expected)
    assert output.prediction.shape == (6,)


def test_the_sizes_are_the_papers():
    with torch.device("meta"):
        bert = BertModel(BertConfig(), add_pooling_layer=False)
        model = MFON(MFONConfig(), {"text": 768, "audio": 5, "vision": 20}, bert)
    shapes = [tuple(layer.weight.shape) for layer in linears(model.predictor)]
    assert shapes == [(768, 2304), (384, 768), (96, 384), (1, 96)]
    for name, layers, alone, size in (("audio", 5, 3, 5), ("vision", 2, 4, 20)):
        assert len(model.attentions[name].layers) == layers
        teacher = model.teachers[name]
        assert len(teacher.attention.layers) == alone
        shapes = [tuple(layer.weight.shape) for layer in linears(teacher.predictor)]
        assert shapes == [(384, 768), (96, 384), (1, 96)]
        for projection in (model.projections[name], teacher.projection):
            assert [tuple(x.weight.shape) for x in linears(projection)] == [(768, size)]
        assert model.prompts[name].shape == (512, 768)
        for layer in (*model.attentions[name].layers, *teacher.attention.layers):
            assert layer.linear1.weight.shape == (768, 768)
            assert layer.attention.num_heads == 8
    assert set(model.attentions) == set(model.teachers) == set(model.prompts) == {"audio", "vision"}


def test_dropouts_stand_where_they_are_said_to():
    model = network(
        dropout=0.1, text_dropout=0.2, teacher_audio_dropout=0.3, teacher_vision_dropout=0.4
    )

    def found(module):
        inner = {part.p for part in module.modules() if isinstance(part, torch.nn.Dropout)}
        return inner | {x.attention.dropout for x in getattr(module, "layers", ())}

    assert {m: found(x) for m, x in model.projections.items()} == {
        "text": {0.2},
        "audio": set(),
        "vision": set(),
    }
    assert found(model.predictor) == set()
    for name, rate in (("audio", 0.3), ("vision", 0.4)):
        assert found(model.attentions[name]) == {0.1}
        assert found(model.teachers[name].attention) == {rate}
        assert found(model.teachers[name].projection) == set()


@pytest.mark.parametrize("encoded", [False, True])
@pytest.mark.parametrize("query", THREE)
def test_more_padding_changes_nothing(query, encoded):
    model = network(query=query, encoded=encoded)
    if encoded:
        model.text_encoder.eval()
    batch = batch_of(encoded=encoded)
    short, long = model(batch), model(longer(batch, 3))
    torch.testing.assert_close(long.fused, short.fused, rtol=0, atol=1e-5)
    for name, value in long.terms.items():
        torch.testing.assert_close(value, short.terms[name], rtol=0, atol=1e-5)
    long.terms.total.backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize("encoded", [False, True])
@pytest.mark.parametrize("query", THREE)
def test_what_stands_in_an_absent_modality_does_not_matter(query, encoded):
    batch = with_gaps(batch_of(encoded=encoded))
    results = []
    for fill in (0, 1e6, math.nan):
        model = network(query=query, encoded=encoded)
        if encoded:
            model.text_encoder.eval()
        output = model(fill_absent(batch, fill))
        output.terms.total.backward()
        gradients = [p.grad for p in model.parameters() if p.grad is not None]
        results.append([output.prediction, output.fused, *output.terms.values(), *gradients])
        assert not output.fused[3].any()
    for other in results[1:]:
        assert all(map(torch.equal, results[0], other))
    assert all(x.isfinite().all() for x in results[0])


def test_an_absent_modality_is_a_zero_vector():
    model = network().double().eval()
    batch = batch_of()
    fused = model(with_gaps(cast(batch, torch.float64))).fused.unflatten(1, (3, 16))
    there = fused.any(2).tolist()
    # Text, vision, audio; without text nobody asks the others anything.
    assert there == [
        [True, True, False],
        [False, False, False],
        [True, False, True],
        [False, False, False],
        [True, True, True],
        [True, True, True],
    ]
    expected = represented(model, batch, 0)
    torch.testing.assert_close(fused[0, :2], torch.cat([expected["text"], expected["vision"]]))


@pytest.mark.parametrize("encoded", [False, True])
@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("modalities", [THREE, ("text", "vision"), ("text",)], ids=len)
def test_a_batch_of_one_and_of_one_step(modalities, training, encoded):
    model = network(modalities, encoded=encoded).train(training)
    batch = batch_of(1, modalities, encoded=encoded, steps=dict.fromkeys(THREE, 1))
    output = model(batch)
    output.terms.total.backward()
    assert output.prediction.shape == (1,)
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())
    if training:
        assert output.terms["contrast"].item() == 0


def test_a_sample_is_predicted_alone_as_in_a_batch():
    model, batch = network().eval(), batch_of()
    one = samples(batch, slice(1))
    torch.testing.assert_close(model(one).prediction, model(batch).prediction[:1])


@pytest.mark.parametrize("query", THREE)
def test_it_makes_no_tensor_elsewhere_and_reads_no_value(query):
    """The meta device has no values, and a tensor made on the CPU cannot meet one of its own."""
    batch = batch_of()
    model = network(query=query, symmetric=True).to("meta")
    output = model(batch.to("meta"))
    output.terms.total.backward()
    assert {x.device.type for x in (output.prediction, output.fused, output.terms.total)} == {
        "meta"
    }


# ------------------------------------------------------------------------------------ the prompts


def test_prompts_do_not_touch_padding():
    model, batch = network(), batch_of(steps={"text": 5, "audio": 7, "vision": 6})
    model(batch).terms.total.backward()
    for m, prompt in model.prompts.items():
        longest = int(batch.masks[m].sum(1).max())
        assert longest < len(prompt)
        assert prompt.grad[:longest].any(1).all()
        assert not prompt.grad[longest:].any()
    model.eval()
    before = model(batch).prediction
    with torch.no_grad():
        model.prompts["audio"][3] += torch.arange(16)
    changed = model(batch).prediction != before
    assert torch.equal(changed, batch.masks["audio"].sum(1) > 3)
    assert changed.any()
    assert not changed.all()


@pytest.mark.parametrize(("shape", "steps"), [("steps", 400), ("one", 1)])
def test_prompts_begin_as_they_are_said_to(shape, steps):
    drawn = {}
    for kind in CHOICES["prompt_init"]:
        model = network(prompt_init=kind, prompt_shape=shape, prompt_steps=400, hidden_size=64)
        drawn[kind] = model.prompts["audio"]
        assert drawn[kind].shape == (steps, 64)
        assert not torch.equal(drawn[kind], model.prompts["vision"])
    count = drawn["normal"].numel()
    uniform, normal = drawn["uniform"].detach(), drawn["normal"].detach()
    assert 0 <= uniform.min() < uniform.max() < 1
    for x, mean, deviation in ((uniform, 0.5, 12**-0.5), (normal, 0, 0.02)):
        assert x.mean().item() == pytest.approx(mean, abs=5 * deviation / count**0.5)
        assert x.std().item() == pytest.approx(deviation, rel=5 / count**0.5)


def test_one_prompt_serves_any_length_and_many_do_not():
    batch = batch_of(steps={"text": 5, "audio": 9, "vision": 3})
    network(prompt_steps=9)(batch)
    network(prompt_steps=2, prompt_shape="one")(batch)
    network(prompt_steps=2, prompt=False)(batch)
    with pytest.raises(ValueError, match=r"prompt_steps: expected 9 or more, .* audio, got 8"):
        network(prompt_steps=8)(batch)


def test_without_prompts_there_is_no_parameter_of_theirs():
    with_them, without = network(), network(prompt=False)
    assert not any("prompt" in name for name, _ in without.named_parameters())
    parameters = [sum(p.numel() for p in model.parameters()) for model in (with_them, without)]
    assert parameters[0] - parameters[1] == 2 * 20 * 16


# ------------------------------------------------------------------------------------- the losses


def rows_of(tensor):
    return [[float(v) for v in row] for row in tensor.detach()]


def log_shares(row, temperature):
    row = [v / temperature for v in row]
    top = max(row)
    total = top + math.log(math.fsum(math.exp(v - top) for v in row))
    return [v - total for v in row]


def kl_by_loops(student, teacher, kept, temperature, direction):
    """Eq 6 on rows, as float64 loops; the mean over the rows that are kept."""
    values = []
    for s, t, keep in zip(rows_of(student), rows_of(teacher), kept.tolist(), strict=True):
        if keep:
            q, p = log_shares(s, temperature), log_shares(t, temperature)
            if direction == "student_teacher":
                p, q = q, p
            terms = [math.exp(a) * (a - b) for a, b in zip(p, q, strict=True)]
            values.append(temperature**2 * math.fsum(terms))
    return math.fsum(values) / len(values)


def contrast_by_loops(attended, query, kept, temperature):
    """Eq 7 and 8 as float64 loops: each attended row picks its query among all that are kept."""
    kept = [i for i, keep in enumerate(kept.tolist()) if keep]
    z, f = rows_of(attended), rows_of(query)

    def cosine(x, y):
        norms = math.hypot(*x) * math.hypot(*y)
        return math.fsum(a * b for a, b in zip(x, y, strict=True)) / norms

    values = []
    for i in kept:
        scores = [cosine(z[i], f[j]) / temperature for j in kept]
        values.append(-log_shares(scores, 1.0)[kept.index(i)])
    return math.fsum(values) / len(values)


@pytest.mark.parametrize("gaps", [False, True])
@pytest.mark.parametrize(
    "overrides",
    [
        {},
        {"distill_direction": "student_teacher", "distill_temperature": 0.5, "pool": "mean"},
        {"contrast_temperature": 0.1, "symmetric": True, "query": "vision"},
        {"distill_temperature": 2.0, "query": "audio", "pool": "last"},
    ],
)
def test_the_terms_are_the_papers(overrides, gaps):
    model, batch = network(**overrides), batch_of()
    batch = with_gaps(batch) if gaps else batch
    with torch.no_grad():  # features that a softmax and a cosine do not flatten
        for teacher in model.teachers.values():
            last = teacher.projection[0] if teacher.attention is None else teacher.attention.norm
            last.weight *= 2
            last.bias += torch.randn(16)
    output, config = model(batch), model.config
    parts = dict(zip(("text", "vision", "audio"), output.fused.split(16, 1), strict=True))
    task = sum(
        (p - y) ** 2 for p, y in zip(output.prediction.tolist(), batch.labels.tolist(), strict=True)
    )
    assert output.terms["task"].item() == pytest.approx(task / 6, rel=1e-5)
    distill = contrast = 0.0
    for m in THREE:
        if m == config.query:
            continue
        kept = batch.present[m] & batch.present[config.query]
        taught = taught_by_hand(model, batch, m)
        distill += kl_by_loops(
            parts[m], taught, kept, config.distill_temperature, config.distill_direction
        )
        ways = [(parts[m], parts[config.query])]
        ways += [ways[0][::-1]] if config.symmetric else []
        for way in ways:
            contrast += contrast_by_loops(*way, kept, config.contrast_temperature)
    assert output.terms["distill"].item() == pytest.approx(distill, rel=1e-4)
    assert output.terms["contrast"].item() == pytest.approx(contrast, rel=1e-4)
    assert output.terms.weights == {"task": 1.0, "distill": 0.5, "contrast": 0.5}
    assert output.terms["distill"] > 0.01


def taught_by_hand(model, batch, m):
    """What a teacher says of precomputed features, sample by sample, with no padding."""
    teacher, out = model.teachers[m], []
    for row in range(len(batch)):
        x, mask = real(batch, m, row)
        x = apply_mlp(teacher.projection, x).float()
        x = x if m == "text" else teacher.attention(x, mask)
        out.append(pooled(x, model.config.pool)[0])
    return torch.stack(out)


@pytest.mark.parametrize("term", ["distill", "contrast"])
def test_a_pair_that_nobody_has_is_worth_nothing(term):
    model, batch = network(), batch_of()
    absent = model(lacking(batch, audio=list(range(6)))).terms[term]
    two = network(("text", "vision"))
    weights = {k: v for k, v in model.state_dict().items() if k in two.state_dict()}
    del weights["predictor.0.weight"]
    two.load_state_dict(weights, strict=False)
    torch.testing.assert_close(absent, two(batch_of()).terms[term])


def test_a_perfect_student_of_a_matched_query_leaves_the_least_loss():
    """With cosines at temperature 1 the contrast cannot fall below log(1 + (B - 1) e^-2)."""
    for seed in range(5):
        value = network()(batch_of(seed=seed)).terms["contrast"].item()
        assert value >= 2 * math.log(1 + 5 * math.exp(-2))


@pytest.mark.parametrize("head", CHOICES["head"])
def test_heads(head):
    model, batch = network(head=head), batch_of(head=head)
    output = model(batch)
    shape = {"regression": (6,), "iemocap": (6, 4, 2), "humor": (6, 2)}[head]
    assert output.prediction.shape == shape
    output.terms.total.backward()
    for stage in model.stages():
        taught = stage.network(batch)
        assert taught.prediction.shape == shape
        assert taught.terms.total.isfinite()
    wrong = batch_of(head="regression" if head == "iemocap" else "iemocap")
    with pytest.raises(ValueError, match="labels: expected shape"):
        model(wrong)


def test_in_evaluation_and_without_labels_no_loss_is_computed(monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError

    monkeypatch.setattr(mfon, "kl_distill", refuse)
    monkeypatch.setattr(mfon, "anchored_info_nce", refuse)
    monkeypatch.setattr(Unimodal, "encode", refuse)
    model, batch = network(), batch_of()
    assert list(model.eval()(batch).terms) == ["task"]
    unlabelled = replace(batch, labels=None)
    assert model.train()(unlabelled).terms is None
    torch.testing.assert_close(model(unlabelled).fused, model.eval()(batch).fused)


@pytest.mark.parametrize(
    ("field", "function", "term"),
    [
        ("distill_weight", "kl_distill", "distill"),
        ("contrast_weight", "anchored_info_nce", "contrast"),
    ],
)
def test_what_is_switched_off_does_not_run(field, function, term, monkeypatch):
    monkeypatch.setattr(mfon, function, None)
    output = network(**{field: 0.0})(batch_of())
    assert list(output.terms) == ["task", "distill", "contrast"]
    assert output.terms[term].item() == 0
    assert output.terms.weights[term] == 0
    output.terms.total.backward()


# ----------------------------------------------------------------------------------- the teachers


def state_of(module):
    return {name: x.clone() for name, x in module.state_dict().items()}


def test_without_distillation_there_are_no_teachers():
    model = network(distill_weight=0.0)
    assert model.stages() == []
    assert len(model.teachers) == 0
    assert not any("teacher" in name for name in model.state_dict())
    assert network(("text",)).stages() == []


def test_stages_say_how_a_teacher_is_trained():
    rates = {"teacher_audio_rate": 0.1, "teacher_vision_rate": 0.2, "teacher_text_rate": 0.3}
    for query in THREE:
        model = network(query=query, teacher_epochs=7, **rates)
        stages = {stage.name: stage for stage in model.stages()}
        assert set(stages) == {f"teacher_{m}" for m in THREE if m != query}
        for name, stage in stages.items():
            assert stage.network is model.teachers[name.removeprefix("teacher_")]
            assert stage.training == {"epochs": 7, "head_learning_rate": rates[f"{name}_rate"]}
            replace(TrainingConfig(), **stage.training)


@pytest.mark.parametrize("label", CHOICES["teacher_label"])
@pytest.mark.parametrize("encoded", [False, True])
@pytest.mark.parametrize("query", THREE)
def test_a_stage_learns_and_is_frozen_afterwards(query, encoded, label):
    model = network(query=query, encoded=encoded, teacher_label=label)
    batch = batch_of(encoded=encoded)
    outside = {k: v for k, v in state_of(model).items() if not k.startswith("teachers")}
    for stage in model.stages():
        stage.network.eval()  # a scratch BERT has dropout
        m = stage.name.removeprefix("teacher_")
        optimizer = torch.optim.Adam(stage.network.parameters(), 3e-3)
        target = batch.labels if label == "joint" else batch.unimodal_labels[m]
        losses = []
        for _ in range(6):
            output = stage.network(batch)
            assert list(output.terms) == ["task"]
            by_hand = (output.prediction - target).square().mean()
            torch.testing.assert_close(output.terms.total, by_hand)
            optimizer.zero_grad()
            output.terms.total.backward()
            assert all(p.grad is not None for p in stage.network.parameters())
            optimizer.step()
            losses.append(output.terms.total.item())
        assert losses[-1] < losses[0]
        stage.network.requires_grad_(False).eval()
    after = state_of(model)
    assert all(torch.equal(x, after[name]) for name, x in outside.items())
    # The model's own training goes on from here.
    model.train()
    model(batch).terms.total.backward()
    for name, p in model.named_parameters():
        assert (p.grad is None or not p.requires_grad) == name.startswith("teachers")


def test_the_main_loss_leaves_teachers_as_they_are():
    model, batch = network(), batch_of()
    before = state_of(model.teachers)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    for _ in range(2):
        model.train()
        optimizer.zero_grad()
        model(batch).terms.total.backward()
        optimizer.step()
    assert all(p.grad is None for p in model.teachers.parameters())
    after = model.teachers.state_dict()
    assert all(torch.equal(x, after[name]) for name, x in before.items())


def test_teachers_stay_in_evaluation():
    model = network(teacher_audio_dropout=0.5, teacher_vision_dropout=0.5)
    batch = batch_of()
    for mode in (None, True, False, True):
        if mode is not None:
            assert model.train(mode) is model
            assert model.training == model.attentions.training == mode
        assert not any(part.training for part in model.teachers.modules())
    values = {model(batch).terms["distill"].item() for _ in range(3)}
    assert len(values) == 1
    # One that is trained alone is in training mode all the same.
    [stage, _] = model.stages()
    assert stage.network.train().attention.training


def test_no_graph_is_kept_of_what_a_teacher_says(monkeypatch):
    model, seen = network(query="audio", encoded=True), []

    def listen(student, teacher, **kwargs):
        seen.append((student.requires_grad, teacher.requires_grad))
        return student.sum()

    monkeypatch.setattr(mfon, "kl_distill", listen)
    model(batch_of(encoded=True))
    assert seen == [(True, False), (True, False)]


def test_what_a_teacher_says_is_followed():
    """Its prediction is not, and neither is the text's own branch distilled."""
    model, batch = network(contrast_weight=0.0), batch_of()
    before = model(batch).terms["distill"]
    before.backward()
    reached = {name for name, p in model.named_parameters() if p.grad is not None and p.grad.any()}
    for part in ("projections.audio", "projections.vision", "attentions.audio", "prompts.vision"):
        assert any(name.startswith(part) for name in reached)
    assert not any(name.startswith(("predictor", "teachers")) for name in reached)
    with torch.no_grad():
        for p in model.teachers["audio"].predictor.parameters():
            p += 1
    assert torch.equal(model(batch).terms["distill"], before)
    with torch.no_grad():
        model.teachers["audio"].attention.norm.bias[0] += 1
    assert model(batch).terms["distill"] != before


def test_the_text_teacher_has_a_text_encoder_of_its_own():
    model, batch = network(query="audio", encoded=True), batch_of(encoded=True)
    teacher = model.teachers["text"]
    ours, theirs = (dict(m.named_parameters()) for m in (model.text_encoder, teacher.text_encoder))
    assert set(ours) == set(theirs)
    assert all(torch.equal(p, theirs[name]) and p is not theirs[name] for name, p in ours.items())
    assert teacher.attention is None
    assert teacher.text_encoder.training is False
    taught = teacher.encode(batch)
    with torch.no_grad():
        for p in model.text_encoder.parameters():
            p += 0.1
    assert torch.equal(teacher.encode(batch), taught)


@given(
    st.fixed_dictionaries({name: st.sampled_from(values) for name, values in SWITCHES.items()}),
    st.booleans(),
    st.sampled_from([1, 2, 5]),
    st.sampled_from([THREE, THREE, ("audio",), ("text", "audio"), ("vision", "text")]),
)
def test_any_combination_runs(switches, encoded, size, modalities):
    if len(modalities) == 2 and switches["query"] not in modalities:
        modalities = THREE
    encoded = encoded and "text" in modalities
    model = network(modalities, encoded=encoded, **switches)
    batch = batch_of(size, modalities, encoded=encoded)
    for network_of in (model, *(stage.network for stage in model.stages())):
        output = network_of(batch)
        output.terms.total.backward()
        assert output.terms.total.isfinite()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize(
    ("sizes", "query", "message"),
    [
        ({}, "text", r"sizes: expected one or more of .*, got \(\)"),
        ({"text": 6, "smell": 2}, "text", r"sizes: expected .* got \('text', 'smell'\)"),
        ({"audio": 5, "vision": 4}, "text", r"sizes: expected 'text', the query, among them, got"),
        ({"text": 6, "vision": 4}, "audio", r"expected 'audio', the query, .*\('text', 'vision'\)"),
    ],
)
def test_other_modalities_are_refused(sizes, query, message):
    with pytest.raises(ValueError, match=message):
        MFON(MFONConfig(**SMALL, query=query), sizes)


def test_a_text_encoder_without_text_is_refused():
    with pytest.raises(ValueError, match="sizes: expected text, for its encoder, got"):
        network(("audio", "vision"), encoded=True, query="audio")
    with pytest.raises(ValueError, match="sizes: expected text, for its encoder, got"):
        network(("audio",), encoded=True)


def test_a_batch_that_lacks_a_modality_is_refused():
    with pytest.raises(ValueError, match=r"batch: expected modalities \('text', 'audio', 'vision'"):
        network()(batch_of(modalities=("text", "vision")))
    with pytest.raises(ValueError, match=r"batch: expected modalities \('audio',\), got"):
        network(("audio",))(batch_of(modalities=("text",)))
