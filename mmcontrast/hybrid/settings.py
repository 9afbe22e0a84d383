"""The settings that HyCon's losses share, collected once by each public function."""

from typing import NamedTuple

from mmcontrast import arguments
from mmcontrast.hybrid.selection import PairSelection
from mmcontrast.reductions import Reduction
from mmcontrast.rows import POSITIVE_MAPS, RowMap, checked_map

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

    @property
    def signed(self) -> bool:
        """Whether similarities may be below 0 by more than rounding."""
        return self.normalize not in POSITIVE_MAPS

    def check(self) -> None:
        """Refuse what the settings may not be."""
        arguments.flag("refine", self.refine)
        arguments.flag("log", self.log)
        check_selection(self.selection, self.refine_on)
        checked_map(self.normalize)
        arguments.reduction(self.reduction.how)


def check_selection(selection: object, refine_on: object) -> None:
    """Refuse another word for ``refine_on``, or another kind of selection."""
    arguments.one_of("refine_on", refine_on, REFINE_ON)
    if selection is not None and not isinstance(selection, PairSelection):
        arguments.fail("selection", "a PairSelection or None", arguments.shown(selection))
