"""Modules whose mistake is in what they remember, learn or draw."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmcontrast.testing.broken.mistake import Mistake
from mmcontrast.testing.broken.parts import right
from mmcontrast.testing.traits import Traits


class DropsOut(nn.Module):
    """Dropout inside the loss."""

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        """InfoNCE of what is left of the rows."""
        return right(F.dropout(a, 0.5, self.training), b)


class RemembersBatches(nn.Module):
    """Every call leaves its rows behind as negatives of the next."""

    def __init__(self) -> None:
        super().__init__()
        self.memory: list[Tensor] = []

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        """InfoNCE against this batch and all before it."""
        former = [x.to(b.dtype) for x in self.memory if x.shape[1:] == b.shape[1:]]
        self.memory.append(b.detach().clone())
        return right(a, torch.cat([b, *former]))


class ForgetsOnResume(nn.Module):
    """A running mean in a plain attribute, which state_dict does not know."""

    def __init__(self) -> None:
        super().__init__()
        self.scale: Tensor = torch.ones((), dtype=torch.float64)

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        """InfoNCE over a temperature that follows the batches."""
        value = right(a, b, 0.1 * float(self.scale))
        self.scale = 0.5 * self.scale + 0.5 * (1 + value.detach())
        return value


class UnlearnedTemperature(nn.Module):
    """A learned temperature that is read with `.item()`."""

    def __init__(self) -> None:
        super().__init__()
        self.temperature = nn.Parameter(torch.tensor(0.1))

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        """InfoNCE over a number."""
        return right(a, b, self.temperature.item())


class HalvesInEvaluation(nn.Module):
    """Another scale in evaluation mode."""

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        """InfoNCE, or half of it."""
        value = right(a, b)
        return value if self.training else value / 2


_CLAIMS = Traits(form="info_nce", temperature=0.1)

STATES = (
    Mistake(DropsOut, "dropout inside", "repeats_itself", _CLAIMS),
    Mistake(RemembersBatches, "a queue that fills by itself", "repeats_itself", _CLAIMS),
    Mistake(ForgetsOnResume, "state that is not saved", "copies_are_worth_the_same", _CLAIMS),
    Mistake(UnlearnedTemperature, "`.item()` of a parameter", "parameters_get_gradients", _CLAIMS),
    Mistake(HalvesInEvaluation, "another scale in evaluation", "modes_do_not_matter", _CLAIMS),
)
