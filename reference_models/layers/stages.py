"""Parts of a network that are trained before the network itself."""

from dataclasses import dataclass

from torch import nn


@dataclass(frozen=True, eq=False)
class Stage:
    """One part, trained on its own, then frozen.

    A network with such parts returns them, in order, from ``stages()``. Each is trained in place,
    keeps the weights of its epoch with the lowest validation loss, and takes no gradient
    afterwards; the network keeps it in evaluation mode from then on.

    Attributes:
        name: used for its files in the run folder.
        network: ``forward(Batch) -> Output``; the prediction may be None.
        training: fields that differ from the run's TrainingConfig.
    """

    name: str
    network: nn.Module
    training: dict[str, object]
