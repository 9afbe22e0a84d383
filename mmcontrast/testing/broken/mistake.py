"""What is wrong on purpose, the traits that it claims, and the law that it breaks."""

from dataclasses import dataclass

from mmcontrast.testing.traits import Loss, Traits


@dataclass(frozen=True)
class Mistake:
    """A wrong loss, miner or distance, what it claims, and the law that catches it."""

    loss: Loss
    wrong: str
    """The mistake in a few words."""
    law: str
    """The name of the check that is meant to catch it."""
    traits: Traits

    @property
    def name(self) -> str:
        """The function's or the class's name."""
        name: str = self.loss.__name__
        return name
