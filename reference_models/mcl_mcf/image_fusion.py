"""Two vectors as an image, their outer product, and what reads such images: MCL-MCF's parts.

References: MCL-MCF, sections 3.3.3 and 6.6.
"""

from collections.abc import Mapping
from itertools import combinations

import torch
from torch import Tensor, nn
from transformers import (
    ResNetConfig,
    ResNetModel,
    ViTConfig,
    ViTMAEConfig,
    ViTMAEForPreTraining,
    ViTModel,
)

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
    return x.unsqueeze(2) * y.unsqueeze(1)


class ConvolutionStack(nn.Module):
    """Three 3x3 convolutions without padding, a ReLU after each, and what is left as one row.

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
        return self.layers(image.unsqueeze(1))

    def features(self, side: int) -> int:
        """The length of the row that an image of this side becomes."""
        return (side - 6) ** 2 * self.layers[4].out_channels


class ResNet(nn.Module):
    """A residual network with its layer of 1000 outputs, from random weights.

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
        return self.layer(self.network(images).pooler_output.flatten(1))


class VisionTransformer(nn.Module):
    """The class token that a vision transformer with patches of 16 x 16 ends with.

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
    """The pixels that a masked autoencoder sees in an image: the mean over its 16 x 16 patches.

    In training a share of the patches is hidden from it, in evaluation none.

    Args:
        side: S, a multiple of 16.
        layers, heads: of the encoder, with 64 features a head. The decoder has as many heads, of 32
            features each, and at most 8 layers.
        mask: the share of the patches that is hidden, below 1.
        generator: draws the patches, on the images' device; None is torch's own.
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
        # The patches of the least noise are seen. Where all are, their order must not matter.
        noise = torch.arange(patches, device=images.device).expand(len(images), -1)
        if hidden > 0:
            shape = (len(images), patches)
            noise = torch.rand(shape, generator=self.generator, device=images.device)
        self.network.vit.embeddings.config.mask_ratio = hidden
        # Not the network's own forward: it also computes a loss, 0 / 0 where nothing is hidden.
        seen = self.network.vit(images, noise=noise)
        return self.network.decoder(seen.last_hidden_state, seen.ids_restore).logits.mean(1)


class SingleLayers(nn.Module):
    """TSLC: a 3x3 convolution without padding on each of three images, and a ReLU; one row.

    One layer, as its name says, not the three of the third level: the paper's 24.77 million
    parameters and 26.52 million operations are those of one layer on images of 256 x 256.
    """

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Conv2d(1, 1, 3) for _ in range(3))

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, S, S) to (B, 3 * (S - 2)^2)."""
        read = [layer(images[:, i : i + 1]).relu() for i, layer in enumerate(self.layers)]
        return torch.cat(read, dim=1).flatten(1)


class ImageFusion(nn.Module):
    """What a backbone reads in the images of three modalities' pairs, stacked as channels.

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
        return self.backbone(torch.stack(images, dim=1))


def check_side(name: str, side: int) -> None:
    """Refuse images that a backbone cannot read.

    Raises:
        ValueError: another name, or a ``side`` that does not fit.
    """
    if name not in BACKBONES:
        raise ValueError(f"image_backbone: expected one of {', '.join(BACKBONES)}, got {name!r}")
    # Up to 32, a residual network ends with one pixel: no batch statistics in a batch of one.
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

    With a last part ``Linear(F, 128)``, ``Linear(128, 1)`` they have the paper's numbers of
    trainable parameters, in millions: 11.82, 21.93 and 25.69 for the residual networks, 329.34 for
    the masked autoencoder (ViT-Large, with its decoder), and 24.77 for TSLC on 256 x 256 pixels.
    The vision transformer's, 184.34 with six layers, is not: its width is not said, and here it is
    ViT-Base's.

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
