"""GradCache against one large batch with its whole graph, and what a step leaves behind."""

import weakref

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import mmcontrast as mm
from tests.mmcontrast.encoders import gradients, in_pieces, pair_loss, same, tower
from tests.mmcontrast.strategies import normal, seeds
from tests.ranks import gradcache as on_ranks
from tests.ranks import launch


class Counter(nn.Module):
    """An encoder that notes the sizes of what it encodes, and whether with a graph."""

    def __init__(self, model):
        super().__init__()
        self.model, self.calls = model, []

    def forward(self, x):
        self.calls.append((len(x), torch.is_grad_enabled()))
        return self.model(x)


# --- the gradients are those of the whole batch --------------------------------------------------


@given(seed=seeds, n=st.integers(1, 7), data=st.data())
def test_one_batch_whatever_the_size_of_the_micro_batches(seed, n, data):
    size = data.draw(st.integers(1, n + 1))
    encoders = {"text": tower(seed, 3), "audio": tower(seed + 1, 5)}
    loss = mm.SymmetricInfoNCE(temperature=mm.LearnableTemperature(0.3)).double()
    modules = *encoders.values(), loss
    inputs = {"text": normal(seed, n, 3), "audio": normal(seed + 1, n, 5)}
    expected = loss(*(encoders[name](x) for name, x in inputs.items()))
    expected.backward()
    whole = gradients(*modules)
    cache = mm.GradCache(encoders, lambda features: loss(*features.values()), chunk_size=size)
    value = cache(inputs)
    assert not value.requires_grad
    torch.testing.assert_close(value, expected.detach(), rtol=1e-12, atol=1e-12)
    same(gradients(*modules), whole)


@given(seed=seeds, size=st.integers(1, 6))
def test_three_modalities_with_terms_and_labels(seed, size):
    encoders = {name: tower(seed + k, 2 + k) for k, name in enumerate(("text", "audio", "vision"))}
    inputs = {name: normal(seed + k, 5, 2 + k) for k, name in enumerate(encoders)}
    labels = torch.tensor([0, 1, 0, 1, 1])
    loss = mm.HybridContrast(weights=(1, 0.5, 2), refine=False)
    expected = loss({name: encoders[name](x) for name, x in inputs.items()}, labels)
    expected.total.backward()
    whole = gradients(*encoders.values())
    cache = mm.GradCache(encoders, loss, chunk_size=size)
    for step in (lambda: cache(inputs, labels), lambda: cache(inputs, labels=labels)):
        found = step()
        assert isinstance(found, mm.LossTerms)
        assert list(found) == list(expected)
        assert found.weights == expected.weights
        assert not any(x.requires_grad for x in found.values())
        torch.testing.assert_close(found.total, expected.total.detach(), rtol=1e-12, atol=1e-12)
        same(gradients(*encoders.values()), whole)


def test_encoders_may_stand_in_a_module():
    towers = nn.ModuleDict({"text": nn.Linear(3, 2), "audio": nn.Linear(4, 2)})
    batch = {"text": torch.randn(5, 3), "audio": torch.randn(5, 4)}
    cache = mm.GradCache(towers, lambda z: (z["text"] * z["audio"]).sum(), chunk_size=2)
    value = cache(batch)
    expected = (towers["text"](batch["text"]) * towers["audio"](batch["audio"])).sum()
    torch.testing.assert_close(value, expected.detach())
    gradients = torch.autograd.grad(expected, list(towers.parameters()))
    for parameter, gradient in zip(towers.parameters(), gradients, strict=True):
        torch.testing.assert_close(parameter.grad, gradient)


def test_it_adds_to_what_is_there():
    encoder, inputs = tower(0), {"x": normal(1, 5, 3), "y": normal(2, 5, 3)}
    cache = mm.GradCache(dict.fromkeys(inputs, encoder), pair_loss, chunk_size=2)
    cache(inputs)
    once = [x.grad.clone() for x in encoder.parameters()]
    cache(inputs)
    same([x.grad for x in encoder.parameters()], [2 * x for x in once])


