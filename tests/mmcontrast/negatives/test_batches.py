"""What holds for every strategy of negatives, and how a batch of them is read."""

import pytest
import torch
from hypothesis import given
from torch._subclasses.fake_tensor import FakeTensorMode

from mmcontrast import add_noise, mixed_negatives, replace_tokens, shift, swap
from mmcontrast.negatives.batches import read_batch
from tests.mmcontrast.negatives.batches import VOCABULARY, batches, check_form, full, options, real
from tests.mmcontrast.strategies import close, leaf, normal, rng

STRATEGIES = {
    "swap": swap,
    "shift": shift,
    "add_noise": add_noise,
    "replace_tokens": lambda *f, **o: replace_tokens(*f, vocabulary_size=VOCABULARY, **o),
    "mixed_negatives": lambda *f, **o: mixed_negatives(*f, vocabulary_size=VOCABULARY, **o),
}
every_strategy = pytest.mark.parametrize("strategy", STRATEGIES.values(), ids=list(STRATEGIES))


def with_ids(n):
    ids = torch.arange(2, 2 + 4 * n).reshape(n, 4)
    return {**full(n), "ids": ids}


@every_strategy
def test_law_65_one_generator_one_outcome(strategy):
    features, state = with_ids(20), torch.get_rng_state()
    first, second, other = (strategy(features, generator=rng(k)) for k in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), state)
    for field in ("features", "altered"):
        for name in features:
            assert torch.equal(getattr(first, field)[name], getattr(second, field)[name])
    assert any(not torch.equal(first.features[m], other.features[m]) for m in features)


@every_strategy
def test_the_order_of_the_named_modalities_does_not_matter(strategy):
    """A set has no order of its own, and a name that comes twice is not drawn twice as often."""
    features = with_ids(30)
    features["other ids"] = features["ids"] + 200
    names = ["vision", "ids", "audio", "vision"]
    first, second = (
        strategy(features, modalities=chosen, generator=rng(3)) for chosen in (names, set(names))
    )
    for name in features:
        assert torch.equal(first.features[name], second.features[name])
    for name in ("text", "other ids"):
        assert not first.altered[name].any()
        assert torch.equal(first.features[name], features[name])


@every_strategy
@pytest.mark.parametrize("n", [0, 1, 2])
@pytest.mark.parametrize("t", [0, 1, 2])
def test_law_63_few_samples_and_few_frames(strategy, n, t):
    features = {
        "text": torch.full((n, t), 3),
        "audio": torch.ones(n, t, 2),
        "vision": torch.ones(n, 2),
    }
    masks = {"audio": torch.ones(n, t, dtype=torch.bool)}
    found = strategy(features, masks=masks, lengths={"text": torch.full((n,), t)})
    check_form(found, (features, {}, masks, {"text": torch.full((n,), t)}))


@every_strategy
def test_law_25_absent_and_padded_values_reach_nothing(strategy):
    """NaN and infinity there: every real frame of the result is finite, and so is its gradient."""
    features = {name: leaf(x) for name, x in full(6).items()}
    there = torch.tensor([True, False, True, True, False, True])
    lengths = {"vision": torch.tensor([4, 3, 2, 1, 4, 0])}
    frames = {
        "audio": there[:, None].expand(6, 4),
        "vision": torch.arange(4) < lengths["vision"][:, None],
    }
    void = {m: torch.where(marks[..., None], features[m], torch.nan) for m, marks in frames.items()}
    features |= {"ids": torch.arange(24).reshape(6, 4)}
    found = strategy(features | void, present={"audio": there}, lengths=lengths, generator=rng(5))
    now = {"audio": frames["audio"], "vision": torch.arange(4) < found.lengths["vision"][:, None]}
    total = 0
    for name, marks in now.items():
        chosen = torch.where(marks[..., None], found.features[name], 0)
        assert chosen.isfinite().all()
        total = total + chosen.sum()
    (total + found.features["text"].sum()).backward()
    for name, marks in frames.items():
        assert features[name].grad.isfinite().all()
        assert (features[name].grad[~marks] == 0).all()
    assert torch.equal(found.altered["audio"] & ~there, torch.zeros(6).bool())


