"""HyCon: hybrid contrastive learning of three modalities, and HyCon-v2 with selected pairs.

References: HyCon, IEEE Transactions on Affective Computing 14(3):2276-2289, 2023.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

import mmcontrast as mm
from mmcontrast import LossTerms
from reference_models.configs import expect, is_int, is_number
from reference_models.data.batch import Batch
from reference_models.encoders import DROPOUTS, LAST_STEPS, SequenceEncoder, last_step
from reference_models.fusion import FUSIONS, make_fusion
from reference_models.heads import HEADS, shaped, task_loss
from reference_models.inputs import check_sizes, sequences, widths
from reference_models.output import Output
from reference_models.substitutes import SIMILARITIES, SUBSTITUTES, substitute_contrast
from reference_models.text_encoder import read_text

CHOICES = {
    "fusion": tuple(FUSIONS),
    "last": LAST_STEPS,
    "head": tuple(HEADS),
    "similarity": tuple(SIMILARITIES),
    "supervised_loss": ("hycon", "hycon_v2", *SUBSTITUTES),
    "unselected": ("mean", "sum"),
    "refine_on": ("selected", "all", "weighted"),
    "classes": ("binary", "seven"),
    "neutral": ("positive", "negative", "own", "ignore"),
}


@dataclass(frozen=True)
class HyConConfig:
    """The network and its losses; the defaults are the paper's, or its author's sibling code's.

    Args:
        hidden_size: d of every representation.
        layers, heads, kernel_size, four dropouts: of the sequence encoders.
        fusion: "addition", "concatenation", "tensor" or "graph".
        last: the step that stands for a sequence: the last "real" one, or the last "index",
            padding or not, as the sibling code has it.
        head: "regression" (one score), "iemocap" (four emotions, yes or no) or "humor" (yes or no).
        margin: the similarity that two modalities of a sample, or of a class, are drawn to.
        intra_weight, inter_weight, semi_weight: of the three contrastive terms.
        refine: with the refinement terms.
        log: minus the logarithm of each ratio, instead of minus the ratio.
        similarity: "softmax" (the paper's), "cosine", "cosine01" (moved to [0, 1]), "softplus_l2"
            (the cosine after a softplus) or "dot".
        supervised_loss: "hycon", "hycon_v2" (selected pairs), or what stands in the place of the
            intra- and inter-modal terms: "triplet", "hard_triplet", "n_pair", "classical".
        selection_fraction: HyCon-v2's share of a batch that stays, positives and negatives each.
        selection_gamma: in HyCon-v2's weights of positives; above 1 for the "cosine" similarity.
        select_positives, select_negatives: the sides that HyCon-v2 selects on.
        unselected: how a side that is not selected enters the ratio, by "mean" or "sum".
        inter_factor: times as many selected pairs across modalities as within one.
        refine_on: HyCon-v2's refinement is over "selected", "all", or "weighted" selected pairs.
        classes: "binary", by the score's sign, as in the paper; "seven", by the rounded score.
        neutral: the binary class of a score of 0: "positive", "negative", its "own", or "ignore".

    Raises:
        ValueError: names the field, what was expected and what came.
    """

    hidden_size: int = 50
    layers: int = 3
    heads: int = 5
    kernel_size: int = 3
    attention_dropout: float = 0.5
    relu_dropout: float = 0.3
    residual_dropout: float = 0.3
    embed_dropout: float = 0.3
    fusion: str = "addition"
    last: str = "real"
    head: str = "regression"
    margin: float = 0.8
    intra_weight: float = 1.0
    inter_weight: float = 1.0
    semi_weight: float = 1.0
    refine: bool = True
    log: bool = False
    similarity: str = "softmax"
    supervised_loss: str = "hycon"
    selection_fraction: float = 0.2
    selection_gamma: float = 1.0
    select_positives: bool = True
    select_negatives: bool = True
    unselected: str = "mean"
    inter_factor: int = 1
    refine_on: str = "selected"
    classes: str = "binary"
    neutral: str = "positive"

    def __post_init__(self) -> None:
        for name in ("hidden_size", "heads", "inter_factor"):
            expect(self, name, "a whole number from 1", is_int, lambda n: n >= 1)
        expect(self, "layers", "a whole number from 0", is_int, lambda n: n >= 0)
        expect(self, "kernel_size", "an odd number from 1", is_int, lambda n: n >= 1 and n % 2)
        divisor = f"a divisor of hidden_size={self.hidden_size}"
        expect(self, "heads", divisor, lambda n: self.hidden_size % n == 0)
        for name in DROPOUTS:
            expect(self, name, "a number from 0, below 1", is_number, lambda x: 0 <= x < 1)
        for name in ("intra_weight", "inter_weight", "semi_weight"):
            expect(self, name, "a number from 0", is_number, lambda x: x >= 0)
        expect(self, "margin", "a number from -1 to 1", is_number, lambda x: -1 <= x <= 1)
        share = "a number above 0, up to 1"
        expect(self, "selection_fraction", share, is_number, lambda x: 0 < x <= 1)
        expect(self, "selection_gamma", "a number above 0", is_number, lambda x: x > 0)
        for name in ("refine", "log", "select_positives", "select_negatives"):
            expect(self, name, "true or false", lambda x: isinstance(x, bool))
        for name, choices in CHOICES.items():
            expect(self, name, f"one of {', '.join(choices)}", choices.__contains__)


_V2: dict[str, object] = {"supervised_loss": "hycon_v2"}
_NO_CONTRAST: dict[str, object] = {"intra_weight": 0.0, "inter_weight": 0.0, "semi_weight": 0.0}
# The paper's rate, for every layer; batch size and epochs are its author's sibling code's.
_TRAINING: dict[str, object] = {
    "learning_rate": 2e-5,
    "head_learning_rate": None,
    "batch_size": 48,
    "epochs": 50,
    "schedule": "constant",
    "warmup_ratio": 0.0,
}
PRESETS: dict[str, dict[str, object]] = {
    "mosi": _TRAINING,
    "mosei": _TRAINING,
    "iemocap": {**_TRAINING, "head": "iemocap"},
}
"""By data set: what differs from the defaults."""
TABLES: dict[str, dict[str, dict[str, object]]] = {
    "headline": {"HyCon": {}, "HyCon-v2": _V2},
    "contrast": {"full": {}, "wo_contrast": _NO_CONTRAST},
    "ablation": {
        "wo_contrastive": _NO_CONTRAST,
        "wo_refinement": {"refine": False},
        "wo_margin_alpha": {"margin": 1.0},
        "wo_IAMCL": {"intra_weight": 0.0},
        "wo_IEMCL": {"inter_weight": 0.0},
        "wo_SCL": {"semi_weight": 0.0},
        "HyCon": {},
        "v2_wo_positive_selection": {**_V2, "select_positives": False},
        "v2_wo_negative_selection": {**_V2, "select_negatives": False},
        "HyCon-v2": _V2,
    },
    "fusion": {name: {"fusion": name} for name in FUSIONS},
    "alpha": {str(margin): {"margin": margin} for margin in (0.5, 0.7, 0.8, 0.9)},
    "loss_substitution": {
        **{name: {"supervised_loss": name} for name in ("triplet", "hard_triplet", "n_pair")},
        "classical_contrastive": {"supervised_loss": "classical"},
        "HyCon": {},
        "HyCon-v2": _V2,
    },
}
"""The rows of the paper's tables, by table: what differs from the defaults."""


class HyCon(nn.Module):
    """HyCon's network on two or three modalities, with its losses.

    One representation for each modality, their fusion, and one linear layer. A modality that a
    sample lacks is a zero vector to the fusion and takes no part in the contrast, whatever stands
    in its place.

    Args:
        config: of the network and the losses.
        sizes: feature dimension by modality: "text", "audio", "vision", two or more of them. With a
            text encoder the text's is the encoder's own, and what stands here is not read.
        text_encoder: reads token ids; its states pass a convolution only. Without it, text is
            precomputed features in a sequence encoder like the others'.
        generator: draws the pairs of the random substitutes, on the model's device; None is torch's
            own. It is no part of the state that is saved.

    Raises:
        ValueError: fewer than two modalities, unknown ones, or a text encoder without text.
    """

    def __init__(
        self,
        config: HyConConfig,
        sizes: Mapping[str, int],
        text_encoder: PreTrainedModel | None = None,
        *,
        generator: torch.Generator | None = None,
    ):
        super().__init__()
        check_sizes(sizes, text_encoder)
        self.config = config
        self.generator = generator
        self.text_encoder = text_encoder
        self.encoders = nn.ModuleDict()
        for name, size in widths(sizes, text_encoder).items():
            encoded = name == "text" and text_encoder is not None
            self.encoders[name] = SequenceEncoder(
                size,
                config.hidden_size,
                kernel_size=config.kernel_size,
                layers=0 if encoded else config.layers,
                heads=config.heads,
                **{dropout: getattr(config, dropout) for dropout in DROPOUTS},
            )
        self.fusion = make_fusion(config.fusion, sizes, config.hidden_size)
        self.head = nn.Linear(config.hidden_size, HEADS[config.head])

    def forward(self, batch: Batch) -> Output:
        """Predict, and with labels compute the losses: in training all four, else the task's.

        Raises:
            ValueError: a modality that the batch lacks, text of the other kind, or labels of
                another shape than (B,), for IEMOCAP (B, 4).
        """
        features, present = self._represent(batch)
        fused = self.fusion(features)
        prediction = shaped(self.head(fused), self.config.head)
        terms = None
        if batch.labels is not None:
            task = task_loss(prediction, batch.labels, self.config.head)
            terms = LossTerms({"task": task})
            if self.training:
                terms = self._losses(task, features, present, batch.labels)
        return Output(prediction, terms, fused)

    def _represent(self, batch: Batch) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """By modality: the representation (B, d), and (B,) who has it."""
        features, present = {}, {}
        for name, (steps, mask) in sequences(batch, self.encoders, self.text_encoder).items():
            present[name] = mask.any(1)
            if self.config.last == "index" and name == "text" and self.text_encoder is not None:
                # The last index is mostly padding; what BERT says there is all there is.
                steps = read_text(self.text_encoder, batch.features[name], mask, padding=True)
                mask = present[name].unsqueeze(1).expand_as(mask)
            states = self.encoders[name](steps, mask)
            features[name] = last_step(states, mask, last=self.config.last)
        return features, present

    def _losses(
        self, task: Tensor, features: dict[str, Tensor], present: dict[str, Tensor], labels: Tensor
    ) -> LossTerms:
        config = self.config
        classes = labels if config.head != "regression" else _classes(labels, config)
        normalize, substituted = (
            SIMILARITIES[config.similarity],
            config.supervised_loss in SUBSTITUTES,
        )
        intra, inter = (0, 0) if substituted else (config.intra_weight, config.inter_weight)
        terms = mm.hybrid_contrast(
            features,
            classes,
            margin=config.margin,
            weights=(intra, inter, config.semi_weight),
            refine=config.refine,
            log=config.log,
            selection=_selection(config),
            refine_on=config.refine_on,
            normalize=normalize,
            present=present,
            group="world",
        )
        terms = {"task": task, **terms}
        weights = {term: getattr(config, f"{term}_weight") for term in ("intra", "inter", "semi")}
        if substituted:
            features, present = (
                {name: mm.gather(x) for name, x in rows.items()} for rows in (features, present)
            )
            classes = mm.gather(classes)
        for name, pairs in (("intra", mm.intra_modal_pairs), ("inter", mm.inter_modal_pairs)):
            if substituted and weights[name] != 0:
                terms[name] = substitute_contrast(
                    pairs(features, classes, present=present),
                    loss=config.supervised_loss,
                    normalize=normalize,
                    log=config.log,
                    generator=self.generator,
                )
        return LossTerms(terms, weights)


def _classes(scores: Tensor, config: HyConConfig) -> Tensor:
    """(B,) the classes that the contrast is about; a score that is NaN is in none."""
    if config.classes == "seven":
        return scores.clamp(-3, 3).round()
    return mm.sentiment_classes(scores, neutral=config.neutral)


def _selection(config: HyConConfig) -> mm.PairSelection | None:
    if config.supervised_loss != "hycon_v2":
        return None
    return mm.PairSelection(
        fraction=config.selection_fraction,
        gamma=config.selection_gamma,
        positives=config.select_positives,
        negatives=config.select_negatives,
        unselected=config.unselected,
        inter_factor=config.inter_factor,
    )