def test_an_encoder_of_several_modalities_and_inputs_of_several_lengths():
    encoder = tower(0)
    inputs = {"x": normal(1, 4, 3), "y": normal(2, 7, 3)}

    def loss(features):
        assert list(features) == ["x", "y"]
        return mm.info_nce(features["x"], features["y"], temperature=0.3)

    loss({name: encoder(x) for name, x in inputs.items()}).backward()
    whole = gradients(encoder)
    counter = Counter(encoder)
    cache = mm.GradCache({"x": counter, "y": counter}, loss, chunk_size={"x": 4, "y": 3})
    cache(dict(reversed(inputs.items())))
    same(gradients(encoder), whole)
    sizes = [4, 3, 3, 1]
    assert counter.calls == [(n, False) for n in sizes] + [(n, True) for n in sizes]


def test_inputs_collect_gradients_too():
    encoder = tower(0).requires_grad_(False)
    x, y = normal(1, 5, 3).requires_grad_(), normal(2, 5, 3)
    pair_loss({"x": encoder(x), "y": encoder(y)}).backward()
    expected, x.grad = x.grad, None
    mm.GradCache({"x": encoder, "y": encoder}, pair_loss, chunk_size=2)({"x": x, "y": y})
    same([x.grad], [expected])


def test_micro_batches_that_reach_no_parameter():
    """A constant where a whole micro-batch lacks the modality, the first one here."""
    model = tower(0)

    def encoder(x):
        present = x.isfinite().all(1)
        if not present.any():
            return torch.zeros(len(x), 4, dtype=x.dtype)
        return torch.where(present[:, None], model(x.nan_to_num()), 0)

    x, y = normal(1, 6, 3), normal(2, 6, 4)
    x[:3] = float("nan")
    inputs = {"x": x, "y": y}
    encoders = {"x": encoder, "y": nn.Identity()}
    pair_loss({name: encoders[name](x) for name, x in inputs.items()}).backward()
    whole = gradients(model)
    mm.GradCache(encoders, pair_loss, chunk_size=2)(inputs)
    same(gradients(model), whole)


@pytest.mark.parametrize("n", [0, 1])
def test_few_rows(n):
    encoders = {"x": tower(0), "y": tower(1)}
    inputs = {"x": normal(1, n, 3), "y": normal(2, n, 3)}
    value = mm.GradCache(encoders, pair_loss, chunk_size=2)(inputs)
    assert value == 0  # its own partner is all there is
    for x in gradients(*encoders.values()):
        assert (x == 0).all()


# --- what needs no second encoding ---------------------------------------------------------------


def test_frozen_encoders_are_encoded_once():
    free, fixed = Counter(tower(0)), Counter(tower(1).requires_grad_(False))
    inputs = {"x": normal(1, 5, 3), "y": normal(2, 5, 3)}
    pair_loss({"x": free.model(inputs["x"]), "y": fixed.model(inputs["y"])}).backward()
    whole = gradients(free)

    def loss(features):
        assert [x.requires_grad for x in features.values()] == [True, False]
        return pair_loss(features)

    mm.GradCache({"x": free, "y": fixed}, loss, chunk_size=3)(inputs)
    same(gradients(free), whole)
    assert free.calls == [(3, False), (2, False), (3, True), (2, True)]
    assert fixed.calls == [(3, False), (2, False)]
    assert all(x.grad is None for x in fixed.parameters())


def test_frozen_functions_and_methods():
    model, counter = tower(0), Counter(tower(1).requires_grad_(False))
    inputs = {"x": normal(1, 5, 3), "y": normal(2, 5, 3), "z": normal(2, 5, 3)}
    encoders = {"x": model, "y": counter.forward, "z": lambda x: counter.model(x)}

    def loss(features):
        return mm.anchored_info_nce(features, anchor="x").total

    loss({name: encoders[name](x) for name, x in inputs.items()}).backward()
    whole = gradients(model)
    counter.calls.clear()
    mm.GradCache(encoders, loss, chunk_size=5)(inputs)
    same(gradients(model), whole)
    assert counter.calls == [(5, False)]


def test_a_module_without_parameters_of_its_own_may_have_others():
    model, x = tower(0), normal(1, 5, 3)

    class Hidden(nn.Module):
        models = (model,)

        def forward(self, x):
            return self.models[0](x)

    pair_loss({"x": model(x), "y": model(-x)}).backward()
    whole = gradients(model)
    cache = mm.GradCache(dict.fromkeys(("x", "y"), Hidden()), pair_loss, chunk_size=2)
    cache({"x": x, "y": -x})
    same(gradients(model), whole)


