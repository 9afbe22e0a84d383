"""How a network is trained: the settings that all models share."""

from dataclasses import dataclass

from reference_models.checks import expect, is_int, is_number
from reference_models.data.missing import RATED_MODES

SCHEDULES = ("constant", "linear")
PRECISIONS = ("float32", "bf16", "fp16")
SELECTIONS = {
    "valid_loss": "the epoch with the lowest validation loss",
    "test_loss": "the epoch with the lowest test loss, as the papers' code has it: it has seen the"
    " test set, and flatters",
}


@dataclass(frozen=True)
class TrainingConfig:
    """How a network is trained; the defaults are those of HyCon's paper, as far as it has them.

    The paper has Adam and 2e-5 for every layer, and neither batch size nor epochs; its author's
    other code has 48 and 50, no schedule, no clipping and no weight decay.

    Args:
        learning_rate: of the pretrained text encoder.
        head_learning_rate: of all randomly initialised layers; None: the same.
        weight_decay: decoupled (AdamW; 0 is Adam); never on biases and normalisation layers.
        batch_size: samples in a batch, over all ranks; the contrastive terms compare within it.
        gradient_accumulation: batches in an optimizer step. It adds no contrastive pairs.
        epochs: the most that are trained.
        patience: stop after so many epochs without a lower loss on the split of ``selection``; 0:
            never.
        selection: the epoch that is kept: "valid_loss", the lowest validation loss; "test_loss",
            the lowest test loss, as in the papers' code, which biases the results.
        schedule: "constant" or "linear" (down to 0) after the warm-up.
        warmup_ratio: the share of all steps in which the learning rate rises from 0.
        max_grad_norm: clip the gradient to this norm; 0: no clipping.
        max_text_length: most tokens of a sentence, special tokens included.
        standardize: scale audio and vision features by the training split's mean and deviation.
        precision: "float32", or the autocast "bf16" or "fp16".
        missing_rate: the share that is missing of every training batch, those of a stage too, drawn
            anew in each step from the run's seed; 0: nothing is. The watched split stays whole.
        missing_mode: what is missing: "random-modalities", or "frames", "shared-frames" or "blocks"
            of frames and tokens, as evaluate --missing has them.

    Raises:
        ValueError: names the field, what was expected and what came.
    """

    learning_rate: float = 2e-5
    head_learning_rate: float | None = None
    weight_decay: float = 0.0
    batch_size: int = 48
    gradient_accumulation: int = 1
    epochs: int = 50
    patience: int = 10
    selection: str = "valid_loss"
    schedule: str = "constant"
    warmup_ratio: float = 0.0
    max_grad_norm: float = 0.0
    max_text_length: int = 50
    standardize: bool = True
    precision: str = "float32"
    missing_rate: float = 0.0
    missing_mode: str = "frames"

    def __post_init__(self) -> None:
        for name in ("batch_size", "gradient_accumulation", "epochs"):
            words = "a whole number from 1 to 2^31"
            expect(self, name, words, is_int, lambda value: 1 <= value <= 2**31)
        expect(self, "max_text_length", "a whole number from 3", is_int, lambda value: value >= 3)
        expect(self, "patience", "a whole number from 0", is_int, lambda value: value >= 0)
        expect(self, "learning_rate", "a number above 0", is_number, lambda value: value > 0)
        if self.head_learning_rate is not None:
            expect(
                self,
                "head_learning_rate",
                "a number above 0, or none",
                is_number,
                lambda value: value > 0,
            )
        expect(
            self, "missing_rate", "a number from 0 to 1", is_number, lambda value: 0 <= value <= 1
        )
        for name in ("weight_decay", "max_grad_norm"):
            expect(self, name, "a number from 0", is_number, lambda value: value >= 0)
        expect(
            self,
            "warmup_ratio",
            "a number from 0, below 1",
            is_number,
            lambda value: 0 <= value < 1,
        )
        expect(self, "standardize", "true or false", lambda value: isinstance(value, bool))
        choices_of = {
            "schedule": SCHEDULES,
            "precision": PRECISIONS,
            "selection": tuple(SELECTIONS),
            "missing_mode": RATED_MODES,
        }
        for name, choices in choices_of.items():
            expect(self, name, f"one of {', '.join(choices)}", choices.__contains__)


# Fields that the runs of older releases lack, with what their training had in their place.
NEWER = {"missing_rate": 0.0, "missing_mode": "frames"}

# The default of every model, so that they can be compared; the papers' own settings are presets. At
# HyCon's 2e-5 for every layer, randomly initialised layers have hardly changed after eight epochs:
# here they have a higher rate, and the schedule reaches 0 at the last epoch.
FINE_TUNING = TrainingConfig(
    learning_rate=5e-5,
    head_learning_rate=1e-3,
    batch_size=32,
    epochs=8,
    patience=0,
    schedule="linear",
    warmup_ratio=0.1,
)
