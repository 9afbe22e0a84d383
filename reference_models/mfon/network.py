"""MFON: prompted cross attention, distillation from unimodal teachers, contrast across modalities.

References: MFON, COLING 2025, pages 4611-4621.
"""

import copy
from collections.abc import Mapping

import torch
from einops import pack, rearrange
from torch import Tensor, nn
from transformers import PreTrainedModel

from mmcontrast import LossTerms, anchored_info_nce, kl_distill
from reference_models.data.batch import Batch
from reference_models.layers.heads import shaped, task_loss
from reference_models.layers.inputs import check_sizes, sequences, widths
from reference_models.layers.output import Output
from reference_models.layers.pooling import pool
from reference_models.layers.stages import Stage
from reference_models.mfon.settings import MFONConfig
from reference_models.mfon.unimodal import (
    Unimodal,
    attention_layers,
    input_projection,
    output_predictor,
)


class MFON(nn.Module):
    """MFON's network on one to three modalities, with its teachers and its losses.

    The query modality attends to each other one, to which a learned prompt is added; a predictor
    reads the results and the query. Frozen unimodal teachers give the targets of the distillation.
    A modality is a zero vector where a sample lacks it or the query, and is then neither distilled
    nor contrasted.

    Args:
        config: of the network and the losses.
        sizes: feature dimension by modality; the query is among two or more. With a text encoder
            the text's size is the encoder's.
        text_encoder: reads token ids; without it, text is precomputed features. A teacher of text
            starts from a copy of it.
        generator: accepted like in every model, and not used: only dropout is random here.

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
            self.projections[name] = input_projection(config, name, width)
            if name == config.query:
                continue
            layers = getattr(config, f"{name}_layers")
            self.attentions[name] = attention_layers(config, layers, config.dropout)
            if config.prompt:
                self.prompts[name] = _prompt(config)
            if config.distill_weight > 0:
                own = copy.deepcopy(text_encoder) if name == "text" else None
                self.teachers[name] = Unimodal(config, name, sizes[name], own)
        self.teachers.eval()
        self.predictor = output_predictor(
            config, len(sizes) * config.hidden_size, config.hidden_size
        )

    def stages(self) -> list[Stage]:
        """The teachers, each trained to predict by itself; untrained, they teach random outputs."""
        stages = []
        for name, teacher in self.teachers.items():
            rate = getattr(self.config, f"teacher_{name}_rate")
            training = {"epochs": self.config.teacher_epochs, "head_learning_rate": rate}
            stages.append(Stage(f"teacher_{name}", teacher, training))
        return stages

    def train(self, mode: bool = True) -> "MFON":
        """Set the mode; the teachers stay in evaluation mode."""
        super().train(mode)
        self.teachers.eval()
        return self

    def forward(self, batch: Batch) -> Output:
        """Predict, and with labels compute the losses: all three in training, else the task's.

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
            # The order of the authors' code; the paper prints audio first.
            order = [m for m in ("text", "vision", "audio") if m in features]
            fused, _ = pack([features[m] for m in order], "b *")  # (B, modalities * d)
            outputs = self.predictor(fused)
        prediction, terms = shaped(outputs, self.config.head), None
        if batch.labels is not None:
            task = task_loss(prediction, batch.labels, self.config.head, squared=True)
            terms = LossTerms({"task": task})
            if self.training:
                terms = self._losses(task, batch, features, present)
        return Output(prediction, terms, fused)

    def _represent(self, batch: Batch) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """By modality: the representation (B, d), and where it and the query are present (B,)."""
        query, how = self.config.query, self.config.pool
        inputs = sequences(batch, self.projections, self.text_encoder)
        frames = {name: self.projections[name](x.steps) for name, x in inputs.items()}
        queries, mask = frames[query], inputs[query].mask  # (B, T, d), (B, T)
        features, present = {query: pool(queries, mask, how)}, {query: inputs[query].present}
        for name, attention in self.attentions.items():
            # The attention does not read padding; in the authors' code it reads prompts there.
            context = self._prompted(name, frames[name])
            attended = attention(queries, mask, context, inputs[name].mask)  # (B, T, d)
            present[name] = inputs[query].present & inputs[name].present
            absent = rearrange(~present[name], "b -> b 1")
            features[name] = pool(attended, mask, how).masked_fill(absent, 0)
        return features, present

    def _prompted(self, name: str, frames: Tensor) -> Tensor:
        """Frames (B, T, d) plus the modality's prompt, if there are prompts."""
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
        """The task's loss, the distillation from the teachers, and the contrast with the query."""
        config = self.config
        distill = contrast = torch.zeros_like(task)
        for name, teacher in self.teachers.items():
            with torch.no_grad():
                target = teacher.encode(batch)
            distill = distill + kl_distill(
                features[name],
                target,
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


def _prompt(config: MFONConfig) -> nn.Parameter:
    """(T, d), or (1, d), the same for every step."""
    size = (config.prompt_steps if config.prompt_shape == "steps" else 1, config.hidden_size)
    if config.prompt_init == "uniform":
        return nn.Parameter(torch.rand(size))
    return nn.Parameter(0.02 * torch.randn(size))
