"""Encoding twice: the same random numbers, the same statistics, inputs of any nesting."""

import copy
from collections import UserDict, namedtuple
from types import MappingProxyType

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import mmcontrast as mm
from tests.mmcontrast.encoders import gradients, in_pieces, pair_loss, same, tower
from tests.mmcontrast.strategies import normal, seeds

# --- random numbers, statistics, autocast --------------------------------------------------------


@given(seed=seeds, size=st.integers(1, 5))
def test_dropout_draws_the_same_twice_and_the_generator_goes_on_as_after_once(seed, size):
    encoders = {"x": tower(seed, dropout=0.5), "y": tower(seed + 1, dropout=0.3)}
    inputs = {"x": normal(seed, 5, 3), "y": normal(seed + 1, 5, 3)}

    def loss(features):
        noise = torch.rand(4, dtype=torch.float64)
        return pair_loss({name: x * noise for name, x in features.items()})

    torch.manual_seed(seed)
    expected = loss(in_pieces(encoders, inputs, size))
    expected.backward()
    whole, after = gradients(*encoders.values()), torch.get_rng_state()
    torch.manual_seed(seed)
    value = mm.GradCache(encoders, loss, chunk_size=size)(inputs)
    torch.testing.assert_close(value, expected.detach(), rtol=1e-12, atol=1e-12)
    same(gradients(*encoders.values()), whole)
    assert torch.equal(torch.get_rng_state(), after)


class Device:
    """Stands for torch.cuda, with two devices: the state of a generator is how often it drew."""

    def __init__(self):
        self.drawn = [3, 5]

    def draw(self):
        self.drawn = [n + 1 for n in self.drawn]
        return torch.tensor([1 + n % 7 for n in 2 * self.drawn], dtype=torch.float64)

    def is_initialized(self):
        return True

    def get_rng_state_all(self):
        return [torch.tensor(n) for n in self.drawn]

    def set_rng_state_all(self, states):
        self.drawn = [n.item() for n in states]


class One(Device):
    """Stands for torch.mps."""

    is_initialized = get_rng_state_all = set_rng_state_all = property()

    def get_rng_state(self):
        return torch.tensor(self.drawn)

    def set_rng_state(self, state):
        self.drawn = state.tolist()


@pytest.mark.parametrize("kind", [Device, One])
def test_random_numbers_of_an_accelerator(kind, monkeypatch):
    model, device = tower(0), kind()
    encoders = dict.fromkeys(("x", "y"), lambda x: model(x) * device.draw())
    inputs = {"x": normal(1, 5, 3), "y": normal(2, 5, 3)}
    pair_loss(in_pieces(encoders, inputs, 2)).backward()
    whole, after = gradients(model), device.drawn
    device.drawn = [3, 5]
    monkeypatch.setattr(torch, "get_device_module", lambda: device)
    mm.GradCache(encoders, pair_loss, chunk_size=2)(inputs)
    same(gradients(model), whole)
    assert device.drawn == after == [9, 11]


def test_an_accelerator_that_nobody_uses_is_not_started(monkeypatch):
    class Idle(Device):
        def is_initialized(self):
            return False

        def get_rng_state_all(self):
            raise AssertionError

    monkeypatch.setattr(torch, "get_device_module", Idle)
    mm.GradCache({"x": tower(0)}, lambda f: f["x"].sum(), chunk_size=2)({"x": normal(1, 5, 3)})


def test_without_the_replay_dropout_would_be_seen():
    """The comparison above can fail: other masks are other gradients."""
    encoder, x = tower(0, dropout=0.5), normal(1, 5, 3)
    found = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        pair_loss({"x": encoder(x), "y": x @ x.new_ones(3, 4)}).backward()
        found += gradients(encoder)[:1]
    assert (found[0] - found[1]).abs().max() > 1e-3


def test_an_error_in_the_second_encoding_leaves_the_generator_and_the_buffers():
    class Failing(nn.Module):
        def __init__(self):
            super().__init__()
            self.model = nn.Sequential(tower(0, dropout=0.5), nn.BatchNorm1d(4).double())

        def forward(self, x):
            found = self.model(x)
            if found.requires_grad:
                raise KeyError("no memory, say")
            return found

    encoder = Failing()
    once = copy.deepcopy(encoder.model)
    torch.manual_seed(5)
    with torch.no_grad():
        once(normal(1, 3, 3))
    after = torch.get_rng_state()
    torch.manual_seed(5)
    with pytest.raises(KeyError):
        mm.GradCache({"x": encoder}, lambda f: f["x"].sum(), chunk_size=4)({"x": normal(1, 3, 3)})
    assert torch.equal(torch.get_rng_state(), after)
    same(encoder.buffers(), once.buffers())


