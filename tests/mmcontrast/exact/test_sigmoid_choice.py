"""Which way the sigmoid loss takes, by its size."""

import pytest

import mmcontrast as mm
from tests.mmcontrast.exact.ways import rows, sized, taken


@pytest.mark.parametrize(("n", "way"), [(5, "sigmoid_at_once"), (6, "sigmoid_in_tiles")])
def test_the_sigmoid_loss_is_at_once_below_a_size_and_in_tiles_from_it_on(n, way):
    with sized(SIGMOID_TILES=36):
        assert taken(lambda: mm.sigmoid_contrast(rows(n), rows(n, 2), bias=0.0)) == [way]
