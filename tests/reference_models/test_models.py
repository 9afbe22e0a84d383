"""Laws that every reference model keeps, whatever is switched on or off in its config."""

import sys
from dataclasses import fields, replace
from functools import cache
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import mmcontrast as mm
from reference_models.registry import MODELS
from tests.examples import as_many
from tests.reference_models.batches import (
    SIZES,
    THREE,
    batch_of,
    cast,
    fill_absent,
    lacking,
    longer,
    samples,
    small_text_encoder,
    without_dropout,
)
from tests.reference_models.cormult import test_network as test_cormult
from tests.reference_models.hycon import test_network as test_hycon
from tests.reference_models.mcl_mcf import test_network as test_mcl_mcf
from tests.reference_models.mfon import test_network as test_mfon
from tests.reference_models.tecafn import test_network as test_tecafn
from tests.reference_models.text_only import test_network as test_text_only

TESTS = {
    "hycon": test_hycon,
    "hycon-v2": test_hycon,
    "tecafn": test_tecafn,
    "mcl-mcf": test_mcl_mcf,
    "mfon": test_mfon,
    "cormult": test_cormult,
    "text-only": test_text_only,
}
FILE = "tests/reference_models/test_models.py"
EXPORTS = {
    "SMALL": "the settings of a small network",
    "SWITCHES": "setting -> the values to try",
    "CHOICES": "choices of settings; CHOICES['head'] lists the heads",
}
OF_THREE = [name for name, entry in MODELS.items() if entry.reads == THREE]
# All but the losses: what may run in evaluation.
HARMLESS = {"LossTerms", "IGNORE", "sentiment_classes", "l2_normalize", "modality_correlation"}


def missing(name):
    """What the tests of a model lack, in words; "" if nothing."""
    folder = MODELS[name].build.__module__.split(".")[-2]
    if name not in TESTS:
        return (
            f"add {name!r} to TESTS in {FILE}, with the module"
            f" tests.reference_models.{folder}.test_network"
        )
    absent = [f"{key} ({words})" for key, words in EXPORTS.items() if not hasattr(TESTS[name], key)]
    if not absent and "head" not in TESTS[name].CHOICES:
        absent = ["CHOICES['head'] (the heads of the network)"]
    return f"add to {TESTS[name].__name__}: {'; '.join(absent)}" if absent else ""


def exports_of(name):
    if words := missing(name):
        pytest.fail(words, pytrace=False)
    return TESTS[name]


def read(name, key):
    """One of the exports, for the parameters of a test; empty where it is missing."""
    return getattr(TESTS[name], key, {})


@pytest.mark.parametrize("name", MODELS)
def test_every_model_is_tested_here(name):
    exports_of(name)


def test_what_is_missing_is_said(monkeypatch):
    monkeypatch.delitem(TESTS, "mfon")
    assert missing("mfon").startswith(f"add 'mfon' to TESTS in {FILE}, with the module tests.")
    monkeypatch.setitem(TESTS, "mfon", SimpleNamespace(__name__="there", SMALL={}, CHOICES={}))
    assert missing("mfon") == "add to there: SWITCHES (setting -> the values to try)"
    monkeypatch.setattr(TESTS["mfon"], "SWITCHES", {}, raising=False)
    assert missing("mfon") == "add to there: CHOICES['head'] (the heads of the network)"
    assert missing("hycon") == ""


def config_of(name, **changes):
    tests = exports_of(name)
    small = {**tests.SMALL, **getattr(tests, "STILL", {})}
    return replace(MODELS[name].config, **{**small, **changes})


def network(name, config=None, modalities=THREE, *, encoded=False):
    torch.manual_seed(5)
    encoder = None
    if encoded:
        encoder = small_text_encoder()
        without_dropout(encoder)
    sizes = {m: SIZES[m] for m in modalities if m in MODELS[name].reads}
    generator = torch.Generator().manual_seed(0)
    model = MODELS[name].build(
        config_of(name) if config is None else config, sizes, encoder, generator=generator
    )
    model.draws = generator
    return model


