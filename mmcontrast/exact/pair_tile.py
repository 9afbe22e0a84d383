"""What a function for ``keep`` or ``bias`` gets, and how it is called."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from mmcontrast import arguments


class Tile:
    """Some rows and columns of the matrix of pairs: what a function for ``keep`` or ``bias`` gets.

    The function has to be deterministic, and what it says of a pair may not depend on which other
    pairs are in the tile: it is called again in the backward pass, where it has to say the same,
    and for the partners alone beforehand. It adds its own time twice, and little memory: of a tile,
    not of all pairs. For a tile of which nothing is left out, a function for ``keep`` may return
    ``True``, which saves the time of masking. Rows that it leaves out have to be finite. Under a
    compiler, functional transforms and forward mode, and for second derivatives, all pairs are one
    tile. Reading ``similarity`` costs a division of the tile; what is not read is not made.

    Nothing of it has a gradient. ``similarity``, ``partner`` and ``positive`` may be given as
    functions of the tile, called when they are first read.

    Args:
        rows: (R,) int64, which anchors; with ``group=``, counted over all ranks.
        columns: (C,) int64, which candidates; with ``group=``, counted over all ranks.
        similarity: (R, C) products of the rows after the row map, before the temperature.
        partner: (R,) the similarity of each anchor and its partner, of several the most similar
            one; infinity for an anchor without any, or with none inside the tensors of ``keep``.
        positive: (R, C) bool, which of these pairs are partners.
        column_partner: (C,) the same of the candidates, where these are anchors too, in
            :func:`symmetric_info_nce`; else None.
        partners: (R,) int64, which candidate is each anchor's partner, -100 for none; None where
            an anchor may have several. Then a tile has all columns.
        size: numbers of all anchors and of all candidates.
        apart: whether it is known that none of these pairs are partners.

    Example:
        >>> tile = Tile(torch.arange(2), torch.arange(3), torch.rand(2, 3), torch.ones(2))
        >>> (tile.similarity <= tile.partner[:, None]).all()
        tensor(True)

    A mask of one's own. It keeps the partner, for an anchor without one has no loss:

        >>> from mmcontrast import info_nce
        >>> speakers = torch.tensor([0, 0, 1])
        >>> def other_speaker(tile):
        ...     other = speakers[tile.rows][:, None] != speakers[tile.columns]  # (R, C)
        ...     return other | (tile.partners[:, None] == tile.columns)
        >>> info_nce(torch.eye(3), torch.eye(3), temperature=1.0, keep=other_speaker)
        tensor(0.3927)
    """

    def __init__(
        self,
        rows: Tensor,
        columns: Tensor,
        similarity: Tensor | Callable[["Tile"], Tensor],
        partner: Tensor | Callable[["Tile"], Tensor],
        *,
        positive: Tensor | Callable[["Tile"], Tensor] | None = None,
        column_partner: Tensor | None = None,
        partners: Tensor | None = None,
        size: tuple[int, int] | None = None,
        apart: bool = False,
    ):
        self.rows = rows
        self.columns = columns
        self.column_partner = column_partner
        self.partners = partners
        self.size = size
        self.apart = apart
        self._similarity = similarity
        self._partner = partner
        self._positive = positive

    @property
    def shape(self) -> tuple[int, int]:
        """(R, C), the numbers of rows and columns."""
        return self.rows.shape[0], self.columns.shape[0]

    @property
    def similarity(self) -> Tensor:
        """(R, C)."""
        if not isinstance(self._similarity, Tensor):
            self._similarity = self._similarity(self)
        return self._similarity

    @property
    def partner(self) -> Tensor:
        """(R,)."""
        if not isinstance(self._partner, Tensor):
            self._partner = self._partner(self)
        return self._partner

    @property
    def positive(self) -> Tensor:
        """(R, C) bool; row i and column i where a tile was made without any."""
        if self._positive is None:
            self._positive = self.rows[:, None] == self.columns
        if not isinstance(self._positive, Tensor):
            self._positive = self._positive(self)
        return self._positive


TileFunction = Callable[[Tile], Tensor | bool]
"""Returns (R, C): bool for ``keep``, or True for all of the tile; floating for ``bias``."""
PairTerm = Tensor | TileFunction | Sequence[Tensor | TileFunction]
"""A (B, C) tensor, a function of a tile, or several of these."""


def called_for(name: str, function: TileFunction, tile: Tile) -> Tensor | None:
    """What a function returns for a tile, checked and detached; None for a mask of all pairs."""
    with torch.no_grad():
        found = function(tile)
    if found is True and name == "keep":
        return None
    shape = tile.shape
    kind = "bool" if name == "keep" else "floating"
    if (
        not isinstance(found, Tensor)
        or found.shape != shape
        or (found.dtype != torch.bool if name == "keep" else not found.is_floating_point())
        or found.device != tile.rows.device
    ):
        expected = f"a function that returns {shape} {kind} on {tile.rows.device} for such a tile"
        expected += ", or Python's True" if name == "keep" else ""
        got = arguments.shown(found)
        if isinstance(found, Tensor) and found.device != tile.rows.device:
            got += f" on {found.device}"
        arguments.fail(name, expected, got)
    return found.detach()
