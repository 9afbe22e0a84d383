"""Which way losses under masks take."""

import pytest
import torch

import mmcontrast as mm
from mmcontrast.exact import masked_choice
from tests.mmcontrast.exact.ways import rows, taken
from tests.mmcontrast.strategies import mask


def test_masks_take_blocks_or_tiles_whatever_the_size():
    keep = torch.ones(5, 5, dtype=torch.bool)
    x, y = rows(5), rows(5, 2)
    for size in (None, 2):
        settings = {"keep": keep, "chunk_size": size}
        assert taken(lambda s=settings: mm.info_nce(x, y, **s)) == ["one_way_in_blocks"]
        assert taken(lambda s=settings: mm.symmetric_info_nce(x, y, **s)) == ["symmetric_in_tiles"]
        several = {"positives": keep, "chunk_size": size}
        assert taken(lambda s=several: mm.info_nce(x, y, **s)) == ["masked_in_blocks"]
    both = taken(lambda: mm.symmetric_info_nce(x, y, positives=keep, chunk_size=2))
    assert both == ["masked_in_blocks"] * 2


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("shape", [(3, 4), (0, 4), (3, 0), (0, 0)])
def test_any_of_is_any(axis, shape):
    for share in (0.0, 0.3, 1.0):
        for some in (mask(1, *shape, share=share), mask(1, *shape[::-1], share=share).mT):
            assert torch.equal(masked_choice.any_of(some, axis), some.any(axis))
