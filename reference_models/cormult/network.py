"""CorMulT: MulT, with cross-modal streams weighted by the correlation of their modalities.

References: CorMulT, arXiv:2407.07046; MulT, arXiv:1906.00295.
"""

from collections.abc import Iterable, Mapping
from itertools import permutations

import torch
from einops import pack, rearrange
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import PreTrainedModel

from mmcontrast import LossTerms
from reference_models.cormult.evaluator import Evaluator, Pretraining
from reference_models.cormult.settings import CorMulTConfig
from reference_models.data.batch import Batch
from reference_models.layers.heads import HEADS, shaped, task_loss
from reference_models.layers.inputs import check_sizes, sequences, widths
from reference_models.layers.output import Output
from reference_models.layers.pooling import last_step
from reference_models.layers.stages import Stage
from reference_models.layers.transformer import DROPOUTS, Transformer


class CorMulT(nn.Module):
    """CorMulT's network on two or three modalities.

    Every modality attends to every other. Each such stream is weighted by the correlation of the
    two modalities in that sample, 0 where one is absent. The streams of a modality pass a
    transformer, its memory; the last step represents the modality. The evaluator of the
    correlations is pre-trained in :meth:`stages`; here it takes no gradient and stays in evaluation
    mode.

    Args:
        config: of the network, the evaluator and its pre-training.
        sizes: feature dimension by modality: "text", "audio", "vision", two or more of them. With a
            text encoder the text's size is the encoder's, and the one given here is not read.
        text_encoder: reads token ids; the evaluator has its own embedding of them. Without it, text
            is precomputed features like the other modalities.
        generator: draws the pre-training's negatives, on the model's device; None: torch's default.

    Raises:
        ValueError: fewer than two modalities, unknown ones, or a text encoder without text.
    """

    def __init__(
        self,
        config: CorMulTConfig,
        sizes: Mapping[str, int],
        text_encoder: PreTrainedModel | None = None,
        *,
        generator: torch.Generator | None = None,
    ):
        super().__init__()
        check_sizes(sizes, text_encoder)
        self.config, self.generator = config, generator
        self.text_encoder = text_encoder
        self.evaluator = None
        if config.use_correlation:
            self.evaluator = Evaluator(config, sizes, text_encoder)
            self.evaluator.requires_grad_(False).eval()
        width, memory = config.hidden_size, config.hidden_size * (len(sizes) - 1)
        self.projections = nn.ModuleDict(
            {m: nn.Conv1d(n, width, 1, bias=False) for m, n in widths(sizes, text_encoder).items()}
        )
        # "text_audio" is text attending to audio, in the memory of text. The paper has it in the
        # memory of audio, beside vision attending to audio: a sequence of another length.
        pairs = [f"{m}_{n}" for m, n in permutations(sizes, 2)]
        self.cross = _transformers(pairs, width, config.cross_layers, config)
        self.memories = _transformers(sizes, memory, config.memory_layers, config)
        size = memory * len(sizes)
        self.hidden, self.output = nn.Linear(size, size), nn.Linear(size, size)
        self.head = nn.Linear(size, 7 if config.head == "classes7" else HEADS[config.head])

    def train(self, mode: bool = True) -> "CorMulT":
        """Set the mode; the evaluator stays in evaluation mode."""
        super().train(mode)
        if self.evaluator is not None:
            self.evaluator.eval()
        return self

    def stages(self) -> list[Stage]:
        """The evaluator's pre-training, if configured and if two of its modalities are there."""
        config = self.config
        modalities = tuple(m for m in self.memories if m in config.pretrain_modalities)
        if self.evaluator is None or not config.pretrain or len(modalities) < 2:
            return []
        training = {
            "epochs": config.pretrain_epochs,
            "batch_size": config.pretrain_batch_size,
            "learning_rate": config.pretrain_learning_rate,
            "head_learning_rate": config.pretrain_learning_rate,
            "max_grad_norm": 0.0,
        }
        part = Pretraining(self.evaluator, config, modalities, generator=self.generator)
        return [Stage("evaluator", part, training)]

    def forward(self, batch: Batch) -> Output:
        """Predict, and with labels compute the task's loss.

        Raises:
            ValueError: a modality that the batch lacks, text of the other kind, or labels of
                another shape than the head's.
        """
        found = sequences(batch, self.memories, self.text_encoder)
        masks = {m: sequence.mask for m, sequence in found.items()}
        correlations = None if self.evaluator is None else self.evaluator(batch)
        x = {}
        for m, conv in self.projections.items():
            channels = conv(rearrange(found[m].steps, "b t d -> b d t"))
            x[m] = rearrange(channels, "b d t -> b t d")  # (B, T of m, hidden_size)
        streams = {m: [] for m in x}
        for m, n in permutations(x, 2):
            stream = self.cross[f"{m}_{n}"](x[m], masks[m], x[n], masks[n])
            if correlations is not None:
                weight = rearrange(self._weight(correlations[m, n]), "b -> b 1 1")
                stream = stream * weight.to(stream.dtype)
            streams[m].append(stream)  # (B, T of m, hidden_size)
        # A memory reads the streams of its modality side by side.
        last = [
            last_step(memory(torch.cat(streams[m], 2), masks[m]), masks[m])
            for m, memory in self.memories.items()
        ]
        fused, _ = pack(last, "b *")  # (B, modalities * memory width)
        hidden = F.dropout(self.hidden(fused).relu(), self.config.output_dropout, self.training)
        fused = fused + self.output(hidden)
        outputs = self.head(fused)
        labels = batch.labels
        terms = None if labels is None else LossTerms({"task": self._task(outputs, labels)})
        return Output(self._prediction(outputs), terms, fused)

    def _weight(self, correlation: Tensor) -> Tensor:
        """The factor of a stream, (B,), for the correlation of its two modalities."""
        if self.config.clamp:
            correlation = correlation.clamp(min=0)
        return 1 + correlation if self.config.weighting == "residual" else correlation

    def _prediction(self, outputs: Tensor) -> Tensor:
        """Outputs (B, n) as a prediction; of seven classes, a score (B,)."""
        if self.config.head != "classes7":
            return shaped(outputs, self.config.head)
        if self.config.class_score == "argmax":
            return outputs.argmax(1).float() - 3
        scores = torch.arange(-3, 4, device=outputs.device, dtype=torch.float32)
        return outputs.float().softmax(1) @ scores

    def _task(self, outputs: Tensor, labels: Tensor) -> Tensor:
        head = self.config.head
        if head == "classes7":
            # Rounded, as for the seven-class accuracy; the authors' code truncates.
            return task_loss(outputs, labels.clamp(-3, 3).round() + 3, "humor")
        return task_loss(shaped(outputs, head), labels, head, squared=self.config.loss == "mse")


def _transformers(
    names: Iterable[str], size: int, layers: int, config: CorMulTConfig
) -> nn.ModuleDict:
    dropouts = {name: getattr(config, name) for name in DROPOUTS}
    return nn.ModuleDict(
        {name: Transformer(size, layers=layers, heads=config.heads, **dropouts) for name in names}
    )
