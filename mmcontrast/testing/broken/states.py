"""Modules whose mistake concerns their state, parameters or randomness."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmcontrast.testing.broken.correct import correct
from mmcontrast.testing.broken.mistake import Mistake
from mmcontrast.testing.traits import Traits


class DropsOut(nn.Module):
    """Dropout inside the loss."""

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        """InfoNCE of rows after dropout."""
        return correct(F.dropout(a, 0.5, self.training), b)


class RemembersBatches(nn.Module):
    """The rows of every call become negatives of the next."""

    def __init__(self) -> None:
        super().__init__()
        self.memory: list[Tensor] = []

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        """InfoNCE against this batch and all earlier ones."""
        former = [x.to(b.dtype) for x in self.memory if x.shape[1:] == b.shape[1:]]
        self.memory.append(b.detach().clone())
        return correct(a, torch.cat([b, *former]))


class ForgetsOnResume(nn.Module):
    """A running mean in a plain attribute, which is not in the state_dict."""

    def __init__(self) -> None:
        super().__init__()
        self.scale: Tensor = torch.ones((), dtype=torch.float64)

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        """InfoNCE with a temperature that depends on earlier batches."""
        value = correct(a, b, 0.1 * float(self.scale))
        self.scale = 0.5 * self.scale + 0.5 * (1 + value.detach())
        return value


class UnlearnedTemperature(nn.Module):
    """A learned temperature that is read with `.item()`."""

    def __init__(self) -> None:
        super().__init__()
        self.temperature = nn.Parameter(torch.tensor(0.1))

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        """InfoNCE with a temperature that gets no gradient."""
        return correct(a, b, self.temperature.item())


class HalvesInEvaluation(nn.Module):
    """Another scale in evaluation mode."""

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        """InfoNCE, or half of it."""
        value = correct(a, b)
        return value if self.training else value / 2


_CLAIMS = Traits(form="info_nce", temperature=0.1)

STATES = (
    Mistake(DropsOut, "dropout inside", "repeats_itself", _CLAIMS),
    Mistake(RemembersBatches, "a queue that fills by itself", "repeats_itself", _CLAIMS),
    Mistake(ForgetsOnResume, "state that is not saved", "copies_are_worth_the_same", _CLAIMS),
    Mistake(UnlearnedTemperature, "`.item()` of a parameter", "parameters_get_gradients", _CLAIMS),
    Mistake(HalvesInEvaluation, "another scale in evaluation", "modes_do_not_matter", _CLAIMS),
)
