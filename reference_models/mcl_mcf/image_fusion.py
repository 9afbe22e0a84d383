"""MCL-MCF's images, outer products of two vectors, and the networks that read them.

References: MCL-MCF, sections 3.3.3 and 6.6.
"""

from collections.abc import Mapping
from itertools import combinations

import torch
from einops import rearrange, reduce
from torch import Tensor, nn
from transformers import (
    ResNetConfig,
    ResNetModel,
    ViTConfig,
    ViTMAEConfig,
    ViTMAEForPreTraining,
    ViTModel,
)

from mmcontrast.picking import uniform_draws

PATCH = 16
RESNETS = {
    "resnet18": ("basic", (2, 2, 2, 2), (64, 128, 256, 512)),
    "resnet34": ("basic", (3, 4, 6, 3), (64, 128, 256, 512)),
    "resnet50": ("bottleneck", (3, 4, 6, 3), (256, 512, 1024, 2048)),
}
"""Kind of layer, layers by stage, channels by stage."""
BACKBONES = (*RESNETS, "vit", "mae", "tslc")


def outer_image(x: Tensor, y: Tensor) -> Tensor:
    """The outer products of rows, (B, S), (B, S) -> (B, S, S): images of rank one."""
    return rearrange(x, "b row -> b row 1") * rearrange(y, "b column -> b 1 column")


class ConvolutionStack(nn.Module):
    """Three 3x3 convolutions without padding, a ReLU after each; the result, flattened.

    Args:
        channels: of the three convolutions.

    References: MCL-MCF eq 15; the ReLUs are its authors' code's.
    """

    def __init__(self, channels: tuple[int, int, int]):
        super().__init__()
        one, two, three = channels
        self.layers = nn.Sequential(
            nn.Conv2d(1, one, 3),
            nn.ReLU(),
            nn.Conv2d(one, two, 3),
            nn.ReLU(),
            nn.Conv2d(two, three, 3),
            nn.ReLU(),
            nn.Flatten(),
        )

    def forward(self, image: Tensor) -> Tensor:
        """(B, S, S), S from 7, to (B, features(S))."""
        return self.layers(rearrange(image, "b h w -> b 1 h w"))

    def features(self, side: int) -> int:
        """The length of the flattened result for an image of this side."""
        return (side - 6) ** 2 * self.layers[4].out_channels


class ResNet(nn.Module):
    """A residual network with its final layer of 1000 outputs, randomly initialised.

    Args:
        name: one of ``RESNETS``.
    """

    def __init__(self, name: str):
        super().__init__()
        kind, depths, sizes = RESNETS[name]
        self.network = ResNetModel(
            ResNetConfig(layer_type=kind, depths=list(depths), hidden_sizes=list(sizes))
        )
        self.layer = nn.Linear(sizes[-1], 1000)

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, S, S) to (B, 1000)."""
        pooled = rearrange(self.network(images).pooler_output, "b channel 1 1 -> b channel")
        return self.layer(pooled)


class VisionTransformer(nn.Module):
    """The last state of the class token of a vision transformer with patches of 16 x 16.

    Args:
        side: S, a multiple of 16.
        layers, heads: their numbers; a head has 64 features.
    """

    def __init__(self, side: int, *, layers: int, heads: int):
        super().__init__()
        config = ViTConfig(
            image_size=side,
            patch_size=PATCH,
            hidden_size=64 * heads,
            num_hidden_layers=layers,
            num_attention_heads=heads,
            intermediate_size=256 * heads,
        )
        self.network = ViTModel(config, add_pooling_layer=False)

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, S, S) to (B, 64 * heads)."""
        return self.network(images).last_hidden_state[:, 0]