def trained_loss(model, batch):
    """The loss in training, with the same draws on every call."""
    model.draws.manual_seed(1)
    torch.manual_seed(2)
    return model.train()(batch).terms.total


@cache
def usual_terms(name):
    """What the loss of the default network is made of."""
    return list(network(name).train()(batch_of()).terms)


def lowers_its_loss(model, batch):
    """A small step against the gradient, in float64, lowers the loss."""
    model, batch = model.double(), cast(batch, torch.float64)
    before = trained_loss(model, batch)
    assert before.isfinite()
    learning = [p for p in model.parameters() if p.requires_grad]
    grads = torch.autograd.grad(before, learning, allow_unused=True)
    norm = sum(g.square().sum() for g in grads if g is not None).sqrt()
    assert norm.isfinite()
    assert norm > 0
    for scale in (1e-3, 1e-4, 1e-5, 1e-6):  # a smaller one where a kink is near
        with torch.no_grad():
            for p, g in zip(learning, grads, strict=True):
                if g is not None:
                    p.sub_(g, alpha=float(scale / norm))
            after = trained_loss(model, batch)
            for p, g in zip(learning, grads, strict=True):
                if g is not None:
                    p.add_(g, alpha=float(scale / norm))
        if after < before:
            return True
    return False


@pytest.mark.parametrize("encoded", [False, True])
@pytest.mark.parametrize("name", MODELS)
def test_padding_never_changes_a_prediction(name, encoded):
    model = network(name, encoded=encoded).eval()
    batch = batch_of(encoded=encoded)
    expected = model(batch).prediction
    for fill in (0.0, float("nan")):
        got = model(longer(batch, 4, fill, word=7)).prediction
        torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("encoded", [False, True])
