"""CorMulT: MulT with streams weighted by how much two modalities of a sample belong together.

References: CorMulT, arXiv:2407.07046; MulT, arXiv:1906.00295.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from itertools import permutations

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import PreTrainedModel

from mmcontrast import LossTerms
from reference_models.configs import expect, is_int, is_number
from reference_models.correlation_evaluator import DISTANCES, DROPOUTS, Evaluator, Pretraining
from reference_models.data.batch import Batch
from reference_models.encoders import Transformer, last_step
from reference_models.heads import HEADS, shaped, task_loss
from reference_models.inputs import MODALITIES, check_sizes, sequences, widths
from reference_models.output import Output
from reference_models.stages import Stage

CHOICES = {
    "weighting": ("scale", "residual"),
    "head": (*HEADS, "classes7"),
    "loss": ("mse", "l1"),
    "class_score": ("expected", "argmax"),
    "norm": ("paper", "post"),
    "temporal_map": ("linear", "adaptive_pool", "none"),
    "reduce": ("flatten", "mean"),
    "negative_strategy": ("A", "B", "C", "D"),
    "distance": tuple(DISTANCES),
}


@dataclass(frozen=True)
class CorMulTConfig:
    """The network, its evaluator, and the evaluator's pre-training.

    The defaults are the paper's, or its authors' code's; "the code" below is theirs.

    Args:
        hidden_size: of each modality.
        heads, cross_layers, memory_layers: of the cross-modal and the memory transformers.
        attention_dropout, relu_dropout, residual_dropout, embed_dropout: of both.
        output_dropout: inside the residual layer before the last one.
        use_correlation: False is MulT: there is no evaluator, and nothing is weighted.
        weighting: a stream times its correlation, "scale"; plus itself, "residual", the code's.
        clamp: take negative correlations, which turn a stream's sign, as 0.
        head: "regression" (one score), "classes7" (the score as one of seven classes), "iemocap"
            (four emotions, yes or no) or "humor" (yes or no).
        loss: of the regression, "mse" or "l1".
        class_score: of seven classes, the "expected" score, or the likeliest by "argmax".
        evaluator_size, evaluator_layers, evaluator_heads, evaluator_feedforward, evaluator_dropout:
            of the evaluator's transformers.
        norm: where theirs stands: "paper", as in eq 4-7, or "post", the code's.
        temporal_map: what gives a sequence correlation_steps steps: a "linear" map of its steps;
            "adaptive_pool", means over equal parts; "none", the code's, the mean: a single step.
        max_steps: that the linear map takes, zeros where a sequence has fewer. A longer one is
            pooled to so many first.
        correlation_steps, correlation_size: t and o, the shape of the maps that are compared.
        reduce: compare maps as they are, "flatten", or their "mean" over the steps, the code's.
        pretrain: False leaves the evaluator at its random weights.
        pretrain_modalities: whose pairs are trained on; the others keep random weights.
        negative_strategy: "A" swapped, "B" shifted, "C" noisy, "D" any of the three.
        shift_steps, shift_all: how far audio or vision is shifted; True: both and text, the code's.
        noise: its deviation, in units of each feature's own.
        replaced_tokens: the share of token ids that strategy C replaces.
        distance, margin: of the triplet loss.
        skip_unaltered: leave out the triplets whose negative is the positive; False is the code's.
        pretrain_epochs, pretrain_learning_rate, pretrain_batch_size: of the pre-training.

    Raises:
        ValueError: names the field, what was expected and what came.
    """

    hidden_size: int = 30
    heads: int = 2
    cross_layers: int = 2
    memory_layers: int = 3
    attention_dropout: float = 0.1
    relu_dropout: float = 0.1
    residual_dropout: float = 0.1
    embed_dropout: float = 0.25
    output_dropout: float = 0.0
    use_correlation: bool = True
    weighting: str = "scale"
    clamp: bool = False
    head: str = "regression"
    loss: str = "mse"
    class_score: str = "expected"
    evaluator_size: int = 128
    evaluator_layers: int = 3
    evaluator_heads: int = 4
    evaluator_feedforward: int = 256
    evaluator_dropout: float = 0.1
    norm: str = "paper"
    temporal_map: str = "linear"
    max_steps: int = 500
    correlation_steps: int = 64
    correlation_size: int = 200
    reduce: str = "flatten"
    pretrain: bool = True
    pretrain_modalities: tuple[str, ...] = MODALITIES
    negative_strategy: str = "D"
    shift_steps: int = 1
    shift_all: bool = False
    noise: float = 0.1
    replaced_tokens: float = 0.15
    distance: str = "cosine"
    margin: float = 0.2
    skip_unaltered: bool = True
    pretrain_epochs: int = 50
    pretrain_learning_rate: float = 2e-4
    pretrain_batch_size: int = 24

    def __post_init__(self) -> None:
        for name, kind in ((field.name, field.type) for field in fields(self)):
            if kind is int:
                expect(self, name, "a whole number from 1", is_int, lambda n: n >= 1)
            elif kind is bool:
                expect(self, name, "true or false", lambda x: isinstance(x, bool))
            elif kind is str:
                choices = CHOICES[name]
                expect(self, name, f"one of {', '.join(choices)}", choices.__contains__)
            elif name.endswith("dropout"):
                expect(self, name, "a number from 0, below 1", is_number, lambda x: 0 <= x < 1)
        for heads, size in (("heads", "hidden_size"), ("evaluator_heads", "evaluator_size")):
            width = getattr(self, size)
            expect(self, heads, f"a divisor of {size}={width}", lambda n, w=width: w % n == 0)
        for name in ("noise", "pretrain_learning_rate"):
            expect(self, name, "a number above 0", is_number, lambda x: x > 0)
        expect(self, "margin", "a number from 0", is_number, lambda x: x >= 0)
        expect(self, "replaced_tokens", "a number from 0 to 1", is_number, lambda x: 0 <= x <= 1)
        name, expected = "pretrain_modalities", f"two or more of {MODALITIES}"
        expect(self, name, expected, lambda x: isinstance(x, tuple) and len(set(x)) > 1)
        expect(self, name, expected, lambda x: set(x) <= set(MODALITIES))


# The authors' code's, for MOSEI, but for dividing the rate by ten after ten epochs that have not
# lowered the validation loss.
_TRAINING: dict[str, object] = {
    "head_learning_rate": 3e-4,
    "batch_size": 48,
    "epochs": 20,
    "patience": 0,
    "schedule": "constant",
    "warmup_ratio": 0.0,
    "max_grad_norm": 0.8,
}
PRESETS: dict[str, dict[str, object]] = {"mosi": _TRAINING, "mosei": _TRAINING}
"""By data set: what differs from the defaults."""
TABLES: dict[str, dict[str, dict[str, object]]] = {
    "headline": {"CorMulT": {}},
    # Left out: the last row, "Average", which repeats the paper's numbers for MulT, and the table
    # on the evaluator alone, which is about the features that a data file comes with.
    "strategy": {name: {"negative_strategy": name} for name in CHOICES["negative_strategy"]},
    "distance": {name: {"distance": name} for name in DISTANCES},
    "pretrained_modalities": {
        "comb": {"pretrain": False},  # nowhere explained; its numbers are the lowest
        "A+T": {"pretrain_modalities": ("text", "audio")},
        "V+T": {"pretrain_modalities": ("text", "vision")},
        "V+A+T": {},
    },
    "contrast": {"full": {}, "wo_contrast": {"use_correlation": False}},
}
"""The rows of the paper's tables, by table."""


