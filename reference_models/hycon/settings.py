"""HyCon's settings: defaults, presets by data set, and the rows of the paper's tables.

References: HyCon, IEEE Transactions on Affective Computing 14(3):2276-2289, 2023.
"""

from dataclasses import dataclass

from reference_models.checks import expect, is_int, is_number
from reference_models.hycon.fusion import FUSIONS
from reference_models.hycon.substitutes import SIMILARITIES, SUBSTITUTES
from reference_models.layers.heads import HEADS
from reference_models.layers.pooling import LAST_STEPS
from reference_models.layers.transformer import DROPOUTS

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
    """The network and its losses; the defaults are the paper's, or of its author's other code.

    Args:
        hidden_size: d of every representation.
        layers, heads, kernel_size, attention_dropout, relu_dropout, residual_dropout,
            embed_dropout: of the sequence encoders.
        fusion: "addition", "concatenation", "tensor" or "graph".
        last: the step that represents a sequence: the last "real" one, or the last "index",
            padding or not, as in the author's other code.
        head: "regression" (one score), "iemocap" (four emotions, yes or no) or "humor" (yes or no).
        margin: target similarity of two modalities of a sample, or of a class.
        intra_weight, inter_weight, semi_weight: of the three contrastive terms.
        refine: whether to add the refinement terms.
        log: the negated logarithm of each ratio, instead of the negated ratio.
        similarity: "softmax" (the paper's), "cosine", "cosine01" (moved to [0, 1]), "softplus_l2"
            (the cosine after a softplus) or "dot".
        supervised_loss: "hycon", "hycon_v2" (selected pairs), or a substitute for the intra- and
            inter-modal terms: "triplet", "hard_triplet", "n_pair", "classical".
        selection_fraction: share of the batch that HyCon-v2 keeps, of positives and of negatives.
        selection_gamma: in HyCon-v2's weights of positives; above 1 for the "cosine" similarity.
        select_positives, select_negatives: whether HyCon-v2 selects among them.
        unselected: how a side that is not selected enters the ratio, by "mean" or "sum".
        inter_factor: times as many selected pairs across modalities as within one.
        refine_on: pairs of HyCon-v2's refinement: "selected", "all", or "weighted" selected ones.
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
# The paper's learning rate, for every layer; batch size and epochs as in its author's other code.
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
"""By data set: fields that differ from the defaults."""
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
"""The paper's tables: table -> row -> fields that differ from the defaults."""
CONTRAST = {"full": ("ablation", "HyCon"), "wo_contrast": ("ablation", "wo_contrastive")}
"""Where the paper prints the rows of the table "contrast": (table, row)."""
# HyCon-v2 has rows of its own: HyCon's rows, applied to it, would run HyCon-v2 under HyCon's name.
V2_TABLES: dict[str, dict[str, dict[str, object]]] = {
    "headline": {"HyCon-v2": {}},
    "contrast": {"full": {}, "wo_contrast": _NO_CONTRAST},
    "ablation": {
        "wo_contrastive": _NO_CONTRAST,
        "v2_wo_positive_selection": {"select_positives": False},
        "v2_wo_negative_selection": {"select_negatives": False},
        "HyCon-v2": {},
    },
}
V2_CONTRAST = {**CONTRAST, "full": ("ablation", "HyCon-v2")}