@pytest.mark.parametrize("name", MODELS)
def test_padding_never_changes_the_loss(name, encoded):
    model, batch = network(name, encoded=encoded), batch_of(encoded=encoded)
    expected = trained_loss(model, batch)
    got = trained_loss(model, longer(batch, 4, word=7))
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("encoded", [False, True])
@pytest.mark.parametrize("name", MODELS)
def test_a_sample_alone_is_predicted_as_among_others(name, encoded):
    model, batch = network(name, encoded=encoded).eval(), batch_of(encoded=encoded)
    together = model(batch)
    for row in range(len(batch)):
        alone = model(samples(batch, slice(row, row + 1)))
        assert alone.prediction.shape == (1,)
        torch.testing.assert_close(
            alone.prediction[0], together.prediction[row], rtol=1e-4, atol=1e-5
        )
        torch.testing.assert_close(alone.fused[0], together.fused[row], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("encoded", [False, True])
@pytest.mark.parametrize("name", MODELS)
def test_a_batch_of_one_trains(name, encoded):
    model = network(name, encoded=encoded)
    loss = trained_loss(model, batch_of(1, encoded=encoded))
    assert loss.isfinite()
    loss.backward()
    for parameter in model.parameters():
        assert parameter.grad is None or parameter.grad.isfinite().all()


@pytest.mark.parametrize("gone", THREE)
@pytest.mark.parametrize("name", MODELS)
def test_nothing_of_an_absent_modality_enters(name, gone):
    if gone not in MODELS[name].reads:
        return
    model, batch = network(name), lacking(batch_of(), **{gone: [1, 4]})
    results = []
    for fill in (0.0, 3.0, float("nan")):
        given_batch = fill_absent(batch, fill)
        loss = trained_loss(model, given_batch)
        grads = torch.autograd.grad(
            loss, [p for p in model.parameters() if p.requires_grad], allow_unused=True
        )
        assert all(g is None or g.isfinite().all() for g in grads)
        results.append((loss, model.eval()(given_batch).prediction))
    for loss, prediction in results[1:]:
        assert torch.equal(loss, results[0][0])
        assert torch.equal(prediction, results[0][1])
    assert results[0][1].isfinite().all()


@pytest.mark.parametrize("name", MODELS)
def test_nobody_has_a_modality(name):
    model, batch = network(name), batch_of()
    for gone in set(MODELS[name].reads):
        without = lacking(batch, **{gone: list(range(6))})
        loss = trained_loss(model, without)
        assert loss.isfinite()
        loss.backward()
        assert model.eval()(without).prediction.isfinite().all()
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize("gone", ["modalities", "frames"])
@pytest.mark.parametrize("encoded", [False, True])
@pytest.mark.parametrize("name", MODELS)
def test_everything_is_missing(name, encoded, gone):
    """All modalities of all samples, or some samples; or every frame is zero, every token one."""
    model, batch = network(name, encoded=encoded), batch_of(encoded=encoded)
    for rows in (list(range(6)), [0, 3]):
        if gone == "modalities":
            left = lacking(batch, **dict.fromkeys(THREE, rows))
        else:
            left = replace(batch, features={m: x.clone() for m, x in batch.features.items()})
            for x, mask in zip(left.features.values(), left.masks.values(), strict=True):
                x[rows] = (0 if x.is_floating_point() else 1) * mask[rows].view(
                    *mask[rows].shape, *[1] * (x.ndim - 2)
                ).to(x.dtype)
        loss = trained_loss(model, left)
        assert loss.isfinite()
        loss.backward()
        output = model.eval()(left)
        assert output.prediction.isfinite().all()
        assert output.fused.isfinite().all()
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize("name", MODELS)
def test_evaluation_repeats_itself_and_runs_nothing_of_the_contrast(name, monkeypatch):
    model, batch = network(name).eval(), batch_of()
    expected = model(batch)

    def refuse(*arguments, **options):
        pytest.fail("a contrastive part ran in evaluation")

    patched = 0
    for name_ in set(mm.__all__) - HARMLESS:
        loss = getattr(mm, name_)
        if isinstance(loss, type):
            if issubclass(loss, torch.nn.Module):
                monkeypatch.setattr(loss, "forward", refuse)
            continue
        for module_name, module in list(sys.modules.items()):
            own = module_name.startswith("reference_models.") or module is mm
            if own and getattr(module, name_, None) is loss:
                monkeypatch.setattr(module, name_, refuse)
                patched += 1
    assert patched > 40
    with torch.random.fork_rng():
        torch.manual_seed(99)
        output = model(batch)
    assert torch.equal(output.prediction, expected.prediction)
    assert list(output.terms) == ["task"]
    assert model(replace(batch, labels=None)).terms is None


@pytest.mark.parametrize("name", MODELS)
def test_every_parameter_learns(name):
    """With the defaults; what gets no gradient would be carried along for nothing."""
    model = network(name)
    stages = model.stages() if hasattr(model, "stages") else []
    for stage in stages:
        stage.network.requires_grad_(False)
    trained_loss(model, batch_of(8)).backward()
    idle = [n for n, p in model.named_parameters() if p.requires_grad and p.grad is None]
    assert idle == []


@pytest.mark.parametrize("name", MODELS)
def test_weights_are_all_that_a_prediction_needs(name):
    model, batch = network(name).eval(), batch_of()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.01 * torch.randn_like(parameter))
    twin = network(name).eval()
    twin.load_state_dict(model.state_dict())
    assert torch.equal(twin(batch).prediction, model(batch).prediction)


@pytest.mark.parametrize("name", OF_THREE)
@pytest.mark.parametrize("modalities", [("text", "audio"), ("text", "vision")])
def test_two_modalities_are_enough(name, modalities):
    model, batch = network(name, modalities=modalities), batch_of(modalities=modalities)
    assert list(model.train()(batch).terms) == usual_terms(name)
    assert lowers_its_loss(model, batch)


