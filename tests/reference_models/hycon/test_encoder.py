"""HyCon's encoder of a modality, against one sample at a time by hand."""

import math

import pytest
import torch

from reference_models.hycon.encoder import SequenceEncoder
from reference_models.layers.pooling import last_step
from tests.reference_models.layers.test_transformer import NO_DROPOUT, padded, transform_one


def encoder(**kwargs):
    """A small one in evaluation, its biases and scales drawn too."""
    torch.manual_seed(3)
    module = SequenceEncoder(4, 6, **{"heads": 3, "layers": 2, **kwargs})
    for parameter in module.parameters():
        if parameter.ndim == 1:
            torch.nn.init.normal_(parameter, 0.5, 0.3)
    return module.eval()


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
    return h if module.transformer is None else transform_one(module.transformer, h)


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
    for layer in module.transformer.layers:
        layer.attention.register_forward_pre_hook(
            lambda _, args, kwargs: seen.append(kwargs["key_padding_mask"]), with_kwargs=True
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
    assert module.transformer.dropout.p == 0.4
    for layer in module.transformer.layers:
        found = (layer.attention.dropout, layer.relu_dropout.p, layer.residual_dropout.p)
        assert found == (0.1, 0.2, 0.3)


@pytest.mark.parametrize("name", list(NO_DROPOUT))
def test_every_dropout_acts_in_training_only(name, generator):
    module = encoder(**{**NO_DROPOUT, name: 0.5})
    x, mask = padded([5, 5], 5, generator)
    assert torch.equal(module(x, mask), module(x, mask))
    module.train()
    assert not torch.equal(module(x, mask), module(x, mask))


def test_initial_weights_are_xavier_uniform_and_biases_zero():
    torch.manual_seed(0)
    for layer in SequenceEncoder(4).transformer.layers:
        attention = layer.attention
        linears = [layer.linear1, layer.linear2, attention.out_proj]
        weights = [attention.in_proj_weight, *(linear.weight for linear in linears)]
        for weight in weights:
            bound = math.sqrt(6 / sum(weight.shape))
            assert 0.98 * bound < weight.abs().max() <= bound
            assert weight.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.05)
        biases = [attention.in_proj_bias, *(linear.bias for linear in linears)]
        assert not any(bias.any() for bias in biases)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"kernel_size": 2}, "kernel_size: expected an odd number, got 2"),
        ({"heads": 4}, "heads: expected a divisor of 6, the width, got 4"),
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
