"""TeCaFN's settings: defaults, presets by data set, and the rows of the paper's tables.

References: TeCaFN, Multimedia Systems 30(4):228, 2024, and its code.
"""

from dataclasses import dataclass

from reference_models.checks import expect, is_int, is_number
from reference_models.layers.heads import HEADS
from reference_models.layers.inputs import MODALITIES
from reference_models.layers.transformer import DROPOUTS

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
    """The network and its losses; the defaults are the paper's for CMU-MOSI, or of its code.

    Args:
        center: the modality that attends to the others: "text", "audio" (the paper's AeCaFN) or
            "vision" (VeCaFN). Its own name has no effect in the three tuples below.
        hidden_size, layers, heads, attention_dropout, relu_dropout, residual_dropout,
            embed_dropout: of every transformer.
        residual: what a layer adds to: its input, "pre", or its normed input, "normed", as printed.
        lstm: whether audio and vision pass eq 4's LSTM, which the code leaves out of the fusion.
        contrast_size, temperature: of both contrasts.
        denominator: of both contrasts: "all" keys, or "paper_literal", the matched pairs alone.
        normalize: contrast cosines instead of the raw dot products of eq 6 and 15.
        contrast_weight, pair_weight: gamma1, of both contrasts, and gamma2, of pair prediction.
        probability, pool_size: the gate's p, and num, the hard negatives that it draws from.
        exclude_positive: remove a sample from its own pool "first", or, as in the code, "after" the
            ranking, which leaves the pool one negative short.
        unimodal_contrast: modalities that are contrasted with the centre.
        gate: modalities that may be replaced; their replacement is predicted.
        hard_mining: modalities with hard negatives; for others, any sample may be the replacement.
        bimodal_contrast: contrast the centre's two results with each other.
        fusion: "sum" of the centre's results, or "concat".
        head: "regression" (one score), "humor" (two classes) or "iemocap" (four emotions).
        head_dropout: of the layers that predict.
        output: activation of a score: None; "tanh", as in eq 17; or "3tanh", with range (-3, 3).

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


# The paper's values, the first of several; the encoder's rate, the decay and the epochs are those
# of its code, which also halves the rates when the validation loss stops falling.
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
"""By data set: fields that differ from the defaults."""
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
"""The paper's tables: table -> row -> fields that differ from the defaults."""
CONTRAST = {"full": ("headline", "TeCaFN")}
"""Where the paper prints the rows of the table "contrast": (table, row)."""
