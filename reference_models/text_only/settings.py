"""The settings of text alone."""

from dataclasses import dataclass

from reference_models.checks import expect, is_number
from reference_models.layers.heads import HEADS
from reference_models.layers.pooling import POOLS

CHOICES = {"head": tuple(HEADS), "pool": POOLS}


@dataclass(frozen=True)
class TextOnlyConfig:
    """The network and its loss.

    Args:
        head: what is predicted, one of ``HEADS``.
        pool: the vector of a text: the "mean" of its states, the "first" ([CLS]) or the "last".
        dropout: before the linear layer.
        squared: train scores on the squared error instead of the absolute one.

    Raises:
        ValueError: names the field, what was expected and what came.
    """

    head: str = "regression"
    pool: str = "mean"
    dropout: float = 0.1
    squared: bool = False

    def __post_init__(self) -> None:
        expect(self, "dropout", "a number from 0, below 1", is_number, lambda x: 0 <= x < 1)
        expect(self, "squared", "true or false", lambda x: isinstance(x, bool))
        for name, choices in CHOICES.items():
            expect(self, name, f"one of {', '.join(choices)}", choices.__contains__)