class CorMulT(nn.Module):
    """CorMulT's network on two or three modalities.

    Every modality looks at every other; what it finds there is weighted by the correlation of the
    two in that sample, 0 where one is absent; all that it finds is one memory, whose last step
    stands for it. The correlations' evaluator is trained before, as the one of :meth:`stages`; it
    takes no gradient here, and stays in evaluation mode.

    Args:
        config: of the network, the evaluator and its pre-training.
        sizes: feature dimension by modality: "text", "audio", "vision", two or more of them. With a
            text encoder the text's is the encoder's own, and what stands here is not read.
        text_encoder: reads token ids, which the evaluator embeds by itself. Without it, text is
            precomputed features like the others.
        generator: draws the pre-training's negatives, on the model's device; None is torch's own.

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
        # "text_audio" is text that looks at audio, for the text's memory. The paper has it in the
        # audio's, beside vision that looks at audio: of another length.
        pairs = [f"{m}_{n}" for m, n in permutations(sizes, 2)]
        self.cross = _transformers(pairs, width, config.cross_layers, config)
        self.memories = _transformers(sizes, memory, config.memory_layers, config)
        size = memory * len(sizes)
        self.hidden, self.output = nn.Linear(size, size), nn.Linear(size, size)
        self.head = nn.Linear(size, 7 if config.head == "classes7" else HEADS[config.head])

    def train(self, mode: bool = True) -> "CorMulT":
        """Set the mode; the evaluator keeps to evaluation."""
        super().train(mode)
        if self.evaluator is not None:
            self.evaluator.eval()
        return self

    def stages(self) -> list[Stage]:
        """The evaluator's pre-training, where there is one and two modalities for it."""
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
        x = {m: conv(found[m].steps.mT).mT for m, conv in self.projections.items()}
        streams = {m: [] for m in x}
        for m, n in permutations(x, 2):
            stream = self.cross[f"{m}_{n}"](x[m], masks[m], x[n], masks[n])
            if correlations is not None:
                stream = stream * self._weight(correlations[m, n])[:, None, None].to(stream.dtype)
            streams[m].append(stream)
        last = [
            last_step(memory(torch.cat(streams[m], 2), masks[m]), masks[m])
            for m, memory in self.memories.items()
        ]
        fused = torch.cat(last, 1)
        hidden = F.dropout(self.hidden(fused).relu(), self.config.output_dropout, self.training)
        fused = fused + self.output(hidden)
        outputs = self.head(fused)
        labels = batch.labels
        terms = None if labels is None else LossTerms({"task": self._task(outputs, labels)})
        return Output(self._prediction(outputs), terms, fused)

    def _weight(self, correlation: Tensor) -> Tensor:
        if self.config.clamp:
            correlation = correlation.clamp(min=0)
        return 1 + correlation if self.config.weighting == "residual" else correlation

    def _prediction(self, outputs: Tensor) -> Tensor:
        if self.config.head != "classes7":
            return shaped(outputs, self.config.head)
        if self.config.class_score == "argmax":
            return outputs.argmax(1).float() - 3
        scores = torch.arange(-3, 4, device=outputs.device, dtype=torch.float32)
        return outputs.float().softmax(1) @ scores

    def _task(self, outputs: Tensor, labels: Tensor) -> Tensor:
        head = self.config.head
        if head == "classes7":
            # Rounded, as for the seven-class accuracy; the authors' code cuts the fraction off.
            return task_loss(outputs, labels.clamp(-3, 3).round() + 3, "humor")
        return task_loss(shaped(outputs, head), labels, head, squared=self.config.loss == "mse")


def _transformers(
    names: Iterable[str], size: int, layers: int, config: CorMulTConfig
) -> nn.ModuleDict:
    dropouts = {name: getattr(config, name) for name in DROPOUTS}
    return nn.ModuleDict(
        {name: Transformer(size, layers=layers, heads=config.heads, **dropouts) for name in names}
    )
