"""Parts of a network that are trained before the network itself."""

from dataclasses import dataclass, field

from torch import nn


@dataclass(frozen=True, eq=False)
class Stage:
    """One part, trained alone, then frozen.

    A network that has such parts gives them, in order, with ``stages()``. Each is trained in place,
    ends with the weights of its epoch with the lowest validation loss, and takes no gradient
    afterwards; the network keeps it in evaluation mode from then on.

    Attributes:
        name: of its files in the run folder.
        network: ``forward(Batch) -> Output``; the prediction may be None.
        training: what differs from the run's TrainingConfig.
    """

    name: str
    network: nn.Module
    training: dict[str, object] = field(default_factory=dict)