def test_what_the_loss_does_not_use_has_no_gradient():
    used, unused = tower(0), Counter(tower(1))
    inputs = {"x": normal(1, 5, 3), "y": normal(2, 5, 3)}
    cache = mm.GradCache({"x": used, "y": unused}, lambda f: f["x"].square().sum(), chunk_size=2)
    cache(inputs)
    assert all(x.grad is None for x in unused.parameters())
    assert not any(graph for _, graph in unused.calls)
    cache({"x": inputs["x"]})  # a modality left out
    assert len(unused.calls) == 3


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_without_gradients_there_is_only_the_loss(mode):
    encoder = Counter(tower(0))
    inputs = {"x": normal(1, 5, 3), "y": normal(2, 5, 3)}
    expected = pair_loss({name: encoder.model(x) for name, x in inputs.items()})
    with mode():
        value = mm.GradCache(dict.fromkeys(inputs, encoder), pair_loss, chunk_size=2)(inputs)
    torch.testing.assert_close(value, expected.detach())
    assert len(encoder.calls) == 6
    assert all(x.grad is None for x in encoder.parameters())


def test_nothing_to_differentiate_is_an_error_as_without_it():
    encoder = tower(0).requires_grad_(False)
    cache = mm.GradCache({"x": encoder}, lambda f: f["x"].sum(), chunk_size=2)
    with pytest.raises(RuntimeError, match="does not require grad"):
        cache({"x": normal(1, 5, 3)})


# --- random numbers, statistics, autocast --------------------------------------------------------


def test_autocast_is_kept_in_both_encodings_and_its_cache_does_not_swallow_the_gradients():
    encoders = {"x": tower(0).float(), "y": tower(1).float()}
    inputs = {"x": normal(1, 6, 3).float(), "y": normal(2, 6, 3).float()}
    kinds = []

    def loss(features):
        kinds.extend(x.dtype for x in features.values())
        value = pair_loss(features)
        kinds.append(value.dtype)
        return value

    # Without the cache, each micro-batch's gradient of a weight is added in float32.
    with torch.autocast("cpu", torch.bfloat16, cache_enabled=False):
        expected = loss(in_pieces(encoders, inputs, 4))
    expected.backward()
    whole = gradients(*encoders.values())
    assert kinds == [torch.bfloat16, torch.bfloat16, torch.float32]
    with torch.autocast("cpu", torch.bfloat16):
        value = mm.GradCache(encoders, loss, chunk_size=4)(inputs)
        found = gradients(*encoders.values())
        later = encoders["x"](inputs["x"])
        with torch.no_grad():
            mm.GradCache(encoders, loss, chunk_size=4)(inputs)
        after_no_grad = encoders["x"](inputs["x"])
    assert torch.equal(value, expected.detach())
    same(found, whole, atol=1e-7)
    assert kinds == 3 * kinds[:3]
    for x in (later, after_no_grad):
        x.float().sum().backward()
        assert gradients(encoders["x"])[0] is not None


def test_backward_passes_lie_outside_autocast():
    """What is computed in float32 in the forward pass is so in the backward pass."""
    inputs = {"x": normal(1, 5, 3).float(), "y": normal(2, 5, 3).float()}
    encoder = tower(0).float()

    def exact(function):
        def outside(x):
            with torch.autocast("cpu", enabled=False):
                return function(x)

        return outside

    loss = exact(lambda f: (f["x"] @ f["y"].T).square().mean())
    loss({name: encoder(x) for name, x in inputs.items()}).backward()
    whole = gradients(encoder)
    cache = mm.GradCache(dict.fromkeys(inputs, exact(encoder)), loss, chunk_size=2)
    with torch.autocast("cpu", torch.bfloat16):
        cache(inputs)
    same(gradients(encoder), whole, atol=1e-6)


@pytest.mark.parametrize("scale", [1.0, 64.0])
def test_gradient_scaling(scale):
    encoder = tower(0)
    inputs = {"x": normal(1, 5, 3), "y": normal(2, 5, 3)}
    pair_loss({name: encoder(x) for name, x in inputs.items()}).backward()
    whole = gradients(encoder)
    scaler = torch.amp.GradScaler("cpu", init_scale=scale)
    seen = []

    def backward(value):
        seen.append(value)
        scaler.scale(value).backward()

    encoders = dict.fromkeys(inputs, encoder)
    value = mm.GradCache(encoders, pair_loss, chunk_size=2, backward=backward)(inputs)
    assert len(seen) == 1
    torch.testing.assert_close(value, seen[0].detach())  # unscaled
    same([x.grad / scale for x in encoder.parameters()], whole)
    optimizer = torch.optim.SGD(encoder.parameters(), lr=1.0)
    scaler.unscale_(optimizer)
    same(gradients(encoder), whole)


