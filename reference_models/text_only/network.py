"""The network of text alone: a text encoder and one linear layer."""

from collections.abc import Mapping

import torch
from torch import nn
from transformers import PreTrainedModel

from mmcontrast import LossTerms
from reference_models.data.batch import Batch
from reference_models.layers.heads import HEADS, shaped, task_loss
from reference_models.layers.inputs import sequences, widths
from reference_models.layers.output import Output
from reference_models.layers.pooling import pool
from reference_models.text_only.settings import TextOnlyConfig


class TextOnly(nn.Module):
    """The states of a text, pooled, and one linear layer.

    A sample without text is predicted by the linear layer's bias.

    Args:
        config: of the network and its loss.
        sizes: feature dimension of "text", the only modality. With a text encoder it is the
            encoder's, and the one given here is not read.
        text_encoder: reads token ids; without it, text is precomputed features.
        generator: accepted like in every model, and not used: only dropout is random here.

    Raises:
        ValueError: no text, or anything beside it.
    """

    def __init__(
        self,
        config: TextOnlyConfig,
        sizes: Mapping[str, int],
        text_encoder: PreTrainedModel | None = None,
        *,
        generator: torch.Generator | None = None,
    ):
        super().__init__()
        if set(sizes) != {"text"}:
            got = tuple(sizes)
            raise ValueError(f"sizes: expected text alone (--modalities text), got {got}")
        self.config = config
        self.text_encoder = text_encoder
        self.dropout = nn.Dropout(config.dropout)
        self.head = nn.Linear(widths(sizes, text_encoder)["text"], HEADS[config.head])

    def forward(self, batch: Batch) -> Output:
        """Predict, and with labels compute the task's loss.

        Raises:
            ValueError: a batch without text, text of the other kind, or labels of another shape
                than the head's.
        """
        text = sequences(batch, ["text"], self.text_encoder)["text"]
        fused = pool(text.steps, text.mask, self.config.pool)
        prediction = shaped(self.head(self.dropout(fused)), self.config.head)
        terms = None
        if batch.labels is not None:
            squared = self.config.squared
            task = task_loss(prediction, batch.labels, self.config.head, squared=squared)
            terms = LossTerms({"task": task})
        return Output(prediction, terms, fused)