@pytest.mark.parametrize("encoded", [False, True])
@pytest.mark.parametrize("name", MODELS)
def test_autocast_keeps_the_losses_in_float32(name, encoded):
    model = network(name, encoded=encoded).train()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = model(batch_of(encoded=encoded))
    assert {value.dtype for value in output.terms.values()} == {torch.float32}
    output.terms.total.backward()
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    assert gradients
    assert all(gradient.isfinite().all() for gradient in gradients)


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("name", MODELS)
def test_without_labels_there_are_no_terms(name, training):
    output = network(name).train(training)(replace(batch_of(), labels=None))
    assert output.terms is None
    assert output.prediction.shape == (6,)


@pytest.mark.parametrize("gone", THREE)
@pytest.mark.parametrize("name", OF_THREE)
def test_a_batch_that_lacks_a_modality_is_refused(name, gone):
    left = [m for m in THREE if m != gone]
    with pytest.raises(ValueError, match=r"batch: expected modalities \('text', 'audio', 'vision'"):
        network(name)(batch_of(modalities=left))


@pytest.mark.parametrize("name", MODELS)
def test_text_of_the_other_kind_is_refused(name):
    with pytest.raises(ValueError, match=r"features\['text'\]: expected token ids .*float32"):
        network(name, encoded=True)(batch_of())
    with pytest.raises(ValueError, match=r"features\['text'\]: expected features .*int64"):
        network(name)(batch_of(encoded=True))


@pytest.mark.parametrize("name", OF_THREE)
def test_a_text_encoder_without_text_is_refused(name):
    about_audio = {"tecafn": {"center": "audio"}, "mfon": {"query": "audio"}}.get(name, {})
    config = config_of(name, **about_audio)
    with pytest.raises(ValueError, match="sizes: expected text, for its encoder, got"):
        network(name, config, ("audio", "vision"), encoded=True)


@pytest.mark.parametrize(
    ("name", "head"),
    [(name, head) for name in TESTS for head in read(name, "CHOICES").get("head", ())],
)
def test_labels_of_another_shape_are_refused(name, head):
    model = network(name, config_of(name, head=head))
    other, expected = "iemocap", r"\(6,\), got \(6, 4\)"
    if head == "iemocap":
        other, expected = "regression", r"\(6, 4\), got \(6,\)"
    with pytest.raises(ValueError, match="labels: expected shape " + expected):
        model(batch_of(head=other))


def default(name, field):
    return read(name, "SMALL").get(field, getattr(MODELS[name].config, field))


@pytest.mark.parametrize("name", MODELS)
def test_the_defaults(name):
    _check(name, {}, THREE, False, 6)


@pytest.mark.parametrize(
    ("name", "field", "value"),
    [
        (name, field, value)
        for name in TESTS
        for field, values in read(name, "SWITCHES").items()
        for value in values
        if value != default(name, field)
    ],
)
def test_every_switch_alone(name, field, value):
    _check(name, {field: value}, THREE, False, 6)


@st.composite
def combinations(draw):
    name = draw(st.sampled_from([n for n in MODELS if n != "hycon-v2"]))
    switches = exports_of(name).SWITCHES
    chosen = draw(
        st.fixed_dictionaries({field: st.sampled_from(v) for field, v in switches.items()})
    )
    modalities = draw(st.sampled_from([THREE, THREE, ("text", "audio"), ("text", "vision")]))
    return name, chosen, modalities, draw(st.booleans()), draw(st.integers(2, 7))


@given(combinations())
@settings(max_examples=as_many(25))
def test_any_combination_of_switches(case):
    _check(*case)


def _check(name, changes, modalities, encoded, size):
    try:
        config = config_of(name, **changes)
        model = network(name, config, modalities, encoded=encoded)
    except ValueError as refusal:
        # Refused at once and by name: what cannot run is never built.
        words = [*(f.name for f in fields(MODELS[name].config)), "sizes"]
        if not any(word in str(refusal) for word in words):
            raise
        return
    batch = batch_of(size, modalities, encoded=encoded, head=config.head)
    assert list(model.train()(batch).terms) == usual_terms(name)
    first, second = (model.eval()(batch).prediction for _ in range(2))
    assert torch.equal(first, second)
    assert first.isfinite().all()
    assert lowers_its_loss(model, batch)
