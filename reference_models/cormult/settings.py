"""CorMulT's settings: defaults, presets by data set, and the rows of the paper's tables.

References: CorMulT, arXiv:2407.07046, and the authors' code.
"""

from dataclasses import dataclass, fields

import mmcontrast as mm
from mmcontrast.distances import Distance
from reference_models.checks import expect, is_int, is_number
from reference_models.layers.heads import HEADS
from reference_models.layers.inputs import MODALITIES

DISTANCES: dict[str, Distance | None] = {
    "euclidean": mm.euclidean,
    "manhattan": mm.manhattan,
    "chebyshev": mm.chebyshev,
    "cosine": mm.cosine_distance,
    "mahalanobis": None,  # made for each batch, from its covariance
}

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

    The defaults are the paper's, or those of its authors' code, "the code" below.

    Args:
        hidden_size: of each modality.
        heads, cross_layers, memory_layers: of the cross-modal and the memory transformers.
        attention_dropout, relu_dropout, residual_dropout, embed_dropout: of both.
        output_dropout: inside the residual layer before the last one.
        use_correlation: False gives MulT: no evaluator and no weights.
        weighting: a stream times its correlation, "scale"; or that plus the stream, "residual", as
            in the code.
        clamp: set negative correlations, which flip the sign of a stream, to 0.
        head: "regression" (one score), "classes7" (the score as one of seven classes), "iemocap"
            (four emotions, yes or no) or "humor" (yes or no).
        loss: of the regression, "mse" or "l1".
        class_score: of seven classes, the "expected" score, or the likeliest by "argmax".
        evaluator_size, evaluator_layers, evaluator_heads, evaluator_feedforward, evaluator_dropout:
            of the evaluator's transformers.
        norm: order in those: "paper", as in eq 4-7, or "post", as in the code.
        temporal_map: from a sequence to correlation_steps steps: "linear", a map of its steps;
            "adaptive_pool", means over equal parts; "none", as in the code, the mean: one step.
        max_steps: input steps of the linear map, zero-padded. A longer sequence is pooled first.
        correlation_steps, correlation_size: t and o, the shape of the maps that are compared.
        reduce: compare maps as they are, "flatten", or their "mean" over the steps, as in the code.
        pretrain: False leaves the evaluator at its random weights.
        pretrain_modalities: modalities of the pre-training; the others keep random weights.
        negative_strategy: "A" swapped, "B" shifted, "C" noisy, "D" any of the three.
        shift_steps: how far audio or vision is shifted.
        shift_all: shift both and text, as in the code.
        noise: standard deviation of the noise, in units of each feature's own.
        replaced_tokens: share of the token ids that strategy C replaces.
        distance, margin: of the triplet loss.
        skip_unaltered: leave out triplets with the positive as the negative; False in the code.
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


# As in the authors' code for MOSEI, except that it divides the rate by ten after ten epochs without
# a lower validation loss.
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
"""By data set: fields that differ from the defaults."""
TABLES: dict[str, dict[str, dict[str, object]]] = {
    "headline": {"CorMulT": {}},
    # Left out: the last row, "Average", which repeats the paper's numbers for MulT, and the table
    # on the evaluator alone, which is about the features that a data file comes with.
    "strategy": {name: {"negative_strategy": name} for name in CHOICES["negative_strategy"]},
    "distance": {name: {"distance": name} for name in DISTANCES},
    "pretrained_modalities": {
        "comb": {"pretrain": False},  # not explained in the paper; its numbers are the lowest
        "A+T": {"pretrain_modalities": ("text", "audio")},
        "V+T": {"pretrain_modalities": ("text", "vision")},
        "V+A+T": {},
    },
    "contrast": {"full": {}, "wo_contrast": {"use_correlation": False}},
}
"""The paper's tables: table -> row -> fields that differ from the defaults."""
CONTRAST = {"full": ("headline", "CorMulT")}
"""Where the paper prints the rows of the table "contrast": (table, row)."""
