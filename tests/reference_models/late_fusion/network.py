"""Late fusion: each modality predicts by itself, and the predictions are averaged."""

from collections.abc import Mapping

import torch
from einops import reduce
from torch import nn
from transformers import PreTrainedModel

import mmcontrast as mm
from reference_models.data.batch import Batch
from reference_models.layers.heads import HEADS, shaped, task_loss
from reference_models.layers.inputs import check_sizes, sequences, widths
from reference_models.layers.output import Output
from reference_models.layers.pooling import masked_mean
from tests.reference_models.late_fusion.settings import LateFusionConfig


class LateFusion(nn.Module):
    """A linear layer and a predictor for each modality; InfoNCE draws a sample's two together."""

    def __init__(
        self,
        config: LateFusionConfig,
        sizes: Mapping[str, int],
        text_encoder: PreTrainedModel | None = None,
        *,
        generator: torch.Generator | None = None,
    ):
        super().__init__()
        check_sizes(sizes, text_encoder)
        self.config, self.text_encoder = config, text_encoder
        size, outputs = config.hidden_size, HEADS[config.head]
        self.layers = nn.ModuleDict(
            {name: nn.Linear(width, size) for name, width in widths(sizes, text_encoder).items()}
        )
        self.heads = nn.ModuleDict({name: nn.Linear(size, outputs) for name in sizes})

    def forward(self, batch: Batch) -> Output:
        """Predict, and with labels compute the losses; the contrast in training only."""
        config, inputs = self.config, sequences(batch, self.layers, self.text_encoder)
        x = {m: layer(masked_mean(*inputs[m])).relu() for m, layer in self.layers.items()}
        outputs = reduce([head(x[m]) for m, head in self.heads.items()], "m b n -> b n", "mean")
        prediction = shaped(outputs, config.head)
        fused = torch.cat(list(x.values()), dim=1)  # (B, 2 * hidden_size)
        if batch.labels is None:
            return Output(prediction, None, fused)
        terms = {"task": task_loss(prediction, batch.labels, config.head)}
        if self.training:
            both = inputs["text"].present & inputs["audio"].present  # (B,)
            terms["contrast"] = mm.info_nce(
                x["text"],
                x["audio"],
                temperature=config.temperature,
                keep=both.unsqueeze(1) & mm.gather(both),
                group="world",  # the rows of all ranks
            )
        weights = {"contrast": config.contrast_weight} if self.training else None
        return Output(prediction, mm.LossTerms(terms, weights), fused)