def test_gradients_go_to_where_the_values_came_from():
    features = {"audio": leaf(normal(34, 4, 5, 2)), "text": torch.zeros(4, 1)}
    swapped = swap(features, modalities=["audio"], generator=rng(6)).features["audio"]
    (gradient,) = torch.autograd.grad(swapped.sum(), features["audio"])
    sources = [next(j for j in range(4) if torch.equal(x, features["audio"][j])) for x in swapped]
    close(
        gradient, torch.bincount(torch.tensor(sources), minlength=4)[:, None, None].expand(4, 5, 2)
    )
    moved = shift(features, steps=2, text="nothing").features["audio"]
    (gradient,) = torch.autograd.grad(moved.sum(), features["audio"])
    close(gradient, (torch.arange(5) >= 2).double()[:, None].expand(4, 5, 2))
    noisy = add_noise(features, modalities=["audio"]).features["audio"]
    (gradient,) = torch.autograd.grad(noisy.sum(), features["audio"])
    close(gradient, torch.ones(4, 5, 2))


def everything(device):
    """Every strategy on one device, every argument that is a tensor among them."""
    n, t = 5, 4
    features = {
        "text": torch.arange(2, 2 + n * t, device=device).reshape(n, t),
        "audio": torch.randn(n, t, 3, device=device),
        "vision": torch.randn(n, t, 2, device=device),
        "speaker": torch.randn(n, 2, device=device),
    }
    shared = {
        "present": {"audio": torch.arange(n, device=device) != 1},
        "masks": {"vision": torch.rand(n, t, device=device) < 0.8},
        "lengths": {"audio": torch.arange(n, device=device)},
    }
    allowed = torch.rand(n, n, device=device) < 0.7
    tokens = {"vocabulary_size": 40, "special": (0, 1)}
    found = [
        swap(features, allowed=allowed, **shared),
        shift(features, steps={"audio": 2}, **shared),
        shift(features, shift_all=True, **shared),
        add_noise(features, **shared),
        replace_tokens(features, **tokens, **shared),
        mixed_negatives(features, allowed=allowed, **tokens, **shared),
    ]
    return [x for negatives in found for mapping in negatives for x in mapping.values()]


def test_other_devices_need_no_host(fake_device):
    """Fake tensors hold no values: a branch on one, or a tensor made on the CPU, raises."""
    with FakeTensorMode():
        with torch.no_grad():
            assert {x.device.type for x in everything(fake_device)} == {fake_device}
        features = {"text": torch.ones(3, 4, 2, device=fake_device, requires_grad=True)}
        mixed_negatives(features).features["text"].sum().backward()
        assert features["text"].grad.device.type == fake_device


def test_law_60_one_graph():
    compiled = torch.compile(everything, fullgraph=True, backend="eager")
    for state in (1, 2):
        torch.manual_seed(state)
        found = compiled("cpu")
        torch.manual_seed(state)
        for a, b in zip(found, everything("cpu"), strict=True):
            assert torch.equal(a, b)


# --- a batch as it is read -----------------------------------------------------------------------


@given(batch=batches())
def test_what_is_real_is_what_the_loop_says(batch):
    features, _, masks, lengths = batch
    found, names = read_batch(features, None, **options(batch))
    assert names == list(features)
    for name, marks in real(*batch).items():
        assert torch.equal(found.real[name].reshape(marks.shape), marks)
        assert torch.equal(found.has[name], marks.any(1))
    nothing = found.unaltered()
    check_form(nothing, batch)
    assert not any(altered.any() for altered in nothing.altered.values())
    for name, x in features.items():
        assert nothing.features[name] is x
    for now, then in zip(
        (nothing.features, nothing.masks, nothing.lengths), (features, masks, lengths), strict=True
    ):
        assert now is not then


