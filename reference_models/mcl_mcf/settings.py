"""MCL-MCF's settings: defaults, presets by data set, and the rows of the paper's tables.

References: Multi-level Contrastive Learning: Hierarchical Alleviation of Heterogeneity in
Multimodal Sentiment Analysis, and the authors' code.
"""

from dataclasses import dataclass

from reference_models.checks import expect, is_int, is_number
from reference_models.layers.heads import HEADS
from reference_models.layers.inputs import MODALITIES
from reference_models.mcl_mcf.image_fusion import BACKBONES, check_side

CHOICES = {
    "trimodal_partner": MODALITIES,
    "pair_design": ("A", "B", "C"),
    "fusion": ("mcf", "linear"),
    "head": tuple(HEADS),
}


@dataclass(frozen=True)
class MclMcfConfig:
    """The network and its losses; the paper's defaults for CMU-MOSI, except ``tcf_size``.

    Args:
        hidden_size: of the recurrent networks, their output, and the second level's fusions.
        tcf_size: S, the side of the image of two modalities. The paper's is 512, at which the third
            level has 196.6 million weights. 64 trains in 8 GiB of memory.
        channels: of the three convolutions on an image.
        fusion_size: of the fused representation.
        head_size, head_dropout: of the last layers.
        first_weight, second_weight, third_weight: alpha, beta and gamma, of the three levels. The
            layers of a level whose weight is 0 do not exist.
        contrast_size: of the common space of two views.
        temperature: divides the cosines. Algorithm 1 multiplies them by exp(tau), which is the same
            with tau = log(1 / 0.07). The authors' code multiplies by log(1 / 0.07) = 2.659, which
            is a temperature of 1 / 2.659.
        learnable_temperature: learn it, between 0.01 (CLIP's limit) and 1.
        symmetric: both directions, as in Algorithm 1; false: one, as in eq 4, 10, 11 and 17.
        trimodal_partner: the modality that all three together are compared with.
        pair_design: "A": a sample's views are positives, all other samples negatives; "B": the
            negatives are those of another sentiment; "C": in addition the positives are the other
            samples of the same sentiment. A score's sentiment is its sign, 0 a class of its own.
        fusion: "mcf" (two layers) or "linear" (one).
        share_tcf_mcf: one layer for each modality (eq 13 and 20) before the images and in the
            fusion, as in the authors' code; false for one each.
        image_backbone: predict from the images of the three pairs alone, without contrast, with
            "resnet18", "resnet34", "resnet50", "vit", "mae" or "tslc".
        image_layers, image_heads: of "vit" (none: 6 and 12) and "mae" (none: 24 and 16).
        image_mask: the share of an image that is hidden from "mae" in training.
        head: "regression" (one score), "iemocap" (four emotions) or "humor" (yes or no).

    Raises:
        ValueError: names the field, what was expected and what came.
    """

    hidden_size: int = 64
    tcf_size: int = 64
    channels: tuple[int, int, int] = (4, 6, 1)
    fusion_size: int = 512
    head_size: int = 128
    head_dropout: float = 0.1
    first_weight: float = 0.05
    second_weight: float = 0.05
    third_weight: float = 0.05
    contrast_size: int = 128
    temperature: float = 0.07
    learnable_temperature: bool = False
    symmetric: bool = True
    trimodal_partner: str = "audio"
    pair_design: str = "A"
    fusion: str = "mcf"
    share_tcf_mcf: bool = True
    image_backbone: str | None = None
    image_layers: int | None = None
    image_heads: int | None = None
    image_mask: float = 0.75
    head: str = "regression"

    def __post_init__(self) -> None:
        for name in ("hidden_size", "fusion_size", "head_size", "contrast_size"):
            expect(self, name, "a whole number from 1", is_int, lambda n: n >= 1)
        expect(self, "tcf_size", "a whole number from 7", is_int, lambda n: n >= 7)
        expect(
            self,
            "channels",
            "three whole numbers from 1",
            lambda x: isinstance(x, tuple) and len(x) == 3,
            lambda x: all(is_int(n) and n >= 1 for n in x),
        )
        for name in ("head_dropout", "image_mask"):
            expect(self, name, "a number from 0, below 1", is_number, lambda x: 0 <= x < 1)
        for name in ("first_weight", "second_weight", "third_weight"):
            expect(self, name, "a number from 0", is_number, lambda x: x >= 0)
        for name in ("learnable_temperature", "symmetric", "share_tcf_mcf"):
            expect(self, name, "true or false", lambda x: isinstance(x, bool))
        expect(self, "temperature", "a number above 0", is_number, lambda x: x > 0)
        if self.learnable_temperature:
            expect(self, "temperature", "between 0.01 and 1, to learn", lambda x: 0.01 < x < 1)
        for name, choices in CHOICES.items():
            expect(self, name, f"one of {', '.join(choices)}", choices.__contains__)
        known = (None, *BACKBONES)
        expect(self, "image_backbone", f"none or {', '.join(BACKBONES)}", known.__contains__)
        if self.image_backbone is not None:
            check_side(self.image_backbone, self.tcf_size)
        for name in ("image_layers", "image_heads"):
            if getattr(self, name) is not None:
                expect(self, name, "none or a whole number from 1", is_int, lambda n: n >= 1)


_WEIGHTS = ("first_weight", "second_weight", "third_weight")
_LOW = dict.fromkeys(_WEIGHTS, 0.02)
_TRAINING: dict[str, object] = {
    "learning_rate": 5e-5,
    "head_learning_rate": 1e-4,
    "weight_decay": 1e-4,
    "max_grad_norm": 1.0,
    "batch_size": 128,
    "epochs": 200,
    "patience": 10,
}
PRESETS: dict[str, dict[str, object]] = {
    "mosi": _TRAINING,
    "mosei": {**_TRAINING, "channels": (2, 4, 1), **_LOW},
    "sims": {**_TRAINING, "channels": (4, 7, 1), **_LOW},
    "paper": {**_TRAINING, "tcf_size": 512},  # the size of its images, for CMU-MOSI on a GPU
}
"""By data set: fields that differ from the defaults."""
_OFF = dict.fromkeys(_WEIGHTS, 0.0)
TABLES: dict[str, dict[str, dict[str, object]]] = {
    "headline": {"MCL-MCF": {}},
    "ablation": {
        "full": {},
        "wo_MCL_F": {"first_weight": 0.0},
        "wo_MCL_S": {"second_weight": 0.0},
        "wo_MCL_T": {"third_weight": 0.0},
        "wo_MCL": _OFF,
        "wo_MCF": {"fusion": "linear"},
    },
    "pair_design": {design: {"pair_design": design} for design in CHOICES["pair_design"]},
    # Sides: 128 and 224 as in section 6.6; TSLC's follows from its printed parameters and FLOPs.
    "multimodal_image": {
        "ResNet18": {"image_backbone": "resnet18", "tcf_size": 128},
        "ResNet34": {"image_backbone": "resnet34", "tcf_size": 128},
        "ResNet50": {"image_backbone": "resnet50", "tcf_size": 128},
        "ViT": {"image_backbone": "vit", "tcf_size": 128},
        "MaskedAE": {"image_backbone": "mae", "tcf_size": 224},
        "TSLC": {"image_backbone": "tslc", "tcf_size": 256},
    },
    "contrast": {"full": {}, "wo_contrast": _OFF},
}
"""The paper's tables: table -> row -> fields that differ from the defaults."""
CONTRAST = {"full": ("headline", "MCL-MCF"), "wo_contrast": ("ablation", "wo_MCL")}
"""Where the paper prints the rows of the table "contrast": (table, row)."""
