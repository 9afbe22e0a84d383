"""MFON's network of one modality, a teacher, and the layers that the whole network shares with it.

References: MFON, COLING 2025, pages 4611-4621.
"""

from itertools import pairwise

from torch import Tensor, nn
from transformers import PreTrainedModel

from mmcontrast import LossTerms
from reference_models.data.batch import Batch
from reference_models.layers.heads import HEADS, shaped, task_loss
from reference_models.layers.inputs import sequences, widths
from reference_models.layers.output import Output
from reference_models.layers.pooling import pool
from reference_models.layers.transformer import Transformer
from reference_models.mfon.settings import MFONConfig


class Unimodal(nn.Module):
    """One modality and a predictor: a teacher, or the whole network if it is the only modality.

    A projection, then self attention for audio and vision; text has passed its encoder.
    """

    def __init__(
        self, config: MFONConfig, name: str, size: int, text_encoder: PreTrainedModel | None
    ):
        super().__init__()
        self.config, self.name, self.text_encoder = config, name, text_encoder
        self.projection = input_projection(config, name, widths({name: size}, text_encoder)[name])
        self.attention = None
        if name != "text":
            layers = getattr(config, f"teacher_{name}_layers")
            self.attention = attention_layers(
                config, layers, getattr(config, f"teacher_{name}_dropout")
            )
        self.predictor = output_predictor(config, config.hidden_size)

    def encode(self, batch: Batch) -> Tensor:
        """The modality's representation, (B, d)."""
        [(steps, mask)] = sequences(batch, [self.name], self.text_encoder).values()
        x = self.projection(steps)
        x = x if self.attention is None else self.attention(x, mask)
        return pool(x, mask, self.config.pool)

    def forward(self, batch: Batch) -> Output:
        """For a teacher in training: predict, and with labels compute the task's loss.

        Raises:
            ValueError: the config asks for the modality's own labels, and the batch has none.
        """
        features, labels, head = self.encode(batch), batch.labels, self.config.head
        if labels is not None and self.config.teacher_label == "own":
            labels = batch.unimodal_labels.get(self.name)
            if labels is None:
                got = tuple(batch.unimodal_labels)
                raise ValueError(f"unimodal_labels: expected {self.name!r} among them, got {got}")
        prediction, terms = shaped(self.predictor(features), head), None
        if labels is not None:
            terms = LossTerms({"task": task_loss(prediction, labels, head, squared=True)})
        return Output(prediction, terms, features)


def _mlp(*sizes: int) -> nn.Sequential:
    """Linear layers with GELU between them."""
    layers = [part for pair in pairwise(sizes) for part in (nn.Linear(*pair), nn.GELU())]
    return nn.Sequential(*layers[:-1])


def input_projection(config: MFONConfig, name: str, width: int) -> nn.Sequential:
    """From a modality's own width to d."""
    mlp = _mlp(width, *[config.hidden_size] * config.mlp_layers)
    return mlp.append(nn.Dropout(config.text_dropout)) if name == "text" else mlp


def output_predictor(config: MFONConfig, *sizes: int) -> nn.Sequential:
    """Layers of ``sizes``, then a narrowing to an eighth of d, then the head's outputs."""
    return _mlp(*sizes, config.hidden_size // 2, config.hidden_size // 8, HEADS[config.head])


def attention_layers(config: MFONConfig, layers: int, dropout: float) -> Transformer:
    """MulT's layers with a narrow feed-forward, and without a causal mask.

    The authors' code has a causal mask, and pools the first step: the rest of the sequence would
    not reach that step.
    """
    return Transformer(
        config.hidden_size,
        layers=layers,
        heads=config.heads,
        feedforward=config.hidden_size,
        **{f"{place}_dropout": dropout for place in ("attention", "relu", "residual", "embed")},
    )
