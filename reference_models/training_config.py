"""How a network is trained: the settings that all models share."""

from dataclasses import dataclass

from reference_models.checks import expect, is_int, is_number

SCHEDULES = ("constant", "linear")
PRECISIONS = ("float32", "bf16", "fp16")
SELECTIONS = {
    "valid_loss": "the epoch with the lowest validation loss",
    "test_loss": "the epoch with the lowest test loss, as the papers' code has it: it has seen the"
    " test set, and flatters",
}


@dataclass(frozen=True)
class TrainingConfig:
    """How a network is trained; the defaults follow HyCon's paper where it says something.

    The paper: Adam, 2e-5 for every layer. It leaves open the batch size and the epochs; its
    author's sibling repositories use 48 and 50, no schedule, no clipping and no weight decay.

    Args:
        learning_rate: of the pretrained text encoder.
        head_learning_rate: of every layer that starts from random weights; None: the same.
        weight_decay: decoupled (AdamW; 0 is Adam); never on biases and normalisation layers.
        batch_size: samples in a batch, over all ranks; the contrastive terms compare within it.
        gradient_accumulation: batches in an optimizer step. It adds no contrastive pairs.
        epochs: at most so many.
        patience: stop after so many epochs without a lower loss on what ``selection`` watches; 0:
            never.
        selection: the epoch that is kept: "valid_loss", the lowest validation loss; "test_loss",
            the lowest test loss, which is what the papers' code does, and no fair number.
        schedule: "constant" or "linear" (down to 0) after the warm-up.
        warmup_ratio: the share of all steps in which the learning rate rises from 0.
        max_grad_norm: clip the gradient's norm to it; 0: no clipping.
        max_text_length: tokens of a sentence, the special ones among them.
        standardize: scale audio and vision features by the training split's mean and deviation.
        precision: "float32", or the autocast "bf16" or "fp16".

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

    def __post_init__(self) -> None:
        for name in ("batch_size", "gradient_accumulation", "epochs"):
            expect(self, name, "a whole number from 1", is_int, lambda value: value >= 1)
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
        }
        for name, choices in choices_of.items():
            expect(self, name, f"one of {', '.join(choices)}", choices.__contains__)


# What runs unless told otherwise, for every model, so that they can be compared; the papers' own
# settings are the presets. At HyCon's 2e-5 for every layer, those that start from random weights
# have hardly moved after eight epochs: they have a rate of their own here, and the schedule comes
# down within the epochs that there are.
FINE_TUNING = TrainingConfig(
    learning_rate=5e-5,
    head_learning_rate=1e-3,
    batch_size=32,
    epochs=8,
    patience=0,
    schedule="linear",
    warmup_ratio=0.1,
)
