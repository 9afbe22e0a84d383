"""Outer products as images: their convolutions by loops, and every backbone that reads them."""

import numpy as np
import pytest
import torch
from torch import nn

from reference_models.mcl_mcf.image_fusion import (
    BACKBONES,
    ConvolutionStack,
    SingleLayers,
    image_backbone,
    outer_image,
)

SIDE = 48  # the smallest that every backbone reads
TINY = {"layers": 1, "heads": 1}


def convolved(images, weight, bias):
    """A convolution without padding and a ReLU, by loops: (C, S, S) to (O, S - 2, S - 2)."""
    outputs, side = len(weight), images.shape[-1] - 2
    out = np.zeros((outputs, side, side))
    for o in range(outputs):
        for i in range(side):
            for j in range(side):
                window = images[:, i : i + 3, j : j + 3]
                out[o, i, j] = max(0.0, (weight[o] * window).sum() + bias[o])
    return out


def arrays(layer):
    return layer.weight.detach().numpy(), layer.bias.detach().numpy()


def test_an_outer_product_holds_every_product():
    x, y = torch.randn(2, 3), torch.randn(2, 3)
    image = outer_image(x, y)
    for b in range(2):
        for i in range(3):
            for j in range(3):
                assert image[b, i, j] == x[b, i] * y[b, j]


@pytest.mark.parametrize("channels", [(4, 6, 1), (1, 2, 3)])
def test_the_stack_is_three_convolutions_by_loops(channels):
    torch.manual_seed(3)
    stack = ConvolutionStack(channels).double()
    images = torch.randn(2, 9, 9, dtype=torch.float64)
    rows = stack(images)
    for image, row in zip(images.numpy(), rows, strict=True):
        x = image[None]
        for layer in stack.layers:
            if isinstance(layer, nn.Conv2d):
                x = convolved(x, *arrays(layer))
        np.testing.assert_allclose(row.detach().numpy(), x.reshape(-1), rtol=1e-10, atol=1e-12)
    assert (rows > 0).any()
    assert rows.shape == (2, stack.features(9)) == (2, 9 * channels[2])


def test_single_layers_read_an_image_each_by_loops():
    torch.manual_seed(3)
    network = SingleLayers().double()
    images = torch.randn(2, 3, 5, 5, dtype=torch.float64)
    for image, row in zip(images.numpy(), network(images), strict=True):
        read = [
            convolved(image[i : i + 1], *arrays(layer)) for i, layer in enumerate(network.layers)
        ]
        expected = np.concatenate([x.reshape(-1) for x in read])
        np.testing.assert_allclose(row.detach().numpy(), expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(
    ("name", "side", "millions"),
    [
        ("resnet18", 128, 11.82),
        ("resnet34", 128, 21.93),
        ("resnet50", 128, 25.69),
        ("mae", 224, 329.34),
        ("tslc", 256, 24.77),
    ],
)
def test_it_has_the_published_number_of_trainable_parameters(name, side, millions):
    with torch.device("meta"):
        backbone, features = image_backbone(name, side)
        network = nn.Sequential(backbone, nn.Linear(features, 128), nn.Linear(128, 1))
    trained = sum(p.numel() for p in network.parameters() if p.requires_grad)
    assert round(trained / 1e6, 2) == millions


def test_the_vision_transformer_has_six_layers_and_patches_of_16():
    with torch.device("meta"):
        backbone, features = image_backbone("vit", 128)
    config = backbone.network.config
    assert (config.num_hidden_layers, config.patch_size, config.image_size) == (6, 16, 128)
    assert features == config.hidden_size == 768


@pytest.mark.parametrize("name", BACKBONES)
def test_every_backbone_reads_all_three_images_and_learns(name):
    torch.manual_seed(3)
    backbone, features = image_backbone(name, SIDE, **TINY, mask=0.0)
    images = torch.randn(2, 3, SIDE, SIDE, requires_grad=True)
    read = backbone.train()(images)
    assert read.shape == (2, features)
    read.square().sum().backward()
    assert all(images.grad[:, channel].any() for channel in range(3))
    for parameter_name, parameter in backbone.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None, parameter_name
            assert parameter.grad.isfinite().all()


@pytest.mark.parametrize("name", BACKBONES)
def test_a_sample_is_read_by_itself_in_evaluation(name):
    torch.manual_seed(3)
    backbone, _ = image_backbone(name, SIDE, **TINY)
    images = torch.randn(3, 3, SIDE, SIDE, dtype=torch.float64)
    with torch.no_grad():
        together = backbone.double().eval()(images)
        alone = backbone(images[1:2])
        torch.testing.assert_close(alone, together[1:2])
        torch.testing.assert_close(backbone(images), together, rtol=0, atol=0)


def test_the_smallest_image_has_batch_statistics_for_one_sample():
    backbone, _ = image_backbone("resnet18", 33)
    with torch.no_grad():
        assert backbone.train()(torch.randn(1, 3, 33, 33)).isfinite().all()


def patches_seen(backbone, side=64):
    """(patches,) bool: which of an image's patches have a gradient."""
    images = torch.ones(1, 3, side, side, requires_grad=True)
    backbone(images).square().sum().backward()
    grid = images.grad[0].abs().sum(0).reshape(side // 16, 16, side // 16, 16)
    return grid.sum((1, 3)).flatten() > 0


@pytest.mark.parametrize("mask", [0.0, 0.25, 0.75])
def test_training_hides_a_share_of_the_patches_and_evaluation_none(mask):
    generator = torch.Generator().manual_seed(1)
    backbone, _ = image_backbone("mae", 64, **TINY, mask=mask, generator=generator)
    assert patches_seen(backbone.eval()).all()
    seen = [patches_seen(backbone.train()) for _ in range(4)]
    assert [int(x.sum()) for x in seen] == [16 * (1 - mask)] * 4
    assert any(not torch.equal(seen[0], x) for x in seen) == (mask > 0)
    assert patches_seen(backbone.eval()).all()


def test_what_is_hidden_comes_from_the_generator():
    images = torch.randn(2, 3, 64, 64)

    def read(seed):
        torch.manual_seed(3)
        generator = torch.Generator().manual_seed(seed)
        backbone, _ = image_backbone("mae", 64, **TINY, generator=generator)
        torch.manual_seed(100 + seed)
        return backbone.train()(images)

    assert torch.equal(read(1), read(1))
    assert not torch.equal(read(1), read(2))


@pytest.mark.parametrize(
    ("name", "side", "message"),
    [
        ("vgg", 64, "image_backbone: expected one of resnet18, .*, tslc, got 'vgg'"),
        ("resnet34", 32, "tcf_size: expected above 32 for resnet34, got 32"),
        ("vit", 40, "tcf_size: expected a multiple of 16 for vit, got 40"),
        ("mae", 225, "tcf_size: expected a multiple of 16 for mae, got 225"),
    ],
)
def test_what_cannot_be_read_is_refused(name, side, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        image_backbone(name, side)