# --- memory --------------------------------------------------------------------------------------


class Alive:
    """Counts the bytes that graphs hold while it is entered."""

    def __init__(self):
        self.now = self.most = 0

    def pack(self, x):
        size = x.numel() * x.element_size()
        self.now += size
        self.most = max(self.most, self.now)
        return Saved(self, x.detach(), size)  # a result with its graph would hold itself

    def __enter__(self):
        self.hooks = torch.autograd.graph.saved_tensors_hooks(self.pack, lambda saved: saved.x)
        self.hooks.__enter__()
        return self

    def __exit__(self, *error):
        self.hooks.__exit__(*error)


class Saved:
    def __init__(self, owner, x, size):
        self.owner, self.x, self.size = owner, x, size

    def __del__(self):
        self.owner.now -= self.size


def test_one_micro_batch_of_activations_is_alive_at_a_time():
    alive = Alive()

    def watched(model):
        def encode(x):
            with alive:
                return model(x)

        return encode

    encoders = {"x": watched(tower(0)), "y": watched(tower(1))}
    inputs = {"x": normal(1, 24, 3), "y": normal(2, 24, 3)}
    held = encoders["x"](inputs["x"][:4])
    one = alive.most
    del held
    assert alive.now == 0
    alive.most = 0
    pair_loss({name: encoders[name](x) for name, x in inputs.items()}).backward()
    assert alive.most > 4 * one
    alive.most = 0
    mm.GradCache(encoders, pair_loss, chunk_size=4)(inputs)
    assert alive.most == one
    assert alive.now == 0


def test_a_row_of_the_states_does_not_keep_them_all():
    """Nothing of a micro-batch is left when the next one begins, in either encoding."""
    model, hidden = tower(0), []

    def encoder(x):
        assert not any(reference() is not None for reference in hidden)
        states = torch.stack([model(x), x @ x.new_ones(3, 4)], 1)
        hidden.append(weakref.ref(states))
        return states[:, 0], states[:, 1]

    def loss(features):
        assert not any(reference() is not None for reference in hidden)
        return features["x"][0].square().sum()

    mm.GradCache({"x": encoder}, loss, chunk_size=2)({"x": normal(1, 6, 3).requires_grad_()})
    assert len(hidden) == 6


# --- nested inputs and representations -----------------------------------------------------------


class Several(nn.Module):
    """Two representations, a count and a learned temperature from one encoder."""

    def __init__(self, raw):
        super().__init__()
        self.x, self.y, self.raw = tower(0), tower(1), raw
        self.temperature = nn.Parameter(torch.tensor(0.4, dtype=torch.float64))

    def forward(self, inputs):
        lengths = (inputs > 0).sum(1)
        number = self.temperature if self.raw else self.temperature.exp()
        return {"pair": (self.x(inputs), [self.y(-inputs)]), "lengths": lengths, "t": number}


@pytest.mark.parametrize(("raw", "n"), [(True, 5), (False, 6)])
def test_nested_representations_and_a_number(raw, n):
    model, x = Several(raw), normal(1, n, 3)

    def loss(features):
        found = features["both"]
        x, (y,) = found["pair"]
        assert found["lengths"].dtype == torch.int64
        weight = found["lengths"].double()
        return mm.symmetric_info_nce(x, y, temperature=found["t"], weight=weight)

    for _ in range(2):  # the second on top of the first
        loss({"both": model(x)}).backward()
    whole = gradients(model)
    for _ in range(2):
        mm.GradCache({"both": model}, loss, chunk_size=2)({"both": x})
    same(gradients(model), whole)


def test_the_loss_may_empty_its_mapping():
    encoder, x = tower(0), normal(1, 5, 3)
    mm.GradCache({"x": encoder}, lambda f: f.pop("x").square().sum(), chunk_size=2)({"x": x})
    found = gradients(encoder)
    encoder(x).square().sum().backward()
    same(found, gradients(encoder))


