"""Which way InfoNCE takes with a mask."""

import torch

import mmcontrast as mm
from tests.mmcontrast.exact.ways import rows, taken


def test_masks_take_blocks_or_tiles_whatever_the_size():
    keep = torch.ones(5, 5, dtype=torch.bool)
    x, y = rows(5), rows(5, 2)
    for size in (None, 2):
        settings = {"keep": keep, "chunk_size": size}
        assert taken(lambda s=settings: mm.info_nce(x, y, **s)) == ["one_way_in_blocks"]
        assert taken(lambda s=settings: mm.symmetric_info_nce(x, y, **s)) == ["symmetric_in_tiles"]
