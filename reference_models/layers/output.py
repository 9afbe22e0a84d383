"""The result of a forward pass, the same for every reference model."""

from dataclasses import dataclass

from torch import Tensor

from mmcontrast import LossTerms


@dataclass(frozen=True, eq=False)
class Output:
    """One forward pass.

    Attributes:
        prediction: (B,) scores, (B, 4, 2) logits of four emotions, or (B, 2) logits of two classes;
            ``None`` for a part that predicts nothing.
        terms: the named losses and their weights; ``None`` when the batch has no labels. In
            evaluation, the task's loss only.
        fused: (B, d) the input of the last layer; ``None`` for a part that has none.
    """

    prediction: Tensor | None
    terms: LossTerms | None
    fused: Tensor | None
