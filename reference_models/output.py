"""What every reference model returns."""

from dataclasses import dataclass

from torch import Tensor

from mmcontrast import LossTerms


@dataclass(frozen=True, eq=False)
class Output:
    """One forward pass.

    Attributes:
        prediction: (B,) scores, or (B, 4, 2) logits of four emotions.
        terms: the named losses and their weights; ``None`` when the batch has no labels. In
            evaluation the task's loss alone.
        fused: (B, d) what the last layer saw.
    """

    prediction: Tensor
    terms: LossTerms | None
    fused: Tensor
