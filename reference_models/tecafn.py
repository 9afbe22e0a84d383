"""TeCaFN: text-centred cross-sample fusion, with hard negatives in the place of a modality.

References: TeCaFN, Multimedia Systems 30(4):228, 2024.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

import mmcontrast as mm
from reference_models.configs import expect, is_int, is_number
from reference_models.data.batch import Batch
from reference_models.encoders import masked_mean
from reference_models.heads import HEADS, shaped, task_loss
from reference_models.inputs import MODALITIES, Sequence, check_sizes, sequences, widths
from reference_models.output import Output
from reference_models.tecafn_parts import DROPOUTS, Attention, Encoder, linears, predictor

CHOICES = {
    "center": MODALITIES,
    "residual": ("pre", "normed"),
    "denominator": ("all", "paper_literal"),
    "exclude_positive": ("first", "after"),
    "fusion": ("sum", "concat"),
    "head": tuple(HEADS),
    "output": (None, "tanh", "3tanh"),
}


@dataclass(frozen=True)
class TeCaFNConfig:
    """The network and its losses; the defaults are the paper's for CMU-MOSI, or its code's.

    Args:
        center: what all else is relative to: "text", "audio" (the paper's AeCaFN) or "vision"
            (VeCaFN). Its own name says nothing in the three tuples below.
        hidden_size, layers, heads, four dropouts: of every transformer.
        residual: a layer adds to its input, "pre", or to that after its norm, "normed", as printed.
        lstm: with eq 4's LSTM on audio and vision, which the code leaves out of the fusion.
        contrast_size, temperature: of both contrasts.
        denominator: of both contrasts: "all" keys, or "paper_literal", the matched pairs alone.
        normalize: contrast cosines, not the raw dot products of eq 6 and 15.
        contrast_weight, pair_weight: gamma1, of both contrasts, and gamma2, of pair prediction.
        probability, pool_size: the gate's p, and num, the hard negatives that it draws from.
        exclude_positive: a sample leaves its own pool "first", or, as in the code, "after" the
            ranking, which leaves it one negative less.
        unimodal_contrast: modalities that are contrasted with the centre.
        gate: modalities that may be replaced, and where it is predicted.
        hard_mining: modalities with hard negatives; the others' are drawn from the whole batch.
        bimodal_contrast: contrast what the centre got from the one and from the other modality.
        fusion: the "sum" of what the centre got, or "concat".
        head: "regression" (one score), "humor" (two classes) or "iemocap" (four emotions).
        head_dropout: of the layers that predict.
        output: of a score: None, as it is; "tanh", eq 17's, or "3tanh", which reaches labels of 3.

    Raises:
        ValueError: names the field, what was expected and what came.
    """

    center: str = "text"
    hidden_size: int = 30
    layers: int = 6
    heads: int = 5
    attention_dropout: float = 0.1
    relu_dropout: float = 0.1
    residual_dropout: float = 0.1
    embed_dropout: float = 0.25
    residual: str = "pre"
    lstm: bool = False
    contrast_size: int = 30
    temperature: float = 0.1
    denominator: str = "all"
    normalize: bool = True
    contrast_weight: float = 0.1
    pair_weight: float = 0.1
    probability: float = 0.7
    pool_size: int = 3
    exclude_positive: str = "first"
    unimodal_contrast: tuple[str, ...] = MODALITIES
    gate: tuple[str, ...] = MODALITIES
    hard_mining: tuple[str, ...] = MODALITIES
    bimodal_contrast: bool = True
    fusion: str = "sum"
    head: str = "regression"
    head_dropout: float = 0.1
    output: str | None = None

    def __post_init__(self) -> None:
        for name in ("hidden_size", "layers", "heads", "contrast_size", "pool_size"):
            expect(self, name, "a whole number from 1", is_int, lambda n: n >= 1)
        divisor = f"a divisor of hidden_size={self.hidden_size}"
        expect(self, "heads", divisor, lambda n: self.hidden_size % n == 0)
        for name in (*DROPOUTS, "head_dropout"):
            expect(self, name, "a number from 0, below 1", is_number, lambda x: 0 <= x < 1)
        for name in ("contrast_weight", "pair_weight"):
            expect(self, name, "a number from 0", is_number, lambda x: x >= 0)
        expect(self, "temperature", "a number above 0", is_number, lambda x: x > 0)
        expect(self, "probability", "a number from 0 to 1", is_number, lambda x: 0 <= x <= 1)
        for name in ("lstm", "normalize", "bimodal_contrast"):
            expect(self, name, "true or false", lambda x: isinstance(x, bool))
        some = f"a tuple of some of {', '.join(MODALITIES)}"
        for name in ("unimodal_contrast", "gate", "hard_mining"):
            expect(self, name, some, lambda x: isinstance(x, tuple), set(MODALITIES).issuperset)
        for name, choices in CHOICES.items():
            words = ", ".join("none" if choice is None else choice for choice in choices)
            expect(self, name, f"one of {words}", choices.__contains__)


# The paper's, the first where it gives several; the encoder's rate, the decay and the epochs are
# its code's, which also halves the rates where the validation loss stands still.
_TRAINING: dict[str, object] = {
    "learning_rate": 5e-5,
    "head_learning_rate": 1e-3,
    "weight_decay": 1e-4,
    "max_grad_norm": 1.0,
    "batch_size": 32,
    "epochs": 40,
    "patience": 10,
}
PRESETS: dict[str, dict[str, object]] = {
    "mosi": {**_TRAINING, "probability": 0.7},
    "mosei": {**_TRAINING, "probability": 0.4},
    "ur_funny": {**_TRAINING, "head": "humor"},
}
"""By data set: what differs from the defaults."""
_NO_CONTRAST: dict[str, object] = {"contrast_weight": 0.0, "pair_weight": 0.0, "gate": ()}
TABLES: dict[str, dict[str, dict[str, object]]] = {
    "headline": {"TeCaFN": {}},
    "contrast": {"full": {}, "wo_contrast": _NO_CONTRAST},
    "ablation": {
        "full": {},
        "wo_L_ta": {"unimodal_contrast": ("vision",)},
        "wo_L_tv": {"unimodal_contrast": ("audio",)},
        "wo_L_ta_L_tv": {"unimodal_contrast": ()},
        "wo_L_bicon": {"bimodal_contrast": False},
        "wo_L_tap": {"gate": ("vision",)},
        "wo_L_tvp": {"gate": ("audio",)},
        "wo_L_tap_tvp": {"gate": ()},
        "wo_Hardneg_ta": {"hard_mining": ("vision",)},
        "wo_Hardneg_tv": {"hard_mining": ("audio",)},
        "wo_Hardneg_ta_tv": {"hard_mining": ()},
        "wo_V": {"modalities": ("text", "audio")},
        "wo_A": {"modalities": ("text", "vision")},
        "wo_V_A": {"modalities": ("text",)},
    },
    "sweep_p": {f"0.{tenths}": {"probability": tenths / 10} for tenths in range(1, 10)},
    "sweep_num": {str(number): {"pool_size": number} for number in (3, 5, 10, 15, 30)},
    "centre_modality": {
        name: {"center": center}
        for name, center in (("TeCaFN", "text"), ("AeCaFN", "audio"), ("VeCaFN", "vision"))
    },
}
"""The rows of the paper's tables, by table: what differs from the defaults."""


class TeCaFN(nn.Module):
    """TeCaFN's network, with its losses.

    The centre, text, asks each other modality, and what it gets is fused to predict; alone it asks
    itself. In training a gate puts another sample's modality, one that looks as if it fitted, in
    the place of a sample's own: the network has to tell where, and to predict the text's score.

    A modality that a sample lacks adds nothing to the centre, is never replaced, replaces none, and
    takes no part in any contrast.

    Args:
        config: of the network and the losses.
        sizes: feature dimension by modality, the centre among them. With a text encoder the text's
            is the encoder's own, and what stands here is not read.
        text_encoder: reads token ids. Without it, text is its precomputed states.
        generator: draws who is replaced by whom, on the model's device; None is torch's own.

    Raises:
        ValueError: unknown modalities, a missing centre, or a text encoder without text.
    """

    def __init__(
        self,
        config: TeCaFNConfig,
        sizes: Mapping[str, int],
        text_encoder: PreTrainedModel | None = None,
        *,
        generator: torch.Generator | None = None,
    ):
        super().__init__()
        check_sizes(sizes, text_encoder, fewest=1)
        if config.center not in sizes:
            raise ValueError(f"sizes: expected the centre, {config.center}, got {tuple(sizes)}")
        self.config, self.generator = config, generator
        self.modalities, self.text_encoder = tuple(sizes), text_encoder
        d, size, center = widths(sizes, text_encoder), config.hidden_size, config.center
        self.encoders = nn.ModuleDict({m: Encoder(d[m], config) for m in sizes if m != "text"})
        d |= dict.fromkeys(self.encoders, size)
        others = [name for name in sizes if name != center]
        self.attention = nn.ModuleDict(
            {name: Attention(d[center], d[name], config) for name in others or [center]}
        )
        self.ranking, self.pair_heads = nn.ModuleDict(), nn.ModuleDict()
        for name in others:
            contrasted = config.contrast_weight > 0 and name in config.unimodal_contrast
            gated = name in config.gate
            if contrasted or (gated and name in config.hard_mining):
                # Without its contrast nothing trains a ranking: the paper's code then mines with
                # random projections, and so does this.
                ranking = linears(d[center], d[name], config.contrast_size)
                self.ranking[name] = ranking.requires_grad_(contrasted)
            if gated and config.pair_weight > 0:
                layers = nn.Linear(size, size), nn.ReLU(), nn.Linear(size, 2)
                self.pair_heads[name] = nn.Sequential(*layers)
        self.bimodal = None
        if len(others) == 2 and config.bimodal_contrast and config.contrast_weight > 0:
            self.bimodal = linears(size, size, config.contrast_size)
        self.head = predictor(
            size * (len(self.attention) if config.fusion == "concat" else 1), config
        )

    def forward(self, batch: Batch) -> Output:
        """Predict, and with labels compute the losses: in training all four, else the task's.

        Raises:
            ValueError: a modality that the batch lacks, text of the other kind, or labels of
                another shape than the head's.
        """
        config = self.config
        states = sequences(batch, self.modalities, self.text_encoder)
        states |= {name: encoder(states[name]) for name, encoder in self.encoders.items()}
        center = states[config.center]
        losses: dict[str, list[Tensor]] = {"unimodal": [], "bimodal": [], "pair": []}
        got = [self._ask(name, center, states[name], losses) for name in self.attention]
        if self.training and self.bimodal is not None:
            x, y = (embed(vector) for embed, vector in zip(self.bimodal, got, strict=True))
            here = torch.stack([sequence.present for sequence in states.values()]).all(0)
            losses["bimodal"] = [self._contrast(x, y, here), self._contrast(y, x, here)]
        fused = torch.cat(got, dim=1) if config.fusion == "concat" else sum(got)
        prediction = shaped(self.head(fused), config.head)
        if config.output is not None and config.head == "regression":
            prediction = prediction.tanh() * (3 if config.output == "3tanh" else 1)
        if batch.labels is None:
            return Output(prediction, None, fused)
        task = task_loss(prediction, batch.labels, config.head)
        if not self.training:
            return Output(prediction, mm.LossTerms({"task": task}), fused)
        weights = dict.fromkeys(losses, config.contrast_weight) | {"pair": config.pair_weight}
        weights = {term: weights[term] if found else 0.0 for term, found in losses.items()}
        terms = {term: sum(found, torch.zeros_like(task)) for term, found in losses.items()}
        return Output(prediction, mm.LossTerms({"task": task, **terms}, weights), fused)

    def _ask(
        self, name: str, center: Sequence, other: Sequence, losses: dict[str, list[Tensor]]
    ) -> Tensor:
        """(B, d) what the centre gets from a modality; in training through the gate, with losses.

        A sample that lacks one of the two keeps what it has, and counts in no loss.
        """
        config, both = self.config, center.present & other.present
        ranked = gate = None
        if self.training and name in self.ranking:
            f, g = self.ranking[name]
            ranked = f(masked_mean(*center)), g(masked_mean(*other))
            if config.contrast_weight > 0 and name in config.unimodal_contrast:
                losses["unimodal"].append(self._contrast(*ranked, both))
        if self.training and name in config.gate and name != config.center:
            allowed, generator = both.unsqueeze(1) & other.present, self.generator
            if name in config.hard_mining:  # by eq 7's cosine, whatever the contrast takes
                pool = mm.hard_negatives(
                    *ranked,
                    config.pool_size,
                    allowed=allowed,
                    exclude_positive=config.exclude_positive == "first" or "after",
                )
            else:
                pool = mm.uniform_negatives(both, len(both), allowed=allowed, generator=generator)
            gate = mm.replacement_gate(pool, probability=config.probability, generator=generator)
            other = Sequence(*gate.take(*other))
        vector = masked_mean(self.attention[name](center, other), center.mask)
        if gate is not None and name in self.pair_heads:
            logits = self.pair_heads[name](vector)
            losses["pair"].append(mm.pair_prediction(logits, gate.paired, keep=both))
        return vector

    def _contrast(self, queries: Tensor, keys: Tensor, here: Tensor) -> Tensor:
        """Each query picks its own key, among the samples of all ranks that are here."""
        config = self.config
        normalize = mm.l2_normalize if config.normalize else None
        options = {"temperature": config.temperature, "normalize": normalize, "group": "world"}
        if config.denominator == "paper_literal":
            return mm.matched_pair_nce(queries, keys, keep=here, **options)
        return mm.info_nce(queries, keys, keep=here.unsqueeze(1) & mm.gather(here), **options)
