"""MCL-MCF: a fusion in several layers, with contrast on three levels of it.

References: Multi-level Contrastive Learning: Hierarchical Alleviation of Heterogeneity in
Multimodal Sentiment Analysis, eq 1-23.
"""

from collections.abc import Mapping

import torch
from einops import rearrange
from torch import nn
from transformers import PreTrainedModel

from mmcontrast import LearnableTemperature, LossTerms, sentiment_classes
from reference_models.data.batch import Batch
from reference_models.layers.heads import HEADS, shaped, task_loss
from reference_models.layers.inputs import MODALITIES, check_sizes, sequences, widths
from reference_models.layers.output import Output
from reference_models.layers.pooling import first_step
from reference_models.mcl_mcf.image_fusion import ImageFusion, image_backbone
from reference_models.mcl_mcf.layered_fusion import ConvolutionFusion, LastState, LinearFusion
from reference_models.mcl_mcf.levels import LEVELS, Levels
from reference_models.mcl_mcf.settings import MclMcfConfig


class MclMcf(nn.Module):
    """MCL-MCF's network on two or three modalities, with its losses.

    One vector for each modality: the first token's state of a text encoder, or the last state of a
    recurrent network on features. Their fusion, and three layers. With two modalities there is one
    pair on the first level and none on the others. A modality that a sample lacks is a zero vector
    in the fusion, and views that contain it are not compared.

    Args:
        config: of the network and the losses.
        sizes: feature dimension by modality: "text", "audio", "vision", two or more of them. With a
            text encoder the text's size is the encoder's, and the one given here is not read.
        text_encoder: reads token ids.
        generator: draws the patches that a masked autoencoder hides, on the model's device; None:
            torch's default generator.

    Raises:
        ValueError: fewer than two modalities, unknown ones, a text encoder without text, or an
            ``image_backbone`` without all three modalities.
    """

    def __init__(
        self,
        config: MclMcfConfig,
        sizes: Mapping[str, int],
        text_encoder: PreTrainedModel | None = None,
        *,
        generator: torch.Generator | None = None,
    ):
        super().__init__()
        check_sizes(sizes, text_encoder)
        self.config = config
        self.text_encoder = text_encoder
        self.names = tuple(name for name in MODALITIES if name in sizes)
        by_images = config.image_backbone is not None
        if by_images and len(self.names) < 3:
            raise ValueError(
                f"image_backbone: expected none with {' and '.join(self.names)} alone,"
                f" got {config.image_backbone!r}"
            )
        found = widths(sizes, text_encoder)
        size = {name: found[name] for name in self.names}
        self.encoders = nn.ModuleDict()
        for name in self.names:
            if name != "text" or text_encoder is None:
                self.encoders[name] = LastState(size[name], config.hidden_size)
                size[name] = config.hidden_size
        self.levels = self._make_levels(size, contrast=not by_images)
        self.fusion, features = self._make_fusion(size, generator)
        self.maps = nn.ModuleDict()
        if self.fusion.reads_maps or "third" in self.levels.views:
            for name, width in size.items():
                self.maps[name] = nn.Linear(width, config.tcf_size)
        inner = config.head_size
        self.hidden = nn.Sequential(
            nn.Dropout(config.head_dropout), nn.Linear(features, inner), nn.Tanh()
        )
        if not by_images:
            self.hidden.extend([nn.Linear(inner, inner), nn.Tanh()])
        self.head = nn.Linear(inner, HEADS[config.head])
        for name, parameter in self.named_parameters():
            own = not name.startswith(("text_encoder.", "fusion.backbone."))
            if own and parameter.ndim > 1:
                nn.init.xavier_normal_(parameter)

    def _make_levels(self, size: Mapping[str, int], *, contrast: bool) -> Levels:
        config = self.config
        learned = config.learnable_temperature
        return Levels(
            size,
            {level: getattr(config, f"{level}_weight") * contrast for level in LEVELS},
            hidden_size=config.hidden_size,
            tcf_size=config.tcf_size,
            channels=config.channels,
            contrast_size=config.contrast_size,
            trimodal_partner=config.trimodal_partner,
            temperature=LearnableTemperature(config.temperature) if learned else config.temperature,
            symmetric=config.symmetric,
            pair_design=config.pair_design,
        )

    def _make_fusion(
        self, size: Mapping[str, int], generator: torch.Generator | None
    ) -> tuple[nn.Module, int]:
        """The fusion, and the number of its output features."""
        config = self.config
        if config.image_backbone is not None:
            backbone, features = image_backbone(
                config.image_backbone,
                config.tcf_size,
                layers=config.image_layers,
                heads=config.image_heads,
                mask=config.image_mask,
                generator=generator,
            )
            return ImageFusion(backbone), features
        if config.fusion == "mcf":
            shared = config.tcf_size if config.share_tcf_mcf else None
            return ConvolutionFusion(size, config.fusion_size, shared), config.fusion_size
        return LinearFusion(size, config.fusion_size), config.fusion_size

    def forward(self, batch: Batch) -> Output:
        """Predict, and with labels compute the losses: all four in training, else the task's.

        Raises:
            ValueError: a modality that the batch lacks, text of the other kind, or labels of a
                shape that is not the head's.
        """
        vectors, present = {}, {}
        for name, (steps, mask) in sequences(batch, self.names, self.text_encoder).items():
            encoded = name not in self.encoders
            vector = first_step(steps, mask) if encoded else self.encoders[name](steps, mask)
            present[name] = mask.any(1)
            vectors[name] = vector.masked_fill(rearrange(~present[name], "b -> b 1"), 0)
        contrast, maps = self.training and batch.labels is not None, {}
        if self.fusion.reads_maps or contrast:
            # Shared by the images and the fusion, as in the authors' code (eq 13 and 20).
            maps = {name: layer(vectors[name]).relu() for name, layer in self.maps.items()}
        fused = self.hidden(self.fusion(vectors, maps))  # (B, head_size)
        prediction = shaped(self.head(fused), self.config.head)
        if batch.labels is None:
            return Output(prediction, None, fused)
        task = task_loss(prediction, batch.labels, self.config.head)
        if not contrast:
            return Output(prediction, LossTerms({"task": task}), fused)
        # Pair designs B and C compare by the class of a sample, for scores their sign.
        scores = self.config.head == "regression"
        classes = sentiment_classes(batch.labels, neutral="own") if scores else batch.labels
        terms = {"task": task, **{level: task.new_zeros(()) for level in LEVELS}}
        terms |= self.levels(vectors, maps, present, classes)
        return Output(prediction, LossTerms(terms, {"task": 1.0, **self.levels.weights}), fused)
