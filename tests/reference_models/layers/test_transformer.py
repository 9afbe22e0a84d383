"""Encoders against a transformer written out, padding that must not matter, and absent models."""

import math

import pytest
import torch

from reference_models.layers.transformer import ORDERS, Transformer, sinusoids

NO_DROPOUT = {
    "attention_dropout": 0.0,
    "relu_dropout": 0.0,
    "residual_dropout": 0.0,
    "embed_dropout": 0.0,
}


def padded(lengths, steps, generator, fill=0.0):
    x = torch.randn(len(lengths), steps, 4, generator=generator)
    mask = torch.arange(steps) < torch.tensor(lengths)[:, None]
    return x.masked_fill(~mask.unsqueeze(-1), fill), mask


def layer_norm(x, norm):
    mean = x.mean(-1, keepdim=True)
    variance = (x - mean).square().mean(-1, keepdim=True)
    return (x - mean) / (variance + 1e-5).sqrt() * norm.weight + norm.bias


def placed(x):
    steps, size = x.shape
    half = size // 2
    h = math.sqrt(size) * x
    for t in range(steps):
        for i in range(half):
            angle = (t + 1) / 10000 ** (i / (half - 1))
            h[t, i] += math.sin(angle)
            h[t, half + i] += math.cos(angle)
    return h


def attend_one(attention, query, keys):
    """Head by head, (T, d) and (S, d)."""
    size = query.shape[1]
    weight, bias = attention.in_proj_weight.chunk(3), attention.in_proj_bias.chunk(3)
    q, k, v = (y @ w.T + b for y, w, b in zip((query, keys, keys), weight, bias, strict=True))
    heads, width = [], size // attention.num_heads
    for head in range(attention.num_heads):
        part = slice(head * width, (head + 1) * width)
        scores = (q[:, part] @ k[:, part].T / math.sqrt(width)).exp()
        heads.append(scores / scores.sum(1, keepdim=True) @ v[:, part])
    out = attention.out_proj
    return torch.cat(heads, 1) @ out.weight.T + out.bias


def transform_one(module, x, context=None):
    """One sample (T, d) with no padding, on itself or on its context (S, d); None: an empty one."""
    order = module.layers[0].order
    h = placed(x)
    keys = h if context is None else placed(context)
    for layer in module.layers:
        keys = h if context is None else keys

        def attention(y, norm, keys=keys, layer=layer):
            normed = norm(y), norm(keys)
            return attend_one(layer.attention, *normed)

        def feed(y, layer=layer):
            y = (y @ layer.linear1.weight.T + layer.linear1.bias).clamp_min(0)
            return y @ layer.linear2.weight.T + layer.linear2.bias

        def norm1(y, layer=layer):
            return layer_norm(y, layer.norm1)

        def norm2(y, layer=layer):
            return layer_norm(y, layer.norm2)

        if order == "pre":
            h = h + attention(h, norm1)
            h = h + feed(norm2(h))
        elif order == "normed":
            h = norm1(h) + attention(h, norm1)
            h = norm2(h) + feed(norm2(h))
        else:
            h = norm1(h + attention(h, lambda y: y))
            h = norm2(h + feed(h))
    return layer_norm(h, module.norm)


def transformer(**kwargs):
    torch.manual_seed(3)
    module = Transformer(4, **{"heads": 2, "layers": 2, **kwargs})
    for parameter in module.parameters():
        if parameter.ndim == 1:
            torch.nn.init.normal_(parameter, 0.5, 0.3)
    return module.eval()


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("fill", [0.0, math.nan])
@pytest.mark.parametrize("training", [True, False])
def test_each_sample_attends_to_its_own_context_as_if_alone(order, fill, training, generator):
    module = transformer(order=order).train(training)
    queries, keys = [5, 1, 7, 3], [2, 6, 1, 6]
    x, mask = padded(queries, 8, generator, fill)
    context, context_mask = padded(keys, 6, generator, fill)
    encoded, alone = module(x, mask, context, context_mask), module(x, mask)
    assert encoded.shape == alone.shape == (4, 8, 4)
    for row, (length, reach) in enumerate(zip(queries, keys, strict=True)):
        expected = transform_one(module, x[row, :length], context[row, :reach])
        torch.testing.assert_close(encoded[row, :length], expected, rtol=1e-4, atol=1e-5)
        expected = transform_one(module, x[row, :length])
        torch.testing.assert_close(alone[row, :length], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("order", ORDERS)
def test_nothing_comes_of_a_context_that_is_empty(order, generator):
    module = transformer(order=order, layers=1)
    x, mask = padded([5, 0, 3], 5, generator)
    context, context_mask = padded([0, 3, 4], 4, generator, math.nan)
    encoded = module(x, mask, context, context_mask)
    assert torch.equal(encoded[1], torch.zeros(5, 4))
    encoded.sum().backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in module.parameters())
    with torch.no_grad():  # what attention adds, its bias included, had been left out
        module.layers[0].attention.out_proj.weight.zero_()
        module.layers[0].attention.out_proj.bias.zero_()
    torch.testing.assert_close(module(x, mask, context, context_mask)[0], encoded[0])


def test_without_positions_steps_may_change_places(generator):
    module = transformer(positions=False)
    x, mask = padded([5, 5], 5, generator)
    order = torch.tensor([3, 1, 4, 0, 2])
    torch.testing.assert_close(module(x[:, order], mask), module(x, mask)[:, order])
    placed_module = transformer()
    assert not torch.allclose(
        placed_module(x[:, order], mask), placed_module(x, mask)[:, order], atol=1e-2
    )


def test_the_feed_forward_is_as_wide_as_told():
    assert transformer().layers[0].linear1.out_features == 16
    assert transformer(feedforward=4).layers[0].linear1.out_features == 4


def test_transformers_that_cannot_be(generator):
    with pytest.raises(ValueError, match="heads: expected a divisor of 4, the width, got 3"):
        Transformer(4, layers=1, heads=3)
    with pytest.raises(ValueError, match=r"order: expected one of .*, got 'last'"):
        Transformer(4, layers=1, heads=2, order="last")
    module = transformer()
    x, mask = padded([2], 3, generator)
    with pytest.raises(ValueError, match=r"sequence: expected shape \(B, T, 4\)"):
        module(x[..., :3], mask)
    with pytest.raises(ValueError, match=r"sequence: expected shape \(B, T, 4\)"):
        module(x, mask, x[..., :3], mask)
    with pytest.raises(ValueError, match="mask: expected bool"):
        module(x, mask, x, mask.float())


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
