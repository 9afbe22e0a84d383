"""Which way losses with any positives take."""

import torch

import mmcontrast as mm
from tests.mmcontrast.exact.ways import rows, taken


def test_positives_take_blocks_whatever_the_size():
    positives = torch.ones(5, 5, dtype=torch.bool)
    x, y = rows(5), rows(5, 2)
    for size in (None, 2):
        several = {"positives": positives, "chunk_size": size}
        assert taken(lambda s=several: mm.info_nce(x, y, **s)) == ["masked_in_blocks"]
    both = taken(lambda: mm.symmetric_info_nce(x, y, positives=positives, chunk_size=2))
    assert both == ["masked_in_blocks"] * 2