def test_the_names_come_in_the_order_of_the_features():
    features = full(3)
    assert list(features) == ["text", "audio", "vision"]
    found = read_batch(features, ["vision", "text", "vision"], None, None, None)[1]
    assert found == ["text", "vision"]


# --- wrong calls ---------------------------------------------------------------------------------

F = {"text": torch.tensor([[4, 5], [6, 7]]), "audio": torch.rand(2, 3, 2), "face": torch.rand(2, 2)}


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: swap(torch.rand(2, 3)), "features: expected a mapping .*got Tensor"),
        (lambda: swap({}), "features: expected at least one modality, got none"),
        (lambda: swap({"a": [1.0]}), r"features\['a'\]: expected a tensor, got list"),
        (
            lambda: swap({"a": torch.rand(3)}),
            r"features\['a'\]: expected \(B, T, D\) or \(B, D\) floating.*got \(3,\) torch.float32",
        ),
        (
            lambda: shift({"a": torch.rand(1, 1, 1, 1)}),
            r"features\['a'\]: expected .*got \(1, 1, 1, 1\) torch.float32",
        ),
        (
            lambda: swap({"a": torch.ones(2, 3, 4).long()}),
            r"features\['a'\]: .*integer.*torch.int64",
        ),
        (
            lambda: swap({"a": torch.ones(2, 3).bool()}),
            r"features\['a'\]: .*got \(2, 3\) torch.bool",
        ),
        (
            lambda: swap({"a": torch.ones(2, 3, dtype=torch.complex64)}),
            r"features\['a'\]: .*got \(2, 3\) torch.complex64",
        ),
        (
            lambda: swap({"a": torch.rand(2, 3), "b": torch.rand(3, 3)}),
            r"features\['b'\]: expected 2 samples, got 3",
        ),
        (lambda: swap(F, modalities=["smell"]), "modalities: expected one of 'text', .*'smell'"),
        (
            lambda: swap(F, modalities="audio"),
            "modalities: expected a list of names, .*got 'audio'",
        ),
        (lambda: swap(F, modalities=[]), r"modalities: expected some of \['text', .*got none"),
        (
            lambda: swap(F, present={"x": torch.ones(2).bool()}),
            "present: expected one of .*got 'x'",
        ),
        (
            lambda: swap(F, present={"face": torch.ones(3).bool()}),
            r"present\['face'\]: expected shape \(2,\), got \(3,\)",
        ),
        (lambda: swap(F, masks={"x": 1}), "masks: expected one of 'text', 'audio', got 'x'"),
        (lambda: swap(F, masks={"face": 1}), "masks: expected one of 'text', 'audio', got 'face'"),
        (
            lambda: swap(F, masks={"audio": torch.ones(2, 2).bool()}),
            r"masks\['audio'\]: expected shape \(2, 3\), got \(2, 2\)",
        ),
        (
            lambda: add_noise(F, masks={"audio": torch.ones(2, 3)}),
            r"masks\['audio'\]: expected a bool mask, got torch.float32",
        ),
        (
            lambda: swap(F, lengths={"face": 1}),
            "lengths: expected one of 'text', 'audio', .*'face'",
        ),
        (
            lambda: shift(F, lengths={"audio": torch.ones(3).long()}),
            r"lengths\['audio'\]: expected shape \(2,\), got \(3,\)",
        ),
        (
            lambda: swap(F, lengths={"audio": torch.ones(2)}),
            r"lengths\['audio'\]: expected an integer dtype, got torch.float32",
        ),
        (
            lambda: swap(F, lengths={"audio": torch.ones(2).bool()}),
            r"lengths\['audio'\]: expected an integer dtype, got torch.bool",
        ),
    ],
)
def test_wrong_calls(call, message):
    with pytest.raises(ValueError, match=message):
        call()