# --- errors --------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, -1, 2.0, True, None, "3"])
def test_refused_chunk_sizes(size):
    with pytest.raises(ValueError, match="chunk_size: expected an int of at least 1, got"):
        mm.GradCache({"x": tower(0)}, pair_loss, chunk_size=size)
    with pytest.raises(ValueError, match=r"chunk_size\['y'\]: expected an int of at least 1, got"):
        mm.GradCache({"x": tower(0), "y": tower(0)}, pair_loss, chunk_size={"x": 2, "y": size})


def test_a_chunk_size_left_out():
    with pytest.raises(
        ValueError, match=r"chunk_size\['y'\]: expected an int of at least 1, got 0"
    ):
        mm.GradCache({"x": tower(0), "y": tower(0)}, pair_loss, chunk_size={"x": 2})


@pytest.mark.parametrize("encoders", [{}, [tower(0)], None])
def test_refused_encoders(encoders):
    with pytest.raises(ValueError, match="encoders: expected a mapping of at least one modality"):
        mm.GradCache(encoders, pair_loss, chunk_size=2)


def test_an_encoder_that_cannot_be_called():
    with pytest.raises(ValueError, match=r"encoders\['x'\]: expected a callable, got str"):
        mm.GradCache({"x": "bert"}, pair_loss, chunk_size=2)


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({}, "inputs: expected a mapping of at least one modality to tensors"),
        (
            torch.zeros(2, 3),
            r"inputs: expected a mapping of .* to tensors, got \(2, 3\) torch\.float32",
        ),
        ({"z": torch.zeros(2, 3)}, "inputs: expected one of 'x', got 'z'"),
        ({"x": "text"}, r"inputs\['x'\]: expected tensors with one first axis in common, got \[\]"),
        ({"x": torch.tensor(1.0)}, r"inputs\['x'\]: expected tensors with one first axis"),
        (
            {"x": (torch.zeros(2, 3), [torch.zeros(3)])},
            r"inputs\['x'\]: expected tensors with one first axis in common, got \[\(2, 3\), ",
        ),
    ],
)
def test_refused_inputs(inputs, message):
    with pytest.raises(ValueError, match=message):
        mm.GradCache({"x": tower(0)}, pair_loss, chunk_size=2)(inputs)


@pytest.mark.parametrize(
    ("encoder", "message"),
    [
        (lambda x: x[:1], r"encoders\['x'\]: expected representations of 2 rows, got \[\(1, 3\)\]"),
        (lambda x: None, r"encoders\['x'\]: expected representations of 2 rows, got \[\]"),
        (
            lambda x: x.repeat(1, len(x)),
            r"encoders\['x'\]: expected one shape and dtype in all micro-batches, got .*\(1, 3\)",
        ),
        (
            lambda x: x if len(x) > 1 else x.float(),
            r"encoders\['x'\]: expected one shape and dtype in all micro-batches, got .*float32",
        ),
    ],
)
def test_refused_representations(encoder, message):
    with pytest.raises(ValueError, match=message):
        mm.GradCache({"x": encoder}, lambda f: f["x"].sum(), chunk_size=2)({"x": normal(1, 5, 3)})


@pytest.mark.parametrize(
    ("loss", "message"),
    [
        (lambda f: f["x"].sum(1), r"loss: expected a scalar, got shape \(5,\)"),
        (lambda f: f["x"].sum().reshape(1), r"loss: expected a scalar, got shape \(1,\)"),
        (lambda f: {"a": f["x"].sum()}, "loss: expected a tensor, got dict"),
        (
            lambda f: mm.LossTerms({"a": f["x"].sum(1)}),
            r"loss: expected a scalar, got shape \(5,\)",
        ),
    ],
)
def test_refused_losses(loss, message):
    encoder = tower(0)
    with pytest.raises(ValueError, match=message):
        mm.GradCache({"x": encoder}, loss, chunk_size=2)({"x": normal(1, 5, 3)})
    assert all(x.grad is None for x in encoder.parameters())


# --- several ranks -------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(
    ("world", "programs"),
    [
        (2, ["shared", "accumulated", "buffers"]),
        (3, ["towers", "group", "together", "frozen"]),
    ],
)
def test_on_ranks(world, programs):
    launch(world, on_ranks.__name__, *programs)


def test_the_programs_have_uneven_and_empty_ranks():
    sizes = on_ranks.SIZES
    assert sizes[2] == [3, 5]
    assert 0 in sizes[3]
