"""The settings that HyCon's losses share, collected once by each public function."""

from typing import NamedTuple

from mmcontrast import arguments
from mmcontrast.hybrid.selection import PairSelection
from mmcontrast.reductions import Reduction
from mmcontrast.rows import RowMap

REFINE_ON = ("selected", "all", "weighted")


class Settings(NamedTuple):
    """How the terms are evaluated; the arguments of :func:`intra_modal_contrast`."""

    refine: bool
    """Add the refinement to the ratio."""
    log: bool
    """The negated logarithm of the ratio instead of the negated ratio."""
    selection: PairSelection | None
    """HyCon-v2's pair selection; None for all pairs."""
    refine_on: str
    """The refinement's pairs, where there is a selection: one of ``REFINE_ON``."""
    normalize: RowMap | None
    """Row map before the dot product."""
    reduction: Reduction
    """How the anchors' values become a loss, with the sample weights and the group of ranks."""

    def check(self) -> None:
        """Refuse another word for ``refine_on`` or ``reduction``, or another kind of selection."""
        arguments.one_of("refine_on", self.refine_on, REFINE_ON)
        arguments.reduction(self.reduction.how)
        if self.selection is not None and not isinstance(self.selection, PairSelection):
            arguments.fail("selection", "a PairSelection or None", repr(self.selection))
