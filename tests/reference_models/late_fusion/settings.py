"""The settings of late fusion, and the rows of its table."""

from dataclasses import dataclass

from reference_models.checks import expect, is_int, is_number
from reference_models.layers.heads import HEADS


@dataclass(frozen=True)
class LateFusionConfig:
    """Every field is a key of ``--set``, and ``list`` prints what is said of it here.

    Args:
        hidden_size: features of each modality, from which it predicts.
        contrast_weight: weight of the contrast between text and audio; 0 leaves it out.
        temperature: of the contrast.
        head: what is predicted, one of ``HEADS``.
    """

    hidden_size: int = 16
    contrast_weight: float = 0.1
    temperature: float = 0.07
    head: str = "regression"

    def __post_init__(self) -> None:
        expect(self, "hidden_size", "a whole number from 1", is_int, lambda n: n >= 1)
        expect(self, "contrast_weight", "a number from 0", is_number, lambda x: x >= 0)
        expect(self, "temperature", "a number above 0", is_number, lambda x: x > 0)
        expect(self, "head", f"one of {', '.join(HEADS)}", HEADS.__contains__)


TABLES = {"contrast": {"full": {}, "wo_contrast": {"contrast_weight": 0.0}}}