class MaskedAutoencoder(nn.Module):
    """The pixels that a masked autoencoder reconstructs, averaged over its 16 x 16 patches.

    In training a share of the patches is hidden from it, in evaluation none.

    Args:
        side: S, a multiple of 16.
        layers, heads: of the encoder, with 64 features a head. The decoder has as many heads, of 32
            features each, and at most 8 layers.
        mask: the share of the patches that is hidden, below 1.
        generator: draws the patches, on the images' device; None: torch's default generator.
    """

    def __init__(
        self,
        side: int,
        *,
        layers: int,
        heads: int,
        mask: float,
        generator: torch.Generator | None = None,
    ):
        super().__init__()
        self.mask = mask
        self.generator = generator
        config = ViTMAEConfig(
            image_size=side,
            patch_size=PATCH,
            hidden_size=64 * heads,
            num_hidden_layers=layers,
            num_attention_heads=heads,
            intermediate_size=256 * heads,
            decoder_hidden_size=32 * heads,
            decoder_num_hidden_layers=min(8, layers),
            decoder_num_attention_heads=heads,
            decoder_intermediate_size=128 * heads,
        )
        self.network = ViTMAEForPreTraining(config)

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, S, S) to (B, 768)."""
        patches = (images.shape[-1] // PATCH) ** 2
        hidden = self.mask if self.training else 0.0
        # The patches with the least noise are visible. With nothing hidden, keep their order.
        noise = torch.arange(patches, device=images.device).expand(len(images), -1)
        if hidden > 0:
            noise = uniform_draws((len(images), patches), images.device, self.generator)
        self.network.vit.embeddings.config.mask_ratio = hidden
        # Not the network's own forward: its loss is 0 / 0 where no patch is hidden.
        seen = self.network.vit(images, noise=noise)
        pixels = self.network.decoder(seen.last_hidden_state, seen.ids_restore).logits
        return reduce(pixels, "b patch pixel -> b pixel", "mean")


class SingleLayers(nn.Module):
    """TSLC: a 3x3 convolution without padding and a ReLU on each of three images, flattened.

    One layer, as its name says, not the three of the third level: with it the parameters, 24.77
    million, and operations, 26.52 million, on images of 256 x 256 are those in the paper.
    """

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Conv2d(1, 1, 3) for _ in range(3))

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, S, S) to (B, 3 * (S - 2)^2)."""
        read = [layer(images[:, i : i + 1]).relu() for i, layer in enumerate(self.layers)]
        return rearrange(read, "image b 1 h w -> b (image h w)")


class ImageFusion(nn.Module):
    """A backbone on the images of the three pairs of modalities, as its three channels.

    Args:
        backbone: (B, 3, S, S) to (B, F).
    """

    reads_maps = True

    def __init__(self, backbone: nn.Module):
        super().__init__()
        self.backbone = backbone

    def forward(self, vectors: Mapping[str, Tensor], maps: Mapping[str, Tensor]) -> Tensor:
        """Features (B, S) by modality to (B, F); the vectors are not read."""
        images = [outer_image(one, other) for one, other in combinations(maps.values(), 2)]
        return self.backbone(rearrange(images, "pair b h w -> b pair h w"))


def check_side(name: str, side: int) -> None:
    """Refuse images that a backbone cannot read.

    Raises:
        ValueError: another name, or a ``side`` that does not fit.
    """
    if name not in BACKBONES:
        raise ValueError(f"image_backbone: expected one of {', '.join(BACKBONES)}, got {name!r}")
    # Up to a side of 32, a residual network ends with one pixel: a batch of one would have no
    # variance to normalise by.
    if name in RESNETS and side <= 32:
        raise ValueError(f"tcf_size: expected above 32 for {name}, got {side}")
    if name in ("vit", "mae") and side % PATCH:
        raise ValueError(f"tcf_size: expected a multiple of {PATCH} for {name}, got {side}")


def image_backbone(
    name: str,
    side: int,
    *,
    layers: int | None = None,
    heads: int | None = None,
    mask: float = 0.75,
    generator: torch.Generator | None = None,
) -> tuple[nn.Module, int]:
    """A backbone of the paper's Table 9 on three images (B, 3, S, S), and its features F.

    Followed by ``Linear(F, 128)`` and ``Linear(128, 1)`` they have as many trainable parameters as
    in the paper, in millions: 11.82, 21.93 and 25.69 for the residual networks, 329.34 for the
    masked autoencoder (ViT-Large, with its decoder), and 24.77 for TSLC on 256 x 256 pixels. The
    vision transformer does not reach the paper's 184.34 with six layers: the paper does not give
    its width, and here it is ViT-Base's.

    Args:
        name: one of ``BACKBONES``.
        side: S.
        layers, heads: of the two transformers; None: 6 and 12 for "vit", 24 and 16 for "mae".
        mask, generator: of "mae".

    Raises:
        ValueError: another name, or a ``side`` that does not fit.
    """
    check_side(name, side)
    if name in RESNETS:
        return ResNet(name), 1000
    if name == "tslc":
        return SingleLayers(), 3 * (side - 2) ** 2
    usual = (6, 12) if name == "vit" else (24, 16)
    layers, heads = layers or usual[0], heads or usual[1]
    if name == "vit":
        return VisionTransformer(side, layers=layers, heads=heads), 64 * heads
    network = MaskedAutoencoder(side, layers=layers, heads=heads, mask=mask, generator=generator)
    return network, 3 * PATCH**2
