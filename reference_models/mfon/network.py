"""MFON: prompted cross attention, distillation from unimodal teachers, contrast across modalities.

References: MFON, COLING 2025, pages 4611-4621.
"""

import copy
from collections.abc import Mapping
from itertools import pairwise

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from mmcontrast import LossTerms, anchored_info_nce, kl_distill
from reference_models.data.batch import Batch
from reference_models.layers.heads import HEADS, shaped, task_loss
from reference_models.layers.inputs import check_sizes, sequences, widths
from reference_models.layers.output import Output
from reference_models.layers.pooling import pool
from reference_models.layers.stages import Stage
from reference_models.layers.transformer import Transformer
from reference_models.mfon.settings import MFONConfig


class Unimodal(nn.Module):
    """One modality and a predictor: a teacher, or the whole network where there is no other.

    A projection, then self attention for audio and vision: text has been read by an encoder.
    """

    def __init__(
        self, config: MFONConfig, name: str, size: int, text_encoder: PreTrainedModel | None
    ):
        super().__init__()
        self.config, self.name, self.text_encoder = config, name, text_encoder
        self.projection = _projection(config, name, widths({name: size}, text_encoder)[name])
        self.attention = None
        if name != "text":
            layers = getattr(config, f"teacher_{name}_layers")
            self.attention = _attention(config, layers, getattr(config, f"teacher_{name}_dropout"))
        self.predictor = _predictor(config, config.hidden_size)

    def encode(self, batch: Batch) -> Tensor:
        """The modality's representation, (B, d)."""
        [(steps, mask)] = sequences(batch, [self.name], self.text_encoder).values()
        x = self.projection(steps)
        x = x if self.attention is None else self.attention(x, mask)
        return pool(x, mask, self.config.pool)

    def forward(self, batch: Batch) -> Output:
        """As a teacher in training: predict, and with labels compute the task's loss.

        Raises:
            ValueError: the batch has labels, but not the modality's own, where they are asked for.
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


class MFON(nn.Module):
    """MFON's network on one to three modalities, with its teachers and its losses.

    The query attends to each other modality, with its prompt; a predictor reads what comes of it
    beside the query. Frozen teachers say what should come of it. Where a sample lacks a modality,
    or the query, that is a zero vector, neither distilled nor contrasted.

    Args:
        config: of the network and the losses.
        sizes: feature dimension by modality; two or more have the query among them. With a text
            encoder the text's is the encoder's own.
        text_encoder: reads token ids; without it, text is precomputed features. A teacher of text
            starts from a copy of it.
        generator: as of every model; nothing but dropout is drawn here, and that by torch's own.

    Raises:
        ValueError: no or unknown modalities, no query, or a text encoder without text.
    """

    def __init__(
        self,
        config: MFONConfig,
        sizes: Mapping[str, int],
        text_encoder: PreTrainedModel | None = None,
        *,
        generator: torch.Generator | None = None,
    ):
        super().__init__()
        check_sizes(sizes, text_encoder, fewest=1)
        self.config = config
        self.alone = self.text_encoder = None
        self.projections, self.attentions = nn.ModuleDict(), nn.ModuleDict()
        self.prompts, self.teachers = nn.ParameterDict(), nn.ModuleDict()
        if len(sizes) == 1:
            [(name, size)] = sizes.items()
            self.alone = Unimodal(config, name, size, text_encoder)
            return
        if config.query not in sizes:
            expected = f"{config.query!r}, the query, among them"
            raise ValueError(f"sizes: expected {expected}, got {tuple(sizes)}")
        self.text_encoder = text_encoder
        for name, width in widths(sizes, text_encoder).items():
            self.projections[name] = _projection(config, name, width)
            if name == config.query:
                continue
            layers = getattr(config, f"{name}_layers")
            self.attentions[name] = _attention(config, layers, config.dropout)
            if config.prompt:
                self.prompts[name] = _prompt(config)
            if config.distill_weight > 0:
                own = copy.deepcopy(text_encoder) if name == "text" else None
                self.teachers[name] = Unimodal(config, name, sizes[name], own)
        self.teachers.eval()
        self.predictor = _predictor(config, len(sizes) * config.hidden_size, config.hidden_size)

    def stages(self) -> list[Stage]:
        """The teachers: each learns to predict alone; until then it teaches its random weights."""
        stages = []
        for name, teacher in self.teachers.items():
            rate = getattr(self.config, f"teacher_{name}_rate")
            training = {"epochs": self.config.teacher_epochs, "head_learning_rate": rate}
            stages.append(Stage(f"teacher_{name}", teacher, training))
        return stages

    def train(self, mode: bool = True) -> "MFON":
        """As of any module, but that teachers stay in evaluation."""
        super().train(mode)
        self.teachers.eval()
        return self

    def forward(self, batch: Batch) -> Output:
        """Predict, and with labels compute the losses: in training all three, else the task's.

        Raises:
            ValueError: a modality that the batch lacks, text of the other kind, labels of another
                shape than the head's, or a sequence with more steps than prompts.
        """
        features, present = {}, {}
        if self.alone is not None:
            fused = self.alone.encode(batch)
            outputs = self.alone.predictor(fused)
        else:
            features, present = self._represent(batch)
            # The code's order; the paper prints audio first.
            fused = torch.cat(
                [features[m] for m in ("text", "vision", "audio") if m in features], 1
            )
            outputs = self.predictor(fused)
        prediction, terms = shaped(outputs, self.config.head), None
        if batch.labels is not None:
            task = task_loss(prediction, batch.labels, self.config.head, squared=True)
            terms = LossTerms({"task": task})
            if self.training:
                terms = self._losses(task, batch, features, present)
        return Output(prediction, terms, fused)

    def _represent(self, batch: Batch) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """By modality: the representation (B, d), and (B,) who has it and the query."""
        query, how = self.config.query, self.config.pool
        inputs = sequences(batch, self.projections, self.text_encoder)
        frames = {name: self.projections[name](x.steps) for name, x in inputs.items()}
        asking, mask = frames[query], inputs[query].mask
        features, present = {query: pool(asking, mask, how)}, {query: inputs[query].present}
        for name, attention in self.attentions.items():
            # Unlike the code's, no prompt on padding counts: the attention does not read there.
            attended = attention(
                asking, mask, self._prompted(name, frames[name]), inputs[name].mask
            )
            present[name] = inputs[query].present & inputs[name].present
            features[name] = pool(attended, mask, how).masked_fill(~present[name][:, None], 0)
        return features, present

    def _prompted(self, name: str, frames: Tensor) -> Tensor:
        if name not in self.prompts:
            return frames
        prompt, steps = self.prompts[name], frames.shape[1]
        if self.config.prompt_shape == "steps":
            if steps > len(prompt):
                expected = f"{steps} or more, the steps of {name}"
                raise ValueError(f"prompt_steps: expected {expected}, got {len(prompt)}")
            prompt = prompt[:steps]
        return frames + prompt

    def _losses(
        self, task: Tensor, batch: Batch, features: dict[str, Tensor], present: dict[str, Tensor]
    ) -> LossTerms:
        config = self.config
        distill = contrast = torch.zeros_like(task)
        for name, teacher in self.teachers.items():
            with torch.no_grad():
                taught = teacher.encode(batch)
            distill = distill + kl_distill(
                features[name],
                taught,
                temperature=config.distill_temperature,
                direction=config.distill_direction,
                mask=present[name],
                group="world",
            )
        contrasted = len(features) > 1 and config.contrast_weight > 0
        if contrasted:
            contrast = anchored_info_nce(
                features,
                anchor=config.query,
                direction="both" if config.symmetric else "to_anchor",
                temperature=config.contrast_temperature,
                present=present,
                group="world",
            ).total
        weights = {
            "distill": config.distill_weight if len(self.teachers) > 0 else 0.0,
            "contrast": config.contrast_weight if contrasted else 0.0,
        }
        return LossTerms({"task": task, "distill": distill, "contrast": contrast}, weights)


def _mlp(*sizes: int) -> nn.Sequential:
    """Linear layers with GELU between them."""
    layers = [part for pair in pairwise(sizes) for part in (nn.Linear(*pair), nn.GELU())]
    return nn.Sequential(*layers[:-1])


def _projection(config: MFONConfig, name: str, width: int) -> nn.Sequential:
    mlp = _mlp(width, *[config.hidden_size] * config.mlp_layers)
    return mlp.append(nn.Dropout(config.text_dropout)) if name == "text" else mlp


def _predictor(config: MFONConfig, *sizes: int) -> nn.Sequential:
    return _mlp(*sizes, config.hidden_size // 2, config.hidden_size // 8, HEADS[config.head])


def _prompt(config: MFONConfig) -> nn.Parameter:
    """(T, d), or (1, d) for every step."""
    size = (config.prompt_steps if config.prompt_shape == "steps" else 1, config.hidden_size)
    if config.prompt_init == "uniform":
        return nn.Parameter(torch.rand(size))
    return nn.Parameter(0.02 * torch.randn(size))


def _attention(config: MFONConfig, layers: int, dropout: float) -> Transformer:
    """MulT's layers with a narrow feed-forward, and without the mask that hides later steps.

    The authors' code has that mask: the first query, which is all that it reads, misses the end.
    """
    return Transformer(
        config.hidden_size,
        layers=layers,
        heads=config.heads,
        feedforward=config.hidden_size,
        **{f"{place}_dropout": dropout for place in ("attention", "relu", "residual", "embed")},
    )