def test_running_statistics_are_those_of_one_encoding():
    def normed():
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4)).double()

    encoder, once = normed(), normed()
    inputs = {"x": normal(1, 6, 3), "y": normal(2, 6, 3)}
    pair_loss(in_pieces(dict.fromkeys(inputs, once), inputs, 2)).backward()
    mm.GradCache(dict.fromkeys(inputs, encoder), pair_loss, chunk_size=2)(inputs)
    same(encoder.buffers(), once.buffers(), atol=0)
    same(gradients(encoder), gradients(once))
    assert encoder[1].num_batches_tracked == 6
    encoder.eval()
    before = copy.deepcopy(encoder.state_dict())
    pair_loss({name: encoder(x) for name, x in inputs.items()}).backward()
    whole = gradients(encoder)
    mm.GradCache(dict.fromkeys(inputs, encoder), pair_loss, chunk_size=4)(inputs)
    same(gradients(encoder), whole)
    same(encoder.state_dict().values(), before.values(), atol=0)


def test_buffers_that_do_not_change_may_be_in_another_graph():
    class Scaled(nn.Module):
        def __init__(self):
            super().__init__()
            self.model = tower(0)
            self.register_buffer("scale", torch.tensor([1.0, 2.0, 3.0, 4.0]).double())

        def forward(self, x):
            return self.model(x) * self.scale

    encoder = Scaled()
    x = normal(1, 3, 3)
    other = encoder(x).sum()
    mm.GradCache({"x": encoder, "y": encoder}, pair_loss, chunk_size=2)({"x": x, "y": -x})
    other.backward()


# --- nested inputs and representations -----------------------------------------------------------

Two = namedtuple("Two", "values offsets")


class Frozen(UserDict):
    """A mapping with an attribute, as tokenizers return it."""

    language = "en"


def nested(kind, values, offsets):
    return {
        "dict": lambda: {"values": values, "offsets": offsets, "mode": "sum"},
        "user dict": lambda: Frozen(values=values, offsets=offsets, mode="sum"),
        "proxy": lambda: MappingProxyType({"values": values, "offsets": offsets}),
        "tuple": lambda: (values, offsets, None),
        "named tuple": lambda: Two(values, offsets),
        "list": lambda: [values, [offsets, torch.tensor(3.0)]],
    }[kind]()


def parts(kind, x):
    if kind in ("dict", "user dict", "proxy"):
        if kind != "proxy":
            assert x["mode"] == "sum"
        assert getattr(x, "language", "en") == "en"
        return x["values"], x["offsets"]
    if kind == "list":
        assert x[1][1] == 3
        return x[0], x[1][0]
    return tuple(x[:2])


@pytest.mark.parametrize("kind", ["dict", "user dict", "proxy", "tuple", "named tuple", "list"])
def test_nested_inputs(kind):
    model = tower(0)
    given_type = type(nested(kind, normal(1, 5, 3), normal(3, 5, 1)))
    sizes = []

    def encoder(x):
        assert type(x) is (dict if kind == "proxy" else given_type)
        values, offsets = parts(kind, x)
        sizes.append((len(values), len(offsets)))
        return model(values + offsets)

    inputs = {
        "x": nested(kind, normal(1, 5, 3), normal(3, 5, 1)),
        "y": nested(kind, normal(2, 5, 3), normal(4, 5, 1)),
    }
    if kind != "proxy":
        pair_loss({name: encoder(x) for name, x in inputs.items()}).backward()
    else:
        pair_loss({k: model(x["values"] + x["offsets"]) for k, x in inputs.items()}).backward()
    whole = gradients(model)
    sizes.clear()
    mm.GradCache(dict.fromkeys(inputs, encoder), pair_loss, chunk_size=3)(inputs)
    same(gradients(model), whole)
    assert sizes == 4 * [(3, 3), (2, 2)]
    for x in inputs.values():
        assert all(len(part) == 5 for part in parts(kind, x))


def test_batch_encodings_and_model_outputs_of_transformers():
    transformers = pytest.importorskip("transformers")
    outputs = pytest.importorskip("transformers.modeling_outputs")
    table = nn.Embedding(9, 4).double()
    torch.manual_seed(0)
    ids, seen = torch.randint(0, 9, (5, 6)), torch.rand(5, 6) > 0.3

    def encoder(x):
        assert type(x) is transformers.BatchEncoding
        states = table(x.input_ids)
        return outputs.BaseModelOutputWithPooling(
            last_hidden_state=states, pooler_output=(states * x["attention_mask"][..., None]).sum(1)
        )

    def loss(features):
        pooled = {name: x.pooler_output for name, x in features.items()}
        return pair_loss(pooled) + features["x"]["last_hidden_state"].square().mean()

    inputs = {
        name: transformers.BatchEncoding({"input_ids": x, "attention_mask": seen})
        for name, x in {"x": ids, "y": ids.flip(0)}.items()
    }
    loss({name: encoder(x) for name, x in inputs.items()}).backward()
    whole = gradients(table)
    mm.GradCache(dict.fromkeys(inputs, encoder), loss, chunk_size=2)(inputs)
    same(gradients(table), whole)
