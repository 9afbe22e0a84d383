"""The scores of Rank-N-Contrast, and who takes part."""

from typing import NamedTuple

from torch import Tensor


class Scores(NamedTuple):
    """Who is compared with whom, and by which scores."""

    anchors: Tensor  # (B, S) float64
    candidates: Tensor  # (C, S)
    rated: Tensor  # (B,) bool: anchors with a score
    candidates_rated: Tensor  # (C,) bool
    own: Tensor | None  # (B,) int64: the candidate that is the anchor itself; None: none is
    rounding: float  # relative: distances that differ by less than that of their scores are equal

    def counted(self) -> Tensor:
        """(B,) bool: anchors with a candidate."""
        alone = 0 if self.own is None else 1  # a rated anchor is a rated candidate, its own
        return self.rated & (self.candidates_rated.sum() > alone)
